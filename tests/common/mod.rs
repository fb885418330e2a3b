//! Deliveries to send, bodies to vary, and asserts on whole answers.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{path::PathBuf, process::Command, sync::Once};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::Response,
    routing::post,
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

/// A host that acknowledges every event.
pub fn host(auth: WebhookAuth) -> Router {
    async fn unsubscribed(_: UnsubscribeEvent) -> Received {
        Received
    }
    Router::new().route(PATH, post(unsubscribed).layer(auth))
}

/// An unsigned delivery, as JSON.
pub fn unsigned(body: impl Into<Body>) -> Request {
    Request::post(PATH)
        .header("content-type", "application/json")
        .body(body.into())
        .expect("a valid request")
}

/// A delivery with the right token.
pub fn signed(body: impl Into<Body>) -> Request {
    signed_by(&token(SECRET), body)
}

pub fn signed_by(credential: &Credential, body: impl Into<Body>) -> Request {
    let mut request = unsigned(body);
    credential.apply_to(&mut request);
    request
}

#[track_caller]
pub fn token(secret: &str) -> Credential {
    Credential::token(secret).expect("a usable secret")
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// What the response's extensions held.
    pub rejection: Option<Rejection>,
}

pub async fn send(app: &Router, request: Request) -> Answer {
    let response = app.clone().oneshot(request).await.expect("a router does not fail");
    read(response).await
}

pub async fn read(response: Response) -> Answer {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("an answer in memory");
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("UTF-8");
    Answer {
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
pub fn assert_received(answer: &Answer) {
    let head = (answer.status, answer.body.as_str());
    assert_eq!(head, (200, "Webhook received\n"));
    assert_eq!(header(answer, "content-type"), ["text/plain; charset=utf-8"]);
    assert!(answer.rejection.is_none(), "{answer:?}");
}

/// Asserts the whole response of a refusal, and the rejection that goes with it.
#[track_caller]
pub fn assert_refused(answer: &Answer, code: &str, pointer: Option<&str>) {
    assert_refused_over_network(answer, code, pointer);

    let rejection = answer.rejection.as_ref().expect("a refusal carries its rejection");
    assert_eq!(rejection.code().as_str(), code);
    assert_eq!(rejection.pointer(), pointer);
    assert_eq!(rejection.status().as_u16(), answer.status);
    let sentence = rejection.to_string();
    let detail = sentence.split_once(": ").expect("the detail").1;
    assert!(answer.body.contains(&format!(r#""detail":"{detail}","code""#)), "{}", answer.body);
}

/// Asserts the whole response of a refusal: status, headers and body.
#[track_caller]
pub fn assert_refused_over_network(answer: &Answer, code: &str, pointer: Option<&str>) {
    const TYPE: &str =
        "https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/enum.Code.html#variant.";
    let (status, title) = match code {
        "unauthorized" => (401, "Webhook request unauthorized"),
        "forbidden" | "foreign_account" => (403, "Webhook access forbidden"),
        "missing_layer" | "server_error" => (500, "Server error"),
        _ => (400, "Invalid webhook request's body structure"),
    };
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.ends_with("}\n"), "{:?}", answer.body);
    let problem: serde_json::Value = serde_json::from_str(&answer.body).expect("problem details");
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
    assert_eq!(header(answer, "content-type"), ["application/problem+json"]);
    // The server and the router add these two, and an unread body a third one; nothing else is there.
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.retain(|name| !["content-length", "date", "connection"].contains(name));
    names.dedup();
    let expected: &[_] = match status {
        401 => &["content-type", "www-authenticate"],
        _ => &["content-type"],
    };
    assert_eq!(names, expected);
}

#[track_caller]
pub fn assert_unauthorized(answer: &Answer, challenges: &[&str]) {
    assert_refused(answer, "unauthorized", None);
    assert_eq!(header(answer, "www-authenticate"), challenges);
}

/// Asserts a 401 of a layer that takes the token only.
#[track_caller]
pub fn assert_no_token(answer: &Answer) {
    assert_unauthorized(answer, &[r#"Token realm="webhook""#]);
}

/// The same request over HTTP/2, where the body of a refused one is left alone.
pub fn over_http2(mut request: Request) -> Request {
    *request.version_mut() = http::Version::HTTP_2;
    request
}

pub fn header<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer
        .headers
        .iter()
        .filter(|(given, _)| given == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

/// A JSON body as a list of fields, each a pointer and the raw text of its value: so that a test
/// can spell a value in any way, double a field, or leave one out.
#[derive(Clone)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The contract's example, with the optional fields that it leaves out.
    pub fn example() -> Self {
        let fields = [
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
        Self(fields.map(|(pointer, text)| (pointer.to_owned(), text.to_owned())).into())
    }

    /// Without a field or an object.
    pub fn without(&self, pointer: &str) -> Self {
        let below = format!("{pointer}/");
        let kept = |(at, _): &&(String, String)| at != pointer && !at.starts_with(&below);
        Self(self.0.iter().filter(kept).cloned().collect())
    }

    /// With one more field at the end of its object, whether or not it is there already.
    pub fn and(&self, pointer: &str, text: &str) -> Self {
        let mut fields = self.clone();
        fields.0.push((pointer.to_owned(), text.to_owned()));
        fields
    }

    pub fn with(&self, pointer: &str, text: &str) -> Self {
        self.without(pointer).and(pointer, text)
    }

    pub fn text(&self) -> String {
        let fields: Vec<_> = self.0.iter().map(|(at, text)| (at.as_str(), text.as_str())).collect();
        object(&fields)
    }
}

/// Members in their order; fields of one object stand together where its first one does.
fn object(fields: &[(&str, &str)]) -> String {
    let mut members: Vec<String> = Vec::new();
    let mut written: Vec<&str> = Vec::new();
    for (at, text) in fields {
        let path = &at[1..];
        match path.split_once('/') {
            None => members.push(format!(r#""{path}":{text}"#)),
            Some((name, _)) if written.contains(&name) => {}
            Some((name, _)) => {
                written.push(name);
                let below = format!("/{name}/");
                let inner: Vec<_> = fields
                    .iter()
                    .filter(|(at, _)| at.starts_with(&below))
                    .map(|(at, text)| (&at[name.len() + 1..], *text))
                    .collect();
                members.push(format!(r#""{name}":{}"#, object(&inner)));
            }
        }
    }
    format!("{{{}}}", members.join(","))
}

/// A body that must not be touched.
pub fn untouchable() -> Body {
    struct Untouchable;

    impl axum::body::HttpBody for Untouchable {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            panic!("the body was polled");
        }
    }

    Body::new(Untouchable)
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
