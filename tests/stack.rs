//! The layer among others: tower-http's outside and inside of it, and hyper without axum.

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::convert::Infallible;

use common::prelude::*;
use http::Response;
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use socket::{Client, chunked, sized};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::{compression::CompressionLayer, limit::RequestBodyLimitLayer, trace::TraceLayer};
use unsubscribe_webhook::testing::{Report, conformance};

const LIMIT: usize = 4096;

async fn unsubscribed(_: UnsubscribeEvent) -> Result<Received, ServerError> {
    Ok(Received)
}

async fn report(app: Router) -> Report {
    conformance(app, PATH, &token(SECRET)).body_limit(LIMIT).await
}

/// The app with a stack around the method, the router and the route.
macro_rules! apps_with {
    ($stack:expr) => {{
        let stack = $stack;
        [
            Router::new().route(PATH, post(unsubscribed).layer(stack.clone())),
            Router::new().route(PATH, post(unsubscribed)).layer(stack.clone()),
            Router::new().route(PATH, post(unsubscribed)).route_layer(stack),
        ]
    }};
}

/// tower-http refuses a length over its limit before the extractor can: 413, which is documented and
/// not the contract's. A longer body without a length is the extractor's to refuse.
#[tokio::test]
async fn tower_http_may_be_outside_or_inside() {
    let (auth, limit) = (WebhookAuth::new(SECRET), RequestBodyLimitLayer::new(LIMIT));
    let (trace, compression) = (TraceLayer::new_for_http(), CompressionLayer::new());
    let all = ServiceBuilder::new();
    let outside = all.clone().layer(trace.clone()).layer(compression.clone()).layer(limit);
    let outside = apps_with!(outside.layer(auth.clone()));
    let inside = apps_with!(all.layer(auth).layer(trace).layer(compression).layer(limit));
    let long = |request| with(request, "content-length", LIMIT + 1);
    for app in &outside {
        assert_eq!(send(app, long(unauthenticated(EXAMPLE))).await.status, 413);
    }
    for app in &inside {
        assert_token_required(&send(app, long(unauthenticated(EXAMPLE))).await);
    }
    for app in outside.into_iter().chain(inside) {
        let report = report(app).await;
        let [finding] = report.findings() else { panic!("{report}") };
        assert_eq!(finding.probe(), "body_too_large");
        assert!(finding.response().starts_with("413 "), "{report}");
    }
}

#[tokio::test]
async fn boxed_bodies_may_be_on_both_sides() {
    let stack = ServiceBuilder::new()
        .map_request(|request: Request| request.map(BodyExt::boxed_unsync))
        .map_response(|response: Response<_>| response.map(Body::new))
        .layer(WebhookAuth::new(SECRET))
        .map_request(|request: http::Request<_>| request.map(Body::new))
        .map_response(|response: axum::response::Response| response.map(BodyExt::boxed_unsync));
    let app = Router::new().route(PATH, post(unsubscribed).layer(stack));
    report(app.layer(DefaultBodyLimit::max(LIMIT))).await.assert_passed();
}

#[tokio::test]
async fn a_refusal_is_compressed_as_any_response_is() {
    // Compression ignores small bodies by default.
    let compression = CompressionLayer::new()
        .compress_when(|_: StatusCode, _, _: &http::HeaderMap, _: &http::Extensions| true);
    let stack = ServiceBuilder::new().layer(compression).layer(WebhookAuth::new(SECRET));
    let app = Router::new().route(PATH, post(unsubscribed).layer(stack));
    let request = with(unauthenticated(EXAMPLE), "accept-encoding", "gzip");
    let response = app.oneshot(request).await.expect("a router does not fail");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.extensions().get::<Rejection>().is_some());
    let body = axum::body::to_bytes(response.into_body(), LIMIT).await.expect("a body");
    assert_eq!(body[..2], [0x1f, 0x8b], "gzip's magic number");
}

/// hyper without axum: boxed bodies, over the network.
#[tokio::test]
async fn a_plain_hyper_service_receives_events() {
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
        let service =
            ServiceBuilder::new().layer(WebhookAuth::new(SECRET)).service(service_fn(unsubscribed));
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
