//! Responses: the acknowledgement, a server error, or a refusal.

mod code;
mod opt_out;
mod rejection;

use std::{error::Error, fmt, sync::Arc};

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE};

pub use self::{code::Code, opt_out::OptOut, rejection::Rejection};

/// The acknowledgement: 200 `Webhook received`. The provider does not send the event again, so
/// return it only once the opt-out is stored.
///
/// ```
/// use http_body_util::Full;
/// use unsubscribe_webhook::Received;
///
/// let response: http::Response<Full<bytes::Bytes>> = Received.into();
/// assert_eq!(response.status(), 200);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received;

impl<B: From<Bytes>> From<Received> for http::Response<B> {
    fn from(_: Received) -> Self {
        let mut response = http::Response::new(B::from(Bytes::from_static(b"Webhook received\n")));
        response.headers_mut().insert(CONTENT_TYPE, PLAIN_TEXT);
        response
    }
}

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl IntoResponse for Received {
    fn into_response(self) -> Response {
        http::Response::<Body>::from(self)
    }
}

/// The handler failed: 500. The provider sends the event again, at most three more times.
///
/// `?` makes it from any error, including `anyhow::Error`, `Box<dyn Error + Send + Sync>` and
/// `&str`. The response does not contain the error's text. The layer logs it, and an outer layer
/// finds it as the [`source`](std::error::Error::source) of the [`Rejection`] in the response's
/// extensions. A [`Rejection`] that becomes a `ServerError` by `?` responds as itself.
///
/// ```
/// use unsubscribe_webhook::{Received, ServerError, UnsubscribeEvent};
/// # mod suppression_list { pub async fn add(_: &str) -> std::io::Result<()> { Ok(()) } }
///
/// async fn unsubscribed(event: UnsubscribeEvent) -> Result<Received, ServerError> {
///     suppression_list::add(&event.data.phone).await?;
///     Ok(Received)
/// }
/// ```
///
/// Like `anyhow::Error`, it does not implement [`Error`]: otherwise it could not convert from every
/// error.
#[derive(Clone)]
pub struct ServerError {
    source: Arc<dyn Error + Send + Sync>,
}

impl ServerError {
    /// The handler's error.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl<E> From<E> for ServerError
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn from(error: E) -> Self {
        Self { source: Arc::from(error.into()) }
    }
}

impl<B: From<Bytes>> From<ServerError> for http::Response<B> {
    fn from(error: ServerError) -> Self {
        Rejection::from(error).into()
    }
}

impl IntoResponse for ServerError {
    fn into_response(self) -> Response {
        Rejection::from(self).into_response()
    }
}

/// Without the error's text, which may repeat what the request contained.
impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerError").finish_non_exhaustive()
    }
}
