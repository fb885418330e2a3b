//! The body of a refused request: read and discarded over HTTP/1, within a limit, so that its
//! connection stays usable; never buffered, parsed or passed on.

#[path = "common/bodies.rs"]
mod bodies;
mod common;
#[path = "common/socket.rs"]
mod socket;

use std::sync::atomic::Ordering;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Request},
    routing::post,
};
use bodies::{End, counted, frames, untouchable};
use common::{
    EXAMPLE, PATH, SECRET, app_with, assert_received, assert_refused, assert_refused_over_network,
    authenticated, header, protected, send, unauthenticated,
};
use http::Version;
use socket::{Client, chunked, head, serve, sized};
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};

const FRAME: usize = 1024;

/// Frames of these lengths.
fn frames_of(lengths: Vec<usize>) -> impl Iterator<Item = Bytes> + Send + 'static {
    lengths.into_iter().map(|length| Bytes::from_static(&[b' '; FRAME]).slice(..length))
}

/// The polls of a refused request's body, and whether the response closes the connection.
async fn refuse(
    auth: WebhookAuth,
    code: &str,
    mut request: Request,
    (lengths, end): (Vec<usize>, End),
) -> (usize, bool) {
    let (body, polls) = counted(frames_of(lengths), end);
    *request.body_mut() = body;
    let reply = send(&app_with(auth), request).await;
    assert_refused(&reply, code, None);
    let connection = header(&reply, "connection");
    assert!(connection.is_empty() || connection == ["close"], "{connection:?}");
    (polls.load(Ordering::Relaxed), !connection.is_empty())
}

fn with(name: &'static str, value: &str) -> Request {
    let mut request = unauthenticated("");
    request.headers_mut().insert(name, value.parse().expect("a value"));
    request
}

fn of_version(version: Version) -> Request {
    let mut request = unauthenticated("");
    *request.version_mut() = version;
    request
}

#[tokio::test]
async fn a_refused_body_is_discarded_up_to_the_limit() {
    let auth = || WebhookAuth::new(SECRET);
    let limited = || auth().discard_limit(4 * FRAME);
    let frames = |count: usize| (vec![FRAME; count], End::Complete);
    let length = |bytes: usize| with("content-length", &bytes.to_string());

    for (what, auth, request, body, expected) in [
        ("by default", auth(), unauthenticated(""), frames(10), (11, false)),
        ("HTTP/1.0", auth(), of_version(Version::HTTP_10), frames(10), (11, false)),
        ("2 MiB by default", auth(), unauthenticated(""), frames(2048), (2049, false)),
        ("more by default", auth(), unauthenticated(""), frames(2049), (2049, true)),
        ("at the limit", limited(), unauthenticated(""), frames(4), (5, false)),
        (
            "a byte more",
            limited(),
            unauthenticated(""),
            (vec![FRAME, FRAME, FRAME, FRAME, 1], End::Complete),
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
        ("never", auth().discard_limit(0), unauthenticated(""), frames(1), (0, true)),
        ("breaks off", auth(), unauthenticated(""), (vec![FRAME], End::Broken), (2, true)),
        (
            "empty frames",
            limited(),
            unauthenticated(""),
            (vec![], End::Endless(Bytes::new())),
            (4 * FRAME + 1, true),
        ),
        ("HTTP/2", auth(), of_version(Version::HTTP_2), frames(10), (0, false)),
        ("HTTP/3", auth().discard_limit(0), of_version(Version::HTTP_3), frames(10), (0, false)),
    ] {
        assert_eq!(refuse(auth, "unauthorized", request, body).await, expected, "{what}");
    }

    // So does a check of the app that fails after the credential matched.
    let forbids = || limited().require(|_| false);
    assert_eq!(refuse(forbids(), "forbidden", authenticated(""), frames(4)).await, (5, false));
    assert_eq!(refuse(forbids(), "forbidden", authenticated(""), frames(5)).await, (5, true));
    // A request without a body leaves nothing unread.
    let reply = send(&app_with(auth().discard_limit(0)), unauthenticated("")).await;
    assert!(header(&reply, "connection").is_empty());
}

#[tokio::test]
async fn the_layer_leaves_the_body_of_an_authenticated_request_alone() {
    let app = protected(async || Received);
    assert_received(&send(&app, authenticated(untouchable())).await);
}

/// CVE-2026-42294: Argo Workflows read the body of a webhook into memory before it checked who had
/// sent it.
#[test]
fn a_refused_body_costs_no_memory() {
    let app = app_with(WebhookAuth::new(SECRET));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let allocations = |bytes: usize| {
        let (body, _) = counted(frames_of(vec![FRAME; bytes / FRAME]), End::Complete);
        let request = unauthenticated(body);
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
    let app = || app_with(WebhookAuth::new(SECRET)).layer(DefaultBodyLimit::max(100));
    let large = " ".repeat(101);
    let open = Router::new().route(PATH, post(async |_: UnsubscribeEvent| Received));
    for (version, expected) in [(Version::HTTP_11, &["close"][..]), (Version::HTTP_2, &[])] {
        for (app, code, body) in [
            (app(), "body_too_large", Body::from(large.clone())),
            (app(), "body_incomplete", frames(["{"], End::Broken)),
            (open.clone(), "missing_layer", untouchable()),
        ] {
            let mut request = authenticated(body);
            *request.version_mut() = version;
            let reply = send(&app, request).await;
            assert_refused(&reply, code, None);
            assert_eq!(header(&reply, "connection"), expected, "{code} {version:?}");
        }
    }
    // One that was read whole does not.
    assert!(header(&send(&app(), authenticated("{")).await, "connection").is_empty());
}

#[tokio::test]
async fn the_connection_of_a_refused_request_serves_the_next_one() {
    let address = serve(app_with(WebhookAuth::new(SECRET))).await;
    let large = " ".repeat(1024 * 1024);
    let chunked = |body: &str| chunked(&unauthenticated(""), body) + "0\r\n\r\n";
    let refusals = [
        sized(&unauthenticated(""), ""),
        sized(&unauthenticated(""), EXAMPLE),
        sized(&unauthenticated(""), &large[..64 * 1024]),
        sized(&unauthenticated(""), &large),
        chunked(EXAMPLE),
        chunked(&large),
    ];
    let mut client = Client::connect(address).await;
    for refused in refusals {
        client.send(refused).await;
        let reply = client.reply().await;
        assert_refused_over_network(&reply, "unauthorized", None);
        assert!(header(&reply, "connection").is_empty());
        client.send(sized(&authenticated(""), EXAMPLE)).await;
        assert_eq!(client.reply().await.status, 200);
    }
}

#[tokio::test]
async fn a_response_that_leaves_the_body_unread_says_so() {
    let auth = WebhookAuth::new(SECRET).discard_limit(FRAME);
    let address = serve(app_with(auth)).await;
    let head = head(&unauthenticated(""));
    for request in [
        format!("{head}expect: 100-continue\r\ncontent-length: 500\r\n\r\n"),
        format!("{head}content-length: 100000\r\n\r\n"),
        chunked(&unauthenticated(""), &" ".repeat(2 * FRAME)),
    ] {
        let mut client = Client::connect(address).await;
        client.send(request).await;
        let reply = client.reply().await;
        assert_refused_over_network(&reply, "unauthorized", None);
        assert_eq!(header(&reply, "connection"), ["close"]);
    }
    // The provider is asked for its body.
    let mut provider = Client::connect(address).await;
    let head = socket::head(&authenticated(""));
    let length = EXAMPLE.len();
    provider.send(format!("{head}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n")).await;
    assert_eq!(provider.line().await, "HTTP/1.1 100 Continue");
    assert_eq!(provider.line().await, "");
    provider.send(EXAMPLE).await;
    assert_eq!(provider.reply().await.status, 200);
}

/// A permit of a limit outside is held until the body is discarded, and comes back.
#[tokio::test]
async fn a_client_that_leaves_ends_the_discarding() {
    let limit = tower::limit::ConcurrencyLimitLayer::new(1);
    let address = serve(app_with(WebhookAuth::new(SECRET)).layer(limit)).await;
    let mut stuck = Client::connect(address).await;
    stuck.send(format!("{}content-length: 500\r\n\r\n", head(&unauthenticated("")))).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    drop(stuck);
    let mut client = Client::connect(address).await;
    client.send(sized(&authenticated(""), EXAMPLE)).await;
    assert_eq!(client.reply().await.status, 200);
}
