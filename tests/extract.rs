//! The extractor: bodies as they come, the three forms of the handler's argument, and the answers
//! of a handler.

mod common;

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error as _,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request},
    response::IntoResponse,
    routing::post,
};
use common::{
    EXAMPLE, Fields, PATH, SECRET, assert_received, assert_refused, example, host, send, signed,
};
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use unsubscribe_webhook::{Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

/// A body that comes in these frames, without a length.
fn chunked<const N: usize>(frames: [Result<Frame<Bytes>, io::Error>; N]) -> Body {
    Body::new(Frames(frames.into_iter().collect()))
}

struct Frames(VecDeque<Result<Frame<Bytes>, io::Error>>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.0.pop_front())
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it stands in a list of frames and errors")]
fn data(text: &str) -> Result<Frame<Bytes>, io::Error> {
    Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
}

fn of_type(content_type: &[&str]) -> Request {
    let mut request = signed(EXAMPLE);
    request.headers_mut().remove(CONTENT_TYPE);
    for value in content_type {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers_mut().append(CONTENT_TYPE, value);
    }
    request
}

#[tokio::test]
async fn the_content_type_is_json_in_any_spelling() {
    let app = host(WebhookAuth::new(SECRET));
    for json in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=latin1",
        "application/json ; x=\"a;b\"",
        "application/json;",
    ] {
        assert_received(&send(&app, of_type(&[json])).await);
    }
    for other in [
        &[][..],
        &[""],
        &["text/plain"],
        &["text/json"],
        &["application/jsonp"],
        &["application/problem+json"],
        &["application/vnd.api+json"],
        &["application"],
        &["application/json, application/json"],
        &["json"],
        &["\u{e4}pplication/json"],
        &["application/x-www-form-urlencoded"],
        &["application/json", "application/json"],
        &["application/json", "text/plain"],
    ] {
        let answer = send(&app, of_type(other)).await;
        assert_refused(&answer, "content_type", None);
        assert_eq!(answer.rejection.expect("a rejection").body().expect("the body"), EXAMPLE);
    }
}

#[tokio::test]
async fn a_body_may_come_in_pieces() {
    let app = host(WebhookAuth::new(SECRET));
    let (start, rest) = EXAMPLE.split_at(100);
    let (middle, end) = rest.split_at(1);
    let trailers = || {
        Ok(Frame::trailers(
            [("x-more".parse().expect("a name"), HeaderValue::from_static("1"))]
                .into_iter()
                .collect(),
        ))
    };
    assert_received(&send(&app, signed(chunked([data(EXAMPLE)]))).await);
    let pieces = [data(""), data(start), data(""), data(middle), data(end), data("")];
    assert_received(&send(&app, signed(chunked(pieces))).await);
    assert_received(&send(&app, signed(chunked([data(start), data(rest), trailers()]))).await);

    let truncated = chunked([data(start), data(middle)]);
    let answer = send(&app, signed(truncated)).await;
    assert_refused(&answer, "not_json", None);
    let read = answer.rejection.expect("a rejection");
    assert_eq!(read.body().expect("the body"), &EXAMPLE[..101]);

    for empty in [Body::empty(), chunked([]), chunked([data("")]), chunked([trailers()])] {
        let answer = send(&app, signed(empty)).await;
        assert_refused(&answer, "not_json", None);
        assert_eq!(answer.rejection.expect("a rejection").body().expect("the body"), "");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_incomplete() {
    let app = host(WebhookAuth::new(SECRET));
    let reset = || Err(io::Error::new(io::ErrorKind::ConnectionReset, "+4911113333444 hung up"));
    for body in [chunked([reset()]), chunked([data(EXAMPLE), reset()])] {
        let answer = send(&app, signed(body)).await;
        assert_refused(&answer, "body_incomplete", None);
        assert!(answer.rejection.expect("a rejection").body().is_none());
    }
}

#[tokio::test]
async fn the_hosts_limit_holds_with_and_without_a_length() {
    const DEFAULT: usize = 2 * 1024 * 1024;

    let padded = |length: usize| format!("{EXAMPLE}{}", " ".repeat(length - EXAMPLE.len()));
    let pieces = |text: &str| {
        let (start, end) = text.split_at(500);
        chunked([data(start), data(end)])
    };
    let limited = host(WebhookAuth::new(SECRET)).layer(DefaultBodyLimit::max(2000));
    let disabled = host(WebhookAuth::new(SECRET)).layer(DefaultBodyLimit::disable());
    let default = host(WebhookAuth::new(SECRET));

    for (app, length, accepted) in [
        (&limited, 2000, true),
        (&limited, 2001, false),
        (&default, DEFAULT, true),
        (&default, DEFAULT + 1, false),
        (&disabled, DEFAULT + 1, true),
    ] {
        let text = padded(length);
        let mut with_length = signed(text.clone());
        with_length.headers_mut().insert("content-length", length.into());
        for request in [with_length, signed(pieces(&text))] {
            let answer = send(app, request).await;
            if accepted {
                assert_received(&answer);
            } else {
                assert_refused(&answer, "body_too_large", None);
                assert!(answer.rejection.expect("a rejection").body().is_none());
            }
        }
    }

    // What `Content-Length` promises is not believed.
    let mut promising = signed(EXAMPLE);
    promising
        .headers_mut()
        .insert("content-length", HeaderValue::from_static("18446744073709551615"));
    assert_received(&send(&disabled, promising).await);
}

#[tokio::test]
async fn every_refusal_by_the_body_hands_it_over() {
    let app = host(WebhookAuth::new(SECRET).allow_accounts([2]));
    let fields = Fields::example();
    let user = Some("/data/user_id");
    for (body, code, pointer) in [
        ("{".to_owned(), "not_json", None),
        (fields.without("/data/user_id").text(), "missing_field", user),
        (fields.with("/data/user_id", "2.5").text(), "invalid_field", user),
        (fields.and("/data/user_id", "2").text(), "duplicate_field", user),
        (r#"{"name":"sms.delivery"}"#.to_owned(), "other_event", Some("/name")),
        (fields.with("/data/user_id", "3").text(), "foreign_account", user),
    ] {
        let answer = send(&app, signed(body.clone())).await;
        assert_refused(&answer, code, pointer);
        assert_eq!(answer.rejection.expect("a rejection").body().expect("the body"), &body);
    }
    assert!(UnsubscribeEvent::from_slice(b"{").expect_err("not JSON").body().is_none());
}

#[test]
fn a_detail_says_what_a_field_expects() {
    let display = |body: String| {
        UnsubscribeEvent::from_slice(body.as_bytes()).expect_err("refused").to_string()
    };
    for (pointer, expected) in [
        ("/id", "Expected a UUID in lower case."),
        ("/name", "Expected phone.unsubscribe."),
        ("/created_at", "Expected a 64-bit integer."),
        ("/api_version", "Expected a string."),
        ("/attempt_number", "Expected an integer of at least 1."),
        ("/attempt_total", "Expected an integer from 1 to 4."),
        ("/attempts_total", "Expected an integer from 1 to 4."),
        ("/notification_task_id", "Expected a UUID with hyphens."),
        ("/data", "Expected an object."),
        ("/data/phone", "Expected a string."),
        ("/data/user_id", "Expected a 64-bit integer."),
        ("/data/additional_data/reason", "Expected an object."),
        ("/data/additional_data/reason/id", "Expected an integer from 1 to 6."),
    ] {
        let body = Fields::example().with(pointer, "[]").text();
        assert_eq!(display(body), format!("400 invalid_field at {pointer}: {expected}"));
    }
    let fields = Fields::example();
    for (body, expected) in [
        ("{".to_owned(), "not_json: The body is not JSON in UTF-8."),
        ("{}".to_owned(), "missing_field at /name: Missing field."),
        (fields.and("/id", "1").text(), "duplicate_field at /id: Duplicate field."),
        (
            r#"{"name":""}"#.to_owned(),
            "other_event at /name: The event is not a phone.unsubscribe event.",
        ),
        (
            fields.and("/attempt_total", "3").text(),
            "invalid_field at /attempts_total: Expected the same total as in attempt_total.",
        ),
    ] {
        assert_eq!(display(body), format!("400 {expected}"));
    }
}

#[tokio::test]
async fn a_handler_takes_the_event_an_option_or_the_result() {
    async fn plain(event: UnsubscribeEvent) -> Received {
        assert_eq!(event, example());
        Received
    }
    async fn option(event: Option<UnsubscribeEvent>) -> String {
        event.map_or("other".to_owned(), |event| event.data.phone)
    }
    async fn result(event: Result<UnsubscribeEvent, Rejection>) -> String {
        match event {
            Ok(event) => event.data.phone,
            Err(rejection) => {
                let length = rejection.body().map_or(0, Bytes::len);
                format!("{} {length}", rejection.code())
            }
        }
    }
    let app = Router::new()
        .route(PATH, post(plain))
        .route("/option", post(option))
        .route("/result", post(result))
        .layer(WebhookAuth::new(SECRET));
    let to = |path: &str, body: &str| {
        let mut request = signed(body.to_owned());
        *request.uri_mut() = path.parse().expect("a URI");
        request
    };
    let other = r#"{"name":"sms.delivery"}"#;

    assert_received(&send(&app, to(PATH, EXAMPLE)).await);
    assert_refused(&send(&app, to(PATH, other)).await, "other_event", Some("/name"));

    assert_eq!(send(&app, to("/option", EXAMPLE)).await.body, "+4911113333444");
    assert_eq!(send(&app, to("/option", other)).await.body, "other");
    assert_refused(&send(&app, to("/option", "{")).await, "not_json", None);
    let missing = send(&app, to("/option", "{}")).await;
    assert_refused(&missing, "missing_field", Some("/name"));
    let mut text = to("/option", other);
    text.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    assert_refused(&send(&app, text).await, "content_type", None);

    assert_eq!(send(&app, to("/result", EXAMPLE)).await.body, "+4911113333444");
    assert_eq!(send(&app, to("/result", other)).await.body, "other_event 23");
    assert_eq!(send(&app, to("/result", "{")).await.body, "not_json 1");
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the database of +4911113333444 is gone")
    }
}

impl std::error::Error for Broken {}

#[tokio::test]
async fn a_handlers_error_is_a_500_that_keeps_its_text_to_itself() {
    type Answered = Result<Received, ServerError>;
    let app = Router::new()
        .route("/error", post(async || -> Answered { Err(Broken)? }))
        .route("/io", post(async || -> Answered { Err(io::Error::other(Broken))? }))
        .route("/text", post(async || -> Answered { Err("+4911113333444")? }))
        .route("/string", post(async || -> Answered { Err(String::from("+4911113333444"))? }))
        .route("/anyhow", post(async || -> Answered { Err(anyhow::anyhow!("+4911113333444"))? }))
        .route(
            "/boxed",
            post(async || -> Answered {
                Err(Box::<dyn std::error::Error + Send + Sync>::from(Broken))?
            }),
        );
    for path in ["/error", "/io", "/text", "/string", "/anyhow", "/boxed"] {
        let request = Request::post(path).body(Body::empty()).expect("a request");
        let answer = send(&app, request).await;
        assert_refused(&answer, "server_error", None);
        let rejection = answer.rejection.expect("a rejection");
        let source = rejection.source().expect("the handler's error");
        assert!(source.to_string().contains("+4911113333444"), "{path}: {source}");
        assert!(!format!("{rejection} {rejection:?}").contains("+49"), "{path}");
    }
    let request = Request::post("/error").body(Body::empty()).expect("a request");
    let rejection = send(&app, request).await.rejection.expect("a rejection");
    assert!(rejection.source().expect("the handler's error").is::<Broken>());
}

#[tokio::test]
async fn a_rejection_that_goes_through_a_question_mark_answers_as_itself() {
    async fn handler(event: Result<UnsubscribeEvent, Rejection>) -> Result<Received, ServerError> {
        event?;
        Ok(Received)
    }
    let app = Router::new().route(PATH, post(handler)).layer(WebhookAuth::new(SECRET));
    assert_received(&send(&app, signed(EXAMPLE)).await);
    let answer = send(&app, signed("{")).await;
    assert_refused(&answer, "not_json", None);
    assert_eq!(answer.rejection.expect("a rejection").body().expect("the body"), "{");
}

#[tokio::test]
async fn answers_are_for_hosts_without_axum_too() {
    async fn body(response: http::Response<Full<Bytes>>) -> (u16, Bytes) {
        let status = response.status().as_u16();
        let body: Result<_, Infallible> = response.into_body().collect().await;
        (status, body.expect("a body in memory").to_bytes())
    }
    assert_eq!(body(Received.into()).await, (200, "Webhook received\n".into()));
    let rejection = UnsubscribeEvent::from_slice(b"{").expect_err("not JSON");
    let by_axum = rejection.clone().into_response().into_body();
    let by_axum = axum::body::to_bytes(by_axum, 1000).await.expect("a body in memory");
    assert_eq!(body(rejection.into()).await, (400, by_axum));
    assert_eq!(body(ServerError::from(Broken).into()).await.0, 500);
    let bytes: http::Response<Vec<u8>> = Received.into();
    assert_eq!(bytes.body(), b"Webhook received\n");
}
