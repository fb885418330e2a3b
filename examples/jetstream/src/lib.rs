//! The webhook on NATS JetStream: instances of the app publish each delivery to a stream, workers store it
//! in PostgreSQL.
//!
//! Copy the crate, and `postgres-host`, whose tables the workers write. `broker.rs` is the stream,
//! `worker.rs` its consumer, `main.rs` and `bin/` are the two programs; the route is here.

#![allow(clippy::missing_errors_doc, reason = "the types' docs say when a method fails")]

mod broker;
pub mod worker;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use unsubscribe_webhook::{Code, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

pub use crate::broker::Broker;

/// The webhook. A message of the stream has room for the largest body.
pub fn router(broker: Broker, provider: WebhookAuth) -> Router {
    Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed).layer(provider))
        .layer(DefaultBodyLimit::max(broker::LARGEST_BODY))
        .with_state(broker)
}

/// Responds once the stream has acknowledged the delivery: 200 to an event, 400 or 403 to a refused body.
/// Otherwise 500, and the provider sends it again.
async fn unsubscribed(
    State(broker): State<Broker>,
    event: Result<UnsubscribeEvent, Rejection>,
) -> Result<Received, ServerError> {
    match event {
        Ok(event) => {
            broker.publish(&event).await?;
            Ok(Received)
        }
        // Acknowledged, because the provider would send it four times.
        Err(rejection) if rejection.code() == Code::OtherEvent => Ok(Received),
        Err(rejection) => {
            broker.publish_refused(&rejection).await?;
            // Without an opt-out a person must read the body: the log reports a last attempt as lost.
            let is_kept = rejection.opt_out().is_some();
            Err(if is_kept { rejection.kept() } else { rejection }.into())
        }
    }
}
