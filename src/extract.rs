//! The way of an authenticated request to its event.

use std::{error::Error, iter};

use axum_core::{
    RequestExt,
    body::Body,
    extract::{FromRequest, OptionalFromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, LengthLimitError};

use crate::{Authenticated, Rejection, UnsubscribeEvent, rejection::Kind};

impl<S: Sync> FromRequest<S> for UnsubscribeEvent {
    type Rejection = Rejection;

    async fn from_request(request: Request, _: &S) -> Result<Self, Rejection> {
        // Before the body is touched; `from_parts` asks the same proof for the accounts.
        Authenticated::demand(request.extensions())?;
        let (head, body) = request.with_limited_body().into_parts();
        Self::from_parts(&head, read(body).await?)
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
    /// Makes all the checks of the extractor, for a host without axum that has read the body
    /// itself, within a limit of its own.
    ///
    /// # Errors
    ///
    /// `missing_layer` (500) if the request did not pass [`WebhookAuth`](crate::WebhookAuth);
    /// `content_type` for any but one `application/json`; what
    /// [`from_slice`](Self::from_slice) refuses; `foreign_account` for an account that the layer
    /// does not allow. [`Rejection::body`] holds the bytes of all but the first.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full, Limited};
    /// use tower::{BoxError, ServiceBuilder, service_fn};
    /// use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
    ///
    /// async fn unsubscribed(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
    ///     let (head, body) = request.into_parts();
    ///     let body = Limited::new(body, 64 * 1024).collect().await?.to_bytes();
    ///     Ok(match UnsubscribeEvent::from_parts(&head, body) {
    ///         Ok(event) => Received.into(),
    ///         Err(rejection) => rejection.into(),
    ///     })
    /// }
    ///
    /// let service = ServiceBuilder::new()
    ///     .layer(WebhookAuth::new("s3cr3t"))
    ///     .service(service_fn(unsubscribed));
    /// ```
    pub fn from_parts(head: &Parts, body: Bytes) -> Result<Self, Rejection> {
        let proof = Authenticated::demand(&head.extensions)?;
        judge(proof, &head.headers, &body).map_err(|rejection| rejection.with_body(body))
    }
}

fn judge(
    proof: &Authenticated,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<UnsubscribeEvent, Rejection> {
    if !is_json(headers) {
        return Err(Rejection::from(Kind::ContentType));
    }
    let event = UnsubscribeEvent::from_slice(body)?;
    if !proof.accepts(&event) {
        return Err(Rejection::from(Kind::ForeignAccount));
    }
    Ok(event)
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
async fn read(mut body: Body) -> Result<Bytes, Rejection> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| unread(&error))?.into_data() else {
            continue;
        };
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
    Rejection::from(if over_limit { Kind::BodyTooLarge } else { Kind::BodyIncomplete })
}
