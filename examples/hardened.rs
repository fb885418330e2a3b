//! The webhook on the open internet, with the limits that `axum::serve` does not set:
//! `WEBHOOK_SECRET=… cargo run --release --example hardened`.
//!
//! Who does not know the secret can hold a connection for `HEAD_TIMEOUT` and a moment, and loses even
//! that to a newcomer when connections run out; who knows it can hold a request for `REQUEST_TIMEOUT`.
//! `scripts/attack-host` tries it. TLS ends in front of this server. Each event is kept once, in
//! SQLite, as in `quickstart.rs`. All times are in seconds:
//!
//! | variable           | meaning                                                | without it        |
//! |--------------------|--------------------------------------------------------|-------------------|
//! | `WEBHOOK_SECRET`   | the token of the provider's dashboard                  | it does not start |
//! | `BIND_ADDR`        | the address and port to listen on                      | `127.0.0.1:3000`  |
//! | `DATABASE_PATH`    | the SQLite file                                        | `unsubscribed.db` |
//! | `HEAD_TIMEOUT`     | for the head of a request, and the pause before it     | 10                |
//! | `BODY_TIMEOUT`     | for the body of an authentic request                   | 10                |
//! | `REQUEST_TIMEOUT`  | from the head of an authentic request to its answer    | 20                |
//! | `SHUTDOWN_TIMEOUT` | for the requests that are under way at the end         | 25                |
//! | `MAX_CONNECTIONS`  | open at once                                           | 320               |
//! | `MAX_REQUESTS`     | authentic requests under way at once; others wait      | 64                |

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, IsTerminal},
    net::SocketAddr,
    num::NonZeroU16,
    pin::{self, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, header::CONNECTION},
    middleware::{self, Next},
    response::Response,
    routing::post,
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rusqlite::DatabaseName;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{sleep, timeout},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::timeout::RequestBodyDeadlineLayer;
use unsubscribe_webhook::{Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

/// A head has some 300 bytes. hyper alone would buffer 400 kB of it, for anybody.
const HEAD_LIMIT: usize = 16 * 1024;
/// An event has some 500 bytes. axum alone would take 2 MB.
const BODY_LIMIT: usize = 64 * 1024;
/// Who finds the line in front of `accept` full tries again after a second, and a flood soon fills
/// tokio's of 1,024. Linux cuts this to `net.core.somaxconn`, 4,096 unless it is set.
const BACKLOG: u32 = 4096;
/// How long the rest of a refused body is taken, and thrown away.
const LINGER: Duration = Duration::from_secs(2);
/// How long to wait until a descriptor may be free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Limits {
    /// Patient: a head comes in a packet or two. An idle connection is closed after it, too.
    head_timeout: Duration,
    /// As patient: a body is no longer than the head.
    body_timeout: Duration,
    /// Leaves the database some seconds after a body that came late.
    request_timeout: Duration,
    /// Longer than any request may take, and shorter than a supervisor's patience, often 30.
    shutdown_timeout: Duration,
    /// A third of the 1,024 descriptors that a process usually may open, and 10 MB at 30 kB each.
    max_connections: NonZeroU16,
    /// Bounds the queue in front of the database, and what bodies take: 4 MB by `BODY_LIMIT`.
    max_requests: NonZeroU16,
}

impl Limits {
    fn from_env() -> anyhow::Result<Self> {
        let limits = Self {
            head_timeout: seconds("HEAD_TIMEOUT", 10)?,
            body_timeout: seconds("BODY_TIMEOUT", 10)?,
            request_timeout: seconds("REQUEST_TIMEOUT", 20)?,
            shutdown_timeout: seconds("SHUTDOWN_TIMEOUT", 25)?,
            max_connections: count("MAX_CONNECTIONS", 320)?,
            max_requests: count("MAX_REQUESTS", 64)?,
        };
        // Otherwise a slow body would be answered as a fault of the host's.
        anyhow::ensure!(
            limits.body_timeout < limits.request_timeout,
            "BODY_TIMEOUT must be shorter than REQUEST_TIMEOUT"
        );
        Ok(limits)
    }
}

// The disk is slower than two threads are, and every thread has a heap of its own for a flood to fill.
#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colours).init();

    let secret = setting("WEBHOOK_SECRET")?.context("WEBHOOK_SECRET is not set")?;
    let auth = WebhookAuth::try_new(secret).context("WEBHOOK_SECRET")?;
    let limits = Limits::from_env()?;
    let path = setting("DATABASE_PATH")?.unwrap_or_else(|| "unsubscribed.db".to_owned());
    let inbox = Inbox::open(&path, &limits).with_context(|| format!("cannot open {path}"))?;

    // The layer comes first: a stranger is answered at once, without a permit and without a body.
    let layers = ServiceBuilder::new()
        .layer(auth)
        .layer(middleware::from_fn_with_state(Queue::new(&limits), answer_in_time))
        // For the body as a whole. A limit of the pauses would let a byte a second go on and on.
        .layer(RequestBodyDeadlineLayer::new(limits.body_timeout))
        .layer(DefaultBodyLimit::max(BODY_LIMIT));
    let app = Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed).layer(layers))
        .with_state(inbox);

    let address = setting("BIND_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener =
        listen(&address).with_context(|| format!("cannot listen on {address}: set BIND_ADDR"))?;
    println!("Listening on  http://{}", listener.local_addr()?);
    serve(listener, app, &limits).await;
    println!("Stopped.");
    Ok(())
}

/// As `TcpListener::bind`, with a longer line in front of `accept`.
fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let address: SocketAddr = address.parse()?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // For a restart, while connections of the last run still rest there. (Not so on Windows.)
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}

/// Accepts connections until it is told to stop, then answers what is under way.
async fn serve(listener: TcpListener, app: Router, limits: &Limits) {
    let mut http = http1::Builder::new();
    // Without a timer hyper waits for a head as long as the other end likes.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_LIMIT)
        // A sender that shuts its own side down after the request gets its answer all the same.
        .half_close(true);
    let places = Arc::new(Places::new(limits.max_connections));
    let (stop, stopping) = watch::channel(());
    let mut stopped = pin!(stopped());

    loop {
        let next = async {
            let stream = accept(&listener, &places).await;
            (stream, places.take().await)
        };
        let (stream, place) = tokio::select! {
            next = next => next,
            () = &mut stopped => break,
        };
        let service = {
            let (app, place) = (app.clone(), Arc::clone(&place));
            service_fn(move |request: Request<Incoming>| {
                let (app, place) = (app.clone(), Arc::clone(&place));
                async move {
                    let _under_way = place.under_way().ok_or("the place was given away")?;
                    let Ok(mut answer) = app.oneshot(request.map(Body::new)).await;
                    if left_the_body(&answer) {
                        // Then no other request can follow it. hyper knows, but does not say so.
                        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, &str>(answer)
                }
            })
        };
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let stopping = stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = talk(connection, stopping) => {}
                () = place.given_away.notified() => {}
            }
        });
    }

    drop((listener, stopping));
    places.close();
    stop.send_replace(());
    if timeout(limits.shutdown_timeout, stop.closed()).await.is_err() {
        tracing::warn!("requests were still under way: the provider sends them again");
    }
}

/// Serves a connection to its end; told to stop, to the end of the request under way.
async fn talk<S>(
    mut connection: http1::Connection<TokioIo<TcpStream>, S>,
    mut stopping: watch::Receiver<()>,
) where
    S: HttpService<Incoming, ResBody = Body, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let end = loop {
        tokio::select! {
            end = &mut connection => break end,
            Ok(()) = stopping.changed() => pin::Pin::new(&mut connection).graceful_shutdown(),
        }
    };
    // An error is the other end's doing, and not logged: strangers could fill the log.
    if end.is_ok() {
        // Closed with bytes that nobody read, those of a large body that was refused, the connection
        // would be reset, and the answer lost with it.
        let mut stream = connection.into_parts().io.into_inner();
        let _ = timeout(LINGER, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
    }
}

/// Whether the request's body may have been left where it was, in whole or in part.
fn left_the_body(answer: &Response) -> bool {
    let rejection = answer.extensions().get::<Rejection>();
    !answer.status().is_success() && rejection.and_then(Rejection::body).is_none()
}

async fn accept(listener: &TcpListener, places: &Places) -> TcpStream {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // It has gone again.
            Err(error)
                if matches!(
                    error.kind(),
                    ConnectionAborted | ConnectionRefused | ConnectionReset
                ) => {}
            Err(error) => {
                // Out of descriptors, most likely: a server that ended here would stay away.
                tracing::error!(%error, "cannot accept a connection");
                places.make_room();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The places for connections. When all are taken, a newcomer gets that of the connection which has
/// been without a request for longest, be it silent, in the middle of a head, or not reading its
/// answer. So those push each other out, and a delivery, which says all at once, gets through.
struct Places {
    free: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Connections without a request under way, by the number they drew when they became idle.
    line: BTreeMap<u64, Arc<Notify>>,
    last_number: u64,
    /// None was idle when room was needed: the next one leaves.
    wanted: bool,
}

impl Places {
    fn new(max_connections: NonZeroU16) -> Self {
        let free = Arc::new(Semaphore::new(max_connections.get().into()));
        Self { free, idle: Mutex::default() }
    }

    async fn take(self: &Arc<Self>) -> Arc<Place> {
        if self.free.available_permits() == 0 {
            self.make_room();
        }
        let free = Arc::clone(&self.free);
        let permit = free.acquire_owned().await.expect("it is never closed");
        self.idle().wanted = false;
        let place = Place {
            places: Arc::clone(self),
            number: AtomicU64::default(),
            given_away: Arc::default(),
            _permit: permit,
        };
        place.wait();
        Arc::new(place)
    }

    fn make_room(&self) {
        let mut idle = self.idle();
        match idle.line.pop_first() {
            Some((_, given_away)) => given_away.notify_one(),
            None => idle.wanted = true,
        }
    }

    /// Closes what is idle: nothing was asked there.
    fn close(&self) {
        for given_away in std::mem::take(&mut self.idle().line).into_values() {
            given_away.notify_one();
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place {
    places: Arc<Places>,
    /// In the line of the idle; changed under its lock.
    number: AtomicU64,
    given_away: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Keeps the place as long as the guard lives; `None` if it was given away just now.
    fn under_way(self: &Arc<Self>) -> Option<UnderWay> {
        let number = self.number.load(Ordering::Relaxed);
        self.places.idle().line.remove(&number).map(|_| UnderWay(Arc::clone(self)))
    }

    fn wait(&self) {
        let mut idle = self.places.idle();
        if std::mem::take(&mut idle.wanted) {
            self.given_away.notify_one();
        } else {
            idle.last_number += 1;
            self.number.store(idle.last_number, Ordering::Relaxed);
            let last_number = idle.last_number;
            idle.line.insert(last_number, Arc::clone(&self.given_away));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = self.number.load(Ordering::Relaxed);
        self.places.idle().line.remove(&number);
    }
}

struct UnderWay(Arc<Place>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[derive(Clone)]
struct Queue {
    permits: Arc<Semaphore>,
    patience: Duration,
}

impl Queue {
    fn new(limits: &Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.max_requests.get().into()));
        Self { permits, patience: limits.request_timeout }
    }
}

/// As an error of the handler's, a delivery that takes too long is answered with the contract's 500,
/// and logged. (What was stored after all is stored once, whenever the provider sends it again.)
async fn answer_in_time(
    State(queue): State<Queue>,
    request: Request,
    next: Next,
) -> Result<Response, ServerError> {
    let answer = timeout(queue.patience, async {
        let _permit = queue.permits.acquire().await?;
        anyhow::Ok(next.run(request).await)
    });
    Ok(answer.await.context("REQUEST_TIMEOUT is over")??)
}

/// `Option`, because an account sends all its events here unless its owner picks some: others are
/// acknowledged, so that the provider does not send them again.
async fn unsubscribed(
    State(inbox): State<Inbox>,
    event: Option<UnsubscribeEvent>,
) -> Result<Received, ServerError> {
    if let Some(event) = event {
        // Acknowledged only once it is on the disk; an error answers 500, and the provider retries.
        inbox.add(&event).await?;
    }
    Ok(Received)
}

/// One thread owns the database, so that no more than one waits for the disk, whatever comes in.
#[derive(Clone)]
struct Inbox(mpsc::Sender<Entry>);

struct Entry {
    event_id: String,
    phone: String,
    event: String,
    stored: oneshot::Sender<Result<(), Arc<rusqlite::Error>>>,
}

impl Inbox {
    fn open(path: &str, limits: &Limits) -> anyhow::Result<Self> {
        let mut database = rusqlite::Connection::open(path)?;
        // SQLite opens a file that it may not write all the same, and would fail on each delivery.
        anyhow::ensure!(!database.is_readonly(DatabaseName::Main)?, "it is read-only");
        // A write-ahead log needs one sync a commit, and no more descriptors once it is open. FULL is
        // that sync: what was acknowledged survives a loss of power.
        database.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS unsubscribed (
                 event_id TEXT PRIMARY KEY, -- the same on every attempt of a delivery
                 phone TEXT NOT NULL,
                 event TEXT NOT NULL -- the whole event, in canonical form
             );
             CREATE INDEX IF NOT EXISTS unsubscribed_phone ON unsubscribed (phone);",
        )?;
        let room = limits.max_requests.get().into();
        let (sender, mut receiver) = mpsc::channel(room);
        thread::Builder::new().name("inbox".to_owned()).spawn(move || {
            let mut entries = Vec::new();
            // All that came during a sync share the next one.
            while receiver.blocking_recv_many(&mut entries, room) > 0 {
                let stored = store(&mut database, &entries).map_err(Arc::new);
                for entry in entries.drain(..) {
                    // Nobody listens any more if its time is over.
                    let _ = entry.stored.send(stored.clone());
                }
            }
        })?;
        Ok(Self(sender))
    }

    async fn add(&self, event: &UnsubscribeEvent) -> anyhow::Result<()> {
        let (stored, answer) = oneshot::channel();
        let entry = Entry {
            event_id: event.id.to_string(),
            phone: event.data.phone.clone(),
            event: serde_json::to_string(event)?,
            stored,
        };
        self.0.send(entry).await.ok().context("the inbox is closed")?;
        Ok(answer.await??)
    }
}

fn store(database: &mut rusqlite::Connection, entries: &[Entry]) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    for Entry { event_id, phone, event, .. } in entries {
        // Not OR IGNORE, which would swallow other errors too, and with them the event.
        transaction
            .prepare_cached(
                "INSERT INTO unsubscribed VALUES (?1, ?2, ?3) ON CONFLICT (event_id) DO NOTHING",
            )?
            .execute((event_id, phone, event))?;
    }
    transaction.commit()
}

fn seconds(name: &str, default: u64) -> anyhow::Result<Duration> {
    let Some(text) = setting(name)? else { return Ok(Duration::from_secs(default)) };
    let given = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    given.filter(|given| !given.is_zero()).with_context(|| format!("{name} takes seconds above 0"))
}

fn count(name: &str, default: u16) -> anyhow::Result<NonZeroU16> {
    let text = setting(name)?.unwrap_or_else(|| default.to_string());
    text.parse().ok().with_context(|| format!("{name} takes a whole number from 1 to 65535"))
}

/// Without its value in the error: it may be the secret.
fn setting(name: &str) -> anyhow::Result<Option<String>> {
    let value = env::var_os(name).map(|value| value.into_string().ok());
    value.map(|value| value.with_context(|| format!("{name} is not UTF-8"))).transpose()
}

/// Ends with SIGINT (Ctrl-C) or SIGTERM.
async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    interrupt.await.expect("a handler for Ctrl-C");
}
