//! Any head, and any credentials: the layer accepts a request if and only if the location of one of the
//! credentials holds exactly one value, and that is the secret.
#![no_main]

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
};

use arbitrary::Arbitrary;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header::AUTHORIZATION};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use tower::{Layer, Service, service_fn};
use unsubscribe_webhook::{Authenticated, Code, ConfigError, Credential, Rejection, WebhookAuth};

fuzz_target!(|case: Case| {
    let usable: Vec<_> = case.locations.iter().filter(|at| at.credential().is_ok()).collect();
    let Some(request) = case.request() else { return };
    let mut credentials = usable.iter().map(|at| at.credential().expect("usable"));
    let Some(first) = credentials.next() else { return };
    let auth = credentials.fold(WebhookAuth::from_credential(first), WebhookAuth::or);

    let expected = usable.iter().position(|location| location.is_in(&request));
    let (uri, headers) = (request.uri().clone(), request.headers().clone());
    let response = send(&auth, request);
    let accepted = response.extensions().get::<Accepted>();
    assert_eq!(accepted.map(|accepted| accepted.credential_index), expected);
    match accepted {
        Some(accepted) => {
            let passed = (accepted.head.uri(), accepted.head.headers());
            assert_eq!(passed, (&uri, &headers), "the head changed");
            for (name, value) in accepted.head.headers() {
                let is_secret = usable.iter().any(|at| at.header_name().as_ref() == Some(name));
                assert_eq!(value.is_sensitive(), is_secret, "{name}");
            }
        }
        None => {
            assert_eq!(response.status(), 401);
            let rejection = response.extensions().get::<Rejection>().expect("a rejection");
            assert_eq!(rejection.code(), Code::Unauthorized);
            let mut challenges: Vec<_> = usable.iter().map(|at| at.challenge()).collect();
            challenges.sort_unstable();
            challenges.dedup();
            let mut given: Vec<_> = response.headers().get_all("www-authenticate").iter().collect();
            given.sort_unstable();
            assert_eq!(given, challenges);
        }
    }
});

#[derive(Arbitrary, Debug)]
struct Case {
    locations: Vec<Location>,
    values: Vec<Value>,
    other_headers: Vec<(Vec<u8>, Vec<u8>)>,
    other_query: Option<String>,
}

/// A credential.
#[derive(Arbitrary, Debug)]
struct Location {
    kind: Kind,
    secret: Text,
}

#[derive(Arbitrary, Debug)]
enum Kind {
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

/// In a location: what it should hold, in any encoding and perhaps altered.
#[derive(Arbitrary, Debug)]
struct Value {
    location: u8,
    encoding: u64,
    edit: Option<(u8, Vec<u8>)>,
}

#[rustfmt::skip]
const LIKELY: [&str; 20] = [
    "s3cr3t", "s3cr3u", "s3cr3t2", "mF_9.B5f-4.1JqM==", "pä:ss wörd", "a+b c&ä%41", "two words", "", " ",
    "s3cr3t\n", "\u{a0}s3cr3t", "\u{fffd}", "a:b", "token", "the key", "x-lox24-token", "authorization",
    "X-Hook", "\u{feff}x", "x\ty",
];

impl Text {
    fn get(&self) -> &str {
        match self {
            Self::Likely(index) => LIKELY[usize::from(*index) % LIKELY.len()],
            Self::Any(text) => text,
        }
    }
}

impl Case {
    fn request(&self) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::from("body"));
        let mut headers = self.other_headers.clone();
        let mut pairs = Vec::from_iter(self.other_query.clone());
        for value in &self.values {
            let location = &self.locations.get(usize::from(value.location))?;
            let sent = value.sent(location);
            if let Kind::Query { parameter } = &location.kind {
                let name = encoded(parameter.get().as_bytes(), value.encoding);
                pairs.push(format!("{name}={}", encoded(&sent, value.encoding.rotate_right(7))));
            } else if let Some(name) = location.header_name() {
                headers.push((name.as_str().into(), sent));
            }
        }
        for (name, value) in headers {
            let name = HeaderName::from_bytes(&name).ok()?;
            request.headers_mut().append(name, HeaderValue::from_bytes(&value).ok()?);
        }
        *request.uri_mut() = Uri::try_from(format!("/webhook?{}", pairs.join("&"))).ok()?;
        Some(request)
    }
}

impl Value {
    fn sent(&self, location: &Location) -> Vec<u8> {
        let mut sent = location.value().into_bytes();
        if let Some((at, bytes)) = &self.edit {
            // Cut off, one byte replaced, or more inserted.
            let at = usize::from(*at) % (sent.len() + 1);
            let end = sent.len().min(at + bytes.len() % 2);
            sent.splice(at..end, bytes.iter().copied());
            sent.truncate(if bytes.is_empty() { at } else { sent.len() });
        }
        let Some(scheme) = location.scheme() else { return sent };
        let index = |length: u64| usize::try_from(self.encoding % length).unwrap_or(0);
        let scheme = [scheme, scheme, "bEARER", "BASIC", "Token", "", "Bearerr"][index(7)];
        let spaces = [" ", " ", "  ", "\t", ""][index(5)];
        [scheme.as_bytes(), spaces.as_bytes(), &sent].concat()
    }
}

/// Bytes as a query may encode them: two bits of `encoding` choose for each.
fn encoded(bytes: &[u8], encoding: u64) -> String {
    let encode = |(index, byte): (usize, &u8)| match (byte, encoding >> (2 * index % 64) & 3) {
        (b' ', 0 | 1) => "+".to_owned(),
        (byte, 0 | 1) if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        (byte, 2) => format!("%{byte:02x}"),
        (byte, _) => format!("%{byte:02X}"),
    };
    bytes.iter().enumerate().map(encode).collect()
}

// The oracle: from the contract and the documentation of `Credential`.

impl Location {
    fn credential(&self) -> Result<Credential, ConfigError> {
        let secret = self.secret.get();
        match &self.kind {
            Kind::Bearer => Credential::bearer(secret),
            Kind::Basic { user } => Credential::basic(user.get(), secret),
            Kind::Query { parameter } => Credential::query(parameter.get(), secret),
            Kind::Header { name } => Credential::header(name.get(), secret),
        }
    }

    fn header_name(&self) -> Option<HeaderName> {
        match &self.kind {
            Kind::Bearer | Kind::Basic { .. } => Some(AUTHORIZATION),
            Kind::Query { .. } => None,
            Kind::Header { name } => name.get().parse().ok(),
        }
    }

    fn scheme(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Bearer => Some("Bearer"),
            Kind::Basic { .. } => Some("Basic"),
            _ => None,
        }
    }

    fn challenge(&self) -> &'static str {
        match self.kind {
            Kind::Bearer => r#"Bearer realm="webhook""#,
            Kind::Basic { .. } => r#"Basic realm="webhook", charset="UTF-8""#,
            _ => r#"Token realm="webhook""#,
        }
    }

    /// What the location should hold, without a scheme and decoded.
    fn value(&self) -> String {
        match &self.kind {
            Kind::Basic { user } => BASE64.encode(format!("{}:{}", user.get(), self.secret.get())),
            _ => self.secret.get().to_owned(),
        }
    }

    fn is_in<B>(&self, request: &Request<B>) -> bool {
        let Some(name) = self.header_name() else { return self.is_in_query(request.uri()) };
        let values: Vec<_> = request.headers().get_all(name).iter().collect();
        let [value] = values[..] else { return false };
        let Some(scheme) = self.scheme() else { return value == self.value().as_str() };
        let mut words = value.as_bytes().splitn(2, |byte| *byte == b' ');
        let given = words.next().unwrap_or_default();
        let mut rest = words.next().unwrap_or_default();
        while let Some(after) = rest.strip_prefix(b" ") {
            rest = after;
        }
        given.eq_ignore_ascii_case(scheme.as_bytes()) && rest == self.value().as_bytes()
    }

    fn is_in_query(&self, uri: &Uri) -> bool {
        let Kind::Query { parameter } = &self.kind else { return false };
        let pairs = uri.query().unwrap_or("").split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        let named = pairs.filter(|(name, _)| name == parameter.get().as_bytes());
        let values: Vec<Vec<u8>> = named.map(|(_, value)| value).collect();
        values == [self.value().into_bytes()]
    }
}

/// Decoded once; what is not an escape stays as it is.
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

/// What the inner service received.
#[derive(Clone)]
struct Accepted {
    credential_index: usize,
    head: Request<()>,
}

fn send(auth: &WebhookAuth, request: Request<Full<Bytes>>) -> Response<Full<Bytes>> {
    let inner = service_fn(|request: Request<Full<Bytes>>| async {
        let (head, _) = request.into_parts();
        let authenticated = head.extensions.get::<Authenticated>().expect("authenticated");
        let credential_index = authenticated.credential_index();
        let head = Request::from_parts(head, ());
        let mut response = Response::<Full<Bytes>>::default();
        response.extensions_mut().insert(Accepted { credential_index, head });
        Ok::<_, Infallible>(response)
    });
    // Nothing waits, so the first poll is the last.
    match pin!(auth.layer(inner).call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response.map(|_| Full::default()),
        Poll::Pending => panic!("the layer waits"),
    }
}
