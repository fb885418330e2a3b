//! From an authenticated request to its event.

use std::{error::Error, iter, pin::pin};

use axum_core::{
    RequestExt,
    extract::{FromRequest, OptionalFromRequest, Request},
};
use bytes::Bytes;
use http::{HeaderMap, Version, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, LengthLimitError};

use super::{
    decode::{self, DecodeError},
    refused::RefusedBody,
    utf8,
};
use crate::{Authenticated, Code, Rejection, UnsubscribeEvent, log::Envelope};

impl<S: Sync> FromRequest<S> for UnsubscribeEvent {
    type Rejection = Rejection;

    async fn from_request(request: Request, _: &S) -> Result<Self, Rejection> {
        let version = request.version();
        // Cloned, so that the head is not kept while the body is read.
        let authenticated = Authenticated::require(request.extensions(), version)?.clone();
        let delivery = Delivery::new(&authenticated, request.headers(), version);
        delivery.event(read(request.into_limited_body()).await)
    }
}

impl<S: Sync> OptionalFromRequest<S> for UnsubscribeEvent {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Rejection> {
        match <Self as FromRequest<S>>::from_request(request, state).await {
            Ok(event) => Ok(Some(event)),
            Err(rejection) if rejection.code() == Code::OtherEvent => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }
}

impl UnsubscribeEvent {
    /// Reads a request's body and makes all checks of the extractor, for apps without axum.
    ///
    /// The body is not read unless the request passed [`WebhookAuth`](crate::WebhookAuth). It is read
    /// without a limit: wrap it in `http_body_util::Limited`. Pass a body that you have read already
    /// as `http_body_util::Full`.
    ///
    /// # Errors
    ///
    /// - `missing_layer` (500) if the request did not pass the layer;
    /// - `body_too_large` above the limit of a `Limited`, `body_incomplete` if reading fails;
    /// - `content_type` for anything but one `application/json`;
    /// - what [`from_slice`](Self::from_slice) refuses;
    /// - `foreign_account` (403) for an account that the layer does not allow.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{Full, Limited};
    /// use unsubscribe_webhook::{Received, UnsubscribeEvent};
    ///
    /// // hyper's body is `hyper::body::Incoming`.
    /// async fn unsubscribed(request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
    ///     let (head, body) = request.into_parts();
    ///     match UnsubscribeEvent::from_body(&head, Limited::new(body, 64 * 1024)).await {
    ///         Ok(event) => Received.into(), // Add event.data.phone to the suppression list first.
    ///         Err(rejection) => rejection.into(),
    ///     }
    /// }
    /// ```
    pub async fn from_body<B>(head: &Parts, body: B) -> Result<Self, Rejection>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let authenticated = Authenticated::require(&head.extensions, head.version)?;
        Delivery::new(authenticated, &head.headers, head.version).event(read(body).await)
    }
}

/// The parts of the head that are needed once the body is read.
struct Delivery<'a> {
    authenticated: &'a Authenticated,
    is_json: bool,
    version: Version,
}

impl<'a> Delivery<'a> {
    fn new(authenticated: &'a Authenticated, headers: &HeaderMap, version: Version) -> Self {
        Self { authenticated, is_json: is_json(headers), version }
    }

    /// Not async, and inlined: each future and call between the decoder and the handler copies the
    /// event.
    #[inline]
    fn event<E>(&self, body: Result<Bytes, E>) -> Result<UnsubscribeEvent, Rejection>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let body = body.map_err(|error| self.unread(&*error.into()))?;
        let text = utf8(&body);
        if !self.is_json {
            return Err(self.refused(None, &RefusedBody::read(text), body));
        }
        match decode::event(text) {
            Ok(event) if self.authenticated.accepts(event.data.user_id) => {
                self.authenticated.delivery().event_accepted(event.envelope());
                Ok(event)
            }
            Ok(event) => {
                let rejection = Rejection::from(Code::ForeignAccount);
                self.log_refused(&rejection, event.envelope());
                Err(rejection.with_body(body, None))
            }
            Err(noted) => Err(self.refused(Some(noted), &RefusedBody::read(text), body)),
        }
    }

    fn unread(&self, error: &(dyn Error + 'static)) -> Rejection {
        let rejection = Rejection::from(body_error(error));
        // Not read from a partial body, where `attempt_number` comes late.
        self.log_refused(&rejection, Envelope::default());
        rejection.body_unread(self.version)
    }

    /// For the fault that the decoder noted, or for the `Content-Type`.
    fn refused(&self, noted: Option<DecodeError>, outline: &RefusedBody, body: Bytes) -> Rejection {
        let rejection: Rejection =
            noted.map_or_else(|| Code::ContentType.into(), |noted| outline.fault(noted).into());
        self.log_refused(&rejection, outline.envelope());
        let opt_out =
            outline.opt_out().filter(|opt_out| self.authenticated.accepts_opt_out(opt_out.user_id));
        rejection.with_body(body, opt_out)
    }

    fn log_refused(&self, rejection: &Rejection, envelope: Envelope) {
        self.authenticated.delivery().body_refused(rejection, envelope);
    }
}

/// The whole body. A delivery usually has one frame, for which `collect` would be slower.
async fn read<B: http_body::Body<Data = Bytes>>(body: B) -> Result<Bytes, B::Error> {
    let mut body = pin!(body);
    let first = match body.frame().await.transpose()? {
        Some(frame) => frame.into_data().unwrap_or_default(),
        None => return Ok(Bytes::new()),
    };
    if body.is_end_stream() {
        return Ok(first);
    }
    let rest = body.collect().await?.to_bytes();
    Ok(if rest.is_empty() { first } else { [first, rest].concat().into() })
}

/// Whether the one `Content-Type` is `application/json`, in any case and with any parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// A `LengthLimitError` may come from axum or from a layer, wrapped in other errors.
fn body_error(error: &(dyn Error + 'static)) -> Code {
    let mut causes = iter::successors(Some(error), |error| (*error).source());
    let is_limit = causes.any(<dyn Error>::is::<LengthLimitError>);
    if is_limit { Code::BodyTooLarge } else { Code::BodyIncomplete }
}
