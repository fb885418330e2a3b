//! The webhook in an app that already has routes, state and tracing:
//! `WEBHOOK_SECRET=… cargo run --example existing_router`.
//!
//! Lines that the webhook adds to the app's `main` are marked with `+`.
//!
//! It also shows a rotation of the secret (`WEBHOOK_SECRET_OLD`), a check of the source address
//! (`WEBHOOK_SOURCES`, addresses with commas between), and dead letters. `BIND_ADDR` is
//! `127.0.0.1:3000` unless set. `DATA_DIR`, `data` unless set, gets a file for each opt-out in
//! `unsubscribed`, with the number at `/data/phone`, and one for each refused body in `refused`.

use std::{
    collections::BTreeSet,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, IsTerminal, Write},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context;
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, request::Parts},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use serde_json::json;
use tokio::{net::TcpListener, task::spawn_blocking};
use tower_http::trace::TraceLayer;
use unsubscribe_webhook::{
    Authenticated, Code, Credential, Received, Rejection, ServerError, UnsubscribeEvent,
    WebhookAuth,
};

/// The state that the app had before.
#[derive(Clone)]
struct App {
    data: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(is_terminal).init();
    let data = PathBuf::from(env::var_os("DATA_DIR").unwrap_or_else(|| "data".into()));
    let app = App { data };
    app.prepare_folders().context("DATA_DIR must be a folder that can be written")?; // +

    let webhooks = Router::new()
        .route("/ping", post(async || "pong"))
        .route("/unsubscribe", post(unsubscribed).layer(webhook_auth()?)); // +
    let router = Router::new()
        .route("/health", get(async || "ok"))
        .nest("/webhooks", webhooks)
        .layer(middleware::from_fn(log_not_found)) // +
        .layer(TraceLayer::new_for_http())
        .with_state(app);

    let address = setting("BIND_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.context(address)?;
    println!("Listening on  http://{}", listener.local_addr()?);
    // + `ConnectInfo` is there only if the app is served like this.
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Accepts one of two secrets, from one of a few addresses. The layer is on its own route, so that
/// the app's other routes stay open.
fn webhook_auth() -> anyhow::Result<WebhookAuth> {
    let secret = setting("WEBHOOK_SECRET")?.context("WEBHOOK_SECRET is not set")?;
    let mut auth = WebhookAuth::try_new(secret).context("WEBHOOK_SECRET")?;
    // During a rotation both match; the log shows when the old one is out of use.
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

/// A setting that is not UTF-8 must not count as absent, nor be printed.
fn setting(name: &str) -> anyhow::Result<Option<String>> {
    env::var_os(name)
        .map(|value| value.into_string().ok().with_context(|| name.to_owned()))
        .transpose()
}

/// The client's address. Behind a proxy it is the proxy's: then check the header that your proxy
/// sets on every request, if no client can bypass the proxy.
fn source(head: &Parts) -> Option<IpAddr> {
    let ConnectInfo(peer) = head.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.ip().to_canonical())
}

/// A mistyped URL in the dashboard loses every opt-out, so the log must show it (without the query).
async fn log_not_found(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    let is_not_found = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
    if is_not_found && path.starts_with("/webhooks") {
        tracing::warn!(status = status.as_u16(), path, "No handler for a webhook.");
    }
    response
}

/// `Result`, because a refused body may still contain an opt-out: the provider gives up on it after
/// four attempts.
async fn unsubscribed(
    State(app): State<App>,
    authenticated: Authenticated,
    event: Result<UnsubscribeEvent, Rejection>,
) -> Result<Received, ServerError> {
    if authenticated.credential_index() > 0 {
        tracing::warn!("A delivery has the old secret.");
    }
    match event {
        Ok(event) => app.store("unsubscribed", serde_json::to_vec(&event)?).await?,
        // Another of the account's events: acknowledged, or it would be sent four times.
        Err(rejection) if rejection.code() == Code::OtherEvent => {}
        Err(rejection) => {
            if let Some(body) = rejection.body() {
                app.store("refused", body.to_vec()).await?;
            }
            let Some(opt_out) = rejection.opt_out() else { return Err(rejection.into()) };
            let data = json!({ "phone": opt_out.phone, "user_id": opt_out.user_id });
            let event = json!({ "id": opt_out.id, "data": data });
            app.store("unsubscribed", event.to_string().into_bytes()).await?;
            return Err(rejection.kept().into());
        }
    }
    Ok(Received)
}

impl App {
    /// Fails at start-up rather than on each delivery.
    fn prepare_folders(&self) -> io::Result<()> {
        // What a crash has left there was not acknowledged.
        match fs::remove_dir_all(self.data.join("unfinished")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for folder in ["unfinished", "unsubscribed", "refused"] {
            let folder = self.data.join(folder);
            fs::create_dir_all(&folder)?;
            let mut probe = tempfile::tempfile_in(folder)?;
            probe.write_all(b"?")?;
        }
        Ok(())
    }

    /// Writes a file that is either whole or absent, and is on the disk when this returns. It is
    /// named by its content, so that a repeated delivery is stored once and no other one is replaced.
    async fn store(&self, folder: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let (unfinished, folder) = (self.data.join("unfinished"), self.data.join(folder));
        spawn_blocking(move || {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            let mut file = tempfile::NamedTempFile::new_in(unfinished)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            file.persist(folder.join(format!("{:016x}", hasher.finish())))?;
            // The name is on the disk only when its folder is; Windows opens no folders.
            #[cfg(unix)]
            fs::File::open(folder)?.sync_all()?;
            Ok(())
        })
        .await?
    }
}
