//! One instance of the app: `NATS_URL=… WEBHOOK_SECRET=… cargo run -p jetstream-host`.
//!
//! | variable          | meaning                                                 | without it         |
//! |-------------------|---------------------------------------------------------|--------------------|
//! | `NATS_URL`        | `nats://user:password@host:port`                        | an error           |
//! | `WEBHOOK_SECRET`  | the token of the provider's dashboard                   | an error           |
//! | `WEBHOOK_ACCOUNT` | the only account (`user_id`) to accept                  | any account        |
//! | `BIND_ADDR`       | the address to listen on                                | `127.0.0.1:3000`   |
//! | `STREAM`          | the stream's name, the prefix of its subjects           | `unsubscribe`      |
//! | `STREAM_REPLICAS` | NATS servers that store each message                    | 1                  |

use jetstream_host::{Broker, router};
use postgres_host::process::{log, provider, serve};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    log();
    let provider = provider()?;
    serve(router(Broker::from_env().await?, provider)).await
}
