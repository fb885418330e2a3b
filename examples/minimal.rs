//! The smallest host, in both forms: `WEBHOOK_SECRET=… cargo run --example minimal`.

use axum::{Router, routing::post};
use unsubscribe_webhook::{Received, ServerError, UnsubscribeEvent, WebhookAuth};

// For an account that sends `phone.unsubscribe` to this address and nothing else.
async fn unsubscribed(event: UnsubscribeEvent) -> Result<Received, ServerError> {
    suppression_list::add(&event.data.phone).await?;
    Ok(Received)
}

// For an account whose other events come here too, the provider's default: a refused one would be
// sent four times, so they are acknowledged.
async fn any_event(event: Option<UnsubscribeEvent>) -> Result<Received, ServerError> {
    let Some(event) = event else { return Ok(Received) };
    suppression_list::add(&event.data.phone).await?;
    Ok(Received)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = std::env::var("WEBHOOK_SECRET").map_err(|_| "WEBHOOK_SECRET is not set")?;
    let auth = WebhookAuth::try_new(secret)?;
    let app = Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed).layer(auth.clone()))
        .route("/webhooks/lox24", post(any_event).layer(auth));
    let address = std::env::var("BIND_ADDR").unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("Listening on  http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

// Your business logic: a file here. It returns once the number is safe, for 200 means done. A line
// begins with its break, so that one which a full disk cut off does not spoil the next.
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
