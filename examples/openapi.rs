//! The webhook in an app with an OpenAPI page: `cargo run --example openapi --features utoipa`.
//!
//! The app describes itself in `/openapi.json`, and `/docs` shows that to a person. The page is a
//! few lines with a script from a CDN (Redoc, of one version and with its hash, so that nobody can
//! exchange it): the machine with the browser must reach it. To do without, serve the file yourself.
//! `BIND_ADDR` is `127.0.0.1:3000`, and `WEBHOOK_SECRET` a demo secret, unless set.

use std::env;

use anyhow::Context;
use axum::{
    Json, Router,
    response::Html,
    routing::{get, post},
};
use unsubscribe_webhook::{
    Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth, openapi::AnyEvent,
};
use utoipa::OpenApi;

const DEMO_SECRET: &str = "demo-secret";

/// What the app had before: its own routes, and their description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "A sending app",
        version = "1.0.0",
        description = "Sends texts, but none to who objects."
    ),
    paths(health, unsubscribed)
)]
struct Api;

#[utoipa::path(get, path = "/health", responses((status = 200, body = str)))]
async fn health() -> &'static str {
    "ok"
}

/// Takes the events of LOX24.
///
/// All events of an account come here; those of other kinds are acknowledged and left alone.
#[utoipa::path(
    post,
    path = "/webhooks/unsubscribe",
    request_body = AnyEvent,
    responses(Received, Rejection),
    security(("lox24" = []))
)]
async fn unsubscribed(event: Option<UnsubscribeEvent>) -> Result<Received, ServerError> {
    let Some(event) = event else { return Ok(Received) };
    suppression_list::add(&event.data.phone).await?;
    Ok(Received)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let secret = setting("WEBHOOK_SECRET")?;
    let is_demo = secret.is_none();
    let credential = Credential::token(secret.unwrap_or_else(|| DEMO_SECRET.to_owned()))?;

    // The page says where the secret travels as the layer knows it.
    let mut api = Api::openapi();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("lox24", credential.security_scheme());

    let app = Router::new()
        .route("/health", get(health))
        .route("/webhooks/unsubscribe", post(unsubscribed).layer(WebhookAuth::with(credential)))
        .route("/openapi.json", get(async move || Json(api)))
        .route("/docs", get(async || Html(PAGE)));

    let address = setting("BIND_ADDR")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await.context(address)?;
    let address = listener.local_addr()?;
    anyhow::ensure!(
        !is_demo || address.ip().is_loopback(),
        "set WEBHOOK_SECRET: everybody knows the demo secret, so it is for loopback addresses only"
    );
    println!("Listening on  http://{address}");
    println!("Open          http://{address}/docs");
    println!("Its source    http://{address}/openapi.json");
    Ok(axum::serve(listener, app).await?)
}

/// Without its value in the error: it may be the secret.
fn setting(name: &str) -> anyhow::Result<Option<String>> {
    let value = env::var_os(name).map(|value| value.into_string().ok());
    value.map(|value| value.with_context(|| format!("{name} is not UTF-8"))).transpose()
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A sending app</title>
<body style="margin: 0">
<redoc spec-url="/openapi.json"></redoc>
<script
  src="https://cdn.jsdelivr.net/npm/redoc@2.5.4/bundles/redoc.standalone.js"
  integrity="sha384-w447zOpYfw/1Tv/5AK9NfHTlQIqE3RVR6KY62jCyy9zNDgO64cMwGGP1Fj0zJVf5"
  crossorigin="anonymous"></script>
</body>
</html>
"#;

// Your business logic: a file here, as in `minimal.rs`.
mod suppression_list {
    use tokio::{fs::OpenOptions, io::AsyncWriteExt};

    pub(crate) async fn add(phone: &str) -> std::io::Result<()> {
        let mut list =
            OpenOptions::new().create(true).append(true).open("unsubscribed.txt").await?;
        list.write_all(format!("\n{phone:?}").as_bytes()).await?;
        list.flush().await?; // tokio tells of a failed write only here
        list.sync_all().await
    }
}
