//! The body of a refused request: read and discarded over HTTP/1, within a limit, so that its
//! connection stays usable; never buffered, parsed or passed on.

#[path = "common/bodies.rs"]
mod bodies;
mod common;
#[path = "common/socket.rs"]
mod socket;

use std::sync::atomic::Ordering;

use bodies::{End, allocations_of, counted, frames, untouchable};
use common::prelude::*;
use socket::{Client, chunked, head, serve, sized};

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

#[tokio::test]
async fn a_refused_body_is_discarded_up_to_the_limit() {
    let auth = || WebhookAuth::new(SECRET);
    let limited = || auth().discard_limit(4 * FRAME);
    let frames = |count: usize| (vec![FRAME; count], End::Complete);
    let request = || unauthenticated("");
    let length = |bytes: u128| with(request(), "content-length", bytes.to_string());
    let limit = 4 * FRAME as u128;

    for (what, auth, request, body, expected) in [
        ("by default", auth(), request(), frames(10), (11, false)),
        ("HTTP/1.0", auth(), over(Version::HTTP_10, request()), frames(10), (11, false)),
        ("2 MiB by default", auth(), request(), frames(2048), (2049, false)),
        ("more by default", auth(), request(), frames(2049), (2049, true)),
        ("at the limit", limited(), request(), frames(4), (5, false)),
        (
            "a byte more",
            limited(),
            request(),
            (vec![FRAME, FRAME, FRAME, FRAME, 1], End::Complete),
            (5, true),
        ),
        ("length at the limit", limited(), length(limit), frames(4), (5, false)),
        ("length over the limit", limited(), length(limit + 1), frames(5), (0, true)),
        ("length that no u64 holds", limited(), length(u128::MAX), frames(5), (5, true)),
        ("waits", auth(), with(request(), "expect", "100-continue"), frames(1), (0, true)),
        ("never", auth().discard_limit(0), request(), frames(1), (0, true)),
        ("breaks off", auth(), request(), (vec![FRAME], End::Broken), (2, true)),
        (
            "empty frames",
            limited(),
            request(),
            (vec![], End::Endless(Bytes::new())),
            (4 * FRAME + 1, true),
        ),
        ("HTTP/2", auth(), over(Version::HTTP_2, request()), frames(10), (0, false)),
        (
            "HTTP/3",
            auth().discard_limit(0),
            over(Version::HTTP_3, request()),
            frames(10),
            (0, false),
        ),
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
    let allocations = |bytes: usize| {
        let (body, _) = counted(frames_of(vec![FRAME; bytes / FRAME]), End::Complete);
        let response = app.clone().oneshot(unauthenticated(body));
        let allocated = allocations_of(async {
            assert_eq!(response.await.expect("a response").status(), 401);
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
            let reply = send(&app, over(version, authenticated(body))).await;
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
    let address = serve(app_with(auth).layer(DefaultBodyLimit::max(FRAME))).await;
    let head = head(&unauthenticated(""));
    let long = " ".repeat(2 * FRAME);
    for (request, code) in [
        (format!("{head}expect: 100-continue\r\ncontent-length: 500\r\n\r\n"), "unauthorized"),
        (format!("{head}content-length: 100000\r\n\r\n"), "unauthorized"),
        (chunked(&unauthenticated(""), &long), "unauthorized"),
        // That a chunked body is too long turns out only while it is read. A server that unwraps the
        // error of its limit panics.
        (chunked(&authenticated(""), &long), "body_too_large"),
    ] {
        let mut client = Client::connect(address).await;
        client.send(request).await;
        let reply = client.reply().await;
        assert_refused_over_network(&reply, code, None);
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
