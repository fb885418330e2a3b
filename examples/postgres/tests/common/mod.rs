//! Real servers, processes of the apps, and a network that breaks. The servers are those of
//! `scripts/services run -- cargo test -p postgres-host -p jetstream-host`.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

mod process;

use std::{
    env, future,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::Request;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use unsubscribe_webhook::testing;
use uuid::Uuid;

pub use process::*;

/// A server's URL.
pub fn server(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: scripts/services run -- cargo test -p postgres-host -p jetstream-host")
    })
}

/// A database of this test's own.
pub struct Database {
    pub url: String,
    pub connection: PgConnection,
}

impl Database {
    pub async fn create() -> Self {
        Self::create_with("").await
    }

    /// With options of `CREATE DATABASE`.
    pub async fn create_with(options: &str) -> Self {
        let server = server("DATABASE_URL");
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&server).await.expect("the server");
        connection
            .execute(&*format!("CREATE DATABASE {name} {options}"))
            .await
            .expect("a database");
        let (base, _) = server.rsplit_once('/').expect("a URL with a database");
        let url = format!("{base}/{name}");
        let connection = PgConnection::connect(&url).await.expect("the database");
        Self { url, connection }
    }

    pub async fn execute(&mut self, statement: &str) {
        self.connection.execute(statement).await.expect("a statement");
    }

    pub async fn count(&mut self, rows: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {rows}");
        sqlx::query_scalar(&query).fetch_one(&mut self.connection).await.expect("a count")
    }

    /// Waits until there are so many rows.
    pub async fn wait_for(&mut self, rows: &str, count: i64) {
        until(rows, async || self.count(rows).await == count).await;
    }

    /// A column of text.
    pub async fn texts(&mut self, query: &str) -> Vec<String> {
        sqlx::query_scalar(query).fetch_all(&mut self.connection).await.expect("a column of text")
    }

    /// The accounts that may not text a number; `None` is every account.
    pub async fn accounts(&mut self, phone: &str) -> Vec<Option<i64>> {
        sqlx::query_scalar("SELECT user_id FROM suppression WHERE phone = $1 ORDER BY user_id")
            .bind(phone)
            .fetch_all(&mut self.connection)
            .await
            .expect("accounts")
    }

    /// Asserts that these events are stored, and nothing else.
    pub async fn assert_stored(&mut self, events: &[Value]) {
        let query = "SELECT event FROM inbox JOIN suppression USING (event_id, phone, user_id)";
        let stored = self.texts(query).await;
        let mut stored: Vec<Value> =
            stored.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
        stored.sort_by_key(|event| events.iter().position(|sent| sent == event));
        assert_eq!(stored, events);
        let count = i64::try_from(events.len()).expect("a few");
        for (table, count) in [("inbox", count), ("suppression", count), ("dead_letter", 0)] {
            assert_eq!(self.count(table).await, count, "{table}");
        }
    }
}

/// Asserts the code of a refusal, and that it came within the two seconds that an app has.
#[track_caller]
pub fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let problem: Value = serde_json::from_str(&reply.body).expect("problem details");
    assert_eq!((reply.status, &problem["code"]), (status, &json!(code)));
    assert!(reply.took < Duration::from_secs(2), "{:?}", reply.took);
}

/// The contract's example as a new event.
pub fn new_event() -> Value {
    let mut event = json!(testing::event());
    event["data"]["phone"] = json!(format!("+49{}", Uuid::new_v4().as_u128() % 100_000_000_000));
    event
}

/// Removes a required field.
pub fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().and_then(|object| object.remove(field)).expect("the field");
}

/// The code of each refusal, the accounts that may not text its number, and what is wrong with the event.
type Refusal = (&'static str, &'static [Option<i64>], fn(&mut Value));

const REFUSALS: [Refusal; 8] = [
    ("invalid_field", OWN, |event| event["data"]["additional_data"] = json!([])),
    ("missing_field", OWN, |event| remove(&mut event["data"], "campaign_code")),
    ("not_json", OWN, |event| event["data"]["campaign_code"] = json!(LATIN_1)),
    ("content_type", OWN, |_| {}),
    // Without an account that can be read, no account may text the number.
    ("invalid_field", &[None], |event| event["data"]["user_id"] = json!("2")),
    // Characters that must not end the JSON of a message.
    ("invalid_field", OWN, |event| {
        event["data"]["phone"] = json!("\r\n\"}☎");
        event["data"]["group_id"] = json!("");
    }),
    ("invalid_field", &[], |event| event["data"]["phone"] = json!(4_911_100_001_i64)),
    // `name` comes after `id`.
    ("not_json", &[], |event| event["id"] = json!(CUT)),
];
const OWN: &[Option<i64>] = &[Some(2)];
/// Stands for a byte that is not UTF-8.
const LATIN_1: &str = "~";
/// Stands for the end of a body.
const CUT: &str = "|";

/// Asserts that a refused body is stored as it came, and its number is on the list and in no log.
pub async fn assert_keeps_refused_bodies(app: Process, database: &mut Database) {
    let mut sent = Vec::new();
    for (code, accounts, change) in REFUSALS {
        let mut event = new_event();
        event["attempt_number"] = json!(4);
        change(&mut event);
        let json = event.to_string();
        let body = json.split(CUT).next().expect("a start").bytes();
        let body: Vec<u8> = body.map(|byte| if byte == b'~' { 0xfc } else { byte }).collect();
        let reply = match code {
            "content_type" => {
                let request = Request::post(&app.url).header("x-lox24-token", SECRET);
                app.send(request, body.clone()).await
            }
            _ => app.deliver(body.clone()).await,
        };
        assert_refused(&reply, 400, code);
        let phone = event["data"]["phone"].as_str().unwrap_or("4911100001").to_owned();
        sent.push((phone, body, code, accounts));
    }
    database.wait_for("dead_letter", 8).await;
    let log = app.log();
    for (phone, body, code, accounts) in sent {
        let stored: String = sqlx::query_scalar("SELECT code FROM dead_letter WHERE body = $1")
            .bind(&body)
            .fetch_one(&mut database.connection)
            .await
            .expect("a dead letter");
        assert_eq!(stored, code, "{phone}");
        assert_eq!(database.accounts(&phone).await, accounts, "{phone}: {code}");
        assert!(!log.contains(&phone), "{phone}: {log}");
    }
    assert_eq!(database.count("suppression").await, 6);
    assert_eq!(database.count("inbox").await, 0);
    assert_eq!(log.matches("its opt-out is kept").count(), 6, "{log}");
    assert_eq!(log.matches("the opt-out is lost").count(), 2, "{log}");
}

/// Asserts that an app of account 2 stores the four attempts of a refused delivery as one dead letter.
pub async fn assert_stores_one_dead_letter(app: &Process, database: &mut Database) {
    let (mut event, mut foreign) = (new_event(), new_event());
    remove(&mut event["data"], "phone");
    foreign["data"]["user_id"] = json!(3);
    for attempt in 1..=4 {
        event["attempt_number"] = json!(attempt);
        foreign["attempt_number"] = json!(attempt);
        let body = event.to_string();
        let spaced = body.replace("\"attempt_number\":", "\"attempt_number\" :\n");
        assert_refused(&app.deliver(body[..200].to_owned()).await, 400, "not_json");
        for body in [body, spaced] {
            assert_refused(&app.deliver(body).await, 400, "missing_field");
        }
        assert_refused(&app.deliver(foreign.to_string()).await, 403, "foreign_account");
        assert_refused(&app.deliver(&b"\xff\0"[..]).await, 400, "not_json");
        assert_received(&app.deliver(r#"{"name":"sms.delivery"}"#).await);
    }
    database.wait_for("dead_letter", 5).await;
    let query = "SELECT concat_ws(' ', code, pointer) FROM dead_letter ORDER BY code, pointer";
    assert_eq!(
        database.texts(query).await,
        [
            "foreign_account /data/user_id",
            "missing_field /data/phone",
            "missing_field /data/phone",
            "not_json",
            "not_json",
        ]
    );
    assert_eq!(database.count("inbox").await, 0);
    assert_eq!(database.count("suppression").await, 0);
}

/// Waits until a condition holds, longer than the broker waits for a worker (30 s).
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Starts a program whose server is unavailable for a second.
pub async fn start_before(proxy: &Proxy, program: &str, settings: &[(&str, &str)]) -> Process {
    proxy.set(Wire::Cut);
    let start = Instant::now();
    let recovery = async {
        sleep(Duration::from_secs(1)).await;
        proxy.set(Wire::Whole);
    };
    let (process, ()) = tokio::join!(Process::start(program, settings), recovery);
    assert!(start.elapsed() >= Duration::from_secs(1));
    process
}

pub async fn deliver_at_once(app: &Process, count: usize, body: impl Fn() -> String) -> Vec<Reply> {
    join_all((0..count).map(|_| app.deliver(body()))).await
}

/// Delivers an event until it is acknowledged, which is soon after the server is available again.
pub async fn assert_recovers(app: &Process) {
    let body = new_event().to_string();
    let start = Instant::now();
    while app.deliver(body.clone()).await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(5), "the app does not recover");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Asserts that while the server is unavailable, each delivery gets a 500 in time. Six events are
/// stored by then.
pub async fn assert_fails_without(app: &Process, proxy: &Proxy) {
    let event = new_event().to_string();
    for wire in [Wire::Cut, Wire::Silent] {
        assert_received(&app.deliver(new_event().to_string()).await);
        proxy.set(wire);
        // More than there are connections, so that some wait for one.
        for reply in deliver_at_once(app, 20, || event.clone()).await {
            assert_refused(&reply, 500, "server_error");
        }
        // A refused body that is not stored must be sent again, too.
        assert_refused(&app.deliver("{").await, 500, "server_error");
        proxy.set(Wire::Whole);
        assert_recovers(app).await;
    }
    // Connections that stay silent are replaced, once the pool has them back.
    sleep(Duration::from_millis(200)).await;
    proxy.forget_connections();
    assert_refused(&app.deliver(event.clone()).await, 500, "server_error");
    assert_recovers(app).await;
    // It may have been stored without an acknowledgement, but is stored once.
    assert_received(&app.deliver(event).await);
}

/// A wire to a server, which can be cut. A connection that is older than the number stays silent for good.
pub struct Proxy(watch::Sender<(Wire, u32)>);

#[derive(Clone, Copy, PartialEq)]
pub enum Wire {
    Whole,
    /// Every connection is closed at once.
    Cut,
    /// Nothing comes through, and no connection is closed.
    Silent,
}

impl Proxy {
    /// A proxy to the server of a URL, and the URL through it.
    pub async fn to(url: &str) -> (Self, String) {
        let server = url.split(['@', '/']).nth(3).expect("a URL with a password").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let url = url.replace(&server, &address);
        let (sender, wire) = watch::channel((Wire::Whole, 0));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server.clone(), wire.clone()));
            }
        });
        (Self(sender), url)
    }

    pub fn set(&self, wire: Wire) {
        self.0.send_modify(|state| state.0 = wire);
    }

    /// Connections that are there now stay silent for good; new ones are whole.
    pub fn forget_connections(&self) {
        self.0.send_modify(|state| state.1 += 1);
    }
}

async fn connect(mut client: TcpStream, server: String, mut wire: watch::Receiver<(Wire, u32)>) {
    let (_, first) = *wire.borrow();
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    loop {
        let (state, forgotten) = *wire.borrow_and_update();
        let copy = async {
            match state {
                Wire::Whole if forgotten == first => {
                    _ = copy_bidirectional(&mut client, &mut server).await;
                }
                Wire::Cut if forgotten == first => {}
                _ => future::pending().await,
            }
        };
        tokio::select! {
            () = copy => return,
            Ok(()) = wire.changed() => {}
        }
    }
}
