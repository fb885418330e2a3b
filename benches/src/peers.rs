//! What a user would pick instead: other crates that check a request, and other JSON readers.

use std::{hint::black_box, sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    extract::FromRef,
    handler::Handler,
    http::{HeaderMap, StatusCode},
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
    ANSWER, Host, PATH, Plain, PlainData, SECRET, by_token, floor, hand_written, ours, plain,
};

const STANDARD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// All the hosts that take an accepted delivery, by the name they are reported under.
pub fn hosts() -> Vec<(&'static str, Host)> {
    vec![
        ("ours", ours()),
        ("floor", floor()),
        ("hand-written", hand_written()),
        ("has_header_value", header_value()),
        ("WithRejection", with_rejection()),
        ("axum-valid (garde)", valid()),
        ("HMAC: standardwebhooks", standard_webhooks()),
        ("HMAC: github", github()),
    ]
}

fn behind_header_value<H: Handler<T, ()>, T: 'static>(handler: H) -> Host {
    let layer = ValidateRequestHeaderLayer::has_header_value("x-lox24-token", SECRET)
        .expect("a header name");
    Host { app: Router::new().route(PATH, post(handler).layer(layer)), sign: by_token }
}

/// tower-http's check of a header's value, and axum's `Json`.
pub fn header_value() -> Host {
    behind_header_value(plain)
}

/// axum-extra's `WithRejection`, behind tower-http's check.
pub fn with_rejection() -> Host {
    struct Refused;
    impl From<axum::extract::rejection::JsonRejection> for Refused {
        fn from(_: axum::extract::rejection::JsonRejection) -> Self {
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
        ANSWER
    }
    behind_header_value(handler)
}

/// axum-valid with garde, behind tower-http's check.
pub fn valid() -> Host {
    async fn handler(Garde(Json(event)): Garde<Json<Checked>>) -> &'static str {
        black_box(&event);
        ANSWER
    }
    behind_header_value(handler)
}

/// axum-standardwebhooks: checks an HMAC over the body, a class of its own.
pub fn standard_webhooks() -> Host {
    #[derive(Clone)]
    struct State(SharedWebhook);
    impl FromRef<State> for SharedWebhook {
        fn from_ref(State(webhook): &State) -> Self {
            webhook.clone()
        }
    }
    async fn handler(StandardWebhook(Json(event)): StandardWebhook<Json<Plain>>) -> &'static str {
        black_box(&event);
        ANSWER
    }
    fn sign(body: &[u8]) -> HeaderMap {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let seconds = i64::try_from(now.as_secs()).expect("before the year 292277026596");
        let webhook = Webhook::new(STANDARD_SECRET).expect("a secret");
        let signature = webhook.apply_to("msg_1", seconds, body).expect("a signature");
        let headers = [
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signature),
        ];
        let header = |(name, value): (&str, String)| {
            (name.parse().expect("a name"), value.parse().expect("a value"))
        };
        headers.map(header).into_iter().collect()
    }
    let webhook = Webhook::new(STANDARD_SECRET).expect("a secret");
    let app =
        Router::new().route(PATH, post(handler)).with_state(State(SharedWebhook::new(webhook)));
    Host { app, sign }
}

/// axum-github-webhook-extract: checks an HMAC over the body, a class of its own.
pub fn github() -> Host {
    async fn handler(GithubEvent(event): GithubEvent<Plain>) -> &'static str {
        black_box(&event);
        ANSWER
    }
    fn sign(body: &[u8]) -> HeaderMap {
        let mac = hex::encode(hmac_sha256::HMAC::mac(body, SECRET));
        let value = format!("sha256={mac}").parse().expect("a value");
        [("x-hub-signature-256".parse().expect("a name"), value)].into_iter().collect()
    }
    let app = Router::new()
        .route(PATH, post(handler))
        .with_state(GithubToken(Arc::new(SECRET.to_owned())));
    Host { app, sign }
}

/// The same with some of the contract's rules, as garde states them.
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

pub fn decode_sonic(body: &[u8]) -> Plain {
    sonic_rs::from_slice(body).expect("an event")
}

/// simd-json writes into its input, so a copy belongs to what it costs.
pub fn decode_simd(body: &[u8]) -> Plain {
    simd_json::from_slice(&mut body.to_vec()).expect("an event")
}
