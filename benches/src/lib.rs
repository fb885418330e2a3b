//! What is measured: apps that take the same delivery in different ways, and decoders of its body.
//!
//! Every app is an axum [`Router`] in this process and gets the same bytes.

#[cfg(feature = "peers")]
mod peers;

use std::{
    hint::black_box,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

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
use serde::Deserialize;
use tower::{Service, layer::util::Identity};
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};

#[cfg(feature = "peers")]
pub use crate::peers::*;

pub const SECRET: &str = "f1c8d5a3b2e94f60a7d8c1b2e3f40516";
pub const WRONG: &str = "f1c8d5a3b2e94f60a7d8c1b2e3f40517";
const TOKEN_HEADER: &str = "x-lox24-token";
const PATH: &str = "/webhooks/unsubscribe";

/// The contract's example without whitespace, its members in `serde_json`'s order.
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

/// An app that takes deliveries, and the headers that authenticate one for it.
#[derive(Clone)]
pub struct App {
    router: Router,
    authenticate: fn(&[u8]) -> HeaderMap,
}

impl App {
    fn with_token(router: Router) -> Self {
        let authenticate = |_: &[u8]| HeaderMap::from_iter([token(SECRET)]);
        Self { router, authenticate }
    }

    /// An authenticated request with this body.
    pub fn delivery(&self, body: &Bytes) -> Request {
        let mut request = unauthenticated(None, body);
        request.headers_mut().extend((self.authenticate)(body));
        request
    }

    /// The router as a server runs it, with its state; it has already responded to one such request,
    /// so that what the first one sets up is not measured.
    ///
    /// # Panics
    ///
    /// If the response has another status than `expected`.
    pub fn warmed_up(&self, expected: u16, request: impl Fn(&Self) -> Request) -> Router {
        let mut router = self.router.clone().with_state(());
        assert_eq!(respond(&mut router, request(self)).status(), expected);
        router
    }
}

/// The response to one request. No app here waits, so the first poll is the last.
pub fn respond(router: &mut Router, request: Request) -> Response {
    let response = pin!(router.as_service::<Body>().call(request));
    match response.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the app waits"),
    }
}

/// A request without a credential, or with this token.
pub fn unauthenticated(given: Option<&'static str>, body: &Bytes) -> Request {
    let mut request = Request::post(PATH)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.clone()))
        .expect("a request");
    request.headers_mut().extend(given.map(token));
    request
}

fn token(token: &'static str) -> (http::HeaderName, HeaderValue) {
    (http::HeaderName::from_static(TOKEN_HEADER), HeaderValue::from_static(token))
}

/// This library.
pub fn ours() -> App {
    async fn handler(event: UnsubscribeEvent) -> Received {
        black_box(&event);
        Received
    }
    App::with_token(Router::new().route(PATH, post(handler).layer(WebhookAuth::new(SECRET))))
}

/// The least that takes an event: a layer that does nothing, the body's bytes, one derived decode.
pub fn floor() -> App {
    async fn handler(body: Bytes) -> Response {
        match serde_json::from_slice::<Plain>(&body) {
            Ok(event) => {
                black_box(&event);
                RECEIVED.into_response()
            }
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        }
    }
    App::with_token(Router::new().route(PATH, post(handler).layer(Identity::new())))
}

/// What a team writes by hand: a middleware that compares the header, and axum's `Json`.
pub fn hand_written() -> App {
    async fn check(request: Request, next: Next) -> Response {
        match request.headers().get(TOKEN_HEADER) {
            Some(token) if token == SECRET => next.run(request).await,
            _ => StatusCode::UNAUTHORIZED.into_response(),
        }
    }
    App::with_token(Router::new().route(PATH, post(plain).layer(from_fn(check))))
}

async fn plain(Json(event): Json<Plain>) -> &'static str {
    black_box(&event);
    RECEIVED
}

const RECEIVED: &str = "Webhook received\n";

/// The example with another text in the place of `from`.
pub fn altered(from: &str, to: &str) -> Bytes {
    let example = std::str::from_utf8(&EXAMPLE).expect("UTF-8");
    assert!(example.contains(from));
    example.replacen(from, to, 1).into()
}

/// The example with a reason that does not exist: each of its bytes is read before it is refused.
pub fn reason_7() -> Bytes {
    altered(r#""id":4"#, r#""id":7"#)
}

pub fn decode_ours(body: &[u8]) -> UnsubscribeEvent {
    UnsubscribeEvent::from_slice(body).expect("an event")
}

pub fn decode_serde_json(body: &[u8]) -> Plain {
    serde_json::from_slice(body).expect("an event")
}
