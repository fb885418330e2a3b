//! Helpers to test your app: events, authenticated requests, and a suite that checks the whole app.
//!
//! Only with the feature `testing`, for the `dev-dependencies`:
//!
//! ```toml
//! [dev-dependencies]
//! unsubscribe-webhook = { version = "0.1", features = ["testing"] }
//! ```
//!
//! [`conformance`] sends forged, duplicate, malformed, oversized and repeated deliveries, and
//! valid ones in every form that the contract allows. Each unexpected outcome is reported with its
//! likely cause, so one test shows that the layer, the extractor, the handler and the middleware
//! around them work together. [`suppressed`](Conformance::suppressed) also checks what the app stores.
//! For tests of your own, [`event`] makes an event and [`delivery`] a request.
//!
//! ```
//! # use axum::{Router, routing::post};
//! # use unsubscribe_webhook::{Credential, Received, UnsubscribeEvent, WebhookAuth, testing};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
//! # let unsubscribed = async |_: UnsubscribeEvent| Received;
//! let credential = Credential::token("s3cr3t")?;
//! let auth = WebhookAuth::from_credential(credential.clone());
//! let app: Router = Router::new().route("/hook", post(unsubscribed).layer(auth));
//! testing::conformance(app, "/hook", &credential).await.assert_passed();
//! # Ok(())
//! # }
//! ```

mod body;
mod credential;
mod evaluator;
mod invalid_credentials;
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

/// The contract's example, with a new [`id`](UnsubscribeEvent::id) on each call: apps store an event
/// once for each id.
///
/// ```
/// use unsubscribe_webhook::testing;
///
/// let mut event = testing::event();
/// assert_eq!(event.data.phone, "+4911113333444");
/// assert_eq!(event.data.user_id, 2);
/// assert_ne!(event.id, testing::event().id);
///
/// event.attempt_number = Some(4);
/// assert_eq!(event.is_last_attempt(), Some(true));
/// ```
#[expect(clippy::missing_panics_doc, reason = "the example is an event")]
#[must_use]
pub fn event() -> UnsubscribeEvent {
    let example = include_bytes!("../examples/event.json");
    let mut event = UnsubscribeEvent::from_slice(example).expect("the example is an event");
    event.id = Uuid::new_v4();
    event
}

/// A delivery as the provider sends it: a `POST` of JSON with the credential.
///
/// The body is any `Serialize` value, such as an [`event`]; `.map(|_| ..)` replaces it by bytes.
///
/// ```
/// # use unsubscribe_webhook::{Credential, testing};
/// let credential = Credential::token("s3cr3t")?;
/// let mut body = serde_json::json!(testing::event());
/// body["data"]["phone"] = 4911113333444_i64.into();
/// let invalid = testing::delivery("/webhooks/unsubscribe", &credential, &body);
/// # Ok::<_, unsubscribe_webhook::ConfigError>(())
/// ```
///
/// # Panics
///
/// If `path` is not a URI, or the body cannot be written as JSON (a map whose keys are not strings).
#[track_caller]
pub fn delivery<T>(path: &str, credential: &Credential, body: &T) -> Request<Body>
where
    T: Serialize + ?Sized,
{
    let body = serde_json::to_vec(body).expect("the body can be written as JSON");
    let mut request = unauthenticated(path, Body::from(body));
    credential.apply_to(&mut request);
    request
}

#[track_caller]
fn unauthenticated(path: &str, body: Body) -> Request<Body> {
    Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .expect("the path is a URI")
}
