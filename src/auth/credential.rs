//! The shared secret, its location in a request, and whether a request has it.

use std::{borrow::Cow, error::Error, fmt};

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
/// leaves the location open: the other constructors are for other locations that a dashboard or a
/// webhook URL can set.
///
/// A credential matches if its location holds exactly one value and that value is the secret. The
/// length is compared first, then the bytes in constant time. A secret that is empty, starts or
/// ends with whitespace, or could never match is a [`ConfigError`].
///
/// ```
/// # use unsubscribe_webhook::{Credential, WebhookAuth};
/// // The dashboard's URL is https://lox24:s3cr3t@example.com/webhooks/unsubscribe.
/// let auth = WebhookAuth::from_credential(Credential::basic("lox24", "s3cr3t")?);
/// # Ok::<_, unsubscribe_webhook::ConfigError>(())
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
    /// [`header`](Self::header)'s for its secret: `""`, `"s3cr3t\n"`, `"pässword"`.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::token("s3cr3t\n").is_err());
    /// ```
    pub fn token(secret: impl Into<String>) -> Result<Self, ConfigError> {
        Self::header(TOKEN_HEADER, secret)
    }

    /// A secret that is the whole value of a header. nginx and Caddy drop headers whose name
    /// contains `_`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the secret is empty, has whitespace at either end, or contains anything but
    /// printable ASCII, and if the name is not a header name (`"x token"`).
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::header("X-Webhook-Key", "s3cr3t").is_ok());
    /// ```
    pub fn header(name: impl AsRef<str>, secret: impl Into<String>) -> Result<Self, ConfigError> {
        let name = HeaderName::try_from(name.as_ref())
            .map_err(|_| ConfigError::new("the header name is not a token of RFC 9110"))?;
        let secret = Zeroizing::new(secret.into());
        check_trimmed("secret", &secret)?;
        if !secret.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ConfigError::new(
                "the secret contains a character that a header cannot hold: use printable ASCII",
            ));
        }
        Ok(Self::new(Location::Header(name), &secret))
    }

    /// A bearer token in the `Authorization` header ([RFC 6750], section 2.1).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the token is empty, or does not match the RFC's `b64token` grammar:
    /// `"two words"`, `"=="`.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::bearer("mF_9.B5f-4.1JqM==").is_ok());
    /// ```
    ///
    /// [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750
    pub fn bearer(secret: impl Into<String>) -> Result<Self, ConfigError> {
        let secret = Zeroizing::new(secret.into());
        check_trimmed("secret", &secret)?;
        let token = secret.trim_end_matches('=');
        let in_grammar = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if token.is_empty() || !token.bytes().all(in_grammar) {
            return Err(ConfigError::new(
                "the secret is not a bearer token of RFC 6750: use letters, digits and -._~+/, then any number of =",
            ));
        }
        Ok(Self::new(Location::Bearer, &secret))
    }

    /// A user and a password in the `Authorization` header ([RFC 7617]), as a client sends them
    /// for a URL with userinfo: `https://user:password@example.com/…`. Both are sent as UTF-8.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the password is empty, if the user contains a colon, or if either one has
    /// whitespace at an end or a control character. The user may be empty.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::basic("lox24", "pässword").is_ok());
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
            return Err(ConfigError::new("the user contains a colon (RFC 7617)"));
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err(ConfigError::new(
                "the user or the password contains a control character (RFC 7617)",
            ));
        }
        let pair = Zeroizing::new([&user, ":", &password].concat());
        let encoded = Zeroizing::new(BASE64.encode(pair.as_bytes()));
        Ok(Self::new(Location::Basic, &encoded))
    }

    /// A secret in a parameter of the URL's query, for a dashboard that offers only a URL.
    ///
    /// Pass both decoded: the layer decodes a request's query once, as
    /// `application/x-www-form-urlencoded`. Prefer a header if you can choose, because URLs appear in
    /// the logs of proxies and layers.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the name or the secret is empty, if the secret has whitespace at an end or is
    /// too long for a URI (65,534 bytes, encoded), or if either one contains U+FFFD, because decoding
    /// replaces invalid UTF-8 with it.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// // https://example.com/webhooks/unsubscribe?token=s3cr3t%26more
    /// assert!(Credential::query("token", "s3cr3t&more").is_ok());
    /// ```
    pub fn query(
        parameter: impl Into<String>,
        secret: impl Into<String>,
    ) -> Result<Self, ConfigError> {
        let (parameter, secret) = (parameter.into(), Zeroizing::new(secret.into()));
        if parameter.is_empty() {
            return Err(ConfigError::new("the query parameter's name is empty"));
        }
        check_trimmed("secret", &secret)?;
        if [&*parameter, &*secret].iter().any(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
            return Err(ConfigError::new(
                "the query parameter's name or the secret contains U+FFFD, which replaces invalid UTF-8",
            ));
        }
        let encoded_length = |text: &str| -> usize {
            form_urlencoded::byte_serialize(text.as_bytes()).map(str::len).sum()
        };
        if "/?=".len() + encoded_length(&parameter) + encoded_length(&secret) > MAX_URI_LENGTH {
            return Err(ConfigError::new("the secret is too long for a URI"));
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

    /// The `WWW-Authenticate` challenge (RFC 9110, section 11.6.1). No scheme is registered for a token
    /// in a header or in a query parameter.
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

/// The only item: of two, neither is used.
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

/// Leading or trailing whitespace, or a BOM, comes from a file: the provider does not send it.
fn check_trimmed(what: &str, text: &str) -> Result<(), ConfigError> {
    let fault = if text.is_empty() {
        "is empty"
    } else if text.starts_with('\u{feff}') {
        "starts with a byte order mark: remove it"
    } else if text.ends_with(['\n', '\r']) {
        "ends with a line break, as one read from a file does: trim it"
    } else if text.trim().len() != text.len() {
        "starts or ends with whitespace: trim it"
    } else {
        return Ok(());
    };
    Err(ConfigError(format!("the {what} {fault}").into()))
}

/// Why a [`WebhookAuth`](crate::WebhookAuth) cannot be built: an unusable secret, or no account.
/// Its text never contains the secret. `Debug` is the same text, because `main` prints `Debug`.
///
/// ```
/// let error = unsubscribe_webhook::WebhookAuth::try_new("").unwrap_err();
/// assert_eq!(format!("{error:?}"), "the secret is empty");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(Cow<'static, str>);

impl ConfigError {
    pub(super) const fn new(fault: &'static str) -> Self {
        Self(Cow::Borrowed(fault))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ConfigError {}
