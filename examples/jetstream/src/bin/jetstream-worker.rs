//! One worker: `NATS_URL=… DATABASE_URL=… cargo run --bin jetstream-worker`.
//!
//! | variable          | meaning                                                 | without it         |
//! |-------------------|---------------------------------------------------------|--------------------|
//! | `NATS_URL`        | `nats://user:password@host:port`                        | an error           |
//! | `DATABASE_URL`    | `postgres://user:password@host/database`                | an error           |
//! | `STREAM`          | the stream's name                                       | `unsubscribe`      |
//! | `STREAM_REPLICAS` | the same as for the app                                 | 1                  |
//! | `WORKER_SUBJECT`  | the subject to consume, such as `unsubscribe.event.3.*` | the whole stream   |
//! | `POOL_SIZE`       | connections to the database                             | 10                 |

use anyhow::Context;
use jetstream_host::{Broker, worker};
use postgres_host::{
    SuppressionList,
    process::{log, setting, stopped},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    log();
    let list = SuppressionList::from_env().await?;
    let broker = Broker::from_env().await?;
    let subject = setting("WORKER_SUBJECT")?;
    // An invalid subject is an error at start-up, not a retry without an end.
    broker.consumer(subject.as_deref()).await.context("WORKER_SUBJECT")?;
    println!("Working");
    worker::work(&broker, subject.as_deref(), &list, stopped()).await;
    Ok(())
}
