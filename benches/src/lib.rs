//! What is measured: hosts that take the same delivery in different ways, and readers of its body.
//!
//! Every host runs through an axum [`Router`] in this process, on the same bytes, and answers alike.

#[cfg(feature = "peers")]
mod peers;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use serde::Deserialize;
use std::{
    hint::black_box,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};
use tower::Service;
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};

#[cfg(feature = "peers")]
pub use crate::peers::*;

pub const SECRET: &str = "f1c8d5a3b2e94f60a7d8c1b2e3f40516";
pub const WRONG: &str = "f1c8d5a3b2e94f60a7d8c1b2e3f40517";
const PATH: &str = "/webhooks/unsubscribe";

/// The contract's example without its blanks, its members in `serde_json`'s order.
pub static EXAMPLE: LazyLock<Bytes> = LazyLock::new(|| {
    let event: serde_json::Value = serde_json::from_str(include_str!("../../examples/event.json"))
        .expect("the example is JSON");
    serde_json::to_vec(&event).expect("JSON").into()
});

/// The fields of the contract as serde's derive reads them, without its rules.
#[derive(Deserialize)]
pub struct Plain {
    pub id: String,
    pub name: String,
    pub api_version: Option<String>,
    pub created_at: Option<i64>,
    #[serde(alias = "attempt_total")]
    pub attempts_total: Option<i64>,
    pub attempt_number: Option<i64>,
    pub notification_task_id: Option<String>,
    pub data: PlainData,
}

#[derive(Deserialize)]
pub struct PlainData {
    pub phone: String,
    pub user_id: i64,
    pub created_at: i64,
    pub campaign_code: String,
    pub additional_data: PlainAdditional,
    pub short_link_code: String,
    pub unsubscribe_request_id: i64,
    pub group_id: Option<i64>,
}

#[derive(Deserialize)]
pub struct PlainAdditional {
    pub reason: PlainReason,
    pub additional_text: String,
}

#[derive(Deserialize)]
pub struct PlainReason {
    pub id: i64,
    pub label: String,
}

const ANSWER: &str = "Webhook received\n";

/// A host that takes deliveries, and how one is signed for it.
pub struct Host {
    app: Router,
    sign: fn(&[u8]) -> HeaderMap,
}

impl Host {
    /// A delivery as this host authenticates it.
    pub fn delivery(&self, body: &Bytes) -> Request {
        let mut request = unsigned(body);
        request.headers_mut().extend((self.sign)(body));
        request
    }

    /// The router as a server runs it: with its state, so that routes are built once and not for
    /// each request.
    pub fn service(&self) -> Router {
        self.app.clone().with_state(())
    }
}

/// One request through a host.
pub fn answer(app: &mut Router, request: Request) -> Response {
    at_once(app.as_service::<Body>().call(request)).unwrap_or_else(|never| match never {})
}

/// Nothing here waits, so the first poll is the last.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the host waits"),
    }
}

fn unsigned(body: &Bytes) -> Request {
    Request::post(PATH)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.clone()))
        .expect("a request")
}

fn by_token(_: &[u8]) -> HeaderMap {
    [("x-lox24-token".parse().expect("a name"), HeaderValue::from_static(SECRET))]
        .into_iter()
        .collect()
}

/// This library.
pub fn ours() -> Host {
    async fn handler(event: UnsubscribeEvent) -> Received {
        black_box(&event);
        Received
    }
    let app = Router::new().route(PATH, post(handler).layer(WebhookAuth::new(SECRET)));
    Host { app, sign: by_token }
}

/// A layer that does nothing.
#[derive(Clone)]
struct Nothing<S>(S);

impl<S: Service<Request>> Service<Request> for Nothing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        self.0.call(request)
    }
}

/// The least that takes an event: a layer that does nothing, the body's bytes, one derived decode.
pub fn floor() -> Host {
    async fn handler(body: Bytes) -> Response {
        match serde_json::from_slice::<Plain>(&body) {
            Ok(event) => {
                black_box(&event);
                ANSWER.into_response()
            }
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        }
    }
    let app = Router::new().route(PATH, post(handler).layer(tower::layer::layer_fn(Nothing)));
    Host { app, sign: by_token }
}

async fn plain(Json(event): Json<Plain>) -> &'static str {
    black_box(&event);
    ANSWER
}

/// What a team writes by hand: a middleware that compares the header, and axum's `Json`.
pub fn hand_written() -> Host {
    async fn check(request: Request, next: Next) -> Response {
        match request.headers().get("x-lox24-token") {
            Some(token) if token == SECRET => next.run(request).await,
            _ => StatusCode::UNAUTHORIZED.into_response(),
        }
    }
    Host { app: Router::new().route(PATH, post(plain).layer(from_fn(check))), sign: by_token }
}

/// What axum itself does for a delivery behind a layer: the body's bytes, and the answer.
pub fn bare() -> Host {
    async fn handler(body: Bytes) -> &'static str {
        black_box(&body);
        ANSWER
    }
    let app = Router::new().route(PATH, post(handler).layer(tower::layer::layer_fn(Nothing)));
    Host { app, sign: by_token }
}

/// What axum itself does for an empty 401 of a layer.
pub fn bare_refusal() -> Host {
    let refuse = tower::layer::layer_fn(|_: axum::routing::Route| {
        tower::service_fn(async |_: Request| {
            Ok::<_, std::convert::Infallible>(StatusCode::UNAUTHORIZED.into_response())
        })
    });
    Host { app: Router::new().route(PATH, post(async || ANSWER)).layer(refuse), sign: by_token }
}

/// A request that must be refused for its credential.
pub fn refused(token: Option<&'static str>, body: &Bytes) -> Request {
    let mut request = unsigned(body);
    if let Some(token) = token {
        request.headers_mut().insert("x-lox24-token", HeaderValue::from_static(token));
    }
    request
}

/// A delivery whose free text makes the body about this long, plain or hard to read.
pub fn long_body(bytes: usize, hard: bool) -> Bytes {
    let unit = if hard { "grün \\\"\u{1f600}\\u00e4\\n " } else { "lorem ipsum dolor sit amet " };
    let text = unit.repeat(bytes.saturating_sub(EXAMPLE.len()) / unit.len());
    let example = std::str::from_utf8(&EXAMPLE).expect("UTF-8");
    let text = format!("\"additional_text\":\"{text}");
    example.replacen("\"additional_text\":\"", &text, 1).into()
}

pub fn decode_ours(body: &[u8]) -> UnsubscribeEvent {
    UnsubscribeEvent::from_slice(body).expect("an event")
}

pub fn decode_serde_json(body: &[u8]) -> Plain {
    serde_json::from_slice(body).expect("an event")
}

/// Proves that a host accepts what it is measured with.
pub fn check(host: &Host) {
    let request = host.delivery(&EXAMPLE);
    let response = answer(&mut host.service(), request);
    assert_eq!(response.status(), StatusCode::OK);
    let body = at_once(response.into_body().collect()).expect("an answer in memory");
    assert_eq!(body.to_bytes(), ANSWER);
}

/// A host that has answered such a request once, for what a first one sets up is not measured; and
/// the request to measure.
pub fn warm(host: &Host, request: impl Fn() -> Request) -> (Router, Request) {
    let mut app = host.service();
    drop(answer(&mut app, request()));
    (app, request())
}

/// The same for an accepted delivery.
pub fn delivery(host: Host) -> (Router, Request) {
    check(&host);
    warm(&host, || host.delivery(&EXAMPLE))
}

/// The example without its last byte.
pub fn cut_off() -> Bytes {
    EXAMPLE.slice(..EXAMPLE.len() - 1)
}

/// The example with another text in the place of `from`.
pub fn altered(from: &str, to: &str) -> Bytes {
    std::str::from_utf8(&EXAMPLE).expect("UTF-8").replace(from, to).into()
}
