//! Where the shared secret travels, and whether a request carries it.

use std::{error::Error, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderName, HeaderValue, Request, Uri, header::AUTHORIZATION, request::Parts};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use subtle::{Choice, ConstantTimeEq};

use crate::rejection::Challenge;

/// The header in which LOX24 sends the token of its dashboard.
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-lox24-token");

/// The longest URI that the `http` crate holds, in bytes.
const MAX_URI: usize = 65_534;

/// A shared secret and the place of a request in which it travels.
///
/// The contract names the `X-LOX24-Token` header ([`token`](Self::token)) and leaves the place
/// open, so every place that a webhook URL or a dashboard can fill is here. A secret that is empty,
/// or could never match, is refused when the credential is made.
///
/// A request carries a credential when its place holds exactly one value and that value is the
/// secret, compared in constant time. How long the comparison takes tells the secret's length at
/// most.
///
/// ```
/// use unsubscribe_webhook::{Credential, WebhookAuth};
///
/// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
/// // The dashboard's URL is https://lox24:s3cr3t@example.com/webhooks/unsubscribe.
/// let auth = WebhookAuth::with(Credential::basic("lox24", "s3cr3t")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Credential {
    pub(crate) place: Place,
    /// What the place holds when it is right: the secret itself, for Basic its base64 pair.
    expected: SecretString,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Header(HeaderName),
    Bearer,
    Basic,
    /// The parameter's name, decoded.
    Query(String),
}

impl Credential {
    /// The token of the provider's dashboard, in the header `X-LOX24-Token`.
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
    ///     "the secret ends with a line break, as one read from a file does: trim it first",
    /// );
    /// ```
    pub fn token(secret: impl Into<String>) -> Result<Self, ConfigError> {
        Self::header(TOKEN_HEADER, secret)
    }

    /// A secret that is the whole value of a header.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a name that is no header name (`"x token"`), and for a secret that is
    /// empty, has a blank or a line break at an end, or holds anything but printable ASCII.
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// assert!(Credential::header("X-Webhook-Key", "s3cr3t").is_ok());
    /// assert!(Credential::header("x webhook key", "s3cr3t").is_err());
    /// assert!(Credential::header("X-Webhook-Key", "").is_err());
    /// ```
    pub fn header(name: impl AsRef<str>, secret: impl Into<String>) -> Result<Self, ConfigError> {
        let name =
            HeaderName::try_from(name.as_ref()).map_err(|_| ConfigError(Flaw::HeaderName))?;
        let secret = Zeroizing::new(secret.into());
        check_ends("secret", &secret)?;
        if !secret.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ConfigError(Flaw::NotHeaderText));
        }
        Ok(Self::new(Place::Header(name), &secret))
    }

    /// A bearer token in the `Authorization` header ([RFC 6750], section 2.1).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a token that is empty, has a blank or a line break at an end, or is
    /// not of the RFC's `b64token` grammar: `"two words"`, `"=="`.
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
        check_ends("secret", &secret)?;
        let token = secret.trim_end_matches('=');
        let in_grammar = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if token.is_empty() || !token.bytes().all(in_grammar) {
            return Err(ConfigError(Flaw::NotBearerToken));
        }
        Ok(Self::new(Place::Bearer, &secret))
    }

    /// A user and a password in the `Authorization` header ([RFC 7617]), as a client sends them
    /// for a URL with userinfo: `https://user:password@example.com/…`. Both are sent as UTF-8.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a password that is empty, a user that holds a colon, and for either
    /// one with a blank, a line break or a byte order mark at an end, or a control character. The
    /// user may be empty.
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
            check_ends("user", &user)?;
        }
        check_ends("password", &password)?;
        if user.contains(':') {
            return Err(ConfigError(Flaw::ColonInUser));
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err(ConfigError(Flaw::ControlCharacter));
        }
        let pair = Zeroizing::new([&user, ":", &password].concat());
        let encoded = Zeroizing::new(BASE64.encode(pair.as_bytes()));
        Ok(Self::new(Place::Basic, &encoded))
    }

    /// A secret in a parameter of the URL's query, for a dashboard that offers nothing but a URL.
    ///
    /// Give both as they are, not percent-encoded: a request's names and values are decoded once,
    /// `+` is a space. Prefer a header where there is a choice: a URL ends up in the logs of
    /// proxies and of every layer, inside and outside this one, and nothing here can hide it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for an empty name, and for a secret that is empty, has a blank, a line break
    /// or a byte order mark at an end, or is too long for a URI (65,534 bytes, encoded).
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
            return Err(ConfigError(Flaw::Empty("query parameter's name")));
        }
        check_ends("secret", &secret)?;
        let length: usize =
            [&*parameter, &*secret].into_iter().flat_map(encoded).map(str::len).sum();
        if "/?=".len() + length > MAX_URI {
            return Err(ConfigError(Flaw::TooLongForUri));
        }
        Ok(Self::new(Place::Query(parameter), &secret))
    }

    fn new(place: Place, expected: &str) -> Self {
        Self { place, expected: SecretString::from(expected) }
    }

    /// Puts the credential on an outgoing request, in place of whatever its place held: for a
    /// host's tests and for stand-ins of the provider.
    ///
    /// # Panics
    ///
    /// With a query credential on a request whose URI cannot take one more parameter: one that
    /// would be longer than 65,534 bytes, or has no path (`*`, or `CONNECT`'s `example.com:443`).
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
    /// let mut request = http::Request::post("/webhooks/unsubscribe").body(()).unwrap();
    /// Credential::token("s3cr3t")?.sign(&mut request);
    /// assert_eq!(request.headers()["x-lox24-token"], "s3cr3t");
    ///
    /// Credential::query("token", "s3cr3t&more")?.sign(&mut request);
    /// assert_eq!(request.uri(), "/webhooks/unsubscribe?token=s3cr3t%26more");
    /// # Ok(())
    /// # }
    /// ```
    pub fn sign<B>(&self, request: &mut Request<B>) {
        let expected = self.expected.expose_secret();
        match &self.place {
            Place::Header(name) => set_sensitive(request, name, expected),
            Place::Bearer => set_sensitive(request, &AUTHORIZATION, &format!("Bearer {expected}")),
            Place::Basic => set_sensitive(request, &AUTHORIZATION, &format!("Basic {expected}")),
            Place::Query(parameter) => {
                *request.uri_mut() = with_parameter(request.uri(), parameter, expected);
            }
        }
    }

    /// Whether the head carries this credential, in a time that depends on the head and on the
    /// secret's length.
    pub(crate) fn matches(&self, head: &Parts) -> Choice {
        let expected = self.expected.expose_secret().as_bytes();
        let given = match &self.place {
            Place::Header(name) => sole_value(head, name),
            Place::Bearer => {
                sole_value(head, &AUTHORIZATION).and_then(|v| after_scheme(v, "bearer"))
            }
            Place::Basic => sole_value(head, &AUTHORIZATION).and_then(|v| after_scheme(v, "basic")),
            Place::Query(parameter) => {
                return sole_parameter(head, parameter)
                    .map_or(Choice::from(0), |value| same_decoded(value, expected));
            }
        };
        given.map_or(Choice::from(0), |value| same(value, expected))
    }

    /// The header that holds this credential, so that it can be hidden from logs.
    pub(crate) fn header_name(&self) -> Option<&HeaderName> {
        match &self.place {
            Place::Header(name) => Some(name),
            Place::Bearer | Place::Basic => Some(&AUTHORIZATION),
            Place::Query(_) => None,
        }
    }

    pub(crate) fn challenge(&self) -> Challenge {
        match self.place {
            Place::Header(_) | Place::Query(_) => Challenge::Token,
            Place::Bearer => Challenge::Bearer,
            Place::Basic => Challenge::Basic,
        }
    }
}

/// For `testing` to forge.
#[cfg(feature = "testing")]
impl Credential {
    /// The place and what it must hold.
    pub(crate) fn place_and_expected(&self) -> (&Place, &str) {
        (&self.place, self.expected.expose_secret())
    }

    /// Empties the place.
    pub(crate) fn take_off<B>(&self, request: &mut Request<B>) {
        match &self.place {
            Place::Query(parameter) => {
                let pairs: Vec<_> = other_pairs(request.uri(), parameter).collect();
                let mut path_and_query = request.uri().path().to_owned();
                if !pairs.is_empty() {
                    path_and_query.extend(["?", &pairs.join("&")]);
                }
                *request.uri_mut() =
                    with_path_and_query(request.uri(), path_and_query).expect("a shorter URI");
            }
            place @ (Place::Header(_) | Place::Bearer | Place::Basic) => {
                let name = if let Place::Header(name) = place { name } else { &AUTHORIZATION };
                request.headers_mut().remove(name);
            }
        }
    }

    /// Whether the layer would find it there.
    pub(crate) fn is_on<B>(&self, request: &Request<B>) -> bool {
        let (mut head, ()) = Request::new(()).into_parts();
        head.uri = request.uri().clone();
        head.headers = request.headers().clone();
        self.matches(&head).into()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The value of a header that is there exactly once: of two, neither can be trusted.
fn sole_value<'a>(head: &'a Parts, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = head.headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

/// What follows `scheme` (in any case) and one or more spaces: RFC 9110, section 11.4.
fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (given, rest) = value.split_at_checked(scheme.len())?;
    let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
    (given.eq_ignore_ascii_case(scheme.as_bytes()) && blanks > 0).then(|| &rest[blanks..])
}

/// The raw value of a query parameter that is there exactly once, whatever its name's spelling.
fn sole_parameter<'a>(head: &'a Parts, parameter: &str) -> Option<&'a str> {
    let mut values = query_pairs(&head.uri).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        is_named(name, parameter).then_some(value)
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Decoding is what a stranger's query can make dear, so a name of an impossible length is not.
fn is_named(raw: &str, parameter: &str) -> bool {
    let possible = parameter.len()..=3 * parameter.len();
    possible.contains(&raw.len()) && decoded(raw).eq(parameter.bytes())
}

/// The raw `name=value` pairs of a query.
fn query_pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty())
}

/// A name or value of a query, decoded byte by byte: a request is not given a buffer of its size.
fn decoded(raw: &str) -> impl Iterator<Item = u8> {
    raw.split('+').enumerate().flat_map(|(index, part)| {
        let space = (index > 0).then_some(b' ');
        space.into_iter().chain(percent_decode_str(part))
    })
}

/// As [`ConstantTimeEq`] for slices, but by words: the barrier that `subtle` puts behind each
/// comparison is then paid every eight bytes, which makes a whole delivery 5 % faster.
fn same(given: &[u8], expected: &[u8]) -> Choice {
    if given.len() != expected.len() {
        return Choice::from(0);
    }
    let (given, expected) = (given.chunks_exact(8), expected.chunks_exact(8));
    let rest = word(given.remainder()).ct_eq(&word(expected.remainder()));
    given
        .zip(expected)
        .fold(rest, |same, (given, expected)| same & word(given).ct_eq(&word(expected)))
}

/// Up to eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

/// As [`ConstantTimeEq`] for slices: the length first, then every byte.
fn same_decoded(raw: &str, expected: &[u8]) -> Choice {
    if decoded(raw).count() != expected.len() {
        return Choice::from(0);
    }
    decoded(raw)
        .zip(expected)
        .fold(Choice::from(1), |same, (given, expected)| same & given.ct_eq(expected))
}

fn set_sensitive<B>(request: &mut Request<B>, name: &HeaderName, value: &str) {
    let mut value =
        HeaderValue::from_str(value).expect("the constructors admit printable ASCII only");
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
}

/// `uri` with `parameter` given once: signing twice must not double the credential.
fn with_parameter(uri: &Uri, parameter: &str, value: &str) -> Uri {
    let mut path_and_query = format!("{}?", uri.path());
    for pair in other_pairs(uri, parameter) {
        path_and_query.extend([pair, "&"]);
    }
    path_and_query.extend(encoded(parameter));
    path_and_query.push('=');
    path_and_query.extend(encoded(value));
    with_path_and_query(uri, path_and_query).expect("the URI cannot take one more parameter")
}

fn other_pairs<'a>(uri: &'a Uri, parameter: &'a str) -> impl Iterator<Item = &'a str> {
    query_pairs(uri).filter(|pair| !is_named(pair.split('=').next().unwrap_or_default(), parameter))
}

/// `None` where a URI cannot hold it.
pub(crate) fn with_path_and_query(uri: &Uri, path_and_query: String) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.try_into().ok()?);
    Some(Uri::from_parts(parts).expect("a URI with another query"))
}

pub(crate) fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// Refuses what is empty, or has a blank or a mark at an end: the first matches nothing or
/// everything, the rest comes from a file or a pasted line, and is not what the provider sends.
fn check_ends(what: &'static str, text: &str) -> Result<(), ConfigError> {
    if text.is_empty() {
        Err(ConfigError(Flaw::Empty(what)))
    } else if text.starts_with('\u{feff}') {
        Err(ConfigError(Flaw::ByteOrderMark(what)))
    } else if text.ends_with(['\n', '\r']) {
        Err(ConfigError(Flaw::LineBreak(what)))
    } else if text.trim().len() != text.len() {
        Err(ConfigError(Flaw::Blank(what)))
    } else {
        Ok(())
    }
}

/// Why a credential is unusable: empty, blank at an end, or not sendable in its place.
///
/// Its texts name the fault and never the secret.
///
/// ```
/// use unsubscribe_webhook::WebhookAuth;
///
/// let error = WebhookAuth::try_new("").unwrap_err();
/// assert_eq!(error.to_string(), "the secret is empty");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Flaw);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Flaw {
    Empty(&'static str),
    ByteOrderMark(&'static str),
    LineBreak(&'static str),
    Blank(&'static str),
    HeaderName,
    NotHeaderText,
    NotBearerToken,
    ColonInUser,
    ControlCharacter,
    TooLongForUri,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Flaw::Empty(what) => write!(f, "the {what} is empty"),
            Flaw::ByteOrderMark(what) => write!(
                f,
                "the {what} begins with a byte order mark, as one read from a file may do: remove it \
                 first"
            ),
            Flaw::LineBreak(what) => write!(
                f,
                "the {what} ends with a line break, as one read from a file does: trim it first"
            ),
            Flaw::Blank(what) => write!(f, "the {what} begins or ends with a blank: trim it first"),
            Flaw::HeaderName => f.write_str("the header's name is not a token of RFC 9110"),
            Flaw::NotHeaderText => {
                f.write_str("the secret holds a character that no header carries: use printable ASCII")
            }
            Flaw::NotBearerToken => f.write_str(
                "the secret is no bearer token of RFC 6750: use letters, digits and -._~+/, then any =",
            ),
            Flaw::ColonInUser => f.write_str("the user holds a colon, which would end it (RFC 7617)"),
            Flaw::TooLongForUri => f.write_str("the secret is too long for a URI"),
            Flaw::ControlCharacter => {
                f.write_str("the user or the password holds a control character (RFC 7617)")
            }
        }
    }
}

impl Error for ConfigError {}
