//! The README's program, and its test: `WEBHOOK_SECRET=… cargo run --example minimal` and
//! `cargo test --example minimal`.

use axum::{Router, routing::post};
use tokio::{fs::OpenOptions, io::AsyncWriteExt};
use unsubscribe_webhook::{
    Code, Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth,
};

async fn unsubscribed(event: Result<UnsubscribeEvent, Rejection>) -> Result<Received, ServerError> {
    match event {
        Ok(event) => suppress(&event.data.phone).await?,
        Err(rejection) if rejection.code() == Code::OtherEvent => {} // acknowledge other events
        Err(rejection) => {
            let Some(opt_out) = rejection.opt_out() else { return Err(rejection.into()) };
            suppress(&opt_out.phone).await?; // although the response is a 400
            return Err(rejection.kept().into());
        }
    }
    Ok(Received)
}

// Your business logic; here, a file. It returns once the number is on the disk.
async fn suppress(phone: &str) -> std::io::Result<()> {
    let mut list = OpenOptions::new().create(true).append(true).open(LIST).await?;
    list.write_all(format!("\n{phone:?}").as_bytes()).await?; // `\n` first: a cut line spoils no other
    list.flush().await?; // tokio reports a failed write only here
    list.sync_all().await
}
const LIST: &str = if cfg!(test) { "unsubscribed-test.txt" } else { "unsubscribed.txt" };

fn app(credential: Credential) -> Router {
    let auth = WebhookAuth::from_credential(credential);
    Router::new().route("/webhooks/unsubscribe", post(unsubscribed)).layer(auth)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init(); // logs what is refused or fails
    let secret = std::env::var("WEBHOOK_SECRET").map_err(|_| "WEBHOOK_SECRET is not set")?;
    let credential = Credential::token(secret)?;
    let address = std::env::var("BIND_ADDR").unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("Listening on  http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app(credential)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[tokio::test]
    async fn the_webhook_keeps_its_contract() {
        let credential = Credential::token("s3cr3t").expect("a usable secret");
        let app = app(credential.clone());
        unsubscribe_webhook::testing::conformance(app, "/webhooks/unsubscribe", &credential)
            .suppressed(async move |phone| {
                std::fs::read_to_string(LIST).is_ok_and(|list| list.contains(&format!("{phone:?}")))
            })
            .await
            .assert_passed();
    }
}
