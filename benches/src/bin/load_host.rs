//! A server to put under load: `load_host ours|floor|bare`. Prints its address.
//!
//! `ours` is the quickstart's route without its database, `bare` the same app and response without
//! webhook code, `floor` that and one derived decode of the body without checks.

use axum::{Router, body::Bytes, routing::post};
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
use webhook_benches::{SECRET, decode_serde_json};

const PATH: &str = "/webhooks/unsubscribe";

async fn unsubscribed(event: Option<UnsubscribeEvent>) -> Received {
    std::hint::black_box(&event);
    Received
}

async fn bare(body: Bytes) -> Received {
    std::hint::black_box(&body);
    Received
}

async fn floor(body: Bytes) -> Received {
    std::hint::black_box(decode_serde_json(&body));
    Received
}

/// One thread, so that the load generator has the other core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let app = match std::env::args().nth(1).as_deref() {
        Some("ours") => {
            Router::new().route(PATH, post(unsubscribed)).layer(WebhookAuth::new(SECRET))
        }
        Some("floor") => Router::new().route(PATH, post(floor)),
        Some("bare") => Router::new().route(PATH, post(bare)),
        _ => panic!("usage: load_host ours|floor|bare"),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
