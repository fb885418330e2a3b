//! Any bytes on a connection to a whole host: hyper's server, axum's router, layer and extractor.
#![no_main]

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::DefaultBodyLimit,
    response::Response,
    routing::post,
};
use http::{Method, Request};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tower::ServiceExt;
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
use unsubscribe_webhook_fuzz::mutate::{self, Choices};

const SECRET: &str = "correct-horse-7";

/// How often a handler was called with what passed every check.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

static APP: LazyLock<Router> = LazyLock::new(|| {
    async fn unsubscribed(_: UnsubscribeEvent) -> Received {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        Received
    }
    async fn any_event(_: Option<UnsubscribeEvent>) -> Received {
        HANDLED.fetch_add(1, Ordering::Relaxed);
        Received
    }
    async fn unguarded(_: UnsubscribeEvent) -> Received {
        panic!("an event without the layer");
    }
    let auth = || WebhookAuth::new(SECRET);
    Router::new()
        .route("/webhooks/unsubscribe", post(unsubscribed).layer(auth()))
        .route("/webhooks/lox24", post(any_event).layer(auth().allow_accounts([2])))
        .route("/open", post(unguarded))
        .layer(DefaultBodyLimit::max(1024))
        .with_state(())
});

fuzz_target!(|sent: &[u8]| {
    // At once; in pieces whose size the input decides; and from a client that then falls silent.
    let at_once = talk(sent, usize::MAX, End::Closed);
    let in_pieces = talk(sent, 1 + sent.len() % 61, End::Closed);
    let then_silent = talk(sent, usize::MAX, End::Silent);
    // A connection may end earlier, where an answer came before the rest of a body; but what was
    // answered is the same.
    for other in [in_pieces, then_silent] {
        let mut both = at_once.iter().zip(&other);
        assert!(both.all(|(one, other)| one == other), "{at_once:?}, but {other:?}");
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut choices = Choices::new(seed);
    let size = if choices.below(2) == 0 { fuzzer_mutate(data, size, max_size) } else { size };
    let request = mutate::request(&data[..size], &mut choices);
    if request.len() > max_size {
        return size;
    }
    data[..request.len()].copy_from_slice(&request);
    request.len()
});

#[derive(PartialEq)]
enum End {
    Closed,
    Silent,
}

/// What the router was asked, and what it answered.
struct Call {
    method: Method,
    body_was_read: Arc<AtomicBool>,
    /// `None` where the connection broke before there was one.
    status: Option<u16>,
}

/// One connection, and the statuses of its answers. The clock is paused: it jumps where nothing else
/// is left to do, so a wait shows as one and takes no time.
fn talk(sent: &[u8], piece: usize, end: End) -> Vec<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let calls = Arc::new(Mutex::new(Vec::new()));
    let handled = HANDLED.load(Ordering::Relaxed);
    let mut received = Vec::new();
    let finished = runtime.block_on(async {
        let (client, server) = duplex(1 << 12);
        let (mut from_server, mut to_server) = split(client);
        // A client that is done sending still gets its answers; by default hyper drops them.
        let serve =
            http1::Builder::new().half_close(true).timer(TokioTimer::new()).serve_connection(
                TokioIo::new(server),
                service_fn(|request| call(request, Arc::clone(&calls))),
            );
        let write = async {
            for piece in sent.chunks(piece) {
                // The server may have hung up already.
                let _ = to_server.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            if end == End::Closed {
                let _ = to_server.shutdown().await;
            }
        };
        let read = from_server.read_to_end(&mut received);
        let conversation = async { tokio::join!(serve, write, read) };
        tokio::time::timeout(Duration::from_secs(60), conversation).await.is_ok()
    });
    assert!(finished || end == End::Silent, "a connection that the client closed stays open");

    let calls =
        Arc::into_inner(calls).expect("the connection is gone").into_inner().expect("no panic");
    let handled = HANDLED.load(Ordering::Relaxed) - handled;
    let secrets = sent.windows(SECRET.len()).filter(|at| *at == SECRET.as_bytes()).count();
    assert!(handled <= secrets, "{handled} events by {secrets} secrets");
    let statuses = check_answers(&received, &calls);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), handled);
    statuses
}

async fn call(
    request: Request<Incoming>,
    calls: Arc<Mutex<Vec<Call>>>,
) -> Result<Response, Infallible> {
    let body_was_read = Arc::new(AtomicBool::new(false));
    let was_read = Arc::clone(&body_was_read);
    let call = Call { method: request.method().clone(), body_was_read, status: None };
    calls.lock().expect("no panic").push(call);
    let is_guarded = request.uri().path().starts_with("/webhooks/");
    let tokens: Vec<_> = request.headers().get_all("x-lox24-token").iter().collect();
    let is_authentic = tokens == [SECRET];

    let request = request.map(|body| Body::new(Watched { body, was_read: Arc::clone(&was_read) }));
    let response = APP.clone().oneshot(request).await?;
    let status = response.status().as_u16();
    match status {
        404 => {}
        _ if is_guarded => assert_eq!(status == 401, !is_authentic),
        status => assert!(matches!(status, 405 | 500), "{status} without the layer"),
    }
    // Whatever is refused by its head is refused without its body.
    assert!(!was_read.load(Ordering::Relaxed) || matches!(status, 200 | 400 | 403), "{status}");
    calls.lock().expect("no panic").last_mut().expect("this call").status = Some(status);
    Ok(response)
}

/// Takes the answers apart, and asserts that each is whole, and the one that the router gave.
fn check_answers(mut received: &[u8], calls: &[Call]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut calls = calls.iter();
    while !received.is_empty() {
        let (mut answer, mut rest) = head(received);
        let call = calls.next();
        if answer.status == 100 {
            let was_read = call.is_some_and(|call| call.body_was_read.load(Ordering::Relaxed));
            assert!(was_read, "a stranger is asked for more");
            if rest.is_empty() && call.is_some_and(|call| call.status.is_none()) {
                break;
            }
            (answer, rest) = head(rest);
        }
        let is_head = call.is_some_and(|call| call.method == Method::HEAD);
        let length = if is_head { 0 } else { answer.length.expect("a Content-Length") };
        let (body, rest) = rest.split_at(length);
        match call.and_then(|call| call.status) {
            Some(status) => {
                assert_eq!(answer.status, status);
                if !is_head {
                    check_body(&answer, body);
                }
            }
            // hyper's own answer to what is no request ends the connection.
            None => {
                assert!(matches!(answer.status, 400 | 414 | 431), "{}", answer.status);
                assert!(length == 0 && rest.is_empty());
            }
        }
        statuses.push(answer.status);
        received = rest;
    }
    assert!(calls.all(|call| call.status.is_none()), "a call without its answer");
    statuses
}

struct Answer<'a> {
    status: u16,
    length: Option<usize>,
    content_type: Option<&'a str>,
    challenges: usize,
}

fn head(received: &[u8]) -> (Answer<'_>, &[u8]) {
    let end = received.windows(4).position(|at| at == b"\r\n\r\n").expect("a whole head");
    let mut lines = std::str::from_utf8(&received[..end]).expect("UTF-8").split("\r\n");
    let status_line = lines.next().expect("a status line");
    let status = status_line.strip_prefix("HTTP/1.1 ").or(status_line.strip_prefix("HTTP/1.0 "));
    let status = status.expect("HTTP")[..3].parse().expect("a status");
    let mut answer = Answer { status, length: None, content_type: None, challenges: 0 };
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field");
        match name {
            "content-length" => {
                let earlier = answer.length.replace(value.parse().expect("a length"));
                assert_eq!(earlier, None);
            }
            "content-type" => assert_eq!(answer.content_type.replace(value), None),
            "www-authenticate" => {
                assert_eq!(value, r#"Token realm="webhook""#);
                answer.challenges += 1;
            }
            // axum adds it to whatever its fallback for other methods answers, the layer's 401 too.
            "allow" => assert!(matches!(status, 401 | 405) && value == "POST"),
            "date" | "connection" => {}
            other => panic!("the field {other}"),
        }
    }
    (answer, &received[end + 4..])
}

fn check_body(answer: &Answer<'_>, body: &[u8]) {
    assert_eq!(answer.challenges, usize::from(answer.status == 401));
    match answer.status {
        200 => {
            assert_eq!(body, b"Webhook received");
            assert_eq!(answer.content_type, Some("text/plain; charset=utf-8"));
        }
        status @ (400 | 401 | 403 | 500) => {
            let problem: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            assert_eq!(answer.content_type, Some("application/problem+json"));
            assert_eq!(problem["status"], status);
            let code = problem["code"].as_str().expect("a code");
            let codes: &[&str] = match status {
                401 => &["unauthorized"],
                403 => &["foreign_account"],
                500 => &["missing_layer"],
                _ => &[
                    "content_type",
                    "body_too_large",
                    "body_incomplete",
                    "not_json",
                    "missing_field",
                    "invalid_field",
                    "duplicate_field",
                    "other_event",
                ],
            };
            assert!(codes.contains(&code), "{status} {code}");
        }
        404 | 405 => assert_eq!((body, answer.content_type), (&b""[..], None)),
        status => panic!("the status {status}"),
    }
}

/// A body that remembers whether something read it.
struct Watched {
    body: Incoming,
    was_read: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.was_read.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
