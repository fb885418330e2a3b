//! A whole host to start from: `cargo run --example quickstart`.
//!
//! It keeps the unsubscribed numbers in SQLite, each event once however often it is delivered, and
//! tells a sending app which numbers are on the list. Settings come from the environment:
//!
//! | variable          | meaning                                   | without it         |
//! |-------------------|-------------------------------------------|--------------------|
//! | `WEBHOOK_SECRET`  | the token of the provider's dashboard     | a demo secret      |
//! | `WEBHOOK_ACCOUNT` | the only account (`user_id`) to accept    | any account        |
//! | `BIND_ADDR`       | where to listen                           | `127.0.0.1:3000`   |
//! | `DATABASE_PATH`   | the SQLite file                           | `unsubscribed.db`  |
//! | `RUST_LOG`        | what to log: `warn,quickstart=info`       | `info`             |

use std::{
    env,
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use rusqlite::DatabaseName;
use serde::Serialize;
use tokio::{net::TcpListener, task::spawn_blocking};
use tracing_subscriber::{filter::Targets, prelude::*};
use unsubscribe_webhook::{Received, ServerError, UnsubscribeEvent, WebhookAuth};

const DEMO_SECRET: &str = "demo-secret";

/// `Option`, because an account sends all its events here unless its owner picks some: others are
/// acknowledged, so that the provider does not send them again.
async fn unsubscribed(
    State(list): State<SuppressionList>,
    event: Option<UnsubscribeEvent>,
) -> Result<Received, ServerError> {
    if let Some(event) = event {
        let id = event.id;
        // Acknowledged only once it is on the disk; an error answers 500, and the provider retries.
        if list.add(event).await? {
            tracing::info!(%id, "the number was put on the list");
        } else {
            tracing::info!(%id, "this event was stored before");
        }
    }
    Ok(Received)
}

/// What a sending app asks before it texts somebody, in the provider's spelling of the number: bring
/// yours to it (E.164) first, or store both sides in one.
async fn suppressed(
    State(list): State<SuppressionList>,
    Path(phone): Path<String>,
) -> Result<Json<Suppressed>, ServerError> {
    let suppressed = list.contains(phone.clone()).await?;
    Ok(Json(Suppressed { phone, suppressed }))
}

#[derive(Serialize)]
struct Suppressed {
    phone: String,
    suppressed: bool,
}

#[derive(Clone)]
struct SuppressionList(Arc<Mutex<rusqlite::Connection>>);

impl SuppressionList {
    fn open(path: &str) -> anyhow::Result<Self> {
        let database = rusqlite::Connection::open(path)?;
        // SQLite opens a file that it may not write all the same, and would fail on each delivery.
        anyhow::ensure!(!database.is_readonly(DatabaseName::Main)?, "it is read-only");
        database.execute_batch(
            // A commit is on the disk when it returns: with SQLite's default, a power cut can bring
            // back the journal that takes the last commit away again.
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS unsubscribed (
                 event_id TEXT PRIMARY KEY, -- the same on every attempt of a delivery
                 phone TEXT NOT NULL,
                 event TEXT NOT NULL -- the whole event, in canonical form
             );
             CREATE INDEX IF NOT EXISTS unsubscribed_phone ON unsubscribed (phone);",
        )?;
        Ok(Self(Arc::new(Mutex::new(database))))
    }

    /// Whether the event is new. Once this returns, it is stored in either case.
    async fn add(&self, event: UnsubscribeEvent) -> anyhow::Result<bool> {
        self.run(move |database| {
            // Not OR IGNORE, which would swallow other errors too, and with them the event.
            let rows = database
                .prepare_cached(
                    "INSERT INTO unsubscribed VALUES (?1, ?2, ?3) ON CONFLICT (event_id) DO NOTHING",
                )?
                .execute((event.id.to_string(), &event.data.phone, serde_json::to_string(&event)?))?;
            Ok(rows == 1)
        })
        .await
    }

    async fn contains(&self, phone: String) -> anyhow::Result<bool> {
        self.run(move |database| {
            let mut query =
                database.prepare_cached("SELECT 1 FROM unsubscribed WHERE phone = ?1 LIMIT 1")?;
            Ok(query.exists([phone])?)
        })
        .await
    }

    /// SQLite waits for the disk, so it must not hold up the threads that serve requests.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let Self(database) = self.clone();
        spawn_blocking(move || work(&database.lock().unwrap_or_else(PoisonError::into_inner)))
            .await?
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let shown = setting("RUST_LOG")?.unwrap_or_else(|| "info".to_owned());
    let shown: Targets = shown.parse().context("RUST_LOG")?;
    // Colours for a person, plain text for a file.
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colours);
    tracing_subscriber::registry().with(log.with_filter(shown)).init();

    let given_secret = setting("WEBHOOK_SECRET")?;
    let secret = given_secret.clone().unwrap_or_else(|| DEMO_SECRET.to_owned());
    let mut auth = WebhookAuth::try_new(secret).context("WEBHOOK_SECRET")?;
    let account = setting("WEBHOOK_ACCOUNT")?;
    if let Some(account) = &account {
        let user_id = account.parse().context("WEBHOOK_ACCOUNT is no integer")?;
        auth = auth.allow_accounts([user_id]);
    }
    let path = setting("DATABASE_PATH")?.unwrap_or_else(|| "unsubscribed.db".to_owned());
    let list = SuppressionList::open(&path).with_context(|| {
        format!("cannot open {path}: set DATABASE_PATH to a file that can be written")
    })?;

    // The layer guards both routes: a list of phone numbers is personal data too.
    let app = Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed))
        .route("/suppressed/{phone}", get(suppressed))
        .layer(auth)
        .with_state(list);

    let address = setting("BIND_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.with_context(|| {
        format!("cannot listen on {address}: set BIND_ADDR to another, such as 127.0.0.1:3001")
    })?;
    let address = listener.local_addr()?;
    anyhow::ensure!(
        given_secret.is_some() || address.ip().is_loopback(),
        "set WEBHOOK_SECRET: everybody knows the demo secret, so it is for loopback addresses only"
    );

    let (secret, token) = match given_secret {
        Some(_) => ("from WEBHOOK_SECRET: set it in the second terminal too", "$WEBHOOK_SECRET"),
        None => ("demo-secret, for trying out only: set WEBHOOK_SECRET", DEMO_SECRET),
    };
    println!("Listening on  http://{address}");
    println!("Database      {path}");
    println!("Secret        {secret}");
    println!(
        "Account       {}",
        account.as_deref().unwrap_or("any; set WEBHOOK_ACCOUNT to accept one")
    );
    println!();
    println!("{}", what_to_try(&format!("http://{address}"), token));

    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    println!("Stopped.");
    Ok(())
}

/// For a second terminal, and no wider than one usually is.
fn what_to_try(host: &str, token: &str) -> String {
    format!(
        r#"In a second terminal, in the same folder, unsubscribe an example (200):
  curl -i {host}/webhooks/unsubscribe \
    -H "X-LOX24-Token: {token}" -H 'Content-Type: application/json' \
    --data @examples/event.json
See that its number is on the list (200):
  curl -i {host}/suppressed/+4911113333444 \
    -H "X-LOX24-Token: {token}"
Leave the token out (401):
  curl -i {host}/webhooks/unsubscribe \
    -H 'Content-Type: application/json' --data @examples/event.json
Change a field, here the reason to one that there is not (400):
  sed 's/"id": 4/"id": 7/' examples/event.json |
    curl -i {host}/webhooks/unsubscribe \
      -H "X-LOX24-Token: {token}" -H 'Content-Type: application/json' \
      --data @-

What becomes of each delivery is logged here. Ctrl-C stops."#
    )
}

/// Without its value in the error: it may be the secret.
fn setting(name: &str) -> anyhow::Result<Option<String>> {
    let value = env::var_os(name).map(|value| value.into_string().ok());
    value.map(|value| value.with_context(|| format!("{name} is not UTF-8"))).transpose()
}

/// Ends with SIGINT (Ctrl-C) or SIGTERM; requests under way are answered first.
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
