//! The webhook with metrics: `WEBHOOK_SECRET=… cargo run -p observability-host`.
//!
//! The webhook's log events become metrics for Prometheus, on a separate port that is not reachable from
//! the internet. `alerts.yml` has the alert rules.
//!
//! | variable         | meaning                               | without it       |
//! |------------------|---------------------------------------|------------------|
//! | `WEBHOOK_SECRET` | the token of the provider's dashboard | an error         |
//! | `BIND_ADDR`      | the address to listen on              | `127.0.0.1:3000` |
//! | `METRICS_ADDR`   | the address of the metrics            | `127.0.0.1:9464` |

mod deliveries;

use std::{
    env,
    io::{self, IsTerminal},
};

use anyhow::Context;
use axum::{
    Router,
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, fmt, prelude::*};
use unsubscribe_webhook::{Code, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

async fn unsubscribed(event: Result<UnsubscribeEvent, Rejection>) -> Result<Received, ServerError> {
    match event {
        Ok(event) => suppression_list::add(&event.data.phone).await?,
        Err(rejection) if rejection.code() == Code::OtherEvent => {}
        Err(rejection) => {
            let Some(opt_out) = rejection.opt_out() else { return Err(rejection.into()) };
            suppression_list::add(&opt_out.phone).await?;
            return Err(rejection.kept().into());
        }
    }
    Ok(Received)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::registry()
        .with(
            fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(is_terminal)
                .with_filter(LevelFilter::INFO),
        )
        .with(deliveries::deliveries(1))
        .init();

    let secret = env::var("WEBHOOK_SECRET").context("WEBHOOK_SECRET is not set")?;
    let auth = WebhookAuth::try_new(secret).context("WEBHOOK_SECRET")?;
    let app = Router::new().route("/webhooks/unsubscribe", post(unsubscribed).layer(auth));
    let metrics = Router::new().route("/metrics", get(async move || metrics.render()));

    let app_listener = listen("BIND_ADDR", "127.0.0.1:3000").await?;
    let metrics_listener = listen("METRICS_ADDR", "127.0.0.1:9464").await?;
    println!("Listening on  http://{}", app_listener.local_addr()?);
    println!("Metrics       http://{}/metrics", metrics_listener.local_addr()?);
    tokio::try_join!(async { axum::serve(app_listener, app).await }, async {
        axum::serve(metrics_listener, metrics).await
    },)?;
    Ok(())
}

async fn listen(setting: &str, default: &str) -> anyhow::Result<TcpListener> {
    let address = env::var(setting).unwrap_or(default.to_owned());
    TcpListener::bind(&address).await.with_context(|| format!("{setting}: {address}"))
}

/// Replace it with your app's own; `quickstart.rs` has a database.
mod suppression_list {
    use tokio::{fs::OpenOptions, io::AsyncWriteExt};

    pub(crate) async fn add(phone: &str) -> std::io::Result<()> {
        let mut list =
            OpenOptions::new().create(true).append(true).open("unsubscribed.txt").await?;
        list.write_all(format!("\n{phone:?}").as_bytes()).await?;
        list.flush().await?;
        list.sync_all().await
    }
}
