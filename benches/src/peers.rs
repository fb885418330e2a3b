//! What a user would pick instead: other crates that check a request, and other JSON decoders.

use std::{hint::black_box, sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    extract::{FromRef, rejection::JsonRejection},
    handler::Handler,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use axum_extra::extract::WithRejection;
use axum_github_webhook_extract::{GithubEvent, GithubToken};
use axum_standardwebhooks::{SharedWebhook, StandardWebhook, Webhook};
use axum_valid::Garde;
use garde::Validate;
use serde::Deserialize;
use tower_http::validate_request::ValidateRequestHeaderLayer;
use unsubscribe_webhook::UnsubscribeEvent;

use crate::{
    App, PATH, Plain, PlainData, RECEIVED, SECRET, TOKEN_HEADER, floor, hand_written, plain,
};

/// Every app that this library is compared with, by the name in the report.
pub fn peers() -> [(&'static str, App); 7] {
    [
        ("floor", floor()),
        ("hand-written", hand_written()),
        ("has_header_value", behind_header_value(plain)),
        ("WithRejection", with_rejection()),
        ("axum-valid (garde)", valid()),
        ("HMAC: standardwebhooks", standard_webhooks()),
        ("HMAC: github", github()),
    ]
}

/// tower-http's check of a header's value.
fn behind_header_value<H: Handler<T, ()>, T: 'static>(handler: H) -> App {
    let layer = ValidateRequestHeaderLayer::has_header_value(TOKEN_HEADER, SECRET);
    App::with_token(Router::new().route(PATH, post(handler).layer(layer.expect("a header name"))))
}

/// axum-extra's `WithRejection`, behind tower-http's check.
fn with_rejection() -> App {
    struct Refused;
    impl From<JsonRejection> for Refused {
        fn from(_: JsonRejection) -> Self {
            Self
        }
    }
    impl IntoResponse for Refused {
        fn into_response(self) -> Response {
            StatusCode::BAD_REQUEST.into_response()
        }
    }
    async fn handler(
        WithRejection(Json(event), _): WithRejection<Json<Plain>, Refused>,
    ) -> &'static str {
        black_box(&event);
        RECEIVED
    }
    behind_header_value(handler)
}

/// axum-valid with garde, behind tower-http's check.
fn valid() -> App {
    async fn handler(Garde(Json(event)): Garde<Json<Checked>>) -> &'static str {
        black_box(&event);
        RECEIVED
    }
    behind_header_value(handler)
}

/// axum-standardwebhooks checks an HMAC over the body.
fn standard_webhooks() -> App {
    #[derive(Clone)]
    struct State(SharedWebhook);
    impl FromRef<State> for SharedWebhook {
        fn from_ref(State(webhook): &State) -> Self {
            webhook.clone()
        }
    }
    async fn handler(StandardWebhook(Json(event)): StandardWebhook<Json<Plain>>) -> &'static str {
        black_box(&event);
        RECEIVED
    }
    fn webhook() -> Webhook {
        Webhook::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret")
    }
    fn authenticate(body: &[u8]) -> HeaderMap {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let seconds = i64::try_from(now.as_secs()).expect("before the year 292277026596");
        let signature = webhook().sign("msg_1", seconds, body).expect("a signature");
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
        headers.insert("webhook-timestamp", seconds.into());
        headers.insert("webhook-signature", signature.parse().expect("a value"));
        headers
    }
    let router =
        Router::new().route(PATH, post(handler)).with_state(State(SharedWebhook::new(webhook())));
    App { router, authenticate }
}

/// axum-github-webhook-extract checks an HMAC over the body.
fn github() -> App {
    async fn handler(GithubEvent(event): GithubEvent<Plain>) -> &'static str {
        black_box(&event);
        RECEIVED
    }
    fn authenticate(body: &[u8]) -> HeaderMap {
        let mac = hex::encode(hmac_sha256::HMAC::mac(body, SECRET));
        let mut headers = HeaderMap::new();
        let signature = format!("sha256={mac}").parse().expect("a value");
        headers.insert("x-hub-signature-256", signature);
        headers
    }
    let router = Router::new()
        .route(PATH, post(handler))
        .with_state(GithubToken(Arc::new(SECRET.to_owned())));
    App { router, authenticate }
}

/// [`Plain`] with some of the contract's rules, as garde states them.
#[derive(Deserialize, Validate)]
#[garde(allow_unvalidated)]
pub struct Checked {
    #[garde(pattern(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"))]
    pub id: String,
    #[garde(custom(is_unsubscribe))]
    pub name: String,
    pub api_version: Option<String>,
    pub created_at: Option<i64>,
    #[serde(alias = "attempt_total")]
    #[garde(inner(range(min = 1, max = 4)))]
    pub attempts_total: Option<i64>,
    #[garde(inner(range(min = 1)))]
    pub attempt_number: Option<i64>,
    pub notification_task_id: Option<String>,
    pub data: PlainData,
}

fn is_unsubscribe(name: &str, (): &()) -> garde::Result {
    if name == UnsubscribeEvent::NAME { Ok(()) } else { Err(garde::Error::new("another event")) }
}

pub fn decode_sonic_rs(body: &[u8]) -> Plain {
    sonic_rs::from_slice(body).expect("an event")
}

/// simd-json writes into its input, so its cost includes a copy.
pub fn decode_simd_json(body: &[u8]) -> Plain {
    simd_json::from_slice(&mut body.to_vec()).expect("an event")
}
