//! The smallest app, with two forms of a handler: `WEBHOOK_SECRET=… cargo run --example minimal`.

use axum::{Router, routing::post};
use unsubscribe_webhook::{
    Code, Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth,
};

// The shortest form. `None` is an event of another kind: by default the provider sends all events of
// an account to the same URL, each one up to four times until it is acknowledged.
async fn shortest(event: Option<UnsubscribeEvent>) -> Result<Received, ServerError> {
    if let Some(event) = event {
        suppression_list::add(&event.data.phone).await?;
    }
    Ok(Received)
}

// The form that loses no opt-out: a body that breaks the contract is still refused with 400, but its
// phone number is stored if it can be read.
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

fn app(credential: Credential) -> Router {
    Router::new()
        .route("/webhooks/shortest", post(shortest))
        .route("/webhooks/unsubscribe", post(unsubscribed))
        .layer(WebhookAuth::from_credential(credential))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Without a subscriber, nobody sees why a delivery was refused or failed.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let secret = std::env::var("WEBHOOK_SECRET").map_err(|_| "WEBHOOK_SECRET is not set")?;
    let app = app(Credential::token(secret)?);
    let address = std::env::var("BIND_ADDR").unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("Listening on  http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

// Your business logic; here, a file. It returns once the number is on the disk, because a 200 means
// that the provider forgets the event.
mod suppression_list {
    use tokio::{fs::OpenOptions, io::AsyncWriteExt};

    pub(crate) async fn add(phone: &str) -> std::io::Result<()> {
        let mut list =
            OpenOptions::new().create(true).append(true).open("unsubscribed.txt").await?;
        // The line break comes first: if a full disk cuts a line short, the next one is still whole.
        list.write_all(format!("\n{phone:?}").as_bytes()).await?;
        list.flush().await?; // tokio reports a failed write only here
        list.sync_all().await
    }
}
