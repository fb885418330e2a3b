//! Any head against layers with every kind of credential: who gets in is as the documents say.
#![no_main]

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use arbitrary::Arbitrary;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use tower::{Layer, Service, service_fn};
use unsubscribe_webhook::{Authenticated, ConfigError, Credential, WebhookAuth};

fuzz_target!(|case: Case| {
    let credentials: Vec<&Place> = case.layers().flat_map(|layer| &layer.places).collect();
    for place in &credentials {
        assert_eq!(place.credential().is_ok(), place.is_usable(), "{place:?}");
    }
    let Some(request) = case.request() else { return };
    for place in credentials.iter().filter(|place| place.is_usable()) {
        check_signed(place, &case);
    }
    if case.layers().any(|layer| layer.usable().is_empty()) {
        return;
    }
    let expected = expected(&case, &request);
    let given = (request.method().clone(), request.uri().clone(), request.headers().clone());

    let seen = RefCell::new(None);
    let inner = service_fn(|request: Request<Untouchable>| {
        let proof = request.extensions().get::<Authenticated>().expect("a proof");
        let head = (request.method().clone(), request.uri().clone(), request.headers().clone());
        let earlier = seen.replace(Some((proof.credential(), head)));
        assert!(earlier.is_none(), "the inner service was called twice");
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::from("inner"))))
    });
    let (status, headers, body) = match &case.inner {
        None => answer(case.outer.build().layer(inner), request),
        Some(layer) => answer(case.outer.build().layer(layer.build().layer(inner)), request),
    };

    let seen = seen.take();
    assert_eq!(seen.is_some(), matches!(expected, Expected::Accepted(_)), "{status}");
    match expected {
        Expected::Accepted(index) => {
            let (credential, head) = seen.expect("it was called");
            assert_eq!(credential, index);
            assert_eq!(head, given, "the head is handed on as it came");
            check_sensitive(&case, &head.2);
            assert_eq!((status, &body[..]), (200, &b"inner"[..]));
        }
        Expected::Forbidden => {
            assert_eq!(status, 403);
            check_problem(&headers, &body, "forbidden", &[]);
        }
        Expected::Unauthorized(challenges) => {
            assert_eq!(status, 401);
            check_problem(&headers, &body, "unauthorized", &challenges);
        }
    }
});

/// One layer, or one in another, and a request.
#[derive(Arbitrary, Debug)]
struct Case {
    outer: Demands,
    method: MethodText,
    uri: UriText,
    headers: Vec<(Name, Value)>,
    query: Vec<Pair>,
    inner: Option<Demands>,
}

#[derive(Arbitrary, Debug)]
struct Demands {
    places: Vec<Place>,
    /// What the host's own check says.
    check: Option<bool>,
}

/// A credential.
#[derive(Arbitrary, Debug)]
struct Place {
    kind: Kind,
    secret: Text,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Token,
    Bearer,
    Basic { user: Text },
    Query { parameter: Text },
    Header { name: Text },
}

/// Text that is likely to matter, or any.
#[derive(Arbitrary, Debug)]
enum Text {
    Likely(u8),
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum MethodText {
    Post,
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum UriText {
    Usual,
    Whole,
    Asterisk,
    Authority,
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum Name {
    /// That of a credential's place.
    Of(u8),
    Any(Vec<u8>),
}

/// A header's value: what a credential's place should hold, perhaps altered.
#[derive(Arbitrary, Debug)]
enum Value {
    Of { place: u8, scheme: u8, blanks: u8, edit: Edit },
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Pair {
    Of { place: u8, spelling: u64, edit: Edit },
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum Edit {
    None,
    Change { at: u8, to: u8 },
    Cut { at: u8 },
    Insert { at: u8, byte: u8 },
    Append(Vec<u8>),
}

const LIKELY: [&str; 20] = [
    "s3cr3t",
    "s3cr3u",
    "s3cr3t2",
    "mF_9.B5f-4.1JqM==",
    "pä:ss wörd",
    "a+b c&ä%41",
    "two words",
    "",
    " ",
    "s3cr3t\n",
    "\u{a0}s3cr3t",
    "=",
    "a:b",
    "token",
    "the key",
    "x-lox24-token",
    "authorization",
    "X-Hook",
    "\u{7f}x",
    "x\ty",
];

impl Text {
    fn get(&self) -> &str {
        match self {
            Self::Likely(index) => LIKELY[usize::from(*index) % LIKELY.len()],
            Self::Any(text) => text,
        }
    }
}

impl Edit {
    fn apply(&self, mut text: Vec<u8>) -> Vec<u8> {
        let place = |at: &u8| usize::from(*at) % text.len().max(1);
        match self {
            Self::None => {}
            Self::Change { at, to } if !text.is_empty() => {
                let at = place(at);
                text[at] = *to;
            }
            Self::Change { .. } => {}
            Self::Cut { at } => text.truncate(place(at)),
            Self::Insert { at, byte } => text.insert(place(at), *byte),
            Self::Append(more) => text.extend(more),
        }
        text
    }
}

impl Case {
    /// From the outermost on.
    fn layers(&self) -> impl Iterator<Item = &Demands> {
        std::iter::once(&self.outer).chain(&self.inner)
    }

    fn place(&self, index: u8) -> Option<&Place> {
        let places: Vec<_> = self.layers().flat_map(|layer| &layer.places).collect();
        places.get(usize::from(index) % places.len().max(1)).copied()
    }

    fn request(&self) -> Option<Request<Untouchable>> {
        let mut request = Request::new(Untouchable);
        *request.method_mut() = match &self.method {
            MethodText::Post => Method::POST,
            MethodText::Any(bytes) => Method::from_bytes(bytes).ok()?,
        };
        *request.uri_mut() = self.uri()?;
        for (name, value) in &self.headers {
            let name = match name {
                Name::Of(place) => self.place(*place)?.header_name(),
                Name::Any(bytes) => HeaderName::from_bytes(bytes).ok(),
            };
            let value = HeaderValue::from_bytes(&self.value(value)?);
            if let (Some(name), Ok(value)) = (name, value) {
                request.headers_mut().append(name, value);
            }
        }
        Some(request)
    }

    fn value(&self, value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::Any(bytes) => Some(bytes.clone()),
            Value::Of { place, scheme, blanks, edit } => {
                let place = self.place(*place)?;
                let right = match place.kind {
                    Kind::Bearer => "Bearer",
                    Kind::Basic { .. } => "Basic",
                    _ => "",
                };
                let schemes = [right, "bEARER", "BASIC", "Bearer", "Basic", "Token", "", "Bearerr"];
                let scheme = schemes[usize::from(*scheme) % schemes.len()];
                let blanks = [" ", "", "  ", "\t"][usize::from(*blanks) % 4];
                let blanks = if scheme.is_empty() { "" } else { blanks };
                let whole = [scheme, blanks, &place.sent()].concat();
                Some(edit.apply(whole.into()))
            }
        }
    }

    fn uri(&self) -> Option<Uri> {
        let mut text = match &self.uri {
            UriText::Usual => "/webhooks/unsubscribe",
            UriText::Whole => "https://example.com:8443",
            UriText::Asterisk => "*",
            UriText::Authority => "example.com:443",
            UriText::Any(text) => text,
        }
        .to_owned();
        for (index, pair) in self.query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            match pair {
                Pair::Any(raw) => text.push_str(raw),
                Pair::Of { place, spelling, edit } => {
                    let place = self.place(*place)?;
                    let Kind::Query { parameter } = &place.kind else { continue };
                    text.push_str(&spelled(parameter.get().as_bytes(), *spelling));
                    text.push('=');
                    let value = edit.apply(place.sent().into());
                    text.push_str(&spelled(&value, spelling.rotate_right(7)));
                }
            }
        }
        Uri::try_from(text).ok()
    }
}

/// Bytes as a query may spell them: two bits of `spelling` choose for each.
fn spelled(bytes: &[u8], spelling: u64) -> String {
    let spell = |(index, byte): (usize, &u8)| match (byte, spelling >> (2 * index % 64) & 3) {
        (b' ', 0 | 1) => "+".to_owned(),
        (byte, 0 | 1) if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        (byte, 2) => format!("%{byte:02x}"),
        (byte, _) => format!("%{byte:02X}"),
    };
    bytes.iter().enumerate().map(spell).collect()
}

impl Demands {
    fn usable(&self) -> Vec<&Place> {
        self.places.iter().filter(|place| place.is_usable()).collect()
    }

    fn build(&self) -> WebhookAuth {
        let mut credentials =
            self.usable().into_iter().map(|place| place.credential().expect("usable"));
        let mut auth = WebhookAuth::from_credential(credentials.next().expect("at least one"));
        for credential in credentials {
            auth = auth.or(credential);
        }
        match self.check {
            Some(holds) => auth.require(move |_| holds),
            None => auth,
        }
    }
}

impl Place {
    fn credential(&self) -> Result<Credential, ConfigError> {
        let secret = self.secret.get();
        match &self.kind {
            Kind::Token => Credential::token(secret),
            Kind::Bearer => Credential::bearer(secret),
            Kind::Basic { user } => Credential::basic(user.get(), secret),
            Kind::Query { parameter } => Credential::query(parameter.get(), secret),
            Kind::Header { name } => Credential::header(name.get(), secret),
        }
    }

    /// The header of the place, if it is one.
    fn header_name(&self) -> Option<HeaderName> {
        match &self.kind {
            Kind::Token => Some(HeaderName::from_static("x-lox24-token")),
            Kind::Bearer | Kind::Basic { .. } => Some(http::header::AUTHORIZATION),
            Kind::Query { .. } => None,
            Kind::Header { name } => name.get().parse().ok(),
        }
    }

    /// What the place should hold, without a scheme and decoded.
    fn sent(&self) -> String {
        match &self.kind {
            Kind::Basic { user } => BASE64.encode(format!("{}:{}", user.get(), self.secret.get())),
            _ => self.secret.get().to_owned(),
        }
    }
}

// The oracle: from docs/contract.md and the documentation of `Credential`, not from the code.

impl Place {
    /// The `# Errors` of the constructors.
    fn is_usable(&self) -> bool {
        let secret = self.secret.get();
        let is_text = !secret.is_empty() && has_no_blank_end(secret);
        is_text
            && match &self.kind {
                Kind::Token => is_printable_ascii(secret),
                Kind::Header { name } => {
                    let is_token =
                        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
                    let name = name.get();
                    is_printable_ascii(secret) && !name.is_empty() && name.chars().all(is_token)
                }
                Kind::Bearer => {
                    let token = secret.trim_end_matches('=');
                    let in_grammar = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
                    !token.is_empty() && token.chars().all(in_grammar)
                }
                Kind::Basic { user } => {
                    let user = user.get();
                    let both = [user, secret].concat();
                    has_no_blank_end(user)
                        && !user.contains(':')
                        && !both.chars().any(char::is_control)
                }
                Kind::Query { parameter } => !parameter.get().is_empty(),
            }
    }

    fn challenge(&self) -> &'static str {
        match self.kind {
            Kind::Token | Kind::Header { .. } | Kind::Query { .. } => TOKEN,
            Kind::Bearer => BEARER,
            Kind::Basic { .. } => BASIC,
        }
    }

    /// Whether the request carries this credential.
    fn is_in(&self, request: &Request<Untouchable>) -> bool {
        if let Kind::Query { parameter } = &self.kind {
            let pairs = request.uri().query().unwrap_or("").split('&').map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decoded(name), decoded(value))
            });
            let mut values: Vec<Vec<u8>> = pairs
                .filter(|(name, _)| name == parameter.get().as_bytes())
                .map(|(_, value)| value)
                .collect();
            return values.len() == 1 && values.remove(0) == self.sent().as_bytes();
        }
        let name = self.header_name().expect("a header");
        let values: Vec<&[u8]> =
            request.headers().get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let [value] = values[..] else { return false };
        let scheme = match self.kind {
            Kind::Bearer => "bearer",
            Kind::Basic { .. } => "basic",
            _ => return value == self.sent().as_bytes(),
        };
        let mut words = value.splitn(2, |byte| *byte == b' ');
        let given_scheme = words.next().unwrap_or_default().to_ascii_lowercase();
        let mut rest = words.next().unwrap_or_default();
        while let Some(after) = rest.strip_prefix(b" ") {
            rest = after;
        }
        given_scheme == scheme.as_bytes() && rest == self.sent().as_bytes()
    }
}

const TOKEN: &str = r#"Token realm="webhook""#;
const BEARER: &str = r#"Bearer realm="webhook""#;
const BASIC: &str = r#"Basic realm="webhook", charset="UTF-8""#;
const CHALLENGES: [&str; 3] = [TOKEN, BEARER, BASIC];

enum Expected {
    /// The index of the credential of the innermost layer.
    Accepted(usize),
    Forbidden,
    Unauthorized(Vec<&'static str>),
}

fn expected(case: &Case, request: &Request<Untouchable>) -> Expected {
    let mut accepted = 0;
    for layer in case.layers() {
        let places = layer.usable();
        let Some(index) = places.iter().position(|place| place.is_in(request)) else {
            let here: Vec<_> = places.iter().map(|place| place.challenge()).collect();
            return Expected::Unauthorized(
                CHALLENGES.into_iter().filter(|challenge| here.contains(challenge)).collect(),
            );
        };
        if layer.check == Some(false) {
            return Expected::Forbidden;
        }
        accepted = index;
    }
    Expected::Accepted(accepted)
}

fn has_no_blank_end(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_whitespace() || c == '\u{feff}');
    !starts && !text.ends_with(char::is_whitespace)
}

fn is_printable_ascii(text: &str) -> bool {
    text.chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

/// Decoded once; what is no escape stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut decoded = Vec::new();
    while let [first, rest @ ..] = bytes {
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        bytes = rest;
        decoded.push(match (first, rest) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes = after;
                hex(*high).unwrap_or(0) * 16 + hex(*low).unwrap_or(0)
            }
            (other, _) => *other,
        });
    }
    decoded
}

/// What `sign` puts on a request opens the layer, whatever the request held before.
fn check_signed(place: &Place, case: &Case) {
    let Some(mut request) = case.request() else { return };
    // The documented panic.
    let has_path = request.uri().path().starts_with('/');
    if matches!(place.kind, Kind::Query { .. }) && !has_path {
        return;
    }
    let credential = place.credential().expect("usable");
    credential.apply_to(&mut request);
    credential.apply_to(&mut request);
    assert!(place.is_in(&request), "signed {:?} {:?}", request.uri(), request.headers());
    let inner = service_fn(|_: Request<Untouchable>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::from("inner"))))
    });
    let (status, ..) = answer(WebhookAuth::from_credential(credential).layer(inner), request);
    assert_eq!(status, 200, "{place:?}");
}

/// A header that holds a credential is hidden from logs, and no other is.
fn check_sensitive(case: &Case, headers: &HeaderMap) {
    let hidden: Vec<HeaderName> =
        case.layers().flat_map(Demands::usable).filter_map(Place::header_name).collect();
    for (name, value) in headers {
        assert_eq!(value.is_sensitive(), hidden.contains(name), "{name}");
    }
}

fn check_problem(headers: &HeaderMap, body: &[u8], code: &str, challenges: &[&str]) {
    let (title, status, detail) = match code {
        "forbidden" => {
            ("Webhook access forbidden", 403, "A check of the receiving host refused the request.")
        }
        _ => (
            "Webhook request unauthorized",
            401,
            "The request does not carry exactly one right credential.",
        ),
    };
    let kind =
        "https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/struct.Rejection.html";
    let problem = format!(
        r#"{{"type":"{kind}#{code}","title":"{title}","status":{status},"detail":"{detail}","code":"{code}"}}"#
    );
    assert_eq!(body, problem.as_bytes());
    let given: Vec<_> = headers.get_all("www-authenticate").iter().collect();
    assert_eq!(given, challenges);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers.len(), 1 + challenges.len());
}

/// Nothing here waits, so the first poll is the last.
fn answer<S, B>(mut service: S, request: Request<Untouchable>) -> (u16, HeaderMap, Bytes)
where
    S: Service<Request<Untouchable>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error = Infallible>,
{
    let response = at_once(service.call(request)).unwrap_or_else(|never| match never {});
    let (head, body) = response.into_parts();
    let body = at_once(body.collect()).unwrap_or_else(|never| match never {});
    (head.status.as_u16(), head.headers, body.to_bytes())
}

fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the service waits"),
    }
}

/// A body that nobody may even ask for its length.
struct Untouchable;

impl Body for Untouchable {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body was polled");
    }

    fn is_end_stream(&self) -> bool {
        panic!("the body was asked for its end");
    }

    fn size_hint(&self) -> SizeHint {
        panic!("the body was asked for its length");
    }
}
