//! Stores the messages of the stream in PostgreSQL.

use std::{future::ready, time::Duration};

use async_nats::jetstream::{AckKind, Message, consumer::pull};
use futures_util::{FutureExt, StreamExt};
use postgres_host::{Refused, SuppressionList};
use tokio::time::sleep;
use unsubscribe_webhook::UnsubscribeEvent;

use crate::broker::{Broker, split_refused};

/// Messages that are stored concurrently.
const CONCURRENCY: usize = 10;
/// Messages that wait in the worker: few, because the broker's redelivery timeout runs for each.
const BATCH: usize = 64;

/// Stores the messages of a subject, or of the whole stream, until `stopped`, then completes those in
/// progress. Reconnects to the broker, and creates the consumer again if it was deleted.
pub async fn work(
    broker: &Broker,
    subject: Option<&str>,
    list: &SuppressionList,
    stopped: impl Future<Output = ()>,
) {
    let stopped = stopped.shared();
    while stopped.peek().is_none() {
        match messages(broker, subject).await {
            Ok(messages) => {
                messages
                    .take_until(stopped.clone())
                    .take_while(|next| {
                        if let Err(error) = next {
                            tracing::warn!(%error, "Messages interrupted.");
                        }
                        ready(next.is_ok())
                    })
                    .filter_map(|next| ready(next.ok()))
                    .for_each_concurrent(CONCURRENCY, |message| handle(message, list))
                    .await;
            }
            Err(error) => tracing::warn!("Messages unavailable: {error:#}"),
        }
        // At the end, too: the client may not have sent the last acknowledgements yet.
        sleep(Duration::from_millis(100)).await;
    }
}

async fn messages(broker: &Broker, subject: Option<&str>) -> anyhow::Result<pull::Stream> {
    let consumer = broker.consumer(subject).await?;
    let stream = consumer.stream().max_messages_per_batch(BATCH);
    let stream = stream.expires(Duration::from_secs(10)).heartbeat(Duration::from_secs(1));
    Ok(stream.messages().await?)
}

/// Acknowledges a message once it is stored. Otherwise the broker redelivers it, and the database
/// ignores what it has already.
async fn handle(message: Message, list: &SuppressionList) {
    let acknowledgement = match store(&message, list).await {
        Ok(()) => AckKind::Ack,
        Err(error) => {
            tracing::warn!(subject = %message.subject, "Message not stored: {error:#}");
            AckKind::Nak(Some(backoff(&message)))
        }
    };
    if let Err(error) = message.ack_with(acknowledgement).await {
        tracing::warn!(%error, "Acknowledgement not sent.");
    }
}

async fn store(message: &Message, list: &SuppressionList) -> anyhow::Result<()> {
    let payload = &message.payload;
    if message.subject.ends_with(".refused")
        && let Ok((refused, body)) = split_refused(payload)
    {
        return list.add_refused(body, &refused).await;
    }
    match UnsubscribeEvent::from_slice(payload) {
        Ok(event) => list.add(&event).await,
        // Of another publisher or version: a person must read it.
        Err(rejection) => {
            tracing::error!(subject = %message.subject, %rejection, "Message is not an event.");
            list.add_refused(payload, &Refused::from(&rejection)).await
        }
    }
}

/// One second after a message's first failure, then twice as long each time, up to 30.
fn backoff(message: &Message) -> Duration {
    let deliveries = message.info().map_or(1, |info| info.delivered);
    let doublings = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(0).min(5);
    Duration::from_secs(30).min(Duration::from_secs(1 << doublings))
}
