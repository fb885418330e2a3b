//! What `docs/comparison.md` says that was run: each of its cells with a † is an assert here. If one fails after
//! an update, the alternative has changed, and the page must say so.

use std::{convert::Infallible, io, pin::Pin, sync::Arc, task};

use axum::{
    Json, Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, FromRef, Request},
    routing::post,
};
use axum_extra::{
    TypedHeader,
    headers::{Authorization, authorization::Bearer},
};
use axum_github_webhook_extract::{GithubEvent, GithubToken};
use axum_standardwebhooks::{SharedWebhook, StandardWebhook, Webhook};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use tower::{Layer, ServiceExt, service_fn};
use tower_github_webhook::ValidateGitHubWebhookLayer;
use tower_http::validate_request::{RequiredHeaderValue, ValidateRequestHeaderLayer};
use webhook_verify::{Provider, Secret, verify};

const SECRET: &str = "f1c8d5a3b2e94f60a7d8c1b2e3f40516";
const GOOD: &str = r#"{"id": "1"}"#;

#[derive(Deserialize)]
struct Event {
    #[allow(dead_code, reason = "it is there to be checked")]
    id: String,
}

/// A body that fails whoever reads it.
struct Untouchable;

impl HttpBody for Untouchable {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> task::Poll<Option<io::Result<Frame<Bytes>>>> {
        panic!("the body was read");
    }
}

fn delivery(headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
    let named = |request: http::request::Builder, (name, value): &(&str, &str)| {
        request.header(*name, *value)
    };
    headers.iter().fold(Request::post("/"), named).body(body.into()).expect("a request")
}

async fn answer(app: &Router, request: Request) -> (u16, String) {
    let answer = app.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("an answer").to_bytes();
    (status, String::from_utf8(body.into()).expect("UTF-8"))
}

/// GitHub's signature.
fn signature(secret: &str, body: &str) -> String {
    format!("sha256={}", hex::encode(hmac_sha256::HMAC::mac(body, secret)))
}

#[tokio::test]
async fn tower_http_has_header_value() {
    const JSON: (&str, &str) = ("content-type", "application/json");
    let host = |secret| {
        let layer = ValidateRequestHeaderLayer::has_header_value("x-lox24-token", secret);
        let layer = layer.expect("a header name");
        Router::new().route("/", post(async |_: Json<Event>| "taken").layer(layer))
    };
    let app = host(SECRET);
    let (right, wrong) = (("x-lox24-token", SECRET), ("x-lox24-token", "guess"));
    assert_eq!(answer(&app, delivery(&[JSON, right], GOOD)).await.0, 200);

    // An empty secret.
    let empty = delivery(&[JSON, ("x-lox24-token", "")], GOOD);
    assert_eq!(answer(&host(""), empty).await.0, 200);
    // Two values.
    assert_eq!(answer(&app, delivery(&[JSON, right, wrong], GOOD)).await.0, 200);
    assert_eq!(answer(&app, delivery(&[JSON, wrong, right], GOOD)).await.0, 403);
    // A stranger, and his body.
    let body = Body::new(Untouchable);
    assert_eq!(answer(&app, delivery(&[JSON, wrong], body)).await, (403, String::new()));
    assert_eq!(answer(&app, delivery(&[JSON], GOOD)).await, (403, String::new()));
    // Bad bodies.
    assert_eq!(answer(&app, delivery(&[right], GOOD)).await.0, 415);
    assert_eq!(answer(&app, delivery(&[JSON, right], "{}")).await.0, 422);
    assert_eq!(answer(&app, delivery(&[JSON, right], "{")).await.0, 400);
    let (_, text) = answer(&app, delivery(&[JSON, right], r#"{"id": 1711113333}"#)).await;
    assert!(text.contains("1711113333"), "{text}");

    let layer: ValidateRequestHeaderLayer<RequiredHeaderValue<Body>> =
        ValidateRequestHeaderLayer::has_header_value("x-lox24-token", SECRET)
            .expect("a header name");
    assert!(format!("{layer:?}").contains(SECRET));
}

#[tokio::test]
async fn axum_extra_typed_header() {
    type Given = TypedHeader<Authorization<Bearer>>;
    let app =
        Router::new().route("/", post(async |TypedHeader(given): Given| given.token().to_owned()));
    let (right, wrong) = (("authorization", "Bearer right"), ("authorization", "Bearer wrong"));

    assert_eq!(answer(&app, delivery(&[right, wrong], "")).await, (200, "right".to_owned()));
    assert_eq!(answer(&app, delivery(&[wrong, right], "")).await, (200, "wrong".to_owned()));
    assert_eq!(
        answer(&app, delivery(&[], "")).await,
        (400, "Header of type `authorization` was missing".to_owned()),
    );
    let given = Authorization::bearer(SECRET).expect("a token");
    assert!(format!("{given:?}").contains(SECRET));
}

#[tokio::test]
async fn axum_github_webhook_extract() {
    let host = |secret: &str| {
        Router::new()
            .route("/", post(async |_: GithubEvent<Event>| "taken"))
            .with_state(GithubToken(Arc::new(secret.to_owned())))
    };
    let signed = |secret| delivery(&[("x-hub-signature-256", &signature(secret, GOOD))], GOOD);

    assert_eq!(answer(&host(SECRET), signed(SECRET)).await.0, 200);
    assert_eq!(
        answer(&host(SECRET), signed("guess")).await,
        (400, "signature mismatch".to_owned())
    );
    assert_eq!(answer(&host(""), signed("")).await.0, 200);
    assert!(format!("{:?}", GithubToken(Arc::new(SECRET.to_owned()))).contains(SECRET));
}

#[tokio::test]
async fn tower_github_webhook() {
    let status = async |secret: &'static str, key| {
        let handler = service_fn(async |_: http::Request<Full<Bytes>>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let host = ValidateGitHubWebhookLayer::new(secret).layer(handler);
        let request = delivery(&[("x-hub-signature-256", &signature(key, GOOD))], GOOD);
        let (head, body) = host.oneshot(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("an answer").to_bytes();
        (head.status.as_u16(), body.len())
    };
    assert_eq!(status(SECRET, SECRET).await, (200, 0));
    assert_eq!(status(SECRET, "guess").await, (401, 0));
    assert_eq!(status("", "").await, (200, 0));
}

#[derive(Clone)]
struct State(SharedWebhook);

impl FromRef<State> for SharedWebhook {
    fn from_ref(State(webhook): &State) -> Self {
        webhook.clone()
    }
}

#[tokio::test]
async fn axum_standardwebhooks() {
    let webhook = Webhook::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
    let app = Router::new()
        .route("/", post(async |_: StandardWebhook<Json<Event>>| "taken"))
        .with_state(State(SharedWebhook::new(webhook)));
    let recorded = |body: Body| {
        let headers =
            [("webhook-id", "1"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,x")];
        delivery(&headers, body)
    };
    let too_old = (400, "signature timestamp too old".to_owned());

    assert_eq!(answer(&app, recorded(GOOD.into())).await, too_old);
    assert!(Webhook::new("").is_ok());
    // A body over the host's limit is read all the same, ...
    let limited = app.clone().layer(DefaultBodyLimit::max(5));
    assert_eq!(answer(&limited, recorded(GOOD.into())).await, too_old);
    // ... and one over axum's own is too much.
    let large =
        tokio::spawn(async move { answer(&app, recorded(vec![b' '; 3_000_000].into())).await });
    assert!(large.await.expect_err("no answer").is_panic());
}

#[test]
fn webhook_verify() {
    let verified = |secret, key| {
        let headers = [("X-Hub-Signature-256".to_owned(), signature(key, GOOD))].to_vec();
        let body = GOOD.as_bytes();
        verify(Provider::GitHub, &headers, body, &Secret::new(secret), Default::default()).is_ok()
    };
    assert!(verified(SECRET, SECRET));
    assert!(!verified(SECRET, "guess"));
    assert!(verified("", ""));
    assert!(!format!("{:?}", Secret::new(SECRET)).contains(SECRET));
}
