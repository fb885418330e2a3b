//! Every refusal, and how its answer looks.

use std::{error::Error, fmt, sync::LazyLock};

use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde::Serialize;

use crate::{ServerError, decode::Fault, delivery};

/// Why a request was refused, and the answer that says so.
///
/// As a response it is problem details ([RFC 9457], `application/problem+json`): `type` (the
/// address of the code's section below), `title` (the contract's words), `status`, `detail`,
/// `code`, and `pointer` ([RFC 6901]) where a field of the event is at fault. None of them repeats
/// what the request contained, nor does `Display`. A 401 carries a `WWW-Authenticate` challenge
/// for each kind of credential that the layer accepts.
///
/// The rejection itself is put into the extensions of its response, where a host's logging layer
/// finds it. It turns into an axum response by itself, and into an [`http::Response`] of any body
/// made from [`Bytes`] for hosts without axum. It is cheap to clone.
///
/// ```
/// use http_body_util::Full;
/// use unsubscribe_webhook::UnsubscribeEvent;
///
/// let body = br#"{"name": "phone.unsubscribe", "id": 17, "data": {}}"#;
/// let rejection = UnsubscribeEvent::from_slice(body).unwrap_err();
/// assert_eq!(rejection.status(), 400);
/// assert_eq!(rejection.code(), "invalid_field");
/// assert_eq!(rejection.pointer(), Some("/id"));
///
/// let response: http::Response<Full<bytes::Bytes>> = rejection.into();
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// ```
///
/// # Codes
///
/// | code | status | pointer |
/// |---|---|---|
/// | [`unauthorized`](#unauthorized) | 401 | |
/// | [`forbidden`](#forbidden) | 403 | |
/// | [`foreign_account`](#foreign_account) | 403 | `/data/user_id` |
/// | [`content_type`](#content_type) | 400 | |
/// | [`body_too_large`](#body_too_large) | 400 | |
/// | [`body_incomplete`](#body_incomplete) | 400 | |
/// | [`not_json`](#not_json) | 400 | |
/// | [`missing_field`](#missing_field) | 400 | the field |
/// | [`invalid_field`](#invalid_field) | 400 | the field |
/// | [`duplicate_field`](#duplicate_field) | 400 | the field |
/// | [`other_event`](#other_event) | 400 | `/name` |
/// | [`missing_layer`](#missing_layer) | 500 | |
/// | [`server_error`](#server_error) | 500 | |
///
/// ## `unauthorized`
/// No credential came, a wrong one, or its place holds two values.
///
/// ## `forbidden`
/// The credential is right, but a check of the host's own
/// ([`WebhookAuth::require`](crate::WebhookAuth::require)) said no.
///
/// ## `foreign_account`
/// The event belongs to an account that
/// [`WebhookAuth::allow_users`](crate::WebhookAuth::allow_users) does not name.
///
/// ## `content_type`
/// There is no `Content-Type`, more than one, or another one than `application/json`.
///
/// ## `body_too_large`
/// The body is larger than the host's limit (axum's `DefaultBodyLimit`, 2 MB by default).
///
/// ## `body_incomplete`
/// The body ended before it was whole: the connection broke, or a layer failed while reading.
///
/// ## `not_json`
/// The body is not JSON text in UTF-8: empty, cut off, or with something after its end.
///
/// ## `missing_field`
/// A field that the contract demands is absent.
///
/// ## `invalid_field`
/// A field does not hold what the contract says: another type, out of range, another spelling.
///
/// ## `duplicate_field`
/// A field stands in its object twice.
///
/// ## `other_event`
/// The event is authentic but of another kind. A handler that takes `Option<UnsubscribeEvent>`
/// may acknowledge it instead.
///
/// ## `missing_layer`
/// The route is not behind [`WebhookAuth`](crate::WebhookAuth), so nothing proves where the
/// request comes from. Add the layer to the route.
///
/// ## `server_error`
/// The handler failed ([`ServerError`]).
///
/// [RFC 6901]: https://www.rfc-editor.org/rfc/rfc6901
/// [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457
#[derive(Clone)]
pub struct Rejection {
    kind: Kind,
    body: Option<Bytes>,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Unauthorized(Challenges),
    Forbidden,
    ForeignAccount,
    ContentType,
    BodyTooLarge,
    BodyIncomplete,
    Body(Fault),
    MissingLayer,
    ServerError(ServerError),
}

impl Rejection {
    /// All that [`code`](Self::code) can be.
    #[cfg(any(feature = "testing", feature = "utoipa"))]
    pub(crate) const CODES: [&'static str; 13] = [
        "unauthorized",
        "forbidden",
        "foreign_account",
        "content_type",
        "body_too_large",
        "body_incomplete",
        "not_json",
        "missing_field",
        "invalid_field",
        "duplicate_field",
        "other_event",
        "missing_layer",
        "server_error",
    ];

    /// What a route without the layer answers: an error of the host's, so it is logged as one.
    pub(crate) fn missing_layer() -> Self {
        let rejection = Self::from(Kind::MissingLayer);
        delivery::missing_layer(&rejection);
        rejection
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// The status of the answer: 400, 401, 403 or 500.
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// let rejection = UnsubscribeEvent::from_slice(b"{").unwrap_err();
    /// assert_eq!(rejection.status(), http::StatusCode::BAD_REQUEST);
    /// ```
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Kind::Forbidden | Kind::ForeignAccount => StatusCode::FORBIDDEN,
            Kind::ContentType | Kind::BodyTooLarge | Kind::BodyIncomplete | Kind::Body(_) => {
                StatusCode::BAD_REQUEST
            }
            Kind::MissingLayer | Kind::ServerError(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The reason as one of a closed set of words: see [Codes](#codes).
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// let rejection = UnsubscribeEvent::from_slice(b"{").unwrap_err();
    /// assert_eq!(rejection.code(), "not_json");
    /// ```
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.kind {
            Kind::Unauthorized(_) => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::ForeignAccount => "foreign_account",
            Kind::ContentType => "content_type",
            Kind::BodyTooLarge => "body_too_large",
            Kind::BodyIncomplete => "body_incomplete",
            Kind::Body(Fault::NotJson) => "not_json",
            Kind::Body(Fault::Missing { .. }) => "missing_field",
            Kind::Body(Fault::Invalid { .. }) => "invalid_field",
            Kind::Body(Fault::Duplicate { .. }) => "duplicate_field",
            Kind::Body(Fault::OtherEvent) => "other_event",
            Kind::MissingLayer => "missing_layer",
            Kind::ServerError(_) => "server_error",
        }
    }

    /// The field of the contract that is at fault, as a JSON pointer (RFC 6901).
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// let body = br#"{"name": "phone.unsubscribe"}"#;
    /// let rejection = UnsubscribeEvent::from_slice(body).unwrap_err();
    /// assert_eq!((rejection.code(), rejection.pointer()), ("missing_field", Some("/id")));
    /// ```
    #[must_use]
    pub fn pointer(&self) -> Option<&'static str> {
        match self.kind {
            Kind::ForeignAccount => Some("/data/user_id"),
            Kind::Body(fault) => fault.pointer(),
            _ => None,
        }
    }

    /// The raw body, whenever it came from the provider and was read whole, whatever it was
    /// refused for: a host can put it aside for a person to read, and nothing is lost.
    ///
    /// `None` where the body was not read (401, 403 by the host's check, a missing layer), not
    /// read whole, or is in the caller's hands already
    /// ([`UnsubscribeEvent::from_slice`](crate::UnsubscribeEvent::from_slice), a handler's error).
    ///
    /// ```
    /// use unsubscribe_webhook::{Received, Rejection, UnsubscribeEvent};
    /// # fn put_aside(_: &[u8]) {}
    ///
    /// async fn unsubscribed(
    ///     event: Result<UnsubscribeEvent, Rejection>,
    /// ) -> Result<Received, Rejection> {
    ///     let event = event.inspect_err(|rejection| {
    ///         if let Some(body) = rejection.body() {
    ///             put_aside(body);
    ///         }
    ///     })?;
    ///     // Put event.data.phone on the suppression list here.
    ///     Ok(Received)
    /// }
    /// ```
    #[must_use]
    pub fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    /// Whether the event is authentic but of another kind (`other_event`): a handler that takes
    /// the `Result` acknowledges it, or the provider sends it four times.
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// let body = br#"{"name": "sms.delivery"}"#;
    /// assert!(UnsubscribeEvent::from_slice(body).unwrap_err().is_other_event());
    /// ```
    #[must_use]
    pub fn is_other_event(&self) -> bool {
        matches!(self.kind, Kind::Body(Fault::OtherEvent))
    }

    fn title(&self) -> &'static str {
        match self.status() {
            StatusCode::BAD_REQUEST => "Invalid webhook request's body structure",
            StatusCode::UNAUTHORIZED => "Webhook request unauthorized",
            StatusCode::FORBIDDEN => "Webhook access forbidden",
            _ => "Server error",
        }
    }

    pub(crate) fn detail(&self) -> &'static str {
        match self.kind {
            Kind::Unauthorized(_) => "The request does not carry exactly one right credential.",
            Kind::Forbidden => "A check of the receiving host refused the request.",
            Kind::ForeignAccount => "The event belongs to an account that is not accepted here.",
            Kind::ContentType => "The request's Content-Type must be application/json.",
            Kind::BodyTooLarge => "The body is larger than the receiving host's limit.",
            Kind::BodyIncomplete => "The body ended before it was whole.",
            Kind::Body(fault) => fault.detail(),
            Kind::MissingLayer => {
                "The route is not behind the WebhookAuth layer, so the request cannot be \
                 authenticated. Add .layer(WebhookAuth::new(secret)) to the route."
            }
            Kind::ServerError(_) => "The receiving host could not handle the event.",
        }
    }

    fn problem(&self) -> Bytes {
        /// Made once: it is the answer to a flood of strangers, and a third of its cost.
        static UNAUTHORIZED: LazyLock<Bytes> =
            LazyLock::new(|| Rejection::from(Kind::Unauthorized(Challenges::default())).to_json());

        match self.kind {
            Kind::Unauthorized(_) => UNAUTHORIZED.clone(),
            _ => self.to_json(),
        }
    }

    fn to_json(&self) -> Bytes {
        let code = self.code();
        let problem = Problem {
            kind: [TYPE_BASE, code].concat(),
            title: self.title(),
            status: self.status().as_u16(),
            detail: self.detail(),
            code,
            pointer: self.pointer(),
        };
        serde_json::to_vec(&problem).expect("strings and a number are always JSON").into()
    }
}

/// Where the sections of the codes stand, above.
pub(crate) const TYPE_BASE: &str =
    "https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/struct.Rejection.html#";

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const TOKEN: HeaderValue = HeaderValue::from_static(r#"Token realm="webhook""#);
const BEARER: HeaderValue = HeaderValue::from_static(r#"Bearer realm="webhook""#);
const BASIC: HeaderValue = HeaderValue::from_static(r#"Basic realm="webhook", charset="UTF-8""#);

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
        if let Kind::Unauthorized(challenges) = &rejection.kind {
            for challenge in challenges.iter() {
                headers.append(WWW_AUTHENTICATE, challenge);
            }
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

impl From<Kind> for Rejection {
    fn from(kind: Kind) -> Self {
        Self { kind, body: None }
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::from(Kind::Body(fault))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status().as_u16(), self.code())?;
        if let Some(pointer) = self.pointer() {
            write!(f, " at {pointer}")?;
        }
        write!(f, ": {}", self.detail())
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("status", &self.status())
            .field("code", &self.code())
            .field("pointer", &self.pointer())
            .field("body_length", &self.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// The handler's error is the source of a `server_error`; no other rejection has one.
impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            Kind::ServerError(error) => Some(error.get_ref()),
            _ => None,
        }
    }
}

/// How a credential is asked for (RFC 9110, section 11.6.1).
#[derive(Clone, Copy)]
pub(crate) enum Challenge {
    /// A header or a query parameter: no registered scheme exists for them.
    Token,
    Bearer,
    Basic,
}

/// The distinct challenges of a layer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Challenges {
    token: bool,
    bearer: bool,
    basic: bool,
}

impl FromIterator<Challenge> for Challenges {
    fn from_iter<I: IntoIterator<Item = Challenge>>(challenges: I) -> Self {
        let mut distinct = Self::default();
        for challenge in challenges {
            match challenge {
                Challenge::Token => distinct.token = true,
                Challenge::Bearer => distinct.bearer = true,
                Challenge::Basic => distinct.basic = true,
            }
        }
        distinct
    }
}

impl Challenges {
    fn iter(self) -> impl Iterator<Item = HeaderValue> {
        let token = self.token.then_some(TOKEN);
        let bearer = self.bearer.then_some(BEARER);
        let basic = self.basic.then_some(BASIC);
        token.into_iter().chain(bearer).chain(basic)
    }
}
