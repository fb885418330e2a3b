//! Real servers, processes of the hosts, and a network that breaks. The servers are those of
//! `scripts/services run -- cargo test -p postgres-host -p jetstream-host`.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower::{Service, service_fn};
use unsubscribe_webhook::{
    Credential,
    testing::{Conformance, conformance},
};
use uuid::Uuid;

pub const SECRET: &str = "correct-horse-7";
pub const LOOKUP_SECRET: &str = "battery-staple-9";

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

    /// The URL by which the database is reached through a proxy.
    pub async fn proxied(&self) -> (Proxy, String) {
        let (credentials, rest) = self.url.split_once('@').expect("a URL with a password");
        let (server, name) = rest.split_once('/').expect("a URL with a database");
        let proxy = Proxy::start(server).await;
        let url = format!("{credentials}@{}/{name}", proxy.address);
        (proxy, url)
    }

    pub async fn count(&mut self, rows: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {rows}");
        sqlx::query_scalar(&query).fetch_one(&mut self.connection).await.expect("a count")
    }

    /// Waits until there are so many rows.
    pub async fn wait_for(&mut self, rows: &str, count: i64) {
        let start = Instant::now();
        while self.count(rows).await != count {
            let now = self.count(rows).await;
            assert!(start.elapsed() < Duration::from_secs(20), "{rows}: {now}, not {count}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A process of the crate under test; it ends with the test.
pub struct Process {
    child: Child,
    url: String,
    client: Client<HttpConnector, Full<bytes::Bytes>>,
}

pub struct Answer {
    pub status: u16,
    pub body: String,
    pub took: Duration,
}

impl Process {
    /// Starts a program and waits until it says that it is ready.
    pub async fn start(program: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = command(program, settings);
        // Its log is full of what the tests do to it.
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a process");
        let stdout = child.stdout.take().expect("its output");
        let line = tokio::task::spawn_blocking(|| {
            BufReader::new(stdout).lines().next().expect("a line").expect("text")
        });
        let line = line.await.expect("a program that starts");
        let base = line.strip_prefix("Listening on  ").unwrap_or_default();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { child, url: format!("{base}/webhooks/unsubscribe"), client }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Tells it to stop, as a supervisor does.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().expect("kill").success());
    }

    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("an end");
    }

    /// Waits for its end.
    pub async fn exit_code(mut self) -> Option<i32> {
        let end = tokio::task::spawn_blocking(move || self.child.wait());
        end.await.expect("no panic").expect("an end").code()
    }

    pub async fn deliver(&self, body: impl Into<bytes::Bytes>) -> Answer {
        let request = Request::post(&self.url)
            .header("content-type", "application/json")
            .header("x-lox24-token", SECRET)
            .body(Full::new(body.into()));
        self.send(request.expect("a request")).await
    }

    /// The suite that tries the whole host, with a connection for each request.
    pub fn conformance(
        &self,
    ) -> Conformance<impl Service<Request<Body>, Response = Response<Body>> + Clone + 'static> {
        let client: Client<_, Body> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        let app = service_fn(move |request| {
            let answer = client.request(request);
            async { answer.await.map(|answer| answer.map(Body::new)) }
        });
        let credential = Credential::token(SECRET).expect("a usable secret");
        conformance(app, &self.url, &credential).over_network().acknowledges_other_events()
    }

    pub async fn look_up(&self, phone: &str, authorization: &str) -> Answer {
        let request = Request::get(self.url.replace("webhooks/unsubscribe", "suppressed/") + phone)
            .header("authorization", authorization)
            .body(Full::default());
        self.send(request.expect("a request")).await
    }

    /// Delivers an event until it is acknowledged, which is soon after what was away is back.
    pub async fn recovered(&self) {
        let body = new_event().to_string();
        let start = Instant::now();
        while self.deliver(body.clone()).await.status != 200 {
            assert!(start.elapsed() < Duration::from_secs(5), "the host does not recover");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn send(&self, request: Request<Full<bytes::Bytes>>) -> Answer {
        let start = Instant::now();
        let response = self.client.request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Answer {
            status: head.status.as_u16(),
            body: String::from_utf8(body.into()).expect("UTF-8"),
            took: start.elapsed(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program with the settings of a test; none is inherited.
pub fn command(program: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs([
            ("WEBHOOK_SECRET", SECRET),
            ("LOOKUP_SECRET", LOOKUP_SECRET),
            ("BIND_ADDR", "127.0.0.1:0"),
        ])
        .envs(settings.iter().copied());
    command
}

/// What a program that cannot start says.
pub async fn failure(program: &str, settings: &[(&str, &str)]) -> String {
    let mut command = command(program, settings);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("a process");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[track_caller]
pub fn assert_received(answer: &Answer) {
    assert_eq!((answer.status, &*answer.body), (200, "Webhook received\n"));
}

/// Asserts the code of a refusal, and that it came within the two seconds that a host has.
#[track_caller]
pub fn assert_refused(answer: &Answer, status: u16, code: &str) {
    let problem: Value = serde_json::from_str(&answer.body).expect("problem details");
    assert_eq!((answer.status, &problem["code"]), (status, &json!(code)));
    assert!(answer.took < Duration::from_secs(2), "{:?}", answer.took);
}

/// The contract's example as a new event.
pub fn new_event() -> Value {
    let mut event: Value =
        serde_json::from_str(include_str!("../../../event.json")).expect("the example");
    event["id"] = json!(Uuid::new_v4().to_string());
    event["data"]["phone"] = json!(format!("+49{}", Uuid::new_v4().as_u128() % 100_000_000_000));
    event
}

/// A wire to a server, which can be cut.
pub struct Proxy {
    pub address: String,
    wire: watch::Sender<Wire>,
    /// Connections of an earlier age are silent for good.
    age: watch::Sender<u64>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Wire {
    Whole,
    /// Every connection is closed at once.
    Cut,
    /// Nothing comes through, and nobody is told.
    Silent,
}

impl Proxy {
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (wire, state) = watch::channel(Wire::Whole);
        let (age, now) = watch::channel(0);
        let server = server.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, state, mut now) = (server.clone(), state.clone(), now.clone());
                tokio::spawn(async move {
                    let own = *now.borrow();
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    tokio::select! {
                        () = pump(&mut from_client, &mut to_server, state.clone()) => return,
                        () = pump(&mut from_server, &mut to_client, state) => return,
                        _ = now.wait_for(|now| *now > own) => {}
                    }
                    // Open, and nobody is told.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { address, wire, age }
    }

    /// Connections that are there now stay silent for good; new ones are whole.
    pub fn forget_connections(&self) {
        self.age.send_modify(|age| *age += 1);
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut wire: watch::Receiver<Wire>,
) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let state = *wire.borrow_and_update();
        let read = match state {
            Wire::Cut => return,
            Wire::Silent => {
                let _ = wire.changed().await;
                continue;
            }
            Wire::Whole => tokio::select! {
                _ = wire.changed() => continue,
                read = from.read(&mut buffer) => read,
            },
        };
        let Some(read) = read.ok().filter(|read| *read > 0) else { return };
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
