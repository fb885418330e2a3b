//! The reasons for a refusal: a closed set of the contract.

use std::fmt;

use http::StatusCode;

/// Why a request was refused: the `code` of a [`Rejection`](crate::Rejection).
///
/// ```
/// use unsubscribe_webhook::{Code, UnsubscribeEvent};
///
/// let rejection = UnsubscribeEvent::from_slice(b"{").unwrap_err();
/// assert_eq!(rejection.code(), Code::NotJson);
/// assert_eq!(Code::NotJson.as_str(), "not_json");
/// assert_eq!(Code::NotJson.status(), 400);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// `unauthorized`, 401: no credential, an invalid one, or two in one location.
    Unauthorized,
    /// `forbidden`, 403: a check of the app
    /// ([`WebhookAuth::require`](crate::WebhookAuth::require)) rejected the request.
    Forbidden,
    /// `foreign_account`, 403: the event belongs to an account that
    /// [`WebhookAuth::allow_accounts`](crate::WebhookAuth::allow_accounts) does not name.
    ForeignAccount,
    /// `content_type`, 400: `Content-Type` is absent, duplicate, or not `application/json`.
    ContentType,
    /// `body_too_large`, 400: the body exceeds the app's limit, axum's `DefaultBodyLimit`.
    BodyTooLarge,
    /// `body_incomplete`, 400: reading the body failed, as when the connection breaks.
    BodyIncomplete,
    /// `not_json`, 400: the body is not JSON in UTF-8: empty, cut off, or followed by more.
    NotJson,
    /// `missing_field`, 400: a required field is absent.
    MissingField,
    /// `invalid_field`, 400: a field has another type, range or format than the contract says.
    InvalidField,
    /// `duplicate_field`, 400: a field of the contract occurs more than once.
    DuplicateField,
    /// `other_event`, 400: an event of another kind, which `Option<UnsubscribeEvent>` accepts.
    OtherEvent,
    /// `missing_layer`, 500: the route is not behind [`WebhookAuth`](crate::WebhookAuth).
    MissingLayer,
    /// `server_error`, 500: the handler returned a [`ServerError`](crate::ServerError).
    ServerError,
}

impl Code {
    /// Every code, in the contract's order, for example to register a metric for each.
    pub const ALL: &'static [Self] = &[
        Self::Unauthorized,
        Self::Forbidden,
        Self::ForeignAccount,
        Self::ContentType,
        Self::BodyTooLarge,
        Self::BodyIncomplete,
        Self::NotJson,
        Self::MissingField,
        Self::InvalidField,
        Self::DuplicateField,
        Self::OtherEvent,
        Self::MissingLayer,
        Self::ServerError,
    ];

    /// The code as written in the response and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ForeignAccount => "foreign_account",
            Self::ContentType => "content_type",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyIncomplete => "body_incomplete",
            Self::NotJson => "not_json",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::DuplicateField => "duplicate_field",
            Self::OtherEvent => "other_event",
            Self::MissingLayer => "missing_layer",
            Self::ServerError => "server_error",
        }
    }

    /// The status of the response: 400, 401, 403 or 500.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ForeignAccount => StatusCode::FORBIDDEN,
            Self::MissingLayer | Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
