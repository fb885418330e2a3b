//! What a handler answers.

use std::{error::Error, fmt, sync::Arc};

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE};

use crate::{Rejection, rejection::Kind};

/// The acknowledgement: 200 `Webhook received`, after which the provider does not send the event
/// again. Return it only once the event is stored.
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
        let mut response = http::Response::new(B::from(Bytes::from_static(b"Webhook received")));
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

/// The handler failed: 500, after which the provider sends the event again, three more times at
/// most.
///
/// `?` makes it from any error, `anyhow::Error`, `Box<dyn Error + Send + Sync>` and `&str` among
/// them. The answer holds none of the error's text. The layer logs the error (feature `tracing`),
/// and an outer layer finds it as the [`source`](std::error::Error::source) of the [`Rejection`] in
/// the response's extensions.
///
/// A [`Rejection`] that becomes a `ServerError` by `?` answers as itself. One that was wrapped in
/// another error on its way (an `anyhow::Error`, say) is that other error, and answers 500.
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
/// It is no [`Error`] itself, for the reason that `anyhow::Error` is none: then every error could
/// not become one.
#[derive(Clone)]
pub struct ServerError {
    source: Arc<dyn Error + Send + Sync>,
}

impl ServerError {
    /// The handler's error.
    ///
    /// ```
    /// # use unsubscribe_webhook::ServerError;
    /// let error = ServerError::from("the disk is full");
    /// assert_eq!(error.get_ref().to_string(), "the disk is full");
    /// ```
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

impl From<ServerError> for Rejection {
    fn from(error: ServerError) -> Self {
        if let Some(rejection) = error.source.downcast_ref::<Rejection>() {
            return rejection.clone();
        }
        Self::from(Kind::ServerError(error))
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

/// Without the error's text, which may hold what the request contained.
impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerError").finish_non_exhaustive()
    }
}
