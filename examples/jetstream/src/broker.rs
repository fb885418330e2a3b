//! The stream: what is published where, and when it counts as stored.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, HeaderMap, ServerAddr,
    header::NATS_MESSAGE_ID,
    jetstream::{
        Context,
        consumer::{self, Consumer, pull},
        context::ContextBuilder,
        stream,
    },
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use postgres_host::process::{required, setting};
use tokio::time::{Instant, sleep, timeout};
use unsubscribe_webhook::{Rejection, UnsubscribeEvent};

/// Half of NATS's default for a message, `max_payload`: what a host takes must fit into the stream.
pub(crate) const LARGEST_BODY: usize = 512 * 1024;

/// How long a process that starts waits for the broker.
const START: Duration = Duration::from_secs(30);
/// For the stream's acknowledgement.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);
/// For all of it, room in the client's queue included: a broker that is away must cost the provider
/// an attempt, not its patience.
const WORK: Duration = Duration::from_millis(1_500);
/// For this long the stream knows an event again, and keeps its id in memory. The provider's four
/// attempts must fit in; what comes later is known by the database.
const DUPLICATES: Duration = Duration::from_secs(60 * 60);
/// The parts into which the stream is cut by account, for workers of their own.
const PARTITIONS: i64 = 16;
/// A worker that has not answered for a message in this time is taken for dead.
const WORKER_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CODE: &str = "Webhook-Code";
pub(crate) const POINTER: &str = "Webhook-Pointer";

/// A handle on the stream; cheap to clone.
///
/// Its subjects start with its name. `NAME.event.PARTITION.ACCOUNT` carries the events of an account
/// (`user_id`), whose partition is the number modulo 16; `NAME.unreadable` the authentic bodies that
/// could not be read.
#[derive(Clone, Debug)]
pub struct Broker {
    context: Context,
    name: String,
}

impl Broker {
    /// From `NATS_URL`, `STREAM` and `STREAM_REPLICAS`.
    ///
    /// # Errors
    ///
    /// If a setting is missing or wrong; and as [`open`](Self::open).
    pub async fn from_env() -> anyhow::Result<Self> {
        let name = setting("STREAM")?.unwrap_or_else(|| "unsubscribe".to_owned());
        let replicas = setting("STREAM_REPLICAS")?.map_or(Ok(1), |number| number.parse());
        let replicas = replicas.context("STREAM_REPLICAS is no number")?;
        Self::open(&required("NATS_URL")?, &name, replicas).await.context("NATS_URL")
    }

    /// Connects, waiting for a broker that is starting, and makes the stream if it is not there.
    ///
    /// # Errors
    ///
    /// If the broker stays away for 30 seconds, takes only messages that are smaller than a body
    /// may be, or has a stream of this name that would lose something.
    pub async fn open(url: &str, name: &str, replicas: usize) -> anyhow::Result<Self> {
        let client = connect(url).await?;
        let largest = client.server_info().max_payload;
        ensure!(
            largest >= 2 * LARGEST_BODY,
            "max_payload is {largest}: an event might not fit into a message"
        );
        let context = ContextBuilder::new()
            .timeout(ACKNOWLEDGED)
            .ack_timeout(ACKNOWLEDGED)
            .backpressure_on_inflight(true)
            .build(client);
        let wanted = stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.event.*.*"), format!("{name}.unreadable")],
            // A message stays until a worker has stored it, however long that takes; a stream that
            // is full refuses new ones, instead of dropping old ones.
            retention: stream::RetentionPolicy::WorkQueue,
            discard: stream::DiscardPolicy::New,
            storage: stream::StorageType::File,
            num_replicas: replicas,
            duplicate_window: DUPLICATES,
            ..stream::Config::default()
        };
        let stream = context.get_or_create_stream(&wanted).await.context("the stream")?;
        // One that was there already keeps its own settings.
        let config = &stream.cached_info().config;
        let keeps_all = config.retention == wanted.retention
            && config.discard == wanted.discard
            && config.storage == wanted.storage
            && config.max_age.is_zero();
        ensure!(keeps_all, "the stream {name} is there, and would drop messages");
        ensure!(
            config.num_replicas >= replicas && config.subjects == wanted.subjects,
            "the stream {name} is there, with other replicas or subjects"
        );
        Ok(Self { context, name: name.to_owned() })
    }

    /// Publishes an event, once however often it comes. It is in the stream when this returns `Ok`;
    /// after an error it may be (its acknowledgement was lost) or may not.
    ///
    /// # Errors
    ///
    /// If the stream does not acknowledge it in 1.5 seconds.
    pub async fn publish(&self, event: &UnsubscribeEvent) -> anyhow::Result<()> {
        let account = event.data.user_id;
        let partition = account.rem_euclid(PARTITIONS);
        let subject = format!("{}.event.{partition}.{account}", self.name);
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, event.id.to_string());
        self.send(subject, headers, serde_json::to_vec(event)?.into()).await
    }

    /// Publishes the body of an authentic delivery that could not be read, if it was read whole.
    ///
    /// # Errors
    ///
    /// If the stream does not acknowledge it in 1.5 seconds.
    pub async fn put_aside(&self, rejection: &Rejection) -> anyhow::Result<()> {
        let Some(body) = rejection.body() else { return Ok(()) };
        let mut headers = HeaderMap::new();
        headers.insert(CODE, rejection.code());
        if let Some(pointer) = rejection.pointer() {
            headers.insert(POINTER, pointer);
        }
        // Without an id: the database knows a body again, whatever attempt it came with.
        self.send(format!("{}.unreadable", self.name), headers, body.clone()).await
    }

    async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> anyhow::Result<()> {
        let publish = async {
            let sent = self.context.publish_with_headers(subject, headers, payload).await?;
            sent.await.context("not acknowledged")
        };
        let acknowledgement = timeout(WORK, publish).await.context("no answer in time")??;
        // A cluster may know a message again that it has not stored yet.
        ensure!(acknowledgement.sequence > 0, "acknowledged, but not stored");
        Ok(())
    }

    /// What workers take messages from: all of the stream's, or those of some subject. Workers of
    /// one `subject` share its messages; subjects of different ones must not overlap.
    ///
    /// # Errors
    ///
    /// If the broker is away, or refuses it, as it does where subjects overlap.
    pub async fn consumer(&self, subject: Option<&str>) -> anyhow::Result<Consumer<pull::Config>> {
        let stream = self.context.get_stream(&self.name).await?;
        // A name holds no dots and wildcards.
        let name = subject.map_or("all".to_owned(), |subject| {
            subject.replace('.', "-").replace('*', "any").replace('>', "rest")
        });
        let config = pull::Config {
            durable_name: Some(name.clone()),
            ack_policy: consumer::AckPolicy::Explicit,
            ack_wait: WORKER_PATIENCE,
            max_deliver: -1,
            filter_subject: subject.unwrap_or_default().to_owned(),
            ..pull::Config::default()
        };
        Ok(stream.get_or_create_consumer(&name, config).await?)
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let address: ServerAddr = url.parse().context("no NATS URL")?;
    let deadline = Instant::now() + START;
    loop {
        let mut options = ConnectOptions::new()
            .connection_timeout(ACKNOWLEDGED)
            // A broker that has gone without a word is noticed after two of these.
            .ping_interval(Duration::from_millis(500))
            // Once connected it comes back by itself, and soon.
            .reconnect_delay_callback(|_| Duration::from_millis(200));
        // The client leaves these out of a URL.
        if let (Some(user), Some(password)) = (address.username(), address.password()) {
            options = options.user_and_password(decoded(user)?, decoded(password)?);
        }
        match options.connect(&address).await {
            Ok(client) => return Ok(client),
            Err(error) if error.kind() == ConnectErrorKind::AuthorizationViolation => {
                return Err(error.into());
            }
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("the broker stays away");
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
