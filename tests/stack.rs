//! The layer among others: tower-http's outside and inside of it, and hyper without axum.

#[path = "common/bodies.rs"]
mod bodies;
mod common;
#[path = "common/socket.rs"]
mod socket;

use std::{
    convert::Infallible,
    future::Ready,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    routing::post,
};
use bodies::{End, frames, untouchable};
use common::{
    EXAMPLE, PATH, SECRET, assert_received, assert_refused, assert_refused_over_network,
    assert_token_required, authenticated, over_http2, read, send, unauthenticated,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use socket::{Client, chunked, sized};
use tokio::net::TcpListener;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{compression::CompressionLayer, limit::RequestBodyLimitLayer, trace::TraceLayer};
use unsubscribe_webhook::{Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

const LIMIT: usize = 4096;

async fn unsubscribed(_: UnsubscribeEvent) -> Result<Received, ServerError> {
    Ok(Received)
}

/// What every stack must do, whatever the order of its layers.
async fn assert_works(app: &Router) {
    // Compression adds `Vary`.
    let send = async |request| {
        let mut reply = send(app, request).await;
        reply.headers.retain(|(name, _)| name != "vary");
        reply
    };
    assert_received(&send(authenticated(EXAMPLE)).await);
    assert_token_required(&send(over_http2(unauthenticated(untouchable()))).await);
    assert_refused(&send(authenticated("{")).await, "not_json", None);

    // Over the limit, without a length: the extractor meets it while reading.
    let long = frames([&" ".repeat(LIMIT + 1)], End::Complete);
    assert_refused(&send(authenticated(long)).await, "body_too_large", None);
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

#[tokio::test]
async fn tower_http_may_be_outside_or_inside() {
    let (auth, limit) = (WebhookAuth::new(SECRET), RequestBodyLimitLayer::new(LIMIT));
    let (trace, compression) = (TraceLayer::new_for_http(), CompressionLayer::new());
    let all = ServiceBuilder::new();
    let outside = all.clone().layer(trace.clone()).layer(compression.clone()).layer(limit);
    let outside = apps_with!(outside.layer(auth.clone()));
    let inside = apps_with!(all.layer(auth).layer(trace).layer(compression).layer(limit));
    for app in outside.into_iter().chain(inside) {
        assert_works(&app).await;
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
    let app = Router::new()
        .route(PATH, post(unsubscribed).layer(stack))
        .layer(axum::extract::DefaultBodyLimit::max(LIMIT));
    assert_works(&app).await;
}

#[tokio::test]
async fn a_refusal_is_compressed_as_any_response_is() {
    // Compression ignores small bodies by default.
    let compression = CompressionLayer::new()
        .compress_when(|_: StatusCode, _, _: &http::HeaderMap, _: &http::Extensions| true);
    let app = Router::new().route(
        PATH,
        post(unsubscribed)
            .layer(ServiceBuilder::new().layer(compression).layer(WebhookAuth::new(SECRET))),
    );
    let mut request = unauthenticated(EXAMPLE);
    request.headers_mut().insert("accept-encoding", HeaderValue::from_static("gzip"));
    let response = app.oneshot(request).await.expect("a router does not fail");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.extensions().get::<Rejection>().is_some());
    let body = axum::body::to_bytes(response.into_body(), LIMIT).await.expect("a body");
    assert_eq!(body[..2], [0x1f, 0x8b], "gzip's magic number");
}

#[tokio::test]
async fn an_error_of_the_inner_service_is_passed_on() {
    #[derive(Debug, PartialEq)]
    struct Mine;
    let service = ServiceBuilder::new()
        .layer(WebhookAuth::new(SECRET))
        .service(service_fn(async |_: Request| Err::<Response<Empty<Bytes>>, Mine>(Mine)));
    assert_eq!(service.clone().oneshot(authenticated(EXAMPLE)).await.expect_err("an error"), Mine);
    let refused = service.oneshot(unauthenticated(EXAMPLE)).await.expect("a response");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

/// tower's documentation warns of a middleware that polls its inner service until it is ready, and
/// then calls a clone of it.
#[tokio::test]
async fn the_inner_service_is_called_only_when_it_is_ready() {
    /// Panics, as some services do, if it is called without having been ready.
    #[derive(Default)]
    struct Strict(bool);

    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self::default()
        }
    }

    impl Service<Request> for Strict {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.0 = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request) -> Self::Future {
            assert!(std::mem::take(&mut self.0), "called while not ready");
            std::future::ready(Ok(Response::default()))
        }
    }

    let mut service = WebhookAuth::new(SECRET).layer(Strict::default());
    for _ in 0..2 {
        let ready = service.ready().await.expect("it is always ready");
        let response = ready.call(authenticated(EXAMPLE)).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
    }
}

/// hyper without axum: boxed bodies, over the network.
#[tokio::test]
async fn a_plain_hyper_service_receives_events() {
    type Handled = Result<Response<BoxBody<Bytes, Infallible>>, Infallible>;
    async fn unsubscribed(request: http::Request<Incoming>) -> Handled {
        let (head, body) = request.into_parts();
        let event = UnsubscribeEvent::from_body(&head, Limited::new(body, LIMIT)).await;
        let response: Response<Full<Bytes>> = match event {
            Ok(event) if event.data.phone == "+4911113333444" => Received.into(),
            Ok(_) => ServerError::from("another number").into(),
            Err(rejection) => rejection.into(),
        };
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

#[tokio::test]
async fn a_body_that_breaks_off_is_incomplete_without_axum_too() {
    let service = ServiceBuilder::new().layer(WebhookAuth::new(SECRET)).service(service_fn(
        async |request: Request| {
            let (head, _) = request.into_parts();
            let broken = frames([], End::Broken);
            let rejection = UnsubscribeEvent::from_body(&head, broken).await.expect_err("broken");
            Ok::<Response<Full<Bytes>>, Infallible>(rejection.into())
        },
    ));
    let reply = service.oneshot(authenticated(EXAMPLE)).await.expect("a response").map(Body::new);
    assert_refused(&read(reply).await, "body_incomplete", None);
}

/// tower-http refuses a length over its limit before the extractor can: 413, which is documented and
/// not the contract's.
#[tokio::test]
async fn a_limit_of_tower_http_refuses_a_length_itself() {
    let limit = || RequestBodyLimitLayer::new(LIMIT);
    let auth = || WebhookAuth::new(SECRET);
    let inside = ServiceBuilder::new().layer(auth()).layer(limit());
    let outside = ServiceBuilder::new().layer(limit()).layer(auth());
    let inside = Router::new().route(PATH, post(unsubscribed).layer(inside));
    let outside = Router::new().route(PATH, post(unsubscribed).layer(outside));
    let with_length = |mut request: Request| {
        request.headers_mut().insert("content-length", (LIMIT + 1).into());
        request
    };
    assert_eq!(send(&inside, with_length(authenticated(EXAMPLE))).await.status, 413);
    assert_token_required(&send(&inside, with_length(unauthenticated(EXAMPLE))).await);
    assert_eq!(send(&outside, with_length(unauthenticated(EXAMPLE))).await.status, 413);
}
