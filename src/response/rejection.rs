//! Refusals and their responses.

use std::{
    error::Error,
    fmt,
    sync::{Arc, LazyLock},
};

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::{Code, OptOut, ServerError};

/// Why a request was refused, and the response to it.
///
/// As a response it is problem details ([RFC 9457], `application/problem+json`): `type` (a link to
/// the documentation of the [`Code`]), `title`, `status`, `detail`, `code`, and `pointer`
/// ([RFC 6901]) if a field of the event is at fault. None of them repeats what the request
/// contained, nor does `Display`. A 401 has a `WWW-Authenticate` challenge for each kind of
/// credential that the layer accepts. Over HTTP/1, the response has `Connection: close` if a part of
/// the request's body stays unread.
///
/// It converts into an axum response, and into an [`http::Response`] of any body made from [`Bytes`].
/// The rejection is also in the extensions of that response, for layers that log or count.
///
/// ```
/// use unsubscribe_webhook::{Code, UnsubscribeEvent};
///
/// let body = br#"{"name": "phone.unsubscribe", "id": 17, "data": {}}"#;
/// let rejection = UnsubscribeEvent::from_slice(body).unwrap_err();
/// assert_eq!(rejection.code(), Code::InvalidField);
/// assert_eq!(rejection.pointer(), Some("/id"));
///
/// let response: http::Response<Vec<u8>> = rejection.into();
/// assert_eq!(response.status(), 400);
/// ```
///
/// [RFC 6901]: https://www.rfc-editor.org/rfc/rfc6901
/// [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
#[derive(Clone)]
pub struct Rejection {
    code: Code,
    pointer: Option<&'static str>,
    detail: &'static str,
    challenges: Option<Arc<[HeaderValue]>>,
    closes_connection: bool,
    is_kept: bool,
    content: Content,
}

#[derive(Clone)]
enum Content {
    None,
    /// What was refused.
    Body(Arc<(Bytes, Option<OptOut>)>),
    /// What failed.
    Source(ServerError),
}

impl Rejection {
    /// A fault of a field: with what was expected of it, if that is known.
    pub(crate) fn at(
        code: Code,
        pointer: Option<&'static str>,
        expected: Option<&'static str>,
    ) -> Self {
        let rejection = Self::from(code);
        let detail = expected.unwrap_or(rejection.detail);
        Self { pointer: pointer.or(rejection.pointer), detail, ..rejection }
    }

    pub(crate) fn unauthorized(challenges: &Arc<[HeaderValue]>) -> Self {
        let mut rejection = Self::from(Code::Unauthorized);
        rejection.challenges = Some(Arc::clone(challenges));
        rejection
    }

    /// Sends `Connection: close`, because a part of the request's body stays unread.
    pub(crate) fn close_connection(mut self) -> Self {
        self.closes_connection = true;
        self
    }

    /// As [`close_connection`](Self::close_connection), but not over HTTP/2 and HTTP/3, where each
    /// request has a stream of its own.
    pub(crate) fn body_unread(self, version: Version) -> Self {
        if version < Version::HTTP_2 { self.close_connection() } else { self }
    }

    pub(crate) fn with_body(mut self, body: Bytes, opt_out: Option<OptOut>) -> Self {
        self.content = Content::Body(Arc::new((body, opt_out)));
        self
    }

    /// The status of the response, which the [`code`](Self::code) determines.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// The reason.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The field of the contract that is at fault, as a JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self) -> Option<&'static str> {
        self.pointer
    }

    /// The raw body, if the request was authenticated and its body was read whole: to store it as a
    /// dead letter. `None` from [`from_slice`](crate::UnsubscribeEvent::from_slice).
    #[must_use]
    pub fn body(&self) -> Option<&Bytes> {
        self.refused().map(|(body, _)| body)
    }

    /// The opt-out in a refused body, if it can be read with certainty.
    ///
    /// A real opt-out can break the contract: a person who gives no reason, an empty map that PHP
    /// writes as `[]`, a byte that is not UTF-8. Add its number to your suppression list, then
    /// return [`kept`](Self::kept).
    ///
    /// `Some` if the request was authenticated, its body was read whole and refused with 400, and no
    /// layer refuses its account. As far as it is JSON, the body must have exactly one `name`
    /// (`phone.unsubscribe`), and one `data` with one non-empty `phone` of valid UTF-8.
    ///
    /// ```
    /// use unsubscribe_webhook::{Code, Received, Rejection, ServerError, UnsubscribeEvent};
    /// # mod suppression_list { pub async fn add(_: &str) -> std::io::Result<()> { Ok(()) } }
    ///
    /// async fn unsubscribed(
    ///     event: Result<UnsubscribeEvent, Rejection>,
    /// ) -> Result<Received, ServerError> {
    ///     match event {
    ///         Ok(event) => suppression_list::add(&event.data.phone).await?,
    ///         Err(rejection) if rejection.code() == Code::OtherEvent => {}
    ///         Err(rejection) => {
    ///             let Some(opt_out) = rejection.opt_out() else { return Err(rejection.into()) };
    ///             suppression_list::add(&opt_out.phone).await?;
    ///             return Err(rejection.kept().into());
    ///         }
    ///     }
    ///     Ok(Received)
    /// }
    /// # let _: axum::routing::MethodRouter = axum::routing::post(unsubscribed);
    /// ```
    #[must_use]
    pub fn opt_out(&self) -> Option<&OptOut> {
        self.refused().and_then(|(_, opt_out)| opt_out.as_ref())
    }

    fn refused(&self) -> Option<&(Bytes, Option<OptOut>)> {
        if let Content::Body(refused) = &self.content { Some(refused) } else { None }
    }

    /// Marks the opt-out of the refused body as stored by the app, durably.
    ///
    /// The response stays the same. The log records `kept`, and does not report a lost opt-out when
    /// this was the last attempt. Return this rejection itself: the log reads it from the response.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.is_kept = true;
        self
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    pub(crate) fn detail(&self) -> &'static str {
        self.detail
    }

    fn title(&self) -> &'static str {
        match self.status() {
            StatusCode::BAD_REQUEST => "Invalid webhook request's body structure",
            StatusCode::UNAUTHORIZED => "Webhook request unauthorized",
            StatusCode::FORBIDDEN => "Webhook access forbidden",
            _ => "Server error",
        }
    }

    fn problem(&self) -> Bytes {
        /// Built once, because unauthenticated clients can request it at a high rate.
        static UNAUTHORIZED: LazyLock<&[u8]> =
            LazyLock::new(|| Rejection::from(Code::Unauthorized).to_json().leak());

        match self.code {
            Code::Unauthorized => Bytes::from_static(&UNAUTHORIZED),
            _ => self.to_json().into(),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let problem = Problem {
            kind: format!("{TYPE_BASE}{:?}", self.code),
            title: self.title(),
            status: self.status().as_u16(),
            detail: self.detail,
            code: self.code.as_str(),
            pointer: self.pointer,
        };
        let mut json = serde_json::to_vec(&problem).expect("strings and a number are always JSON");
        json.push(b'\n');
        json
    }
}

/// Where rustdoc documents the variants of [`Code`].
const TYPE_BASE: &str =
    "https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/enum.Code.html#variant.";

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

#[derive(Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'static str>,
}

impl<B: From<Bytes>> From<Rejection> for http::Response<B> {
    fn from(rejection: Rejection) -> Self {
        let mut response = http::Response::new(B::from(rejection.problem()));
        *response.status_mut() = rejection.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if rejection.closes_connection {
            headers.insert(CONNECTION, CLOSE);
        }
        for challenge in rejection.challenges.iter().flat_map(|challenges| challenges.iter()) {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        }
        response.extensions_mut().insert(rejection);
        response
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        http::Response::<Body>::from(self)
    }
}

impl From<Code> for Rejection {
    fn from(code: Code) -> Self {
        let (pointer, detail) = match code {
            Code::Unauthorized => (None, "Missing, invalid or duplicate credentials."),
            Code::Forbidden => (None, "A check of the application rejected the request."),
            Code::ForeignAccount => (
                Some("/data/user_id"),
                "The event belongs to an account that is not accepted here.",
            ),
            Code::ContentType => (None, "The Content-Type must be application/json."),
            Code::BodyTooLarge => (None, "The body exceeds the application's limit."),
            Code::BodyIncomplete => (None, "The body ended before it was complete."),
            Code::NotJson => (None, "The body is not JSON in UTF-8."),
            Code::MissingField => (None, "Missing field."),
            Code::InvalidField => (None, "Invalid field."),
            Code::DuplicateField => (None, "Duplicate field."),
            Code::OtherEvent => (Some("/name"), "The event is not a phone.unsubscribe event."),
            Code::MissingLayer => (
                None,
                "The route is not behind the WebhookAuth layer, so the request cannot be \
                 authenticated. Add .layer(WebhookAuth::new(secret)) to the route.",
            ),
            Code::ServerError => (None, "The application failed to handle the event."),
        };
        Self {
            code,
            pointer,
            detail,
            challenges: None,
            closes_connection: false,
            is_kept: false,
            content: Content::None,
        }
    }
}

/// A [`Rejection`] that `?` converted into a `ServerError` is restored.
impl From<ServerError> for Rejection {
    fn from(error: ServerError) -> Self {
        if let Some(rejection) = error.get_ref().downcast_ref::<Self>() {
            return rejection.clone();
        }
        Self { content: Content::Source(error), ..Self::from(Code::ServerError) }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status().as_u16(), self.code)?;
        if let Some(pointer) = self.pointer {
            write!(f, " at {pointer}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("code", &self.code)
            .field("pointer", &self.pointer)
            .field("body_length", &self.body().map(Bytes::len))
            .field("opt_out", &self.opt_out())
            .field("is_kept", &self.is_kept)
            .finish_non_exhaustive()
    }
}

/// The handler's error is the source of a `server_error`; no other rejection has one.
impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if let Content::Source(error) = &self.content { Some(error.get_ref()) } else { None }
    }
}
