//! A complete app to start from, with SQLite: `cargo run --example quickstart`.
//!
//! It stores every authentic delivery, puts its phone number on the suppression list even if the
//! body breaks the contract, and shows which numbers are on the list. `--help` lists the settings.

use std::{
    env,
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use rusqlite::{Connection, DatabaseName};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::Mutex,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing_subscriber::{filter::Targets, prelude::*};
use unsubscribe_webhook::{Code, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

const HELP: &str = "\
Receives phone.unsubscribe webhooks and keeps the numbers in SQLite.

Settings come from the environment:
  WEBHOOK_SECRET   the secret of the provider's dashboard (a demo secret)
  WEBHOOK_ACCOUNT  the only account (user_id) to accept (any account)
  BIND_ADDR        the address to listen on (127.0.0.1:3000)
  DATABASE_PATH    the SQLite file (unsubscribed.db)
  RUST_LOG         what to log, such as warn,quickstart=info (info)

Routes:
  POST /webhooks/unsubscribe  for the provider
  GET  /suppressed/{phone}    for your app, with the same secret
  GET  /health                for a proxy, without a secret
";

const DEMO_SECRET: &str = "demo-secret";

/// How long a write waits for earlier writes, and then for other processes. The sum is less than 10 s,
/// a common timeout of HTTP clients.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(4);
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than any write takes, and less than the 10 s that Docker waits before it kills.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);

async fn unsubscribed(
    State(list): State<SuppressionList>,
    event: Result<UnsubscribeEvent, Rejection>,
) -> Result<Received, ServerError> {
    match event {
        Ok(event) => {
            let id = event.id;
            if list.add(event).await? {
                tracing::info!(%id, "Number added to the suppression list.");
            } else {
                tracing::info!(%id, "Event stored before.");
            }
            Ok(Received)
        }
        // Acknowledged, because the provider would send it three more times.
        Err(rejection) if rejection.code() == Code::OtherEvent => Ok(Received),
        Err(rejection) => {
            let is_listed = list.add_refused(rejection.clone()).await?;
            Err(if is_listed { rejection.kept() } else { rejection })?
        }
    }
}

/// Whether a number must not be texted. It is compared as the provider writes it (E.164), so convert
/// yours first. A proxy's access log contains the path, and with it the number.
async fn suppressed(
    State(list): State<SuppressionList>,
    Path(phone): Path<String>,
) -> Result<Json<Value>, ServerError> {
    let suppressed = list.contains(phone.clone()).await?;
    Ok(Json(json!({ "phone": phone, "suppressed": suppressed })))
}

#[derive(Clone)]
struct SuppressionList {
    writer: Arc<Mutex<Connection>>,
    /// In WAL mode, readers do not wait for writers.
    reader: Arc<Mutex<Connection>>,
}

impl SuppressionList {
    fn open(path: &str) -> anyhow::Result<Self> {
        let writer = Connection::open(path)?;
        // SQLite opens a file without write permission, and would fail on each delivery.
        ensure!(!writer.is_readonly(DatabaseName::Main)?, "it is read-only");
        // An empty path and `:memory:` stand for databases that are lost at the end; they have no WAL.
        let mode: String =
            writer.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        ensure!(mode == "wal", "it is not a file");
        writer.busy_timeout(BUSY_TIMEOUT)?;
        writer.execute_batch(
            // FULL: a commit is on the disk when it returns, so a 200 survives a power cut.
            "PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS unsubscribed (
                 event_id TEXT NOT NULL, -- the same on every attempt
                 phone TEXT NOT NULL,
                 event TEXT NOT NULL, -- in canonical form
                 PRIMARY KEY (phone, event_id)
             );
             CREATE TABLE IF NOT EXISTS refused (
                 received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
                 code TEXT NOT NULL,
                 phone TEXT, -- NULL if it cannot be read: somebody must look at the body
                 body BLOB NOT NULL -- as it came
             );
             CREATE INDEX IF NOT EXISTS refused_phone ON refused (phone);
             CREATE VIEW IF NOT EXISTS suppression_list AS
                 SELECT phone FROM unsubscribed
                 UNION ALL SELECT phone FROM refused WHERE phone IS NOT NULL;",
        )?;
        // Fails if the file has these tables in another form.
        writer.prepare_cached(INSERT_EVENT)?;
        let reader = Connection::open(path)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(Self { writer: Arc::new(Mutex::new(writer)), reader: Arc::new(Mutex::new(reader)) })
    }

    /// Whether the event is new. Once this returns, it is stored in either case.
    async fn add(&self, event: UnsubscribeEvent) -> anyhow::Result<bool> {
        run(&self.writer, move |database| {
            let json = serde_json::to_string(&event)?;
            let row = (event.id.to_string(), &event.data.phone, json);
            Ok(database.prepare_cached(INSERT_EVENT)?.execute(row)? == 1)
        })
        .await
    }

    /// Stores a refused body, and returns whether its number is on the list.
    async fn add_refused(&self, rejection: Rejection) -> anyhow::Result<bool> {
        // Without a body, it was not read whole.
        let Some(body) = rejection.body().cloned() else { return Ok(false) };
        run(&self.writer, move |database| {
            let phone = rejection.opt_out().map(|opt_out| &opt_out.phone);
            database
                .prepare_cached("INSERT INTO refused (code, phone, body) VALUES (?1, ?2, ?3)")?
                .execute((rejection.code().as_str(), phone, &body[..]))?;
            Ok(phone.is_some())
        })
        .await
    }

    async fn contains(&self, phone: String) -> anyhow::Result<bool> {
        run(&self.reader, move |database| {
            let mut query =
                database.prepare_cached("SELECT 1 FROM suppression_list WHERE phone = ?1")?;
            Ok(query.exists([phone])?)
        })
        .await
    }
}

/// By id and number: the provider repeats an event, and may reuse an id. `DO NOTHING` is for this key
/// only, where `OR IGNORE` would hide other errors.
const INSERT_EVENT: &str = "INSERT INTO unsubscribed (event_id, phone, event) VALUES (?1, ?2, ?3) \
                            ON CONFLICT (phone, event_id) DO NOTHING";

/// SQLite waits for the disk, so it must not block the threads that serve requests.
async fn run<T: Send + 'static>(
    database: &Arc<Mutex<Connection>>,
    work: impl FnOnce(&Connection) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let database = timeout(QUEUE_TIMEOUT, Arc::clone(database).lock_owned()).await;
    let database = database.context("too many requests wait for the database")?;
    spawn_blocking(move || work(&database)).await?
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match env::args_os().nth(1) {
        None => {}
        Some(argument) if argument == "--help" || argument == "-h" => {
            print!("{HELP}");
            return Ok(());
        }
        Some(_) => bail!("settings are environment variables, not arguments: try --help"),
    }

    let filter = setting("RUST_LOG")?.unwrap_or_else(|| "info".to_owned());
    let filter: Targets = filter.parse().context("RUST_LOG")?;
    // Colors on a terminal, plain text in a file.
    let is_terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(is_terminal);
    tracing_subscriber::registry().with(log.with_filter(filter)).init();

    let own_secret = setting("WEBHOOK_SECRET")?;
    let secret = own_secret.clone().unwrap_or_else(|| DEMO_SECRET.to_owned());
    let mut auth = WebhookAuth::try_new(secret).context("WEBHOOK_SECRET")?;
    let account = setting("WEBHOOK_ACCOUNT")?.map(|account| account.parse::<i64>());
    let account = account.transpose().context("WEBHOOK_ACCOUNT is not an integer")?;
    if let Some(account) = account {
        auth = auth.allow_accounts([account]);
    }
    let path = setting("DATABASE_PATH")?.unwrap_or_else(|| "unsubscribed.db".to_owned());
    let list = SuppressionList::open(&path).with_context(|| {
        format!(
            "cannot open the database {path:?}: set DATABASE_PATH to a file that can be written"
        )
    })?;

    let app = Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed))
        .route("/suppressed/{phone}", get(suppressed))
        // Around both routes, because the list is personal data; and around wrong URLs, which it logs.
        .layer(auth)
        .route("/health", get(async || "ok"))
        .with_state(list);

    let address = setting("BIND_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.with_context(|| {
        format!("cannot listen on {address}: set BIND_ADDR to another, such as 127.0.0.1:3001")
    })?;
    let address = listener.local_addr()?;
    ensure!(
        own_secret.is_some() || address.ip().is_loopback(),
        "set WEBHOOK_SECRET: the demo secret is public, so it is for loopback addresses only"
    );

    // Before anybody can know that it runs, and stop it.
    let (stop, stop_waiting) = (stopped()?, stopped()?);
    println!("Listening on  http://{address}");
    println!("Database      {path}");
    println!("{}", what_to_try(&format!("http://{address}"), own_secret.is_some(), account));

    let server = axum::serve(listener, app).with_graceful_shutdown(stop);
    tokio::select! {
        end = server.into_future() => end?,
        // Whoever sends half a request must not keep the app from ending.
        () = async { stop_waiting.await; sleep(SHUTDOWN_TIMEOUT).await } => {
            tracing::warn!("Unfinished requests dropped: the provider sends them again.");
        }
    }
    println!("Stopped.");
    Ok(())
}

/// Commands for a second terminal of 80 columns, each with the status of its response.
fn what_to_try(url: &str, has_own_secret: bool, account: Option<i64>) -> String {
    let (secret, token) = if has_own_secret {
        ("from WEBHOOK_SECRET: set it in the second terminal too", "$WEBHOOK_SECRET")
    } else {
        ("demo-secret, for trying out only: set WEBHOOK_SECRET", DEMO_SECRET)
    };
    let (accepted, listed, broken) = match account {
        None | Some(2) => ("200", "true", "400, but its number is on the list"),
        Some(_) => ("403: account 2", "false", "400"),
    };
    let account = account.map(|account| account.to_string());
    let account = account.as_deref().unwrap_or("any: set WEBHOOK_ACCOUNT to accept one");
    format!(
        r#"Secret        {secret}
Account       {account}

In a second terminal, in the same folder, deliver an example ({accepted}):
  curl -i {url}/webhooks/unsubscribe \
    -H "X-LOX24-Token: {token}" -H 'Content-Type: application/json' \
    --data @examples/event.json
See whether its number is on the list ({listed}):
  curl {url}/suppressed/+4911113333444 \
    -H "X-LOX24-Token: {token}"
Leave the token out (401):
  curl -i {url}/webhooks/unsubscribe \
    -H 'Content-Type: application/json' --data @examples/event.json
Break a field ({broken}):
  sed 's/"id": 4/"id": 7/; s/13333444/15555555/' examples/event.json |
    curl -i {url}/webhooks/unsubscribe \
      -H "X-LOX24-Token: {token}" -H 'Content-Type: application/json' \
      --data @-

The outcome of each delivery is logged here. Ctrl-C stops."#
    )
}

/// The value is not in the error: it may be the secret.
fn setting(name: &str) -> anyhow::Result<Option<String>> {
    let value = env::var_os(name).map(|value| value.into_string().ok());
    value.map(|value| value.with_context(|| format!("{name} is not UTF-8"))).transpose()
}

/// Ends with SIGINT (Ctrl-C) or SIGTERM, which are caught from now on.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let (mut interrupt, mut terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    #[cfg(windows)]
    let (mut interrupt, mut terminate) =
        (tokio::signal::windows::ctrl_c()?, tokio::signal::windows::ctrl_shutdown()?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
