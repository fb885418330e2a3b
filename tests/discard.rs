//! What becomes of the body of a refused request: read and discarded over HTTP/1, within a limit, so
//! that its connection stays usable; never buffered, parsed or passed on.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request},
    routing::post,
};
use common::{
    EXAMPLE, PATH, SECRET, assert_received, assert_refused, assert_refused_over_network, header,
    host, send, signed, unsigned,
};
use http::Version;
use http_body::Frame;
use socket::{Client, head, serve};
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};

const FRAME: usize = 1024;

/// A body without a length that counts its polls.
#[derive(Clone)]
struct Counted {
    /// The lengths of the frames, from the last to the first.
    frames: Vec<usize>,
    end: End,
    polls: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum End {
    Complete,
    Broken,
    /// Empty frames without an end.
    Endless,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polls = self.polls.fetch_add(1, Ordering::Relaxed);
        assert!(polls < 1_000_000, "nothing ends the reading");
        let frame = |length| Frame::data(Bytes::from_static(&[b' '; FRAME]).slice(..length));
        Poll::Ready(match (self.frames.pop(), self.end) {
            (Some(length), _) => Some(Ok(frame(length))),
            (None, End::Complete) => None,
            (None, End::Broken) => Some(Err(io::ErrorKind::ConnectionReset.into())),
            (None, End::Endless) => Some(Ok(frame(0))),
        })
    }
}

/// The polls of a refused request's body, and whether the response closes the connection.
async fn refuse(
    auth: WebhookAuth,
    code: &str,
    mut request: Request,
    body: &Counted,
) -> (usize, bool) {
    let body = Counted { polls: Arc::default(), ..body.clone() };
    let polls = Arc::clone(&body.polls);
    *request.body_mut() = Body::new(body);
    let answer = send(&host(auth), request).await;
    assert_refused(&answer, code, None);
    let connection = header(&answer, "connection");
    assert!(connection.is_empty() || connection == ["close"], "{connection:?}");
    (polls.load(Ordering::Relaxed), !connection.is_empty())
}

fn with(name: &'static str, value: &str) -> Request {
    let mut request = unsigned("");
    request.headers_mut().insert(name, value.parse().expect("a value"));
    request
}

fn of_version(version: Version) -> Request {
    let mut request = unsigned("");
    *request.version_mut() = version;
    request
}

#[tokio::test]
async fn a_refused_body_is_discarded_up_to_the_limit() {
    let auth = || WebhookAuth::new(SECRET);
    let limited = || auth().discard_limit(4 * FRAME);
    let body =
        |frames: &[usize], end| Counted { frames: frames.into(), end, polls: Arc::default() };
    let frames = |count: usize| body(&vec![FRAME; count], End::Complete);
    let length = |bytes: usize| with("content-length", &bytes.to_string());

    for (what, auth, request, body, expected) in [
        ("by default", auth(), unsigned(""), frames(10), (11, false)),
        ("HTTP/1.0", auth(), of_version(Version::HTTP_10), frames(10), (11, false)),
        ("2 MiB by default", auth(), unsigned(""), frames(2048), (2049, false)),
        ("more by default", auth(), unsigned(""), frames(2049), (2049, true)),
        ("at the limit", limited(), unsigned(""), frames(4), (5, false)),
        (
            "a byte more",
            limited(),
            unsigned(""),
            body(&[1, FRAME, FRAME, FRAME, FRAME], End::Complete),
            (5, true),
        ),
        ("length at the limit", limited(), length(4 * FRAME), frames(4), (5, false)),
        ("length over the limit", limited(), length(4 * FRAME + 1), frames(5), (0, true)),
        (
            "length that no integer holds",
            limited(),
            with("content-length", "99999999999999999999"),
            frames(5),
            (5, true),
        ),
        ("waits for permission", auth(), with("expect", "100-continue"), frames(1), (0, true)),
        ("never", auth().discard_limit(0), unsigned(""), frames(1), (0, true)),
        ("breaks off", auth(), unsigned(""), body(&[FRAME], End::Broken), (2, true)),
        ("empty frames", limited(), unsigned(""), body(&[], End::Endless), (4 * FRAME + 1, true)),
        ("HTTP/2", auth(), of_version(Version::HTTP_2), frames(10), (0, false)),
        ("HTTP/3", auth().discard_limit(0), of_version(Version::HTTP_3), frames(10), (0, false)),
    ] {
        assert_eq!(refuse(auth.clone(), "unauthorized", request, &body).await, expected, "{what}");
    }

    // So does a check of the app that fails after the credential matched.
    let forbids = || limited().require(|_| false);
    assert_eq!(refuse(forbids(), "forbidden", signed(""), &frames(4)).await, (5, false));
    assert_eq!(refuse(forbids(), "forbidden", signed(""), &frames(5)).await, (5, true));
    // A request without a body leaves nothing unread.
    let answer = send(&host(auth().discard_limit(0)), unsigned("")).await;
    assert!(header(&answer, "connection").is_empty());
}

#[tokio::test]
async fn the_layer_leaves_the_body_of_an_authenticated_request_alone() {
    let app = Router::new().route(PATH, post(async || Received).layer(WebhookAuth::new(SECRET)));
    assert_received(&send(&app, signed(common::untouchable())).await);
}

/// CVE-2026-42294: Argo Workflows read the body of a webhook into memory before it checked who had
/// sent it.
#[test]
fn a_refused_body_costs_no_memory() {
    let app = host(WebhookAuth::new(SECRET));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let allocations = |bytes: usize| {
        let frames = vec![FRAME; bytes / FRAME];
        let body = Counted { frames, end: End::Complete, polls: Arc::default() };
        let request = unsigned(Body::new(body));
        let allocated = allocation_counter::measure(|| {
            runtime.block_on(async {
                let response = tower::ServiceExt::oneshot(app.clone(), request).await;
                assert_eq!(response.expect("a response").status(), 401);
            });
        });
        (allocated.count_total, allocated.bytes_total)
    };
    allocations(FRAME);
    assert_eq!(allocations(FRAME), allocations(1024 * FRAME));
}

#[tokio::test]
async fn a_body_that_the_extractor_leaves_unread_closes_the_connection() {
    let app = || host(WebhookAuth::new(SECRET)).layer(DefaultBodyLimit::max(100));
    let broken = || Counted { frames: vec![10], end: End::Broken, polls: Arc::default() };
    let large = || Counted { frames: vec![FRAME], end: End::Complete, polls: Arc::default() };
    let open = Router::new().route(PATH, post(async |_: UnsubscribeEvent| Received));
    for (version, expected) in [(Version::HTTP_11, &["close"][..]), (Version::HTTP_2, &[])] {
        for (app, code, body) in [
            (app(), "body_too_large", Body::new(large())),
            (app(), "body_incomplete", Body::new(broken())),
            (open.clone(), "missing_layer", common::untouchable()),
        ] {
            let mut request = signed(body);
            *request.version_mut() = version;
            let answer = send(&app, request).await;
            assert_refused(&answer, code, None);
            assert_eq!(header(&answer, "connection"), expected, "{code} {version:?}");
        }
    }
    // One that was read whole does not.
    assert!(header(&send(&app(), signed("{")).await, "connection").is_empty());
}

/// A request as it goes over the network.
fn sized(request: &Request, body: &str) -> String {
    format!("{}content-length: {}\r\n\r\n{body}", head(request), body.len())
}

#[tokio::test]
async fn the_connection_of_a_refused_request_serves_the_next_one() {
    let address = serve(host(WebhookAuth::new(SECRET))).await;
    let large = " ".repeat(1024 * 1024);
    let chunked = |body: &str| {
        let (head, length) = (head(&unsigned("")), body.len());
        format!("{head}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
    };
    let refusals = [
        sized(&unsigned(""), ""),
        sized(&unsigned(""), EXAMPLE),
        sized(&unsigned(""), &large[..64 * 1024]),
        sized(&unsigned(""), &large),
        chunked(EXAMPLE),
        chunked(&large),
    ];
    let mut client = Client::connect(address).await;
    for refused in refusals {
        client.send(refused).await;
        let answer = client.answer().await;
        assert_refused_over_network(&answer, "unauthorized", None);
        assert!(header(&answer, "connection").is_empty());
        client.send(sized(&signed(""), EXAMPLE)).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_response_that_leaves_the_body_unread_says_so() {
    let auth = WebhookAuth::new(SECRET).discard_limit(FRAME);
    let address = serve(host(auth)).await;
    let head = head(&unsigned(""));
    for request in [
        format!("{head}expect: 100-continue\r\ncontent-length: 500\r\n\r\n"),
        format!("{head}content-length: 100000\r\n\r\n"),
        format!("{head}transfer-encoding: chunked\r\n\r\n1000\r\n{}", " ".repeat(0x1000)),
    ] {
        let mut client = Client::connect(address).await;
        client.send(request).await;
        let answer = client.answer().await;
        assert_refused_over_network(&answer, "unauthorized", None);
        assert_eq!(header(&answer, "connection"), ["close"]);
    }
    // The provider is asked for its body.
    let mut provider = Client::connect(address).await;
    let head = socket::head(&signed(""));
    let length = EXAMPLE.len();
    provider.send(format!("{head}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n")).await;
    assert_eq!(provider.line().await, "HTTP/1.1 100 Continue");
    assert_eq!(provider.line().await, "");
    provider.send(EXAMPLE).await;
    assert_eq!(provider.answer().await.status, 200);
}

/// A permit of a limit outside is held until the body is discarded, and comes back.
#[tokio::test]
async fn a_client_that_leaves_ends_the_discarding() {
    let limit = tower::limit::ConcurrencyLimitLayer::new(1);
    let address = serve(host(WebhookAuth::new(SECRET)).layer(limit)).await;
    let mut stuck = Client::connect(address).await;
    stuck.send(format!("{}content-length: 500\r\n\r\n", head(&unsigned("")))).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    drop(stuck);
    let mut client = Client::connect(address).await;
    client.send(sized(&signed(""), EXAMPLE)).await;
    assert_eq!(client.answer().await.status, 200);
}
