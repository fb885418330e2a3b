//! The way of an authenticated request to its event.

use std::{error::Error, iter, pin::pin};

use axum_core::{
    RequestExt,
    extract::{FromRequest, OptionalFromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, LengthLimitError};

use crate::{Authenticated, Rejection, UnsubscribeEvent, delivery, rejection::Kind};

impl<S: Sync> FromRequest<S> for UnsubscribeEvent {
    type Rejection = Rejection;

    async fn from_request(request: Request, _: &S) -> Result<Self, Rejection> {
        // Taken from the head, which is then not kept while the body is read: 2 % of a delivery.
        let proof = Authenticated::demand(request.extensions())?.clone();
        let is_json = is_json(request.headers());
        let body = read(&proof, request.into_limited_body()).await?;
        judge(&proof, is_json, body)
    }
}

impl<S: Sync> OptionalFromRequest<S> for UnsubscribeEvent {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Rejection> {
        match <Self as FromRequest<S>>::from_request(request, state).await {
            Ok(event) => Ok(Some(event)),
            Err(rejection) if rejection.is_other_event() => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }
}

impl UnsubscribeEvent {
    /// Reads a request's body and makes all the checks of the extractor, for a host without axum.
    ///
    /// The body is not touched unless the request passed [`WebhookAuth`](crate::WebhookAuth). Set
    /// the limit of its size with `http_body_util::Limited`: none is set here.
    ///
    /// # Errors
    ///
    /// `body_too_large` for a body over the limit, `body_incomplete` for one that fails while it is
    /// read, and what [`from_parts`](Self::from_parts) refuses.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{Full, Limited};
    /// use std::convert::Infallible;
    /// use tower::{ServiceBuilder, service_fn};
    /// use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
    ///
    /// // hyper's body is `hyper::body::Incoming`.
    /// async fn unsubscribed(
    ///     request: Request<Full<Bytes>>,
    /// ) -> Result<Response<Full<Bytes>>, Infallible> {
    ///     let (head, body) = request.into_parts();
    ///     let body = Limited::new(body, 64 * 1024);
    ///     Ok(match UnsubscribeEvent::from_body(&head, body).await {
    ///         Ok(event) => {
    ///             // Put event.data.phone on the suppression list here.
    ///             Received.into()
    ///         }
    ///         Err(rejection) => rejection.into(),
    ///     })
    /// }
    ///
    /// let service = ServiceBuilder::new()
    ///     .layer(WebhookAuth::new("s3cr3t"))
    ///     .service(service_fn(unsubscribed));
    /// ```
    pub async fn from_body<B>(head: &Parts, body: B) -> Result<Self, Rejection>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let proof = Authenticated::demand(&head.extensions)?;
        judge(proof, is_json(&head.headers), read(proof, body).await?)
    }

    /// Makes all the checks of the extractor on a body that was read already.
    ///
    /// # Errors
    ///
    /// `missing_layer` (500) if the request did not pass [`WebhookAuth`](crate::WebhookAuth);
    /// `content_type` for any but one `application/json`; what
    /// [`from_slice`](Self::from_slice) refuses; `foreign_account` for an account that the layer
    /// does not allow. [`Rejection::body`] holds the bytes of all but the first.
    ///
    /// ```
    /// use axum::{body::Bytes, http::request::Parts, routing::post};
    /// use unsubscribe_webhook::{Authenticated, Received, Rejection, UnsubscribeEvent};
    ///
    /// // Keeps every authentic body, whatever becomes of it: the proof is demanded first. (axum's own
    /// // `Bytes` answers 413 to a body over the limit; `from_body` would answer the contract's 400.)
    /// async fn unsubscribed(
    ///     _: Authenticated,
    ///     head: Parts,
    ///     body: Bytes,
    /// ) -> Result<Received, Rejection> {
    ///     # let archive = |_: &Bytes| ();
    ///     archive(&body);
    ///     let event = UnsubscribeEvent::from_parts(&head, body)?;
    ///     // Put event.data.phone on the suppression list here.
    ///     Ok(Received)
    /// }
    /// # let _: axum::routing::MethodRouter = post(unsubscribed);
    /// ```
    pub fn from_parts(head: &Parts, body: Bytes) -> Result<Self, Rejection> {
        judge(Authenticated::demand(&head.extensions)?, is_json(&head.headers), body)
    }
}

/// Judges what is authentic and whole: a refusal from here on hands over the body.
fn judge(proof: &Authenticated, is_json: bool, body: Bytes) -> Result<UnsubscribeEvent, Rejection> {
    let event = if is_json {
        UnsubscribeEvent::from_slice(&body)
    } else {
        Err(Rejection::from(Kind::ContentType))
    };
    let accepted = event.and_then(|event| {
        if proof.accepts(&event) { Ok(event) } else { Err(Rejection::from(Kind::ForeignAccount)) }
    });
    match accepted {
        Ok(event) => {
            delivery::event_accepted(proof, &event);
            Ok(event)
        }
        Err(rejection) => {
            delivery::body_refused(proof, &rejection, &body);
            Err(rejection.with_body(body))
        }
    }
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

/// The whole body. One that arrives in one frame, as a delivery of 500 bytes does, is not copied;
/// space for more grows with what has arrived, never by what `Content-Length` promises.
async fn read<B>(proof: &Authenticated, body: B) -> Result<Bytes, Rejection>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let rejection = unread(&*error.into());
            let arrived = if joined.is_empty() { &*first } else { &*joined };
            delivery::body_refused(proof, &rejection, arrived);
            rejection
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// A limit may be axum's or that of a layer, and is then wrapped in other errors.
fn unread(error: &(dyn Error + 'static)) -> Rejection {
    let mut causes = iter::successors(Some(error), |error| (*error).source());
    let over_limit = causes.any(<dyn Error>::is::<LengthLimitError>);
    let kind = if over_limit { Kind::BodyTooLarge } else { Kind::BodyIncomplete };
    Rejection::from(kind)
}
