//! Deliveries to send, bodies to vary, and asserts on whole responses.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program uses a part of it"
)]

use std::{fmt::Debug, path::PathBuf, process::Command, sync::Once};

use axum::{handler::Handler, response::Response};
use prelude::*;

/// What most test programs use.
pub mod prelude {
    pub use axum::{
        Router,
        body::{Body, Bytes},
        extract::{DefaultBodyLimit, Request},
        middleware::{Next, from_fn},
        response::IntoResponse,
        routing::{get, post},
    };
    pub use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, request::Parts};
    pub use tower::{Layer, Service, ServiceExt, service_fn};
    pub use unsubscribe_webhook::{
        AdditionalData, Authenticated, Code, ConfigError, Credential, OptOut, Received, Rejection,
        ServerError, UnsubscribeEvent, WebhookAuth,
    };

    pub use super::*;
}

pub type Decoded = Result<UnsubscribeEvent, Rejection>;

pub const EXAMPLE: &str = include_str!("../../examples/event.json");
pub const SECRET: &str = "correct-horse-7";
pub const PATH: &str = "/webhooks/unsubscribe";

/// The contract's example event.
pub fn example() -> UnsubscribeEvent {
    UnsubscribeEvent::from_slice(EXAMPLE.as_bytes()).expect("the example is an event")
}

/// An app that acknowledges every event.
pub fn app_with(auth: WebhookAuth) -> Router {
    Router::new().route(PATH, post(async |_: UnsubscribeEvent| Received).layer(auth))
}

/// An app with this handler, which takes the token.
pub fn protected<T: 'static>(handler: impl Handler<T, ()>) -> Router {
    Router::new().route(PATH, post(handler).layer(WebhookAuth::new(SECRET)))
}

/// A delivery without a credential.
pub fn unauthenticated(body: impl Into<Body>) -> Request {
    Request::post(PATH)
        .header("content-type", "application/json")
        .body(body.into())
        .expect("a valid request")
}

/// A delivery with the token.
pub fn authenticated(body: impl Into<Body>) -> Request {
    authenticated_by(&token(SECRET), body)
}

pub fn authenticated_by(credential: &Credential, body: impl Into<Body>) -> Request {
    let mut request = unauthenticated(body);
    credential.apply_to(&mut request);
    request
}

#[track_caller]
pub fn token(secret: &str) -> Credential {
    Credential::token(secret).expect("a usable secret")
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// What the response's extensions held.
    pub rejection: Option<Rejection>,
}

impl Reply {
    /// The body that was refused, if its rejection contains it.
    pub fn refused_body(&self) -> Option<&[u8]> {
        self.rejection.as_ref()?.body().map(|body| &body[..])
    }
}

pub async fn send(app: &Router, request: Request) -> Reply {
    let response = app.clone().oneshot(request).await.expect("a router does not fail");
    read(response).await
}

pub async fn read(response: Response) -> Reply {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory");
    let owned = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), value.to_str().expect("ASCII").to_owned())
    };
    Reply {
        status: head.status.as_u16(),
        headers: head.headers.iter().map(owned).collect(),
        body: String::from_utf8(body.into()).expect("UTF-8"),
        rejection: head.extensions.get().cloned(),
    }
}

/// Asserts the whole response of a 200.
#[track_caller]
pub fn assert_received(reply: &Reply) {
    let head = (reply.status, reply.body.as_str());
    assert_eq!(head, (200, "Webhook received\n"));
    assert_eq!(header(reply, "content-type"), ["text/plain; charset=utf-8"]);
    assert!(reply.rejection.is_none(), "{reply:?}");
}

/// Asserts the whole response of a refusal, and the rejection that goes with it.
#[track_caller]
pub fn assert_refused(reply: &Reply, code: &str, pointer: Option<&str>) {
    assert_refused_over_network(reply, code, pointer);

    let rejection = reply.rejection.as_ref().expect("a refusal carries its rejection");
    assert_eq!(rejection.code().as_str(), code);
    assert_eq!(rejection.pointer(), pointer);
    assert_eq!(rejection.status().as_u16(), reply.status);
    let sentence = rejection.to_string();
    let detail = sentence.split_once(": ").expect("the detail").1;
    assert!(reply.body.contains(&format!(r#""detail":"{detail}","code""#)), "{}", reply.body);
}

/// Asserts the whole response of a refusal: status, headers and body.
#[track_caller]
pub fn assert_refused_over_network(reply: &Reply, code: &str, pointer: Option<&str>) {
    const TYPE: &str =
        "https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/enum.Code.html#variant.";
    let (status, title) = match code {
        "unauthorized" => (401, "Webhook request unauthorized"),
        "forbidden" | "foreign_account" => (403, "Webhook access forbidden"),
        "missing_layer" | "server_error" => (500, "Server error"),
        _ => (400, "Invalid webhook request's body structure"),
    };
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(reply.body.ends_with("}\n"), "{:?}", reply.body);
    let problem: serde_json::Value = serde_json::from_str(&reply.body).expect("problem details");
    let variant: String =
        code.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
    let mut expected = serde_json::json!({
        "type": format!("{TYPE}{variant}"),
        "title": title,
        "status": status,
        "detail": problem["detail"],
        "code": code,
    });
    if let Some(pointer) = pointer {
        expected["pointer"] = pointer.into();
    }
    assert_eq!(problem, expected);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.ends_with('.')), "{problem}");
    assert_eq!(header(reply, "content-type"), ["application/problem+json"]);
    // The server, the router and an unread body add these; nothing else is there.
    let mut names: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.retain(|name| !["content-length", "date", "connection"].contains(name));
    names.dedup();
    let expected: &[_] = match status {
        401 => &["content-type", "www-authenticate"],
        _ => &["content-type"],
    };
    assert_eq!(names, expected);
}

#[track_caller]
pub fn assert_unauthorized(reply: &Reply, challenges: &[&str]) {
    assert_refused(reply, "unauthorized", None);
    assert_eq!(header(reply, "www-authenticate"), challenges);
}

/// Asserts a 401 of a layer that takes the token only.
#[track_caller]
pub fn assert_token_required(reply: &Reply) {
    assert_unauthorized(reply, &[r#"Token realm="webhook""#]);
}

/// The same request with one value of a header.
pub fn with<V>(mut request: Request, name: &'static str, value: V) -> Request
where
    V: TryInto<HeaderValue, Error: Debug>,
{
    request.headers_mut().insert(name, value.try_into().expect("a header value"));
    request
}

/// The same request with more headers, of which it may have some already.
pub fn with_headers(mut request: Request, headers: &[(&'static str, &str)]) -> Request {
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers_mut().append(*name, value);
    }
    request
}

/// The same request without a header.
pub fn without(mut request: Request, name: &str) -> Request {
    request.headers_mut().remove(name);
    request
}

/// The same request to another URI.
pub fn to(uri: &str, mut request: Request) -> Request {
    *request.uri_mut() = uri.parse().expect("a URI");
    request
}

/// The same request of another version. Over HTTP/2 the body of a refused one is left alone.
pub fn over(version: Version, mut request: Request) -> Request {
    *request.version_mut() = version;
    request
}

pub fn header<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    let values = reply.headers.iter().filter(|(given, _)| given == name);
    values.map(|(_, value)| value.as_str()).collect()
}

/// A JSON body as a list of fields, each a pointer and a raw value, so that a test can write a value
/// in any way, duplicate a field or leave one out.
#[derive(Clone)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The contract's example, with the optional fields that it leaves out.
    pub fn example() -> Self {
        let (mut fields, mut object) = (Self(Vec::new()), String::new());
        for line in EXAMPLE.lines() {
            match line.trim().trim_end_matches(',').split_once(": ") {
                Some((name, "{")) => object = format!("{object}/{}", name.trim_matches('"')),
                Some((name, raw)) => {
                    fields.0.push((format!("{object}/{}", name.trim_matches('"')), raw.to_owned()));
                }
                None => object.truncate(object.rfind('/').unwrap_or_default()),
            }
        }
        let fields = fields.and("/data/group_id", "123");
        fields.and("/notification_task_id", r#""3378de83-de66-4de8-9d29-2b10d41bb641""#)
    }

    /// Without a field or an object.
    pub fn without(&self, pointer: &str) -> Self {
        let below = format!("{pointer}/");
        let kept = |(at, _): &&(String, String)| at != pointer && !at.starts_with(&below);
        Self(self.0.iter().filter(kept).cloned().collect())
    }

    /// With one more field at the end of its object, whether or not it is there already.
    pub fn and(&self, pointer: &str, raw: &str) -> Self {
        let mut fields = self.clone();
        fields.0.push((pointer.to_owned(), raw.to_owned()));
        fields
    }

    pub fn with(&self, pointer: &str, raw: &str) -> Self {
        self.without(pointer).and(pointer, raw)
    }

    pub fn json(&self) -> String {
        self.object("")
    }

    /// The members in their order; those of one object stand together where its first one does.
    fn object(&self, above: &str) -> String {
        let (mut members, mut objects) = (Vec::new(), Vec::new());
        for (at, raw) in &self.0 {
            let below = at.strip_prefix(above).and_then(|below| below.strip_prefix('/'));
            match below.map(|below| below.split_once('/').unwrap_or((below, ""))) {
                None => {}
                Some((name, "")) => members.push(format!(r#""{name}":{raw}"#)),
                Some((name, _)) if objects.contains(&name) => {}
                Some((name, _)) => {
                    objects.push(name);
                    let object = self.object(&format!("{above}/{name}"));
                    members.push(format!(r#""{name}":{object}"#));
                }
            }
        }
        format!("{{{}}}", members.join(","))
    }
}

/// An example, built from its source as it is now: `cargo test` builds the examples beside the
/// tests, but `cargo test --test NAME` does not.
pub fn program(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let build = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--examples", "--manifest-path", manifest])
            .status();
        assert!(build.expect("cargo").success(), "the examples do not build");
    });
    let test = std::env::current_exe().expect("this program's path");
    let profile = test.ancestors().nth(2).expect("target/debug/deps/THIS");
    let example = profile.join(format!("examples/{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(example.exists(), "{} is missing", example.display());
    example
}
