//! The extractor: bodies as they come, the three forms of the handler's argument, the responses of a
//! handler, and hyper without axum.

#[path = "common/bodies.rs"]
mod bodies;
mod common;
#[path = "common/socket.rs"]
mod socket;

use std::{
    convert::Infallible,
    error::Error,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bodies::{End, allocations_of, counted, frames};
use common::prelude::*;
use futures_util::stream;
use http::{Extensions, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use socket::{Client, PATIENCE, chunked, head, serve, sized};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;

const DEFAULT_LIMIT: usize = 2 * 1024 * 1024;

#[tokio::test]
async fn the_content_type_is_json_in_any_valid_form() {
    let app = app_with(WebhookAuth::new(SECRET));
    let of_types = |types: &[&str]| {
        let headers: Vec<_> = types.iter().map(|value| ("content-type", *value)).collect();
        with_headers(without(authenticated(EXAMPLE), "content-type"), &headers)
    };
    for json in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=latin1",
        "application/json ; x=\"a;b\"",
        "application/json;",
    ] {
        assert_received(&send(&app, of_types(&[json])).await);
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
        let reply = send(&app, of_types(other)).await;
        assert_refused(&reply, "content_type", None);
        assert_eq!(reply.refused_body(), Some(EXAMPLE.as_bytes()));
    }
}

#[tokio::test]
async fn a_body_may_come_in_pieces_but_whole() {
    let app = app_with(WebhookAuth::new(SECRET));
    let (start, rest) = EXAMPLE.split_at(100);
    let (middle, end) = rest.split_at(1);
    let with_trailers = |data: Option<&'static str>| {
        let trailers = Frame::trailers(http::HeaderMap::new());
        let frames = data.map(|data| Frame::data(data.into())).into_iter().chain([trailers]);
        Body::new(StreamBody::new(stream::iter(frames.map(Ok::<Frame<Bytes>, Infallible>))))
    };
    for (body, refused) in [
        (frames([EXAMPLE], End::Complete), None),
        (frames(["", start, "", middle, end, ""], End::Complete), None),
        (with_trailers(Some(EXAMPLE)), None),
        (frames([start, middle], End::Complete), Some(("not_json", Some(&EXAMPLE[..101])))),
        (Body::empty(), Some(("not_json", Some("")))),
        (frames([], End::Complete), Some(("not_json", Some("")))),
        (frames([""], End::Complete), Some(("not_json", Some("")))),
        (with_trailers(None), Some(("not_json", Some("")))),
        (frames([], End::Broken), Some(("body_incomplete", None))),
        (frames([EXAMPLE], End::Broken), Some(("body_incomplete", None))),
    ] {
        let reply = send(&app, authenticated(body)).await;
        match refused {
            None => assert_received(&reply),
            Some((code, read)) => {
                assert_refused(&reply, code, None);
                assert_eq!(reply.refused_body(), read.map(str::as_bytes));
            }
        }
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
        let with_length = with(authenticated(body.clone()), "content-length", length);
        let (start, end) = body.split_at(500);
        for request in [with_length, authenticated(frames([start, end], End::Complete))] {
            let reply = send(app, request).await;
            if accepted {
                assert_received(&reply);
            } else {
                assert_refused(&reply, "body_too_large", None);
                assert_eq!(reply.refused_body(), None);
            }
        }
    }

    // A body is not incomplete because of the length that its header announces.
    let announcing = with(authenticated(EXAMPLE), "content-length", u64::MAX);
    assert_received(&send(&disabled, announcing).await);
}

/// RUSTSEC-2022-0055: axum's extractors read bodies of any length into memory unless the app set a
/// limit.
#[test]
fn a_body_without_an_end_meets_the_limit() {
    const FRAME: Bytes = Bytes::from_static(&[b' '; 1024]);

    let default = app_with(WebhookAuth::new(SECRET));
    let limited = default.clone().layer(DefaultBodyLimit::max(64 * FRAME.len()));
    for (app, limit) in [(default, DEFAULT_LIMIT), (limited, 64 * FRAME.len())] {
        for length in [None, Some(2), Some(u64::MAX)] {
            let (body, polls) = counted([""; 0], End::Endless(FRAME));
            let request = length.iter().fold(authenticated(body), |request, length| {
                with(request, "content-length", *length)
            });
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
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

#[test]
fn a_detail_says_what_is_expected_of_a_field() {
    let fields = Fields::example();
    let invalid = [
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
    ];
    let invalid = invalid.map(|(pointer, detail)| {
        (fields.with(pointer, "[]").json(), Code::InvalidField, pointer, detail)
    });
    let (totals, same) = ("/attempts_total", "Expected the same total as in attempt_total.");
    let other_event = "The event is not a phone.unsubscribe event.";
    let others = [
        ("{}".to_owned(), Code::MissingField, "/name", "Missing field."),
        (fields.and("/id", "1").json(), Code::DuplicateField, "/id", "Duplicate field."),
        (r#"{"name":""}"#.to_owned(), Code::OtherEvent, "/name", other_event),
        (fields.and("/attempt_total", "3").json(), Code::InvalidField, totals, same),
    ];
    for (body, code, pointer, detail) in invalid.into_iter().chain(others) {
        let rejection = UnsubscribeEvent::from_slice(body.as_bytes()).expect_err("refused");
        assert_eq!(rejection.to_string(), format!("400 {code} at {pointer}: {detail}"));
    }
    let rejection = UnsubscribeEvent::from_slice(b"{").expect_err("refused");
    assert_eq!(rejection.to_string(), "400 not_json: The body is not JSON in UTF-8.");
}

#[tokio::test]
async fn a_handler_takes_the_event_an_option_or_the_result() {
    let plain = protected(async |event: UnsubscribeEvent| event.data.phone);
    let option = protected(async |event: Option<UnsubscribeEvent>| match event {
        Some(event) => event.data.phone,
        None => "none".to_owned(),
    });
    let result = protected(async |event: Decoded| match event {
        Ok(event) => event.data.phone,
        Err(rejection) => {
            format!("{} {}", rejection.code(), rejection.body().map_or(0, Bytes::len))
        }
    });
    let other = r#"{"name":"sms.delivery"}"#;
    for app in [&plain, &option, &result] {
        assert_eq!(send(app, authenticated(EXAMPLE)).await.body, "+4911113333444");
    }
    assert_refused(&send(&plain, authenticated(other)).await, "other_event", Some("/name"));
    assert_eq!(send(&option, authenticated(other)).await.body, "none");
    assert_refused(&send(&option, authenticated("{")).await, "not_json", None);
    let text = with(authenticated(other), "content-type", "text/plain");
    assert_refused(&send(&option, text).await, "content_type", None);
    assert_eq!(send(&result, authenticated(other)).await.body, "other_event 23");
}

#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database of +4911113333444 is gone")
    }
}

impl Error for Broken {}

#[tokio::test]
async fn a_handlers_error_is_a_500_that_does_not_repeat_its_text() {
    for error in [
        ServerError::from(Broken),
        ServerError::from(io::Error::other(Broken)),
        ServerError::from("+4911113333444"),
        ServerError::from(String::from("+4911113333444")),
        ServerError::from(anyhow::anyhow!("+4911113333444")),
        ServerError::from(Box::<dyn Error + Send + Sync>::from(Broken)),
    ] {
        let fails = protected(async move || Err::<Received, _>(error.clone()));
        let reply = send(&fails, authenticated("")).await;
        assert_refused(&reply, "server_error", None);
        let rejection = reply.rejection.expect("a rejection");
        let source = rejection.source().expect("the handler's error");
        assert!(source.to_string().contains("+4911113333444"), "{source}");
        assert!(!format!("{rejection} {rejection:?}").contains("+49"));
    }
    let rejection = Rejection::from(ServerError::from(Broken));
    assert!(rejection.source().expect("the handler's error").is::<Broken>());
}

#[tokio::test]
async fn responses_convert_without_axum() {
    let received: Response<Vec<u8>> = Received.into();
    assert_received(&read(received.map(Body::from)).await);
    let failed: Response<Vec<u8>> = ServerError::from(Broken).into();
    assert_refused(&read(failed.map(Body::from)).await, "server_error", None);
    let rejection = UnsubscribeEvent::from_slice(b"{").expect_err("not JSON");
    let refused: Response<Vec<u8>> = rejection.clone().into();
    assert_refused(&read(refused.map(Body::from)).await, "not_json", None);
    assert_refused(&read(rejection.into_response()).await, "not_json", None);
}

#[tokio::test]
async fn a_refusal_is_compressed_as_any_response_is() {
    // Compression ignores small bodies by default.
    let compression = CompressionLayer::new()
        .compress_when(|_: StatusCode, _, _: &HeaderMap, _: &Extensions| true);
    let stack = ServiceBuilder::new().layer(compression).layer(WebhookAuth::new(SECRET));
    let app = Router::new().route(PATH, post(async || Received).layer(stack));
    let request = with(unauthenticated(EXAMPLE), "accept-encoding", "gzip");
    let response = app.oneshot(request).await.expect("a router does not fail");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.extensions().get::<Rejection>().is_some());
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    assert_eq!(body[..2], [0x1f, 0x8b], "gzip's magic number");
}

/// hyper without axum: boxed bodies, over the network.
#[tokio::test]
async fn a_plain_hyper_service_receives_events() {
    const LIMIT: usize = 4096;
    type Handled = Result<Response<BoxBody<Bytes, Infallible>>, Infallible>;
    async fn unsubscribed(request: http::Request<Incoming>) -> Handled {
        let (head, body) = request.into_parts();
        let event = UnsubscribeEvent::from_body(&head, Limited::new(body, LIMIT)).await;
        let response: Response<Full<Bytes>> = event.map_or_else(Rejection::into, |event| {
            assert_eq!(event, common::example());
            Received.into()
        });
        Ok(response.map(BodyExt::boxed))
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let service = WebhookAuth::new(SECRET).layer(service_fn(unsubscribed));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });

    let send = async |request: String| {
        let mut client = Client::connect(address).await;
        client.send(request).await;
        client.reply().await
    };
    let (right, long) = (authenticated(""), " ".repeat(LIMIT + 1));
    assert_received(&send(sized(&right, EXAMPLE)).await);
    for (request, code, pointer) in [
        (sized(&unauthenticated(""), EXAMPLE), "unauthorized", None),
        (sized(&right, "{}"), "missing_field", Some("/name")),
        (sized(&right, &long), "body_too_large", None),
        (chunked(&right, &long), "body_too_large", None),
    ] {
        assert_refused_over_network(&send(request).await, code, pointer);
    }
    server.abort();
}
