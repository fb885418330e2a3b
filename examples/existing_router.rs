//! The webhook in an app that already has routes, state and tracing:
//! `WEBHOOK_SECRET=… cargo run --example existing_router`.
//!
//! Lines that the webhook adds to the app's `main` are marked with `+`.
//!
//! It also shows a rotation of the secret (`WEBHOOK_SECRET_OLD`), a check of the source address
//! (`WEBHOOK_SOURCES`, a list of addresses), and how unreadable deliveries are put aside.
//! `BIND_ADDR` is `127.0.0.1:3000` and `DATA_DIR` is `data` unless set.

use std::{
    collections::BTreeSet,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, IsTerminal, Write},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context;
use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::request::Parts,
    routing::{get, post},
};
use tokio::{net::TcpListener, task::spawn_blocking};
use tower_http::trace::TraceLayer;
use unsubscribe_webhook::{
    Authenticated, Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth,
};

/// The state that the app had before.
#[derive(Clone)]
struct App {
    data: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colours).init();
    let data = PathBuf::from(env::var_os("DATA_DIR").unwrap_or_else(|| "data".into()));
    for folder in ["unsubscribed", "unreadable"] {
        fs::create_dir_all(data.join(folder)).context("DATA_DIR")?; // +
    }

    let webhooks = Router::new()
        .route("/ping", post(async || "pong"))
        .route("/unsubscribe", post(unsubscribed).layer(webhook_auth()?)); // +
    let app = Router::new()
        .route("/health", get(async || "ok"))
        .nest("/webhooks", webhooks)
        .layer(TraceLayer::new_for_http())
        .with_state(App { data });

    let address = setting("BIND_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.context(address)?;
    println!("Listening on  http://{}", listener.local_addr()?);
    // + `ConnectInfo` is there only if the app is served like this.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Who may deliver: one of two secrets, from one of a few addresses. The layer stands on its own
/// route, so that no other route of the app is locked.
fn webhook_auth() -> anyhow::Result<WebhookAuth> {
    let secret = setting("WEBHOOK_SECRET")?.context("WEBHOOK_SECRET is not set")?;
    let mut auth = WebhookAuth::try_new(secret).context("WEBHOOK_SECRET")?;
    // While the secret is rotated both are right; the log tells when the old one is out of use.
    if let Some(old) = setting("WEBHOOK_SECRET_OLD")? {
        auth = auth.or(Credential::token(old).context("WEBHOOK_SECRET_OLD")?);
    }
    if let Some(sources) = setting("WEBHOOK_SOURCES")? {
        let sources = sources
            .split(',')
            .map(|source| source.trim().parse())
            .collect::<Result<BTreeSet<IpAddr>, _>>()
            .context("WEBHOOK_SOURCES")?;
        auth = auth.require(move |head| source(head).is_some_and(|from| sources.contains(&from)));
    }
    Ok(auth)
}

/// A setting that cannot be read must not pass for one that is absent, nor be printed.
fn setting(name: &str) -> anyhow::Result<Option<String>> {
    let value = env::var_os(name).map(|value| value.into_string().ok());
    value.map(|value| value.with_context(|| format!("{name} is not UTF-8"))).transpose()
}

/// The address of the connection's other end. Behind a proxy that is the proxy: then take the
/// header that your proxy sets, and only if nobody can reach the app past the proxy.
fn source(head: &Parts) -> Option<IpAddr> {
    let ConnectInfo(peer) = head.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.ip().to_canonical())
}

/// `Result`, so that an authentic body which cannot be read is kept for a person to look at: the
/// provider gives up on it after four attempts.
async fn unsubscribed(
    State(app): State<App>,
    proof: Authenticated,
    event: Result<UnsubscribeEvent, Rejection>,
) -> Result<Received, ServerError> {
    if proof.credential() > 0 {
        tracing::warn!("a delivery came with the old secret");
    }
    match event {
        Ok(event) => {
            let file = app.data.join("unsubscribed").join(event.id.to_string());
            let event = serde_json::to_vec(&event)?;
            spawn_blocking(move || store(&file, &event)).await??;
            Ok(Received)
        }
        // Another of the account's events: acknowledged, or it would be sent four times.
        Err(rejection) if rejection.code() == Code::OtherEvent => Ok(Received),
        Err(rejection) => {
            if let Some(body) = rejection.body().cloned() {
                // Named by its content: what comes again is kept once. (The attempts of a delivery
                // differ in `attempt_number`, if they can be read so far.)
                let mut hasher = DefaultHasher::new();
                body.hash(&mut hasher);
                let file = app.data.join("unreadable").join(format!("{:016x}", hasher.finish()));
                spawn_blocking(move || store(&file, &body)).await??;
            }
            Err(rejection)? // answers as itself: 400 or 403
        }
    }
}

/// Writes a file that is either whole or not there, and on the disk before this returns.
fn store(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(file);
    let mut unfinished = tempfile::NamedTempFile::new_in(folder)?;
    unfinished.write_all(bytes)?;
    unfinished.as_file().sync_all()?;
    unfinished.persist(file)?;
    // The name is on the disk only when its folder is; Windows opens no folders.
    #[cfg(unix)]
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}
