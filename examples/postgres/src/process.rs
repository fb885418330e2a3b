//! What every process of the fleet needs: a log, settings, a server that stops on a signal.

use std::{
    env,
    io::{self, IsTerminal},
};

use anyhow::Context;
use axum::Router;
use tokio::{net::TcpListener, signal};
use unsubscribe_webhook::WebhookAuth;

/// Logs to stderr: colors on a terminal, plain text in a file.
pub fn log() {
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(is_terminal).init();
}

/// Accepts `WEBHOOK_SECRET`, and only events of `WEBHOOK_ACCOUNT` if that is set.
pub fn provider() -> anyhow::Result<WebhookAuth> {
    let auth = WebhookAuth::try_new(required("WEBHOOK_SECRET")?).context("WEBHOOK_SECRET")?;
    Ok(match setting("WEBHOOK_ACCOUNT")? {
        Some(account) => {
            auth.allow_accounts([account.parse().context("WEBHOOK_ACCOUNT is not an integer")?])
        }
        None => auth,
    })
}

/// Serves on `BIND_ADDR` until [`stopped`], and says where. On the open internet a server needs limits
/// in time and number too: `hardened.rs` has them.
pub async fn serve(app: Router) -> anyhow::Result<()> {
    let address = setting("BIND_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await.with_context(|| address.clone())?;
    println!("Listening on  http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

/// A setting from the environment. Without its value in the error: it may be a secret.
pub fn setting(name: &str) -> anyhow::Result<Option<String>> {
    let value = env::var_os(name).map(|value| value.into_string().ok());
    value.map(|value| value.with_context(|| format!("{name} is not UTF-8"))).transpose()
}

/// A setting that must be there.
pub fn required(name: &str) -> anyhow::Result<String> {
    setting(name)?.with_context(|| format!("{name} is not set"))
}

/// Ends with SIGINT (Ctrl-C) or SIGTERM; requests under way are completed first.
///
/// # Panics
///
/// If the system has no handler for a signal left.
pub async fn stopped() {
    let interrupt = signal::ctrl_c();
    #[cfg(unix)]
    {
        let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())
            .expect("a handler for SIGTERM");
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    interrupt.await.expect("a handler for Ctrl-C");
}
