//! A host that is wrong on purpose: it responds before anything is stored. `scripts/fault-run
//! --host early` shows that the fault run sees what it loses.

use axum::{Router, extract::State, routing::post};
use postgres_host::{
    SuppressionList,
    process::{log, provider, serve},
};
use unsubscribe_webhook::{Received, UnsubscribeEvent};

async fn unsubscribed(State(list): State<SuppressionList>, event: UnsubscribeEvent) -> Received {
    tokio::spawn(async move { list.add(&event).await });
    Received
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    log();
    let route = post(unsubscribed).layer(provider()?);
    let list = SuppressionList::from_env().await?;
    serve(Router::new().route("/webhooks/unsubscribe", route).with_state(list)).await
}
