//! The webhook as a server for the open internet, with the limits that `axum::serve` does not set:
//! `WEBHOOK_SECRET=… cargo run --release --example hardened`. Terminate TLS in front of it. The app
//! that sends texts can read the SQLite file through a read-only connection, without waiting.
//!
//! Settings, with their defaults: `BIND_ADDR` (`127.0.0.1:3000`), `DATABASE_PATH` (`unsubscribed.db`),
//! `RUST_LOG` (`info,unsubscribe_webhook=warn`), `MAX_CONNECTIONS` (320), and in seconds `HEAD_TIMEOUT`
//! (10, from the connection to the end of its first request's head), `BODY_TIMEOUT` (10),
//! `IDLE_TIMEOUT` (75, from a response to the end of the next head) and `SHUTDOWN_TIMEOUT` (20).

use std::{collections::HashMap, env, io, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{get, post},
};
use futures_util::{FutureExt, future::select};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use rusqlite::{Connection, Params};
use tokio::{
    net::TcpListener,
    sync::{Mutex, Notify, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tower::Layer;
use tower_http::timeout::RequestBodyDeadlineLayer;
use tracing_subscriber::{filter::Targets, prelude::*};
use unsubscribe_webhook::{Code, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

/// A head has some 300 bytes, an event some 500; hyper allows 400 kB, axum 2 MB.
const HEAD_LIMIT: usize = 8 * 1024; // also hyper's read buffer, on each connection
const BODY_LIMIT: usize = 64 * 1024;
/// For all that a handler does. Within it, another process may lock the database for a second.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(5);
/// When no place is free, a connection without an authenticated request loses its place after this.
const GRACE: Duration = Duration::from_millis(250);
// Not OR IGNORE, which would swallow other errors too, and with them the event.
const SUPPRESS: &str =
    "INSERT INTO unsubscribed VALUES (?1, ?2, ?3) ON CONFLICT (event_id, phone) DO NOTHING";

/// `Result`, because an opt-out whose body has a flaw is an opt-out all the same.
async fn unsubscribed(
    State(database): State<Database>,
    event: Result<UnsubscribeEvent, Rejection>,
) -> Result<Received, ServerError> {
    match event {
        // Acknowledged only once it is on the disk: after a 500, the provider sends it again.
        Ok(event) => {
            let json = serde_json::to_string(&event)?;
            add(&database, SUPPRESS, (event.id.to_string(), event.data.phone, Some(json))).await?;
        }
        // By default an account sends all its events here. A 200, so that they do not come again.
        Err(rejection) if rejection.code() == Code::OtherEvent => {}
        Err(mut rejection) => {
            if let Some(opt_out) = rejection.opt_out().cloned() {
                let id = opt_out.id.map(|id| id.to_string()).unwrap_or_default();
                add(&database, SUPPRESS, (id, opt_out.phone, rusqlite::types::Null)).await?;
                rejection = rejection.kept();
            }
            if let Some(body) = rejection.body() {
                let sql = "INSERT INTO refused VALUES (?1) ON CONFLICT DO NOTHING";
                add(&database, sql, [body.to_vec()]).await?;
            }
            return Err(rejection.into());
        }
    }
    Ok(Received)
}

#[tokio::main]
async fn main() -> Result<()> {
    let shown = setting("RUST_LOG", "info,unsubscribe_webhook=warn")?;
    let shown: Targets = shown.parse().context("RUST_LOG")?;
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(log.with_filter(shown)).init();

    let auth = WebhookAuth::try_new(setting("WEBHOOK_SECRET", "")?).context("WEBHOOK_SECRET")?;
    let database = open(&setting("DATABASE_PATH", "unsubscribed.db")?).context("DATABASE_PATH")?;
    let seconds = |name, default| anyhow::Ok(Duration::from_secs(number(name, default)?.into()));
    let server = Arc::new(Server {
        head_timeout: seconds("HEAD_TIMEOUT", 10)?,
        idle_timeout: seconds("IDLE_TIMEOUT", 75)?,
        places: Arc::new(Semaphore::new(number("MAX_CONNECTIONS", 320)?.into())),
        make_room: Notify::new(),
        lines: Mutex::default(),
    });
    let shutdown_timeout = seconds("SHUTDOWN_TIMEOUT", 20)?;
    let app = Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed))
        .route_layer(DefaultBodyLimit::max(BODY_LIMIT))
        .route_layer(from_fn(|limit: Extension<Limit>, request: Request, next: Next| {
            limit.send_replace(None);
            next.run(request)
        }))
        .route_layer(auth)
        // Around the credential, whose layer discards the bodies of the requests that it refuses.
        .route_layer(RequestBodyDeadlineLayer::new(seconds("BODY_TIMEOUT", 10)?))
        .route("/health", get(|| async {}))
        .layer(from_fn_with_state(Arc::clone(&server), limit))
        .with_state(database);

    let io =
        TcpListener::bind(setting("BIND_ADDR", "127.0.0.1:3000")?).await.context("BIND_ADDR")?;
    println!("Listening on  http://{}", io.local_addr()?);
    let connections = GracefulShutdown::new();
    select(pin!(stopped()), pin!(accept(&server, io, &app, &connections))).await;
    sleep(GRACE).await;
    server.make_room.notify_waiters(); // closes all that are without an authenticated request
    if timeout(shutdown_timeout, connections.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way: the provider sends them again");
    }
    println!("Stopped.");
    Ok(())
}

struct Server {
    head_timeout: Duration,
    /// Longer than a proxy keeps idle connections (nginx: 60 s), so that the proxy closes first. If
    /// this server did, the provider's next request could be under way, and would fail.
    idle_timeout: Duration,
    /// A third of the 1,024 descriptors that a process may usually open.
    places: Arc<Semaphore>,
    /// Wakes the connection that has waited longest, to be closed.
    make_room: Notify,
    /// When a status may be logged next, and how many responses have had it since the last line.
    lines: Mutex<HashMap<StatusCode, (Instant, u64)>>,
}

/// How long a connection may stay open; `None` while an authenticated request is under way.
type Limit = watch::Sender<Option<Duration>>;
type Shared = State<Arc<Server>>;

async fn accept(server: &Arc<Server>, from: TcpListener, app: &Router, all: &GracefulShutdown) {
    loop {
        let accepted = from.accept().await;
        if accepted.is_err() || server.places.available_permits() == 0 {
            server.make_room.notify_one();
        }
        // Meanwhile other connections wait in the kernel's backlog.
        let place = Arc::clone(&server.places).acquire_owned().await;
        // If there was none to wake, the next one that waits would lose its place.
        let _ = timeout(Duration::ZERO, server.make_room.notified()).await;
        let Ok((stream, _)) = accepted else {
            tracing::error!("cannot accept a connection: too many open files?");
            sleep(GRACE).await;
            continue;
        };
        let (limit, mut limits) = watch::channel(Some(server.head_timeout));
        let app = TowerToHyperService::new(Extension(limit).layer(app.clone()));
        // half_close: a client that sends FIN after its request gets its response.
        let mut http = hyper::server::conn::http1::Builder::new();
        http.max_buf_size(HEAD_LIMIT).half_close(true);
        let connection = all.watch(http.serve_connection(TokioIo::new(stream), app));
        let server = Arc::clone(server);
        tokio::spawn(async move {
            let (mut connection, _place) = (pin!(connection), place);
            loop {
                let limit = *limits.borrow_and_update();
                let no_room = sleep(GRACE).then(|()| server.make_room.notified());
                tokio::select! {
                    biased; // what has arrived is read before a limit counts
                    // An error is the client's, and not logged: anybody could fill the disk.
                    _ = &mut connection => break,
                    Ok(()) = limits.changed() => {}
                    _ = timeout(limit.unwrap_or_default(), no_room), if limit.is_some() => break,
                }
            }
        });
    }
}

async fn limit(server: Shared, limit: Extension<Limit>, request: Request, next: Next) -> Response {
    limit.send_replace(Some(server.idle_timeout));
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    limit.send_replace(Some(server.idle_timeout));
    if server.places.available_permits() == 0 {
        // Another may wait for the place, and the client must not send its next request here.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // Anybody can cause these without end, so each status has one line a minute.
    let (status, now) = (response.status(), Instant::now());
    if matches!(status.as_u16(), 401 | 404 | 405) {
        let mut lines = server.lines.lock().await;
        let (next_line, count) = lines.entry(status).or_insert((now, 0));
        *count += 1;
        if *next_line <= now {
            tracing::warn!(%status, count, path, "refused: check the dashboard's secret and URL");
            (*next_line, *count) = (now + Duration::from_secs(60), 0);
        }
    }
    response
}

type Database = Arc<Mutex<Connection>>;

fn open(path: &str) -> Result<Database> {
    let database = Connection::open(path)?;
    anyhow::ensure!(database.path().is_some_and(|path| !path.is_empty()), "it is not a file");
    // SQLite opens a file even without write permission, and would then fail on each delivery.
    anyhow::ensure!(!database.is_readonly(rusqlite::DatabaseName::Main)?, "it is read-only");
    database.busy_timeout(Duration::from_secs(1))?;
    // FULL: what was acknowledged survives a loss of power.
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         -- The id is the same on every attempt; the event is NULL where only its number is known.
         CREATE TABLE IF NOT EXISTS unsubscribed (
             event_id TEXT NOT NULL, phone TEXT NOT NULL, event TEXT, PRIMARY KEY (event_id, phone));
         CREATE INDEX IF NOT EXISTS unsubscribed_phone ON unsubscribed (phone);
         CREATE TABLE IF NOT EXISTS refused (body BLOB PRIMARY KEY);",
    )?;
    database.prepare(SUPPRESS).context("its table is of another version")?;
    Ok(Arc::new(Mutex::new(database)))
}

/// Not on the threads that serve requests, because SQLite waits for the disk.
async fn add<P: Params + Send + 'static>(to: &Database, sql: &'static str, row: P) -> Result<()> {
    let add = async {
        let database = Arc::clone(to).lock_owned().await;
        tokio::task::spawn_blocking(move || database.execute(sql, row)).await
    };
    timeout(HANDLER_TIMEOUT, add).await.context("HANDLER_TIMEOUT is over")???;
    Ok(())
}

fn number(name: &str, default: u16) -> Result<u16> {
    let given = setting(name, &default.to_string())?.parse().ok().filter(|&given| given > 0);
    given.with_context(|| format!("{name} takes a whole number from 1 to 65535"))
}

/// Without its value in the error: it may be the secret.
fn setting(name: &str, default: &str) -> Result<String> {
    let given = env::var_os(name).unwrap_or_else(|| default.into());
    given.into_string().ok().with_context(|| format!("{name} is not UTF-8"))
}

async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
        select(pin!(tokio::signal::ctrl_c()), pin!(terminate.recv())).await;
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.expect("a handler for Ctrl-C");
}
