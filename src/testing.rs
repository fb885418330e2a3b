//! What a host's own tests need: events, signed deliveries, and a suite that tries the whole host.
//!
//! Only with the feature `testing`, which belongs among the `dev-dependencies`:
//!
//! ```toml
//! [dev-dependencies]
//! unsubscribe-webhook = { version = "0.1", features = ["testing"] }
//! ```
//!
//! # One test
//!
//! [`conformance`] sends a host every forged, doubled, malformed, oversized and repeated delivery,
//! and every spelling of a good one that the contract allows. What is answered wrongly comes back
//! with the mistake that is likely behind it, so one test shows that the layer, the extractor, the
//! handler and everything around them are put together in the right way:
//!
//! ```
//! use axum::{Router, routing::post};
//! use unsubscribe_webhook::{Credential, Received, UnsubscribeEvent, WebhookAuth, testing};
//!
//! async fn unsubscribed(event: UnsubscribeEvent) -> Received {
//!     // Put event.data.phone on the suppression list here.
//!     Received
//! }
//!
//! fn app(credential: Credential) -> Router {
//!     let auth = WebhookAuth::from_credential(credential);
//!     Router::new().route("/webhooks/unsubscribe", post(unsubscribed).layer(auth))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
//! // #[tokio::test]
//! let credential = Credential::token("s3cr3t")?;
//! let app = app(credential.clone());
//! testing::conformance(app, "/webhooks/unsubscribe", &credential).await.assert_clean();
//! # Ok(())
//! # }
//! ```
//!
//! # Your own logic
//!
//! [`event`] and [`delivery`] are for what the suite cannot know: what your handler does with an
//! event. Change the event as you need it; the fields are public.
//!
//! ```
//! # use axum::{Router, routing::post};
//! # use unsubscribe_webhook::{Credential, Received, UnsubscribeEvent, WebhookAuth};
//! use tower::ServiceExt;
//! use unsubscribe_webhook::testing;
//!
//! # fn app(credential: Credential) -> Router {
//! #     let auth = WebhookAuth::from_credential(credential);
//! #     let unsubscribed = async |_: UnsubscribeEvent| Received;
//! #     Router::new().route("/webhooks/unsubscribe", post(unsubscribed).layer(auth))
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
//! let credential = Credential::token("s3cr3t")?;
//! let app = app(credential.clone());
//!
//! let mut event = testing::event();
//! event.data.phone = "+4915112345678".to_owned();
//! event.attempt_number = Some(4);
//!
//! let request = testing::delivery("/webhooks/unsubscribe", &credential, &event);
//! assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
//! // Ask your suppression list for the number here.
//! # Ok(())
//! # }
//! ```

mod credential;
mod fields;
mod forged;
mod judge;
mod probe;
mod report;
mod suite;

use axum_core::body::Body;
use http::{Request, header::CONTENT_TYPE};
use serde::Serialize;
use uuid::Uuid;

pub use self::{
    report::{Finding, Report},
    suite::{Conformance, conformance},
};
use crate::{Credential, UnsubscribeEvent};

/// The contract's example, with an [`id`](UnsubscribeEvent::id) of its own each time: hosts store an
/// event once by its id, so two tests that share one would see each other's.
///
/// ```
/// use unsubscribe_webhook::testing;
///
/// let event = testing::event();
/// assert_eq!(event.data.phone, "+4911113333444");
/// assert_eq!(event.data.user_id, 2);
/// assert_ne!(event.id, testing::event().id);
///
/// let mut last_attempt = event.clone();
/// last_attempt.attempt_number = Some(4);
/// assert_eq!(last_attempt.is_last_attempt(), Some(true));
/// ```
///
/// # Panics
///
/// Never: the example is an event.
#[must_use]
pub fn event() -> UnsubscribeEvent {
    let example = include_bytes!("../examples/event.json");
    let mut event = UnsubscribeEvent::from_slice(example).expect("the example is an event");
    event.id = Uuid::new_v4();
    event
}

/// A delivery as the provider sends it: a `POST` of JSON, signed with the host's credential.
///
/// The body is an [`event`], or anything else that can be written as JSON: what is no event any more
/// is best made from a `serde_json::Value`. For a body that is not even JSON, replace it.
///
/// ```
/// use axum::body::Body;
/// use unsubscribe_webhook::{Credential, testing};
///
/// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
/// let credential = Credential::token("s3cr3t")?;
/// let good = testing::delivery("/webhooks/unsubscribe", &credential, &testing::event());
/// assert_eq!(good.headers()["content-type"], "application/json");
/// assert_eq!(good.headers()["x-lox24-token"], "s3cr3t");
///
/// let mut body = serde_json::json!(testing::event());
/// body["data"]["phone"] = 4911113333444_i64.into();
/// let wrong_type = testing::delivery("/webhooks/unsubscribe", &credential, &body);
///
/// let cut_off = good.map(|_| Body::from(r#"{"id":"#));
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If `path` is no URI, or the body cannot be written as JSON (a map with keys that are no strings).
#[track_caller]
pub fn delivery<T>(path: &str, credential: &Credential, body: &T) -> Request<Body>
where
    T: Serialize + ?Sized,
{
    let body = serde_json::to_vec(body).expect("the body can be written as JSON");
    let mut request = unsigned(path, Body::from(body));
    credential.apply_to(&mut request);
    request
}

#[track_caller]
fn unsigned(path: &str, body: Body) -> Request<Body> {
    Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .expect("the path is a URI")
}
