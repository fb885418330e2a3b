//! The app and its workers as processes, with a real NATS server and a real PostgreSQL.

#![allow(clippy::unwrap_used)]

#[path = "../../postgres/tests/common/mod.rs"]
mod common;

use std::time::Duration;

use async_nats::{
    ConnectOptions, ServerAddr,
    jetstream::{self, stream},
};
use common::{
    Database, Process, Proxy, Wire, assert_fails_without, assert_keeps_refused_bodies,
    assert_received, assert_refused, assert_stores_one_dead_letter, command, failure, new_event,
    percent_encoded, server, start_before, until,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::sleep};
use uuid::Uuid;

const APP: &str = env!("CARGO_BIN_EXE_jetstream-host");
const WORKER: &str = env!("CARGO_BIN_EXE_jetstream-worker");
const LARGEST_BODY: usize = 256 * 1024;

/// A stream and a database for one test.
struct Fleet {
    nats: String,
    stream: String,
    database: Database,
}

impl Fleet {
    async fn new() -> Self {
        let stream = format!("test-{}", Uuid::new_v4().simple());
        Self { nats: server("NATS_URL"), stream, database: Database::create().await }
    }

    /// A proxy to NATS, for the processes that start from now on.
    async fn proxied(&mut self) -> Proxy {
        let (proxy, url) = Proxy::to(&self.nats).await;
        self.nats = url;
        proxy
    }

    fn settings(&self) -> [(&str, &str); 3] {
        let database = &self.database.url;
        [("NATS_URL", &self.nats), ("STREAM", &self.stream), ("DATABASE_URL", database)]
    }

    async fn start(&self, program: &str, settings: &[(&str, &str)]) -> Process {
        Process::start(program, &[&self.settings(), settings].concat()).await
    }

    async fn stream(&self) -> stream::Stream {
        self.client().await.get_stream(&self.stream).await.unwrap()
    }

    /// A client without the proxy.
    async fn client(&self) -> jetstream::Context {
        let address: ServerAddr = server("NATS_URL").parse().unwrap();
        let (user, password) = (address.username().unwrap(), address.password().unwrap());
        let options = ConnectOptions::with_user_and_password(user.into(), password.into());
        jetstream::new(options.connect(&address).await.unwrap())
    }

    async fn messages(&self) -> u64 {
        self.stream().await.info().await.unwrap().state.messages
    }

    /// Waits until the workers have acknowledged every message.
    async fn drained(&self) {
        until("the stream is empty", async || self.messages().await == 0).await;
    }
}

#[tokio::test]
async fn four_instances_and_two_workers_store_each_event_once() {
    let mut fleet = Fleet::new().await;
    // They create the stream concurrently.
    let apps = join_all((0..4).map(|_| fleet.start(APP, &[]))).await;
    let _workers = join_all((0..2).map(|_| fleet.start(WORKER, &[]))).await;
    let events: Vec<_> = std::iter::repeat_with(new_event).take(50).collect();

    for event in &events {
        let responses = join_all(apps.iter().map(|app| app.deliver(event.to_string()))).await;
        responses.iter().for_each(assert_received);
    }
    fleet.drained().await;

    fleet.database.assert_stored(&events).await;
}

#[tokio::test]
async fn the_app_passes_the_suite() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[("WEBHOOK_ACCOUNT", "7")]).await;
    let _worker = fleet.start(WORKER, &[]).await;

    let suite = app.conformance().accounts([7]).body_limit(LARGEST_BODY);
    let list = async move |phone: &str| {
        fleet.drained().await;
        !fleet.database.accounts(phone).await.is_empty()
    };
    suite.suppressed(list).await.assert_passed();
}

#[tokio::test]
async fn a_refused_body_is_stored_and_its_number_is_on_the_list() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[]).await;
    let _worker = fleet.start(WORKER, &[]).await;
    assert_keeps_refused_bodies(app, &mut fleet.database).await;
}

#[tokio::test]
async fn four_attempts_of_a_refused_delivery_are_one_dead_letter() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[("WEBHOOK_ACCOUNT", "2")]).await;
    let _worker = fleet.start(WORKER, &[]).await;
    assert_stores_one_dead_letter(&app, &mut fleet.database).await;

    // Messages of another publisher.
    let client = fleet.client().await;
    for (subject, message) in [("event.2.2", "no event"), ("refused", "{}")] {
        let subject = format!("{}.{subject}", fleet.stream);
        client.publish(subject, message.into()).await.unwrap().await.unwrap();
    }
    fleet.drained().await;
    assert_eq!(fleet.database.count("dead_letter").await, 7);
    assert_eq!(fleet.database.count("inbox").await, 0);
}

#[tokio::test]
async fn an_event_is_in_the_stream_before_it_is_acknowledged() {
    let fleet = Fleet::new().await;
    for number in 1..=20 {
        let mut app = fleet.start(APP, &[]).await;
        assert_received(&app.deliver(new_event().to_string()).await);
        app.kill();
        assert_eq!(fleet.messages().await, number);
    }
}

#[tokio::test]
async fn an_unavailable_broker_is_a_500_in_time() {
    let mut fleet = Fleet::new().await;
    let proxy = fleet.proxied().await;
    let app = fleet.start(APP, &[]).await;

    assert_fails_without(&app, &proxy).await;

    let _worker = fleet.start(WORKER, &[]).await;
    fleet.drained().await;
    assert_eq!(fleet.database.count("inbox").await, 6);
    assert!(fleet.database.count("dead_letter").await <= 1);
}

#[tokio::test]
async fn a_stream_that_is_full_or_deleted_is_a_500() {
    let fleet = Fleet::new().await;
    let app = fleet.start(APP, &[]).await;
    assert_received(&app.deliver(new_event().to_string()).await);
    let mut config = fleet.stream().await.cached_info().config.clone();
    config.max_messages = 1;
    let context = fleet.client().await;
    context.update_stream(&config).await.unwrap();

    assert_refused(&app.deliver(new_event().to_string()).await, 500, "server_error");
    assert_eq!(fleet.messages().await, 1);

    context.delete_stream(&fleet.stream).await.unwrap();
    assert_refused(&app.deliver(new_event().to_string()).await, 500, "server_error");
}

#[tokio::test]
async fn a_worker_waits_for_its_database_and_for_its_broker() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[]).await;
    let broker = fleet.proxied().await;
    let (database, url) = Proxy::to(&fleet.database.url).await;
    let _worker = fleet.start(WORKER, &[("DATABASE_URL", &url)]).await;

    let faults = [(&database, Wire::Cut), (&database, Wire::Silent), (&broker, Wire::Cut)];
    for (stored, (server, wire)) in (0..).zip(faults) {
        server.set(wire);
        assert_received(&app.deliver(new_event().to_string()).await);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(fleet.database.count("inbox").await, stored);
        assert_eq!(fleet.messages().await, 1);

        server.set(Wire::Whole);
        fleet.database.wait_for("inbox", stored + 1).await;
        fleet.drained().await;
    }
}

#[tokio::test]
async fn a_stream_is_partitioned_by_account() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[]).await;
    // 2 and 18 are in the same partition.
    for user_id in [2, 18, 3, -1, i64::MIN] {
        let mut event = new_event();
        event["data"]["user_id"] = json!(user_id);
        assert_received(&app.deliver(event.to_string()).await);
    }
    assert_refused(&app.deliver("{").await, 400, "not_json");

    let mut workers = Vec::new();
    let parts = [("event.2.*", 2), ("event.3.*", 3), ("event.15.*", 4), ("event.0.*", 5)];
    for (part, stored) in parts.into_iter().chain([("refused", 5)]) {
        let subject = format!("{}.{part}", fleet.stream);
        workers.push(fleet.start(WORKER, &[("WORKER_SUBJECT", &subject)]).await);
        fleet.database.wait_for("inbox", stored).await;
    }
    fleet.drained().await;
    assert_eq!(fleet.database.count("dead_letter").await, 1);

    // The broker rejects a worker of the whole stream, because it would store messages twice.
    let text = failure(command(WORKER, &fleet.settings())).await;
    assert!(text.contains("WORKER_SUBJECT"), "{text}");
}

#[tokio::test]
async fn a_deleted_consumer_is_created_again() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[]).await;
    let broker = fleet.proxied().await;
    let _worker = fleet.start(WORKER, &[]).await;
    let stream = fleet.stream().await;
    // While the worker is connected, and while it is not.
    for (wire, stored) in [(Wire::Whole, 1), (Wire::Cut, 2)] {
        broker.set(wire);
        stream.delete_consumer("all").await.unwrap();
        broker.set(Wire::Whole);
        assert_received(&app.deliver(new_event().to_string()).await);
        fleet.database.wait_for("inbox", stored).await;
    }
}

#[tokio::test]
async fn a_stopped_worker_completes_its_messages() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[]).await;
    let worker = fleet.start(WORKER, &[]).await;
    fleet.database.execute("BEGIN; LOCK TABLE inbox").await;
    assert_received(&app.deliver(new_event().to_string()).await);
    sleep(Duration::from_millis(200)).await;

    worker.signal("-TERM");
    sleep(Duration::from_millis(200)).await;
    fleet.database.execute("ROLLBACK").await;

    worker.end().await;
    assert_eq!(fleet.database.count("inbox").await, 1);
    assert_eq!(fleet.messages().await, 0);
}

#[tokio::test]
async fn the_largest_bodies_are_stored() {
    let mut fleet = Fleet::new().await;
    let app = fleet.start(APP, &[]).await;
    let _worker = fleet.start(WORKER, &[]).await;
    let mut event = new_event();
    let room = LARGEST_BODY - event.to_string().len();
    // In JSON, six bytes for each character.
    event["data"]["phone"] = json!("\u{1}".repeat(room / 6));
    let padded = |event: &Value| {
        let json = event.to_string();
        " ".repeat(LARGEST_BODY - json.len()) + &json
    };

    assert_received(&app.deliver(padded(&event)).await);
    assert_refused(&app.deliver(padded(&event) + " ").await, 400, "body_too_large");
    event["data"]["additional_data"] = json!([]);
    assert_refused(&app.deliver(padded(&event)).await, 400, "invalid_field");

    fleet.database.wait_for("inbox", 1).await;
    fleet.database.wait_for("dead_letter", 1).await;
}

#[tokio::test]
async fn an_existing_stream_that_may_drop_messages_is_refused() {
    type Change = fn(&mut stream::Config);
    let fleet = Fleet::new().await;
    fleet.start(APP, &[]).await;
    let (client, good) = (fleet.client().await, fleet.stream().await.cached_info().config.clone());
    let changes: [(Change, &str); 5] = [
        (|config| config.retention = stream::RetentionPolicy::Limits, "may drop messages"),
        (|config| config.discard = stream::DiscardPolicy::Old, "may drop messages"),
        (|config| config.storage = stream::StorageType::Memory, "may drop messages"),
        (|config| config.max_age = Duration::from_secs(3600), "may drop messages"),
        (|config| config.subjects.truncate(1), "other replicas or subjects"),
    ];
    for (change, fault) in changes {
        client.delete_stream(&fleet.stream).await.unwrap();
        let mut config = good.clone();
        change(&mut config);
        client.create_stream(config).await.unwrap();
        let text = failure(command(APP, &fleet.settings())).await;
        assert!(text.contains(fault), "{fault}: {text}");
    }
}

#[tokio::test]
async fn a_broker_with_a_small_max_payload_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let info = format!("INFO {{\"max_payload\":{}}}\r\nPONG\r\n", 3 * LARGEST_BODY - 1);
        client.write_all(info.as_bytes()).await.unwrap();
        sleep(Duration::from_secs(60)).await;
    });

    let text = failure(command(APP, &[("NATS_URL", &url)])).await;

    assert!(text.contains("max_payload is 786431"), "{text}");
}

#[tokio::test]
async fn a_wrong_password_is_an_error_at_once_and_not_printed() {
    let fleet = Fleet::new().await;
    let (user, rest) = fleet.nats.split_once("://").unwrap().1.split_once(':').unwrap();
    let (password, address) = rest.split_once('@').unwrap();

    let wrong = format!("nats://{user}:wr0ng-{password}@{address}");
    let text = failure(command(APP, &[("NATS_URL", &wrong)])).await;
    assert!(text.contains("NATS_URL") && text.contains("authorization"), "{text}");
    assert!(!text.contains(password), "{text}");

    let right = format!("nats://{user}:{}@{address}", percent_encoded(password));
    fleet.start(APP, &[("NATS_URL", &right)]).await;
}

#[tokio::test]
async fn the_app_waits_for_a_broker_that_is_starting() {
    let mut fleet = Fleet::new().await;
    let proxy = fleet.proxied().await;
    let app = start_before(&proxy, APP, &fleet.settings()).await;
    assert_received(&app.deliver(new_event().to_string()).await);
}
