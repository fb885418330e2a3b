//! Receive LOX24's `phone.unsubscribe` webhooks in an axum or tower app.
//!
//! A person has unsubscribed a phone number, the SMS provider calls your app, and your app must
//! stop texting that number. Three things stand between the call and your handler:
//!
//! - [`WebhookAuth`], a tower layer, proves from the head of a request that it comes from the
//!   provider, before a byte of its body is read;
//! - [`UnsubscribeEvent`], an axum extractor, is an event that keeps every rule of the contract, or
//!   a refusal;
//! - [`Received`] and [`ServerError`] are what your handler answers. Each refusal is a
//!   [`Rejection`].
//!
//! [Start in five minutes][start] leads from here to a webhook in an app of yours;
//! `cargo run --example quickstart` in a clone shows one that runs.
//!
//! # Example
//!
//! One delivery that is accepted, and one that is refused:
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
//! let app = Router::new().route(
//!     "/webhooks/unsubscribe",
//!     post(unsubscribed).layer(WebhookAuth::new("s3cr3t")),
//! );
//!
//! let delivery = |token: &str| {
//!     Request::post("/webhooks/unsubscribe")
//!         .header("content-type", "application/json")
//!         .header("x-lox24-token", token)
//!         .body(Body::from(include_str!("../examples/event.json")))
//!         .unwrap()
//! };
//! let accepted = app.clone().oneshot(delivery("s3cr3t")).await.unwrap();
//! assert_eq!(accepted.status(), 200);
//! let refused = app.oneshot(delivery("guess")).await.unwrap();
//! assert_eq!(refused.status(), 401);
//! # }
//! ```
//!
//! # Answers
//!
//! The provider repeats an event until it is answered with 200 to 299, four attempts in all.
//!
//! | status | when |
//! |---|---|
//! | 200 | the handler returned [`Received`] |
//! | 400 | the body is no JSON, breaks a rule of the contract, or is over the host's limit |
//! | 401 | no credential, a wrong one, or one given twice |
//! | 403 | a check of the host's own said no, or the event belongs to another account |
//! | 500 | the handler returned a [`ServerError`], or the route lacks the layer |
//!
//! The first that holds is the answer, in the order 401, 403 by the host's check, 400, 403 by the
//! account. All but 200 are problem details (RFC 9457) with a [code](Rejection#codes).
//!
//! # Features
//!
//! - `tracing` (default): one event in the log for each delivery, as loud as it matters
//!   ([the guide's chapter][observability]).
//! - `testing`: what a host's own tests need; among it [a suite][testing] that sends the whole host
//!   a hundred good and bad deliveries, and names what is wired wrong.
//! - `utoipa`: the webhook in the host's own [OpenAPI document][openapi].
//!
//! No feature changes an answer.
//!
//! [observability]: https://github.com/unsubscribe-webhook/unsubscribe-webhook/blob/main/docs/observability.md
//! [openapi]: https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/openapi/index.html
//! [start]: https://github.com/unsubscribe-webhook/unsubscribe-webhook/blob/main/docs/start.md
//! [testing]: https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/testing/index.html

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod credential;
mod decode;
#[cfg(feature = "tracing")]
mod delivery;
mod event;
mod extract;
mod future;
mod layer;
#[cfg(feature = "utoipa")]
pub mod openapi;
mod rejection;
mod response;
mod service;
#[cfg(not(feature = "tracing"))]
mod untold;

#[cfg(not(feature = "tracing"))]
use untold as delivery;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::{
    credential::{ConfigError, Credential},
    event::{AdditionalData, Reason, ReasonId, Unsubscribe, UnsubscribeEvent},
    future::{ResponseBody, ResponseFuture},
    layer::WebhookAuth,
    rejection::Rejection,
    response::{Received, ServerError},
    service::{Authenticated, WebhookAuthService},
};

/// The code of the README and of the book, compiled: a test compares the list with `docs/SUMMARY.md`.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/start.md")]
    struct Start;
    #[doc = include_str!("../docs/answers.md")]
    struct Answers;
    #[doc = include_str!("../docs/credentials.md")]
    struct Credentials;
    #[doc = include_str!("../docs/rotation.md")]
    struct Rotation;
    #[doc = include_str!("../docs/other-events.md")]
    struct OtherEvents;
    #[doc = include_str!("../docs/retries.md")]
    struct Retries;
    #[doc = include_str!("../docs/accounts.md")]
    struct Accounts;
    #[doc = include_str!("../docs/layers.md")]
    struct Layers;
    #[doc = include_str!("../docs/without-axum.md")]
    struct WithoutAxum;
    #[cfg(feature = "testing")]
    #[doc = include_str!("../docs/testing.md")]
    struct Testing;
    #[doc = include_str!("../docs/migration.md")]
    struct Migration;
    #[doc = include_str!("../docs/comparison.md")]
    struct Comparison;
    #[doc = include_str!("../docs/adoption.md")]
    struct Adoption;
    #[doc = include_str!("../docs/security.md")]
    struct Security;
    #[doc = include_str!("../docs/performance.md")]
    struct Performance;
    #[doc = include_str!("../docs/scaling.md")]
    struct Scaling;
    #[doc = include_str!("../docs/contract.md")]
    struct Contract;
    #[doc = include_str!("../docs/design.md")]
    struct Design;
    #[doc = include_str!("../docs/policy.md")]
    struct Policy;
    #[doc = include_str!("../docs/observability.md")]
    struct Observability;
    #[cfg(feature = "utoipa")]
    #[doc = include_str!("../docs/openapi.md")]
    struct OpenApi;
}
