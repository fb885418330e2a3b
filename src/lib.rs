//! Receive LOX24's `phone.unsubscribe` webhooks in an axum or tower app.
//!
//! When a person unsubscribes a phone number, LOX24 sends your app a request with a secret in the
//! `X-LOX24-Token` header. Your app must then stop texting that number.
//!
//! - [`WebhookAuth`], a tower layer, authenticates the request by its head.
//! - [`UnsubscribeEvent`], an axum extractor, yields a checked event, or responds with a [`Rejection`].
//! - [`Received`] and [`ServerError`] are what your handler returns.
//!
//! ```
//! use axum::{Router, body::Body, http::Request, routing::post};
//! use tower::ServiceExt;
//! use unsubscribe_webhook::{Received, ServerError, UnsubscribeEvent, WebhookAuth};
//! # mod suppression_list { pub async fn add(_: &str) -> std::io::Result<()> { Ok(()) } }
//!
//! async fn unsubscribed(event: UnsubscribeEvent) -> Result<Received, ServerError> {
//!     suppression_list::add(&event.data.phone).await?;
//!     Ok(Received)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let auth = WebhookAuth::new("s3cr3t");
//! let app = Router::new().route("/webhook", post(unsubscribed).layer(auth));
//!
//! let request = |token: &str| {
//!     Request::post("/webhook")
//!         .header("content-type", "application/json")
//!         .header("x-lox24-token", token)
//!         .body(Body::from(include_str!("../examples/event.json")))
//!         .unwrap()
//! };
//! let accepted = app.clone().oneshot(request("s3cr3t")).await.unwrap();
//! assert_eq!(accepted.status(), 200);
//! let refused = app.oneshot(request("guess")).await.unwrap();
//! assert_eq!(refused.status(), 401);
//! # }
//! ```
//!
//! See [`Rejection::opt_out`] for a handler that also keeps the opt-outs of bodies that break the
//! contract.
//!
//! # Responses
//!
//! The provider sends an event until the response is 200 to 299, in four attempts at most.
//!
//! | status | when |
//! |---|---|
//! | 200 | the handler returned [`Received`] |
//! | 400 | the body is not JSON, breaks the contract, or exceeds the app's limit |
//! | 401 | no credential, an invalid one, or a duplicate one |
//! | 403 | a check of the app rejected the request, or the event belongs to another account |
//! | 500 | the handler returned a [`ServerError`], or the route lacks the layer |
//!
//! The first failing check determines the response: credential (401), `require` (403), body (400),
//! account (403). All but 200 are problem details (RFC 9457) with a [`Code`]. The layer emits one
//! `tracing` event for each delivery, at a level that depends on the outcome.
//!
//! # Features
//!
//! - `testing`: helpers for your tests, and [a suite][testing] that sends over 100 valid and invalid
//!   requests to your app and reports each unexpected outcome.
//!
//! [testing]: https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/testing/index.html

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod auth;
mod event;
mod log;
mod response;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::{
    auth::{Authenticated, ConfigError, Credential, WebhookAuth},
    event::{AdditionalData, Reason, ReasonId, UnknownReasonId, Unsubscribe, UnsubscribeEvent},
    response::{Code, OptOut, Received, Rejection, ServerError},
};

/// The webhook as an OpenAPI 3.1 document in JSON, to merge into the app's own document.
///
/// ```
/// let webhook: serde_json::Value = serde_json::from_str(unsubscribe_webhook::OPENAPI).unwrap();
/// assert_eq!(webhook["openapi"], "3.1.0");
/// ```
pub const OPENAPI: &str = include_str!("../docs/openapi.json");

/// The code of the README and of the book, compiled: a test compares the list with `docs/SUMMARY.md`.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/start.md")]
    struct Start;
    #[doc = include_str!("../docs/deliveries.md")]
    struct Deliveries;
    #[doc = include_str!("../docs/authentication.md")]
    struct Authentication;
    #[cfg(feature = "testing")]
    #[doc = include_str!("../docs/testing.md")]
    struct Testing;
    #[doc = include_str!("../docs/operations.md")]
    struct Operations;
    #[doc = include_str!("../docs/scaling.md")]
    struct Scaling;
    #[doc = include_str!("../docs/security.md")]
    struct Security;
    #[doc = include_str!("../docs/alternatives.md")]
    struct Alternatives;
    #[doc = include_str!("../docs/contract.md")]
    struct Contract;
    #[doc = include_str!("../docs/design.md")]
    struct Design;
}
