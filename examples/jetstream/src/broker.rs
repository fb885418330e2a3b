//! The stream: which subject a delivery is published to, and when it counts as stored.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, ServerAddr,
    jetstream::{
        Context,
        consumer::{self, Consumer, pull},
        context::ContextBuilder,
        stream,
    },
};
use percent_encoding::percent_decode_str;
use postgres_host::{
    Refused,
    process::{required, setting},
};
use serde_json::Deserializer;
use tokio::time::{Instant, sleep, timeout};
use unsubscribe_webhook::{Rejection, UnsubscribeEvent};

/// In bytes. A refused body is published with its phone number, which may be most of the body: together
/// they fit into NATS's default `max_payload` of 1 MiB.
pub(crate) const LARGEST_BODY: usize = 256 * 1024;

/// Timeout for the connection at start-up.
const START: Duration = Duration::from_secs(30);
/// Timeout for one acknowledgement of the stream.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);
/// Timeout for a whole publication, with the wait for room in the client's queue: the provider gets its
/// 500 before it gives up on the connection.
const PUBLISHED: Duration = Duration::from_millis(1_500);
/// Partitions of the stream by account, so that each can have its own workers.
const PARTITIONS: i64 = 16;
/// The broker redelivers a message that a worker has not acknowledged in this time.
const REDELIVERY: Duration = Duration::from_secs(30);

/// A handle on the stream; cheap to clone. A method returns an error if the stream does not acknowledge in
/// 1.5 seconds.
///
/// Its subjects start with its name: `NAME.event.PARTITION.ACCOUNT` for the events of an account
/// (`user_id`; the partition is `user_id` modulo 16), `NAME.refused` for authenticated bodies that were
/// refused.
#[derive(Clone, Debug)]
pub struct Broker {
    context: Context,
    name: String,
}

impl Broker {
    /// From `NATS_URL`, `STREAM` and `STREAM_REPLICAS`.
    pub async fn from_env() -> anyhow::Result<Self> {
        let name = setting("STREAM")?.unwrap_or_else(|| "unsubscribe".to_owned());
        let replicas = setting("STREAM_REPLICAS")?.map_or(Ok(1), |number| number.parse());
        let replicas = replicas.context("STREAM_REPLICAS is not a number")?;
        Self::open(&required("NATS_URL")?, &name, replicas).await.context("NATS_URL")
    }

    /// Connects, waiting up to 30 seconds for a broker that is starting, and creates the stream if it does
    /// not exist. A `max_payload` that is too small, or a stream that may drop messages, is an error.
    pub async fn open(url: &str, name: &str, replicas: usize) -> anyhow::Result<Self> {
        let client = connect(url).await?;
        let largest = client.server_info().max_payload;
        ensure!(
            largest >= 3 * LARGEST_BODY,
            "max_payload is {largest}: a delivery may not fit into a message"
        );
        let context = ContextBuilder::new()
            .timeout(ACKNOWLEDGED)
            .ack_timeout(ACKNOWLEDGED)
            .backpressure_on_inflight(true)
            .build(client);
        let wanted = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.event.*.*"), format!("{name}.refused")],
            // A message stays until a worker has stored it, without a time limit; a full stream
            // rejects new messages instead of dropping old ones.
            retention: stream::RetentionPolicy::WorkQueue,
            discard: stream::DiscardPolicy::New,
            storage: stream::StorageType::File,
            num_replicas: replicas,
            ..stream::Config::default()
        };
        let stream = context.get_or_create_stream(&wanted).await.context("the stream")?;
        // An existing stream keeps its own settings.
        let config = &stream.cached_info().config;
        let keeps_all = config.retention == wanted.retention
            && config.discard == wanted.discard
            && config.storage == wanted.storage
            && config.max_age.is_zero();
        ensure!(keeps_all, "the stream {name} exists, and may drop messages");
        ensure!(
            config.num_replicas >= replicas && config.subjects == wanted.subjects,
            "the stream {name} exists, with other replicas or subjects"
        );
        Ok(Self { context, name: name.to_owned() })
    }

    /// Publishes an event. It is in the stream when this returns `Ok`; after an error it may be (the
    /// acknowledgement was lost) or may not.
    pub async fn publish(&self, event: &UnsubscribeEvent) -> anyhow::Result<()> {
        let account = event.data.user_id;
        let partition = account.rem_euclid(PARTITIONS);
        self.send(format!("event.{partition}.{account}"), serde_json::to_vec(event)?).await
    }

    /// Publishes a refused body and its opt-out; nothing if the body was not read whole.
    pub async fn publish_refused(&self, rejection: &Rejection) -> anyhow::Result<()> {
        let Some(body) = rejection.body() else { return Ok(()) };
        let mut message = serde_json::to_vec(&Refused::from(rejection))?;
        message.extend_from_slice(body);
        self.send("refused".to_owned(), message).await
    }

    async fn send(&self, subject: String, payload: Vec<u8>) -> anyhow::Result<()> {
        let publish = async {
            // No Nats-Msg-Id: the stream would drop a second number of the same event id. The
            // database ignores duplicates.
            let sent = self.context.publish(format!("{}.{subject}", self.name), payload.into());
            sent.await?.await.context("not acknowledged")
        };
        timeout(PUBLISHED, publish).await.context("no acknowledgement in time")??;
        Ok(())
    }

    /// The durable consumer of a subject, or of the whole stream. Workers with the same `subject`
    /// share its messages; the broker rejects subjects that overlap.
    pub async fn consumer(&self, subject: Option<&str>) -> anyhow::Result<Consumer<pull::Config>> {
        let stream = self.context.get_stream(&self.name).await?;
        // The name of a consumer must not contain dots or wildcards.
        let name = subject.map_or("all".to_owned(), |subject| {
            subject.replace('.', "-").replace('*', "any").replace('>', "rest")
        });
        let config = pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: REDELIVERY,
            max_deliver: -1,
            filter_subject: subject.unwrap_or_default().to_owned(),
            ..pull::Config::default()
        };
        Ok(stream.get_or_create_consumer(&name, config).await?)
    }
}

/// Splits the message of a refused body into what is known of it, and the body.
pub(crate) fn split_refused(message: &[u8]) -> anyhow::Result<(Refused, &[u8])> {
    let mut json = Deserializer::from_slice(message).into_iter();
    let refused = json.next().context("empty")??;
    Ok((refused, &message[json.byte_offset()..]))
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let address: ServerAddr = url.parse().context("not a NATS URL")?;
    let deadline = Instant::now() + START;
    loop {
        let mut options = ConnectOptions::new()
            .connection_timeout(ACKNOWLEDGED)
            // A silent connection is closed after two unanswered pings.
            .ping_interval(Duration::from_millis(500))
            // An established connection is reopened without an end; by default, ever more rarely.
            .reconnect_delay_callback(|_| Duration::from_millis(200));
        // The client ignores the credentials of a URL.
        if let (Some(user), Some(password)) = (address.username(), address.password()) {
            options = options.user_and_password(decoded(user)?, decoded(password)?);
        }
        match options.connect(&address).await {
            Ok(client) => return Ok(client),
            Err(error) if error.kind() == ConnectErrorKind::AuthorizationViolation => {
                return Err(error.into());
            }
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("the broker is unavailable");
            }
            Err(error) => tracing::warn!(%error, "waiting for the broker"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn decoded(part: &str) -> anyhow::Result<String> {
    let decoded = percent_decode_str(part).decode_utf8();
    Ok(decoded.context("the user or password is not UTF-8")?.into_owned())
}
