//! Deliveries to send, bodies to vary, and asserts on whole responses.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{path::PathBuf, process::Command, sync::Once};

use axum::{
    Router, body::Body, extract::Request, handler::Handler, response::Response, routing::post,
};
use tower::ServiceExt;
use unsubscribe_webhook::{Credential, Received, Rejection, UnsubscribeEvent, WebhookAuth};

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

pub async fn send(app: &Router, request: Request) -> Reply {
    let response = app.clone().oneshot(request).await.expect("a router does not fail");
    read(response).await
}

pub async fn read(response: Response) -> Reply {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory");
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("UTF-8");
    Reply {
        status: head.status.as_u16(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
        body: text(&body),
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

/// The same request over HTTP/2, where the body of a refused one is left alone.
pub fn over_http2(mut request: Request) -> Request {
    *request.version_mut() = http::Version::HTTP_2;
    request
}

pub fn header<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply
        .headers
        .iter()
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

/// A JSON body as a list of fields, each a pointer and a raw value, so that a test can write a value
/// in any way, duplicate a field or leave one out.
#[derive(Clone)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The contract's example, with the optional fields that it leaves out.
    pub const EXAMPLE: [(&str, &str); 17] = [
        ("/id", r#""ef58b437-1319-4b0c-961b-17214cf1cf32""#),
        ("/data/phone", r#""+4911113333444""#),
        ("/data/user_id", "2"),
        ("/data/created_at", "1757849748"),
        ("/data/campaign_code", r#""3KCKb5nMD""#),
        ("/data/additional_data/reason/id", "4"),
        ("/data/additional_data/reason/label", r#""Es ist unverständlich""#),
        ("/data/additional_data/additional_text", r#""zusätzlicher Benutzertext""#),
        ("/data/short_link_code", r#""baaIou""#),
        ("/data/unsubscribe_request_id", "59"),
        ("/data/group_id", "123"),
        ("/name", r#""phone.unsubscribe""#),
        ("/created_at", "1757849748"),
        ("/api_version", r#""2022-05-25""#),
        ("/attempt_number", "1"),
        ("/attempts_total", "4"),
        ("/notification_task_id", r#""3378de83-de66-4de8-9d29-2b10d41bb641""#),
    ];

    pub fn example() -> Self {
        Self(Self::EXAMPLE.map(|(pointer, raw)| (pointer.to_owned(), raw.to_owned())).into())
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
        let fields: Vec<_> = self.0.iter().map(|(at, raw)| (at.as_str(), raw.as_str())).collect();
        object(&fields)
    }
}

/// The members in their order; those of one object stand together where its first one does.
fn object(fields: &[(&str, &str)]) -> String {
    let mut members: Vec<String> = Vec::new();
    let mut written: Vec<&str> = Vec::new();
    for (at, raw) in fields {
        match at[1..].split_once('/') {
            None => members.push(format!(r#""{}":{raw}"#, &at[1..])),
            Some((name, _)) if written.contains(&name) => {}
            Some((name, _)) => {
                written.push(name);
                let inner: Vec<_> = fields
                    .iter()
                    .filter_map(|(at, raw)| {
                        let below = at.strip_prefix('/')?.strip_prefix(name)?;
                        below.starts_with('/').then_some((below, *raw))
                    })
                    .collect();
                members.push(format!(r#""{name}":{}"#, object(&inner)));
            }
        }
    }
    format!("{{{}}}", members.join(","))
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
