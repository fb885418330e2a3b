//! The fleet as processes, on a real NATS server and a real PostgreSQL.

#![allow(clippy::unwrap_used)]

#[path = "../../postgres/tests/common/mod.rs"]
mod common;

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use async_nats::{
    ConnectOptions, ServerAddr,
    jetstream::{self, stream},
};
use common::{
    Database, Process, Proxy, Wire, assert_received, assert_refused, failure, new_event, server,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Executor, Row};
use tokio::time::sleep;
use uuid::Uuid;

const HOST: &str = env!("CARGO_BIN_EXE_jetstream-host");
const WORKER: &str = env!("CARGO_BIN_EXE_jetstream-worker");

/// A stream, and a database, of this test's own.
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

    /// Reached through a proxy by those that start from now on.
    async fn through_proxy(&mut self) -> Proxy {
        let (credentials, server) = self.nats.split_once('@').unwrap();
        let proxy = Proxy::start(server).await;
        self.nats = format!("{credentials}@{}", proxy.address);
        proxy
    }

    async fn start(&self, program: &str, settings: &[(&str, &str)]) -> Process {
        let own: &[_] = &[
            ("NATS_URL", &*self.nats),
            ("STREAM", &self.stream),
            ("DATABASE_URL", &self.database.url),
        ];
        Process::start(program, &[own, settings].concat()).await
    }

    async fn stream(&self) -> stream::Stream {
        self.client().await.get_stream(&self.stream).await.unwrap()
    }

    /// A client of the test's own, past the proxy.
    async fn client(&self) -> jetstream::Context {
        let address: ServerAddr = server("NATS_URL").parse().unwrap();
        let (user, password) = (address.username().unwrap(), address.password().unwrap());
        let options = ConnectOptions::with_user_and_password(user.into(), password.into());
        jetstream::new(options.connect(&address).await.unwrap())
    }

    async fn messages(&self) -> u64 {
        self.stream().await.info().await.unwrap().state.messages
    }

    /// Waits until the workers have acknowledged everything.
    async fn drained(&self) {
        let start = Instant::now();
        while self.messages().await > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.messages().await);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn four_hosts_and_two_workers_store_each_event_once() {
    const EVENTS: usize = 100;
    let mut fleet = Fleet::new().await;
    // They start together, and want the same stream.
    let hosts = join_all((0..4).map(|_| fleet.start(HOST, &[]))).await;
    let events: Vec<_> = std::iter::repeat_with(new_event).take(EVENTS).collect();

    for event in &events {
        // All at the same time, and twice.
        let twice = hosts.iter().chain(&hosts);
        let answers = join_all(twice.map(|host| host.deliver(event.to_string()))).await;
        answers.iter().for_each(assert_received);
    }
    // The stream itself drops what comes again.
    assert_eq!(fleet.messages().await, 100);

    let _workers = join_all((0..2).map(|_| fleet.start(WORKER, &[]))).await;
    fleet.drained().await;
    // Also after a worker has taken it away.
    assert_received(&hosts[0].deliver(events[0].to_string()).await);
    assert_eq!(fleet.messages().await, 0);

    assert_eq!(fleet.database.count("inbox").await, 100);
    assert_eq!(fleet.database.count("suppression").await, 100);
    assert_eq!(fleet.database.count("dead_letter").await, 0);
    for event in events {
        let stored: String = sqlx::query_scalar("SELECT event FROM inbox WHERE event_id = $1")
            .bind(event["id"].as_str().unwrap().parse::<Uuid>().unwrap())
            .fetch_one(&mut fleet.database.connection)
            .await
            .unwrap();
        assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), event);
    }
}

#[tokio::test]
async fn the_host_keeps_the_contract() {
    let mut fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[("WEBHOOK_ACCOUNT", "7")]).await;

    host.conformance().accounts([7]).body_limit(512 * 1024).await.assert_clean();

    // What was acknowledged is not lost on its way to the database.
    let _worker = fleet.start(WORKER, &[]).await;
    fleet.drained().await;
    assert!(fleet.database.count("inbox").await > 0);
    assert!(fleet.database.count("dead_letter WHERE code = 'foreign_account'").await > 0);
}

#[tokio::test]
async fn an_event_is_in_the_stream_before_it_is_acknowledged() {
    let fleet = Fleet::new().await;
    let mut host = fleet.start(HOST, &[]).await;

    for number in 1..=20 {
        assert_received(&host.deliver(new_event().to_string()).await);
        host.kill();
        assert_eq!(fleet.messages().await, number);
        host = fleet.start(HOST, &[]).await;
    }
}

#[tokio::test]
async fn a_broker_that_is_away_costs_an_attempt_and_no_patience() {
    let mut fleet = Fleet::new().await;
    let proxy = fleet.through_proxy().await;
    let host = fleet.start(HOST, &[]).await;
    let event = new_event().to_string();

    for wire in [Wire::Cut, Wire::Silent] {
        assert_received(&host.deliver(new_event().to_string()).await);
        proxy.set(wire);
        for answer in join_all((0..20).map(|_| host.deliver(event.clone()))).await {
            assert_refused(&answer, 500, "server_error");
        }
        // What is not put aside is not refused for good either.
        assert_refused(&host.deliver("{").await, 500, "server_error");
        proxy.set(Wire::Whole);
        host.recovered().await;
    }
    assert_received(&host.deliver(event).await);

    // What was sent into the dark may have come through late, and is known again.
    let _worker = fleet.start(WORKER, &[]).await;
    fleet.drained().await;
    assert_eq!(fleet.database.count("inbox").await, 5);
    assert!(fleet.database.count("dead_letter").await <= 1);
}

#[tokio::test]
async fn a_stream_that_is_full_or_gone_refuses_and_drops_nothing() {
    let fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[]).await;
    assert_received(&host.deliver(new_event().to_string()).await);
    let stream = fleet.stream().await;
    let mut config = stream.cached_info().config.clone();
    config.max_messages = 1;
    let context = fleet.client().await;
    context.update_stream(&config).await.unwrap();

    assert_refused(&host.deliver(new_event().to_string()).await, 500, "server_error");
    assert_eq!(fleet.messages().await, 1);

    context.delete_stream(&fleet.stream).await.unwrap();
    assert_refused(&host.deliver(new_event().to_string()).await, 500, "server_error");
}

#[tokio::test]
async fn four_attempts_of_an_unreadable_delivery_are_one_dead_letter() {
    let mut fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[("WEBHOOK_ACCOUNT", "2")]).await;
    let mut event = new_event();
    event["data"].as_object_mut().unwrap().remove("phone");
    let mut foreign = new_event();
    foreign["data"]["user_id"] = json!(3);

    for attempt in 1..=4 {
        event["attempt_number"] = json!(attempt);
        foreign["attempt_number"] = json!(attempt);
        assert_refused(&host.deliver(event.to_string()).await, 400, "missing_field");
        assert_refused(&host.deliver(foreign.to_string()).await, 403, "foreign_account");
        assert_refused(&host.deliver(&b"\xff\0"[..]).await, 400, "not_json");
        assert_received(&host.deliver(r#"{"name":"sms.delivery"}"#).await);
    }

    let _worker = fleet.start(WORKER, &[]).await;
    fleet.drained().await;
    let rows = sqlx::query("SELECT body, code, pointer FROM dead_letter ORDER BY code")
        .fetch_all(&mut fleet.database.connection)
        .await
        .unwrap();
    let rows: Vec<(Vec<u8>, String, Option<String>)> =
        rows.iter().map(|row| (row.get("body"), row.get("code"), row.get("pointer"))).collect();
    let [foreign_row, event_row, broken_row] = &*rows else { panic!("three letters: {rows:?}") };
    // Workers store at the same time, so any of the four attempts may have been the first.
    let attempt_of = |sent: &Value, body: &[u8]| {
        let attempts = (1..=4).map(|attempt| {
            let mut sent = sent.clone();
            sent["attempt_number"] = json!(attempt);
            sent.to_string().into_bytes()
        });
        attempts.into_iter().any(|attempt| attempt == body)
    };
    assert!(attempt_of(&foreign, &foreign_row.0), "{foreign_row:?}");
    assert_eq!(
        (&*foreign_row.1, foreign_row.2.as_deref()),
        ("foreign_account", Some("/data/user_id"))
    );
    assert!(attempt_of(&event, &event_row.0), "{event_row:?}");
    assert_eq!((&*event_row.1, event_row.2.as_deref()), ("missing_field", Some("/data/phone")));
    assert_eq!(*broken_row, (b"\xff\0".to_vec(), "not_json".to_owned(), None));
    assert_eq!(fleet.database.count("inbox").await, 0);
}

#[tokio::test]
async fn a_message_that_no_host_published_is_a_dead_letter() {
    let mut fleet = Fleet::new().await;
    let _host = fleet.start(HOST, &[]).await;
    let subject = format!("{}.event.2.2", fleet.stream);
    let client = fleet.client().await;
    client.publish(subject, "no event".into()).await.unwrap().await.unwrap();

    let _worker = fleet.start(WORKER, &[]).await;
    fleet.drained().await;

    assert_eq!(fleet.database.count("dead_letter WHERE code = 'not_json'").await, 1);
}

#[tokio::test]
async fn a_worker_waits_for_its_database_and_for_its_broker() {
    let mut fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[]).await;
    let broker = fleet.through_proxy().await;
    let (database, url) = fleet.database.proxied().await;
    let _worker = fleet.start(WORKER, &[("DATABASE_URL", &url)]).await;

    for (number, wire) in [(&database, Wire::Cut), (&database, Wire::Silent), (&broker, Wire::Cut)]
        .into_iter()
        .enumerate()
    {
        let (server, state) = wire;
        server.set(state);
        assert_received(&host.deliver(new_event().to_string()).await);
        sleep(Duration::from_secs(2)).await;
        let number = i64::try_from(number).unwrap();
        assert_eq!(fleet.database.count("inbox").await, number);
        assert_eq!(fleet.messages().await, 1);

        server.set(Wire::Whole);
        fleet.database.wait_for("inbox", number + 1).await;
        fleet.drained().await;
    }
}

#[tokio::test]
async fn a_stream_is_partitioned_by_account() {
    let mut fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[]).await;
    let subject = |partition: i64| format!("{}.event.{partition}.*", fleet.stream);
    // The second one is in the first one's partition.
    for user_id in [2, 18, 3, -1, i64::MIN] {
        let mut event = new_event();
        event["data"]["user_id"] = json!(user_id);
        assert_received(&host.deliver(event.to_string()).await);
    }
    assert_refused(&host.deliver("{").await, 400, "not_json");

    let mut workers = Vec::new();
    for (partition, stored) in [(2, 2), (3, 3), (15, 4), (0, 5)] {
        workers.push(fleet.start(WORKER, &[("WORKER_SUBJECT", &subject(partition))]).await);
        fleet.database.wait_for("inbox", stored).await;
    }
    // Two would store the same message: the broker refuses it.
    let own = [
        ("NATS_URL", &*fleet.nats),
        ("STREAM", &fleet.stream),
        ("DATABASE_URL", &fleet.database.url),
    ];
    let text = failure(WORKER, &own).await;
    assert!(text.contains("WORKER_SUBJECT"), "{text}");

    let unreadable = format!("{}.unreadable", fleet.stream);
    workers.push(fleet.start(WORKER, &[("WORKER_SUBJECT", &unreadable)]).await);
    fleet.drained().await;
    assert_eq!(fleet.database.count("dead_letter").await, 1);
}

#[tokio::test]
async fn a_worker_takes_up_again_what_somebody_has_deleted() {
    let mut fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[]).await;
    let broker = fleet.through_proxy().await;
    let _worker = fleet.start(WORKER, &[]).await;
    let stream = fleet.stream().await;
    for (away, stored) in [(false, 1), (true, 2)] {
        // Told of it, and not.
        if away {
            broker.set(Wire::Cut);
        }
        stream.delete_consumer("all").await.unwrap();
        broker.set(Wire::Whole);
        assert_received(&host.deliver(new_event().to_string()).await);
        fleet.database.wait_for("inbox", stored).await;
    }
}

#[tokio::test]
async fn a_stream_that_would_lose_something_is_refused() {
    type Change = fn(&mut stream::Config);
    let fleet = Fleet::new().await;
    let good = stream::Config {
        name: fleet.stream.clone(),
        subjects: vec![
            format!("{}.event.*.*", fleet.stream),
            format!("{}.unreadable", fleet.stream),
        ],
        retention: stream::RetentionPolicy::WorkQueue,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    let changes: [(Change, &str); 5] = [
        (|config| config.retention = stream::RetentionPolicy::Limits, "would drop messages"),
        (|config| config.discard = stream::DiscardPolicy::Old, "would drop messages"),
        (|config| config.storage = stream::StorageType::Memory, "would drop messages"),
        (|config| config.max_age = Duration::from_secs(3600), "would drop messages"),
        (|config| config.subjects.truncate(1), "other replicas or subjects"),
    ];
    let client = fleet.client().await;
    for (change, fault) in changes {
        let mut config = good.clone();
        change(&mut config);
        client.create_stream(config).await.unwrap();
        let settings = [("NATS_URL", &*fleet.nats), ("STREAM", &fleet.stream)];
        let text = failure(HOST, &settings).await;
        assert!(text.contains(fault), "{fault}: {text}");
        client.delete_stream(&fleet.stream).await.unwrap();
    }
    client.create_stream(good).await.unwrap();
    fleet.start(HOST, &[]).await;
}

/// The other end of the connection has gone without a word.
#[tokio::test]
async fn a_connection_that_is_silent_for_good_is_replaced() {
    let mut fleet = Fleet::new().await;
    let proxy = fleet.through_proxy().await;
    let host = fleet.start(HOST, &[]).await;
    assert_received(&host.deliver(new_event().to_string()).await);

    proxy.forget_connections();

    assert_refused(&host.deliver(new_event().to_string()).await, 500, "server_error");
    host.recovered().await;
}

#[tokio::test]
async fn the_largest_body_that_a_host_takes_goes_all_the_way() {
    let mut fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[]).await;
    let _worker = fleet.start(WORKER, &[]).await;
    let mut event = new_event();
    // As long in canonical form as it can be: every character escaped.
    let room = 512 * 1024 - event.to_string().len();
    let text = event["data"]["additional_data"]["additional_text"].as_str().unwrap().to_owned();
    event["data"]["additional_data"]["additional_text"] = json!(text + &"\u{1}".repeat(room / 6));
    let mut largest = event.to_string();
    largest += &" ".repeat(512 * 1024 - largest.len());

    assert_received(&host.deliver(largest.clone()).await);
    assert_refused(&host.deliver(largest + " ").await, 400, "body_too_large");

    fleet.database.wait_for("inbox", 1).await;
}

#[tokio::test]
async fn a_broker_for_smaller_messages_is_refused() {
    let small = Nats::start("max_payload: 1000000");
    let text = failure(HOST, &[("NATS_URL", &small.url)]).await;
    assert!(text.contains("max_payload is 1000000"), "{text}");
    let right = Nats::start("max_payload: 1048576");
    Process::start(HOST, &[("NATS_URL", &right.url)]).await;
}

#[tokio::test]
async fn a_broker_that_refuses_the_password_ends_the_start_at_once_and_prints_none() {
    let nats = server("NATS_URL");
    let (user, rest) = nats.split_once("://").unwrap().1.split_once(':').unwrap();
    let (password, address) = rest.split_once('@').unwrap();
    let encoded = password.replacen(&password[..1], &format!("%{:02X}", password.as_bytes()[0]), 1);
    let stream = format!("test-{}", Uuid::new_v4().simple());

    let wrong = format!("nats://{user}:wr0ng-{password}@{address}");
    let text = failure(HOST, &[("NATS_URL", &wrong)]).await;
    assert!(text.contains("NATS_URL") && text.contains("authorization"), "{text}");
    assert!(!text.contains(password), "{text}");

    let right = format!("nats://{user}:{encoded}@{address}");
    Process::start(HOST, &[("NATS_URL", &right), ("STREAM", &stream)]).await;
}

#[tokio::test]
async fn a_host_waits_for_a_broker_that_is_starting() {
    let mut fleet = Fleet::new().await;
    let proxy = fleet.through_proxy().await;
    proxy.set(Wire::Cut);
    let back = async {
        sleep(Duration::from_secs(1)).await;
        proxy.set(Wire::Whole);
    };

    let (host, ()) = tokio::join!(fleet.start(HOST, &[]), back);

    assert_received(&host.deliver(new_event().to_string()).await);
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_finishes_first() {
    let mut fleet = Fleet::new().await;
    let host = fleet.start(HOST, &[]).await;
    let worker = fleet.start(WORKER, &[]).await;
    fleet.database.connection.execute("BEGIN; LOCK TABLE inbox").await.unwrap();
    assert_received(&host.deliver(new_event().to_string()).await);
    sleep(Duration::from_millis(200)).await;

    worker.terminate();
    sleep(Duration::from_millis(200)).await;
    fleet.database.connection.execute("ROLLBACK").await.unwrap();

    assert_eq!(worker.exit_code().await, Some(0));
    assert_eq!(fleet.database.count("inbox").await, 1);
    assert_eq!(fleet.messages().await, 0);
}

/// A server with a setting of its own.
struct Nats {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Nats {
    fn start(setting: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.path().join("nats.conf");
        let store = folder.path().display();
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{store}\" }}\n{setting}\n"
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("nats-server")
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, url: format!("nats://127.0.0.1:{port}"), _folder: folder }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).unwrap();
    }
}
