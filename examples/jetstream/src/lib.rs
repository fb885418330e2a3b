//! A fleet on NATS JetStream: hosts publish each event to a stream, workers write it to PostgreSQL.
//!
//! Copy the crate, and `postgres-host`, whose tables the workers write. `broker.rs` is the stream,
//! `worker.rs` what takes from it, `main.rs` and `bin/` are the two programs; the route is here.

mod broker;
pub mod worker;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use unsubscribe_webhook::{Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

pub use crate::broker::Broker;

/// The webhook. A body may be as large as a message of the stream.
pub fn router(broker: Broker, provider: WebhookAuth) -> Router {
    Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed).layer(provider))
        .layer(DefaultBodyLimit::max(broker::LARGEST_BODY))
        .with_state(broker)
}

/// 200 after the stream's acknowledgement, and 500 if it cannot be had in time: then the provider
/// tries again.
async fn unsubscribed(
    State(broker): State<Broker>,
    event: Result<UnsubscribeEvent, Rejection>,
) -> Result<Received, ServerError> {
    match event {
        Ok(event) => {
            broker.publish(&event).await.inspect_err(|_| {
                if event.is_last_attempt() == Some(true) {
                    tracing::error!(id = %event.id, "the last attempt could not be published");
                }
            })?;
            Ok(Received)
        }
        // Another of the account's events: acknowledged, or it would be sent four times.
        Err(rejection) if rejection.code() == Code::OtherEvent => Ok(Received),
        Err(rejection) => {
            broker.put_aside(&rejection).await?;
            Err(rejection.into()) // answers as itself: 400 or 403
        }
    }
}
