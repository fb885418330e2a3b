//! One replica: `DATABASE_URL=… WEBHOOK_SECRET=… LOOKUP_SECRET=… cargo run -p postgres-host`.
//!
//! | variable          | meaning                                                 | without it         |
//! |-------------------|---------------------------------------------------------|--------------------|
//! | `DATABASE_URL`    | `postgres://user:password@host/database`                | an error           |
//! | `WEBHOOK_SECRET`  | the token of the provider's dashboard                   | an error           |
//! | `LOOKUP_SECRET`   | the sending app's: `Authorization: Bearer …`            | an error           |
//! | `WEBHOOK_ACCOUNT` | the only account (`user_id`) to accept                  | any account        |
//! | `BIND_ADDR`       | where to listen                                         | `127.0.0.1:3000`   |
//! | `POOL_SIZE`       | connections to the database                             | 10                 |

use anyhow::{Context, ensure};
use postgres_host::{
    SuppressionList,
    process::{log, provider, required, serve},
    router,
};
use unsubscribe_webhook::{Credential, WebhookAuth};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    log();
    let (provider, secret) = (provider()?, required("LOOKUP_SECRET")?);
    ensure!(secret != required("WEBHOOK_SECRET")?, "LOOKUP_SECRET is WEBHOOK_SECRET");
    let sender = WebhookAuth::from_credential(Credential::bearer(secret).context("LOOKUP_SECRET")?);
    let list = SuppressionList::from_env().await?;
    serve(router(list, provider, sender)).await
}
