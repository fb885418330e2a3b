//! Takes messages from the stream and writes them to PostgreSQL.

use std::{future::ready, time::Duration};

use async_nats::{
    HeaderValue,
    jetstream::{AckKind, Message, consumer::pull},
};
use futures_util::{FutureExt, StreamExt};
use postgres_host::SuppressionList;
use tokio::time::sleep;
use unsubscribe_webhook::UnsubscribeEvent;

use crate::broker::{Broker, CODE, POINTER};

/// Messages that are stored at the same time.
const AT_ONCE: usize = 10;
/// Messages that wait in the worker for their turn: few, for the broker's patience with each runs.
const WAITING: usize = 64;

/// Stores what comes under a subject, or all of the stream, until `stopped`; what is under way then is
/// finished. A broker that goes away is waited for, and so is a consumer that somebody has deleted.
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
                            tracing::warn!(%error, "the stream of messages broke off");
                        }
                        ready(next.is_ok())
                    })
                    .filter_map(|next| ready(next.ok()))
                    .for_each_concurrent(AT_ONCE, |message| handle(message, list))
                    .await;
            }
            Err(error) => tracing::warn!("cannot ask for messages: {error:#}"),
        }
        // At the end, too: the last acknowledgements are still on their way out.
        sleep(Duration::from_millis(100)).await;
    }
}

async fn messages(broker: &Broker, subject: Option<&str>) -> anyhow::Result<pull::Stream> {
    let consumer = broker.consumer(subject).await?;
    let stream = consumer.stream().max_messages_per_batch(WAITING);
    let stream = stream.expires(Duration::from_secs(10)).heartbeat(Duration::from_secs(1));
    Ok(stream.messages().await?)
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
            tracing::error!(subject = %message.subject, %rejection, "a message is no event");
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
