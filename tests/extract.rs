//! The extractor: bodies as they come, the three forms of the handler's argument, and the responses
//! of a handler.

#[path = "common/bodies.rs"]
mod bodies;
mod common;
#[path = "common/socket.rs"]
mod socket;

use std::{
    convert::Infallible,
    error::Error as _,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use allocation_counter::AllocationInfo;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Request},
    middleware::{Next, from_fn},
    response::IntoResponse,
    routing::post,
};
use bodies::{End, counted, frames};
use common::{
    EXAMPLE, Fields, PATH, SECRET, app_with, assert_received, assert_refused,
    assert_refused_over_network, authenticated, example, protected, send, unauthenticated,
};
use futures_util::stream;
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use socket::{Client, chunked, head, serve, sized};
use unsubscribe_webhook::{Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

const DEFAULT_LIMIT: usize = 2 * 1024 * 1024;

fn of_type(content_type: &[&str]) -> Request {
    let mut request = authenticated(EXAMPLE);
    request.headers_mut().remove(CONTENT_TYPE);
    for value in content_type {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers_mut().append(CONTENT_TYPE, value);
    }
    request
}

#[tokio::test]
async fn the_content_type_is_json_in_any_valid_form() {
    let app = app_with(WebhookAuth::new(SECRET));
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
        let reply = send(&app, of_type(other)).await;
        assert_refused(&reply, "content_type", None);
        assert_eq!(reply.rejection.expect("a rejection").body().expect("the body"), EXAMPLE);
    }
}

#[tokio::test]
async fn a_body_may_come_in_pieces() {
    let app = app_with(WebhookAuth::new(SECRET));
    let (start, rest) = EXAMPLE.split_at(100);
    let (middle, end) = rest.split_at(1);
    let with_trailers = |data: Option<&'static str>| {
        let trailers = Frame::trailers(http::HeaderMap::new());
        let frames = data.map(|data| Frame::data(data.into())).into_iter().chain([trailers]);
        Body::new(StreamBody::new(stream::iter(frames.map(Ok::<Frame<Bytes>, Infallible>))))
    };
    for whole in [
        frames([EXAMPLE], End::Complete),
        frames(["", start, "", middle, end, ""], End::Complete),
        with_trailers(Some(EXAMPLE)),
    ] {
        assert_received(&send(&app, authenticated(whole)).await);
    }

    let truncated = frames([start, middle], End::Complete);
    let reply = send(&app, authenticated(truncated)).await;
    assert_refused(&reply, "not_json", None);
    let read = reply.rejection.expect("a rejection");
    assert_eq!(read.body().expect("the body"), &EXAMPLE[..101]);

    for empty in
        [Body::empty(), frames([], End::Complete), frames([""], End::Complete), with_trailers(None)]
    {
        let reply = send(&app, authenticated(empty)).await;
        assert_refused(&reply, "not_json", None);
        assert_eq!(reply.rejection.expect("a rejection").body().expect("the body"), "");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_incomplete() {
    let app = app_with(WebhookAuth::new(SECRET));
    for body in [frames([], End::Broken), frames([EXAMPLE], End::Broken)] {
        let reply = send(&app, authenticated(body)).await;
        assert_refused(&reply, "body_incomplete", None);
        assert!(reply.rejection.expect("a rejection").body().is_none());
    }
}

#[tokio::test]
async fn the_apps_limit_applies_with_and_without_a_length() {
    let default = app_with(WebhookAuth::new(SECRET));
    let limited = default.clone().layer(DefaultBodyLimit::max(2000));
    let disabled = default.clone().layer(DefaultBodyLimit::disable());
    for (app, length, accepted) in [
        (&limited, 2000, true),
        (&limited, 2001, false),
        (&default, DEFAULT_LIMIT, true),
        (&default, DEFAULT_LIMIT + 1, false),
        (&disabled, DEFAULT_LIMIT + 1, true),
    ] {
        let body = format!("{EXAMPLE}{}", " ".repeat(length - EXAMPLE.len()));
        let mut with_length = authenticated(body.clone());
        with_length.headers_mut().insert("content-length", length.into());
        let (start, end) = body.split_at(500);
        for request in [with_length, authenticated(frames([start, end], End::Complete))] {
            let reply = send(app, request).await;
            if accepted {
                assert_received(&reply);
            } else {
                assert_refused(&reply, "body_too_large", None);
                assert!(reply.rejection.expect("a rejection").body().is_none());
            }
        }
    }

    // A body is not incomplete because of the length that its header announces.
    let mut announcing = authenticated(EXAMPLE);
    announcing.headers_mut().insert("content-length", u64::MAX.into());
    assert_received(&send(&disabled, announcing).await);
}

/// What is allocated while a future runs, on a runtime of one thread that was made before.
fn allocations_of(future: impl Future<Output = ()>) -> AllocationInfo {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    allocation_counter::measure(|| runtime.block_on(future))
}

/// RUSTSEC-2022-0055: axum's extractors read bodies of any length into memory unless the app set a
/// limit.
#[test]
fn a_body_without_an_end_meets_the_limit() {
    const FRAME: Bytes = Bytes::from_static(&[b' '; 1024]);

    let default = app_with(WebhookAuth::new(SECRET));
    let limited = default.clone().layer(DefaultBodyLimit::max(64 * FRAME.len()));
    for (app, limit) in [(default, DEFAULT_LIMIT), (limited, 64 * FRAME.len())] {
        for length in [None, Some("2"), Some("18446744073709551615")] {
            let (body, polls) = counted([""; 0], End::Endless(FRAME));
            let mut request = authenticated(body);
            if let Some(length) = length {
                request.headers_mut().insert("content-length", HeaderValue::from_static(length));
            }
            let allocated = allocations_of(async {
                assert_refused(&send(&app, request).await, "body_too_large", None);
            });
            assert_eq!(polls.load(Ordering::Relaxed), limit / FRAME.len() + 1, "{length:?}");
            // A buffer that doubles, and is copied then, and what a response takes.
            let most = 2 * limit + 32 * 1024;
            assert!(allocated.bytes_max < u64::try_from(most).expect("a size"), "{allocated:?}");
        }
    }
}

/// RUSTSEC-2022-0066: conduit-hyper allocated as much memory as `Content-Length` announced, and
/// panicked when there was not so much.
#[test]
fn a_content_length_allocates_nothing() {
    let default = app_with(WebhookAuth::new(SECRET));
    let disabled = default.clone().layer(DefaultBodyLimit::disable());
    for app in [default, disabled] {
        let allocated = allocations_of(async {
            let address = serve(app).await;
            for (request, code) in
                [(authenticated(""), "body_incomplete"), (unauthenticated(""), "unauthorized")]
            {
                let mut client = Client::connect(address).await;
                let head = head(&request);
                client.send(format!("{head}content-length: {}\r\n\r\n{EXAMPLE}", 1 << 30)).await;
                client.finish().await;
                assert_refused_over_network(&client.reply().await, code, None);
            }
        });
        // All of it: the server, two connections with their buffers, two requests.
        assert!(allocated.bytes_max < 256 * 1024, "{allocated:?}");
    }
}

/// That a chunked body is too long turns out only while it is read. A server that unwraps the error
/// of its limit panics, and with `panic = "abort"` any client ends the process.
#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_and_the_server_goes_on() {
    let app = app_with(WebhookAuth::new(SECRET)).layer(DefaultBodyLimit::max(4096));
    let address = serve(app).await;
    for _ in 0..3 {
        let mut client = Client::connect(address).await;
        client.send(chunked(&authenticated(""), &" ".repeat(4097))).await;
        assert_refused_over_network(&client.reply().await, "body_too_large", None);

        let mut client = Client::connect(address).await;
        client.send(sized(&authenticated(""), EXAMPLE)).await;
        assert_eq!(client.reply().await.status, 200);
    }
}

/// Counts its clones that are not dropped yet. The one that is cloned is shared by another `Arc`.
#[derive(Clone, Default)]
struct Census(Arc<()>);

impl Census {
    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// A server that holds a worker, a lock or a pooled connection while it waits for a body runs out of
/// them after a few clients that never finish.
#[tokio::test]
async fn a_body_that_never_ends_holds_nothing_up() {
    const SLOW: usize = 30;

    let (heads, requests) = (Arc::new(Census::default()), Arc::new(Census::default()));
    let events = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&events);
    let handler = async move |_: UnsubscribeEvent| {
        counter.fetch_add(1, Ordering::Relaxed);
        Received
    };
    let (in_head, in_flight) = (Arc::clone(&heads), Arc::clone(&requests));
    let census = from_fn(move |mut request: Request, next: Next| {
        request.extensions_mut().insert(Census::clone(&in_head));
        let guard = Census::clone(&in_flight);
        async move {
            let response = next.run(request).await;
            drop(guard);
            response
        }
    });
    let app = protected(handler);
    let address = serve(app.layer(census)).await;

    let start = async |request: &Request| {
        let mut client = Client::connect(address).await;
        let length = EXAMPLE.len() + 1;
        client.send(format!("{}content-length: {length}\r\n\r\n{EXAMPLE}", head(request))).await;
        client
    };
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(start(&authenticated("")).await);
    }
    until("all are on their way", || requests.count() == SLOW).await;
    until("only their bodies are kept", || heads.count() == 0).await;

    let mut forged = start(&unauthenticated("")).await;
    until("it is discarded", || requests.count() == SLOW + 1 && heads.count() == 0).await;
    let mut provider = Client::connect(address).await;
    provider.send(sized(&authenticated(""), EXAMPLE)).await;
    assert_eq!(provider.reply().await.status, 200);
    forged.finish().await;
    assert_refused_over_network(&forged.reply().await, "unauthorized", None);
    assert_eq!(events.load(Ordering::Relaxed), 1);

    // Half of the clients close their side properly, the others disappear.
    for mut client in slow.drain(..SLOW / 2) {
        client.finish().await;
        assert_refused_over_network(&client.reply().await, "body_incomplete", None);
    }
    drop(slow);
    until("all are gone", || requests.count() == 0).await;
    assert_eq!(events.load(Ordering::Relaxed), 1, "a body that is cut off is not an event");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

#[tokio::test]
async fn every_rejection_of_a_body_contains_it() {
    let app = app_with(WebhookAuth::new(SECRET).allow_accounts([2]));
    let fields = Fields::example();
    let user = Some("/data/user_id");
    for (body, code, pointer) in [
        ("{".to_owned(), "not_json", None),
        (fields.without("/data/user_id").json(), "missing_field", user),
        (fields.with("/data/user_id", "2.5").json(), "invalid_field", user),
        (fields.and("/data/user_id", "2").json(), "duplicate_field", user),
        (r#"{"name":"sms.delivery"}"#.to_owned(), "other_event", Some("/name")),
        (fields.with("/data/user_id", "3").json(), "foreign_account", user),
    ] {
        let reply = send(&app, authenticated(body.clone())).await;
        assert_refused(&reply, code, pointer);
        assert_eq!(reply.rejection.expect("a rejection").body().expect("the body"), &body);
    }
    assert!(UnsubscribeEvent::from_slice(b"{").expect_err("not JSON").body().is_none());
}

#[test]
fn a_detail_says_what_is_expected_of_a_field() {
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
        let body = Fields::example().with(pointer, "[]").json();
        assert_eq!(display(body), format!("400 invalid_field at {pointer}: {expected}"));
    }
    let fields = Fields::example();
    for (body, expected) in [
        ("{".to_owned(), "not_json: The body is not JSON in UTF-8."),
        ("{}".to_owned(), "missing_field at /name: Missing field."),
        (fields.and("/id", "1").json(), "duplicate_field at /id: Duplicate field."),
        (
            r#"{"name":""}"#.to_owned(),
            "other_event at /name: The event is not a phone.unsubscribe event.",
        ),
        (
            fields.and("/attempt_total", "3").json(),
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
        let mut request = authenticated(body.to_owned());
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
async fn a_handlers_error_is_a_500_that_does_not_repeat_its_text() {
    type Handled = Result<Received, ServerError>;
    let app = Router::new()
        .route("/error", post(async || -> Handled { Err(Broken)? }))
        .route("/io", post(async || -> Handled { Err(io::Error::other(Broken))? }))
        .route("/text", post(async || -> Handled { Err("+4911113333444")? }))
        .route("/string", post(async || -> Handled { Err(String::from("+4911113333444"))? }))
        .route("/anyhow", post(async || -> Handled { Err(anyhow::anyhow!("+4911113333444"))? }))
        .route(
            "/boxed",
            post(async || -> Handled {
                Err(Box::<dyn std::error::Error + Send + Sync>::from(Broken))?
            }),
        );
    for path in ["/error", "/io", "/text", "/string", "/anyhow", "/boxed"] {
        let request = Request::post(path).body(Body::empty()).expect("a request");
        let reply = send(&app, request).await;
        assert_refused(&reply, "server_error", None);
        let rejection = reply.rejection.expect("a rejection");
        let source = rejection.source().expect("the handler's error");
        assert!(source.to_string().contains("+4911113333444"), "{path}: {source}");
        assert!(!format!("{rejection} {rejection:?}").contains("+49"), "{path}");
    }
    let request = Request::post("/error").body(Body::empty()).expect("a request");
    let rejection = send(&app, request).await.rejection.expect("a rejection");
    assert!(rejection.source().expect("the handler's error").is::<Broken>());
}

#[tokio::test]
async fn a_rejection_propagated_by_a_question_mark_keeps_its_response() {
    async fn handler(event: Result<UnsubscribeEvent, Rejection>) -> Result<Received, ServerError> {
        event?;
        Ok(Received)
    }
    let app = protected(handler);
    assert_received(&send(&app, authenticated(EXAMPLE)).await);
    let reply = send(&app, authenticated("{")).await;
    assert_refused(&reply, "not_json", None);
    assert_eq!(reply.rejection.expect("a rejection").body().expect("the body"), "{");
}

#[tokio::test]
async fn responses_convert_without_axum() {
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
