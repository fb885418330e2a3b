//! Takes messages from the stream and writes them to PostgreSQL.

use std::{future::ready, time::Duration};

use async_nats::{
    HeaderValue,
    jetstream::{
        AckKind, Message,
        consumer::{
            Consumer,
            pull::{self, MessagesErrorKind},
        },
    },
};
use futures_util::{FutureExt, StreamExt};
use postgres_host::SuppressionList;
use tokio::time::sleep;
use unsubscribe_webhook::UnsubscribeEvent;

use crate::broker::{CODE, POINTER};

/// Messages that are stored at the same time.
const AT_ONCE: usize = 10;
/// Messages that wait in the worker for their turn: few, for the broker's patience with each runs.
const WAITING: usize = 64;

/// Stores what the consumer hands out until `stopped`; what is under way then is finished. A broker
/// that goes away is waited for.
///
/// # Errors
///
/// If the consumer is deleted: start again.
pub async fn work(
    consumer: &Consumer<pull::Config>,
    list: &SuppressionList,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let stopped = stopped.shared();
    while stopped.peek().is_none() {
        let messages = consumer
            .stream()
            .max_messages_per_batch(WAITING)
            .expires(Duration::from_secs(10))
            .heartbeat(Duration::from_secs(1))
            .messages()
            .await;
        let mut broken = None;
        match messages {
            Ok(messages) => {
                messages
                    .take_until(stopped.clone())
                    .scan(&mut broken, |broken, next| {
                        ready(next.map_err(|error| **broken = Some(error)).ok())
                    })
                    .for_each_concurrent(AT_ONCE, |message| handle(message, list))
                    .await;
            }
            Err(error) => tracing::warn!(%error, "cannot ask for messages"),
        }
        if let Some(error) = broken {
            if error.kind() == MessagesErrorKind::ConsumerDeleted {
                return Err(error.into());
            }
            tracing::warn!(%error, "the stream of messages broke off");
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Acknowledged once it is in the database. Until then the broker hands it out again, and the
/// database knows again what it has.
async fn handle(message: Message, list: &SuppressionList) {
    let answer = match store(&message, list).await {
        Ok(()) => AckKind::Ack,
        Err(error) => {
            tracing::warn!(subject = %message.subject, "not stored: {error:#}");
            AckKind::Nak(Some(pause(&message)))
        }
    };
    if let Err(error) = message.ack_with(answer).await {
        tracing::warn!(%error, "the broker was not told");
    }
}

async fn store(message: &Message, list: &SuppressionList) -> anyhow::Result<()> {
    let header = |name| message.headers.as_ref()?.get(name).map(HeaderValue::as_str);
    if let Some(code) = header(CODE) {
        return list.put_aside(&message.payload, code, header(POINTER)).await;
    }
    match UnsubscribeEvent::from_slice(&message.payload) {
        Ok(event) => list.add(&event).await,
        // Somebody else's message, or another version's: a person has to look at it.
        Err(rejection) => {
            list.put_aside(&message.payload, rejection.code(), rejection.pointer()).await
        }
    }
}

/// One second after a message's first failure, then doubled up to half a minute.
fn pause(message: &Message) -> Duration {
    let deliveries = message.info().map_or(1, |info| info.delivered);
    let doublings = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(0).min(5);
    Duration::from_secs(30).min(Duration::from_secs(1 << doublings))
}
