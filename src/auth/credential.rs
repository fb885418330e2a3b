//! The shared secret, its location in a request, and whether a request has it.

use std::{error::Error, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION, request::Parts};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use subtle::ConstantTimeEq;

use crate::log::Cause;

/// The header in which LOX24 sends the token of its dashboard.
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-lox24-token");

/// The longest URI that the `http` crate holds, in bytes.
pub(crate) const MAX_URI_LENGTH: usize = 65_534;

/// A shared secret and its location in a request.
///
/// LOX24 sends the secret in the `X-LOX24-Token` header ([`token`](Self::token)). The contract
/// leaves the location open, so every other one that a dashboard or a webhook URL can fill is here.
/// A secret that is empty, or could never match, is an error when the credential is made.
///
/// A request has a credential if its location holds exactly one value and that value is the
/// secret. The length is compared first, then the bytes in constant time.
///
/// ```
/// use unsubscribe_webhook::{Credential, WebhookAuth};
///
/// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
/// // The dashboard's URL is https://lox24:s3cr3t@example.com/webhooks/unsubscribe.
/// let auth = WebhookAuth::from_credential(Credential::basic("lox24", "s3cr3t")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Credential {
    location: Location,
    /// The value of the location: the secret itself, for Basic its base64 pair.
    expected: SecretString,
}

#[derive(Clone, Debug)]
pub(crate) enum Location {
    Header(HeaderName),
    Bearer,
    Basic,
    /// The parameter's name, decoded.
    Query(String),
}

impl Credential {
    /// The token of the provider's dashboard, in the `X-LOX24-Token` header.
    ///
    /// # Errors
    ///
    /// As [`header`](Self::header) for the secret: `""`, `"s3cr3t\n"`, `"pässword"`.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::token("s3cr3t").is_ok());
    /// assert_eq!(
    ///     Credential::token("s3cr3t\n").unwrap_err().to_string(),
    ///     "the secret ends with a line break, as one read from a file does: trim it",
    /// );
    /// ```
    pub fn token(secret: impl Into<String>) -> Result<Self, ConfigError> {
        Self::header(TOKEN_HEADER, secret)
    }

    /// A secret that is the whole value of a header.
    ///
    /// nginx and Caddy drop headers whose name contains `_`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a name that is not a header name (`"x token"`), and for a secret that is
    /// empty, starts or ends with whitespace, or contains anything but printable ASCII.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::header("X-Webhook-Key", "s3cr3t").is_ok());
    /// assert!(Credential::header("x webhook key", "s3cr3t").is_err());
    /// assert!(Credential::header("X-Webhook-Key", "").is_err());
    /// ```
    pub fn header(name: impl AsRef<str>, secret: impl Into<String>) -> Result<Self, ConfigError> {
        let name = HeaderName::try_from(name.as_ref())
            .map_err(|_| ConfigError::from(ConfigErrorKind::HeaderName))?;
        let secret = Zeroizing::new(secret.into());
        check_trimmed("secret", &secret)?;
        if !secret.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ConfigErrorKind::NotHeaderValue.into());
        }
        Ok(Self::new(Location::Header(name), &secret))
    }

    /// A bearer token in the `Authorization` header ([RFC 6750], section 2.1).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a token that is empty, starts or ends with whitespace, or does not match
    /// the RFC's `b64token` grammar: `"two words"`, `"=="`.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::bearer("mF_9.B5f-4.1JqM==").is_ok());
    /// assert!(Credential::bearer("two words").is_err());
    /// ```
    ///
    /// [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750
    pub fn bearer(secret: impl Into<String>) -> Result<Self, ConfigError> {
        let secret = Zeroizing::new(secret.into());
        check_trimmed("secret", &secret)?;
        let token = secret.trim_end_matches('=');
        let in_grammar = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if token.is_empty() || !token.bytes().all(in_grammar) {
            return Err(ConfigErrorKind::NotBearerToken.into());
        }
        Ok(Self::new(Location::Bearer, &secret))
    }

    /// A user and a password in the `Authorization` header ([RFC 7617]), as a client sends them
    /// for a URL with userinfo: `https://user:password@example.com/…`. Both are sent as UTF-8.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a password that is empty, a user that contains a colon, and for either
    /// one that starts or ends with whitespace, starts with a byte order mark, or contains a
    /// control character. The user may be empty.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::basic("lox24", "pässword").is_ok());
    /// assert!(Credential::basic("lox:24", "pässword").is_err());
    /// assert!(Credential::basic("lox24", "").is_err());
    /// ```
    ///
    /// [RFC 7617]: https://www.rfc-editor.org/rfc/rfc7617
    pub fn basic(
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        let (user, password) = (user.into(), Zeroizing::new(password.into()));
        if !user.is_empty() {
            check_trimmed("user", &user)?;
        }
        check_trimmed("password", &password)?;
        if user.contains(':') {
            return Err(ConfigErrorKind::ColonInUser.into());
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err(ConfigErrorKind::ControlCharacter.into());
        }
        let pair = Zeroizing::new([&user, ":", &password].concat());
        let encoded = Zeroizing::new(BASE64.encode(pair.as_bytes()));
        Ok(Self::new(Location::Basic, &encoded))
    }

    /// A secret in a parameter of the URL's query, for a dashboard that offers only a URL.
    ///
    /// Pass both as they are, not percent-encoded: a request's query is decoded once, as
    /// `application/x-www-form-urlencoded`. Prefer a header if you can choose: a URL appears in the
    /// logs of proxies and of every layer, inside and outside of this one, and nothing here can
    /// hide it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for an empty name, for a secret that is empty, starts or ends with whitespace,
    /// starts with a byte order mark, or is too long for a URI (65,534 bytes, encoded), and for
    /// U+FFFD in either: decoding puts it in the place of invalid UTF-8.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// // https://example.com/webhooks/unsubscribe?token=s3cr3t%26more
    /// assert!(Credential::query("token", "s3cr3t&more").is_ok());
    /// assert!(Credential::query("", "s3cr3t").is_err());
    /// ```
    pub fn query(
        parameter: impl Into<String>,
        secret: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        let (parameter, secret) = (parameter.into(), Zeroizing::new(secret.into()));
        if parameter.is_empty() {
            return Err(ConfigErrorKind::Empty("query parameter's name").into());
        }
        check_trimmed("secret", &secret)?;
        if [&*parameter, &*secret].iter().any(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(ConfigErrorKind::ReplacementCharacter.into());
        }
        let encoded_length = |text: &str| -> usize {
            form_urlencoded::byte_serialize(text.as_bytes()).map(str::len).sum()
        };
        if "/?=".len() + encoded_length(&parameter) + encoded_length(&secret) > MAX_URI_LENGTH {
            return Err(ConfigErrorKind::TooLongForUri.into());
        }
        Ok(Self::new(Location::Query(parameter), &secret))
    }

    fn new(location: Location, expected: &str) -> Self {
        Self { location, expected: SecretString::from(expected) }
    }

    /// Checks whether the head has exactly this credential. The time depends on the head and on the
    /// secret's length.
    pub(super) fn check(&self, head: &Parts) -> Result<(), Cause> {
        let is_match = match &self.location {
            Location::Header(name) => self.is_secret(single_value(head, name)?),
            Location::Bearer => self.is_after_scheme("bearer", single_value(head, &AUTHORIZATION)?),
            Location::Basic => self.is_after_scheme("basic", single_value(head, &AUTHORIZATION)?),
            Location::Query(parameter) => {
                let query = head.uri.query().unwrap_or_default();
                let values = form_urlencoded::parse(query.as_bytes())
                    .filter_map(|(name, value)| (name == *parameter).then_some(value));
                self.is_secret(single(values)?.as_bytes())
            }
        };
        if is_match { Ok(()) } else { Err(Cause::Wrong) }
    }

    fn is_after_scheme(&self, scheme: &str, value: &[u8]) -> bool {
        after_scheme(value, scheme).is_some_and(|token| self.is_secret(token))
    }

    fn is_secret(&self, value: &[u8]) -> bool {
        value.ct_eq(self.expected.expose_secret().as_bytes()).into()
    }

    /// The header that holds this credential, if it is in one.
    pub(super) fn header_name(&self) -> Option<&HeaderName> {
        match &self.location {
            Location::Header(name) => Some(name),
            Location::Bearer | Location::Basic => Some(&AUTHORIZATION),
            Location::Query(_) => None,
        }
    }

    /// How a 401 asks for this credential (RFC 9110, section 11.6.1). No scheme is registered for a
    /// token in a header or in a query parameter.
    pub(super) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static(match self.location {
            Location::Header(_) | Location::Query(_) => r#"Token realm="webhook""#,
            Location::Bearer => r#"Bearer realm="webhook""#,
            Location::Basic => r#"Basic realm="webhook", charset="UTF-8""#,
        })
    }

    /// The location and its value, for `testing`.
    #[cfg(feature = "testing")]
    pub(crate) fn location_and_value(&self) -> (&Location, &str) {
        (&self.location, self.expected.expose_secret())
    }

    /// Whether the layer would accept the request with this credential.
    #[cfg(feature = "testing")]
    pub(crate) fn is_present<B>(&self, request: &http::Request<B>) -> bool {
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.uri = request.uri().clone();
        head.headers = request.headers().clone();
        self.check(&head).is_ok()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("location", &self.location).finish_non_exhaustive()
    }
}

fn single_value<'a>(head: &'a Parts, name: &HeaderName) -> Result<&'a [u8], Cause> {
    single(head.headers.get_all(name).iter()).map(HeaderValue::as_bytes)
}

/// The only item: of two, neither can be trusted.
fn single<T>(mut items: impl Iterator<Item = T>) -> Result<T, Cause> {
    let first = items.next().ok_or(Cause::Absent)?;
    if items.next().is_none() { Ok(first) } else { Err(Cause::Duplicate) }
}

/// What follows `scheme` (in any case) and one or more spaces: RFC 9110, section 11.4.
fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (given, rest) = value.split_at_checked(scheme.len())?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (given.eq_ignore_ascii_case(scheme.as_bytes()) && spaces > 0).then(|| &rest[spaces..])
}

/// Whitespace or a BOM at an end comes from a file or a pasted line: the provider does not send it.
fn check_trimmed(what: &'static str, text: &str) -> Result<(), ConfigError> {
    Err(ConfigError::from(if text.is_empty() {
        ConfigErrorKind::Empty(what)
    } else if text.starts_with('\u{feff}') {
        ConfigErrorKind::ByteOrderMark(what)
    } else if text.ends_with(['\n', '\r']) {
        ConfigErrorKind::LineBreak(what)
    } else if text.trim().len() != text.len() {
        ConfigErrorKind::Whitespace(what)
    } else {
        return Ok(());
    }))
}

/// Why a [`WebhookAuth`](crate::WebhookAuth) cannot be made: an unusable secret, or no account left.
///
/// Its text names the fault and never the secret. `Debug` is the same text, because `main` prints
/// `Debug`.
///
/// ```
/// use unsubscribe_webhook::WebhookAuth;
///
/// let error = WebhookAuth::try_new("").unwrap_err();
/// assert_eq!(error.to_string(), "the secret is empty");
/// assert_eq!(format!("{error:?}"), "the secret is empty");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(ConfigErrorKind);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum ConfigErrorKind {
    Empty(&'static str),
    ByteOrderMark(&'static str),
    LineBreak(&'static str),
    Whitespace(&'static str),
    HeaderName,
    NotHeaderValue,
    NotBearerToken,
    ColonInUser,
    ControlCharacter,
    ReplacementCharacter,
    TooLongForUri,
    NoAccounts,
}

impl From<ConfigErrorKind> for ConfigError {
    fn from(kind: ConfigErrorKind) -> Self {
        Self(kind)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ConfigErrorKind::Empty(what) => return write!(f, "the {what} is empty"),
            ConfigErrorKind::ByteOrderMark(what) => {
                return write!(f, "the {what} starts with a byte order mark: remove it");
            }
            ConfigErrorKind::LineBreak(what) => {
                return write!(
                    f,
                    "the {what} ends with a line break, as one read from a file does: trim it"
                );
            }
            ConfigErrorKind::Whitespace(what) => {
                return write!(f, "the {what} starts or ends with whitespace: trim it");
            }
            ConfigErrorKind::HeaderName => "the header name is not a token of RFC 9110",
            ConfigErrorKind::NotHeaderValue => {
                "the secret contains a character that a header cannot hold: use printable ASCII"
            }
            ConfigErrorKind::NotBearerToken => {
                "the secret is not a bearer token of RFC 6750: use letters, digits and -._~+/, then \
                 any number of ="
            }
            ConfigErrorKind::ColonInUser => "the user contains a colon (RFC 7617)",
            ConfigErrorKind::ControlCharacter => {
                "the user or the password contains a control character (RFC 7617)"
            }
            ConfigErrorKind::ReplacementCharacter => {
                "the query parameter's name or the secret contains U+FFFD, which replaces invalid \
                 UTF-8"
            }
            ConfigErrorKind::TooLongForUri => "the secret is too long for a URI",
            ConfigErrorKind::NoAccounts => {
                "no account is allowed: the list is empty, or has none in common with an earlier one"
            }
        })
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ConfigError {}
