//! The test that the README shows, for a host to copy.

use axum::{Router, routing::post};
use unsubscribe_webhook::{Credential, Received, UnsubscribeEvent, WebhookAuth, testing};

// Yours, as the server gets it: with all its layers.
fn app(credential: Credential) -> Router {
    let webhook =
        post(async |_: UnsubscribeEvent| Received).layer(WebhookAuth::from_credential(credential));
    Router::new().route("/webhooks/unsubscribe", webhook)
}

#[tokio::test]
async fn the_webhook_keeps_its_contract() {
    let credential = Credential::token("s3cr3t").expect("a usable secret");
    let app = app(credential.clone());
    testing::conformance(app, "/webhooks/unsubscribe", &credential).await.assert_passed();
}
