//! The layer among others: tower-http's on either side of it, and hyper without axum.

mod common;

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    routing::post,
};
use common::{
    Answer, EXAMPLE, PATH, SECRET, assert_no_token, assert_received, assert_refused,
    assert_refused_over_network, over_http2, read, send, signed, unsigned, untouchable,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::{compression::CompressionLayer, limit::RequestBodyLimitLayer, trace::TraceLayer};
use unsubscribe_webhook::{Code, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth};

const LIMIT: usize = 4096;

async fn unsubscribed(_: UnsubscribeEvent) -> Result<Received, ServerError> {
    Ok(Received)
}

/// What every stack must do, whatever the order of its layers.
async fn assert_works(app: &Router) {
    // Compression says that the answer varies with what the client accepts.
    let send = async |request| {
        let mut answer = send(app, request).await;
        answer.headers.retain(|(name, _)| name != "vary");
        answer
    };
    assert_received(&send(signed(EXAMPLE)).await);
    assert_no_token(&send(over_http2(unsigned(untouchable()))).await);
    assert_refused(&send(signed("{")).await, "not_json", None);

    // Over the limit, without a length: the extractor meets it while reading.
    let long = Bytes::from(" ".repeat(LIMIT + 1));
    let answer = send(signed(Body::new(Unsized(Full::new(long))))).await;
    assert_refused(&answer, "body_too_large", None);
}

/// A body that fails.
struct Broken;

impl axum::body::HttpBody for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

/// A body that does not tell its length.
struct Unsized(Full<Bytes>);

impl axum::body::HttpBody for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }
}

#[tokio::test]
async fn tower_http_may_stand_outside() {
    let stack = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(LIMIT))
        .layer(WebhookAuth::new(SECRET));
    let by_method = Router::new().route(PATH, post(unsubscribed).layer(stack.clone()));
    assert_works(&by_method).await;
    let by_router = Router::new().route(PATH, post(unsubscribed)).layer(stack.clone());
    assert_works(&by_router).await;
    let by_route = Router::new().route(PATH, post(unsubscribed)).route_layer(stack);
    assert_works(&by_route).await;
}

#[tokio::test]
async fn tower_http_may_stand_inside() {
    let stack = ServiceBuilder::new()
        .layer(WebhookAuth::new(SECRET))
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(LIMIT));
    let by_method = Router::new().route(PATH, post(unsubscribed).layer(stack.clone()));
    assert_works(&by_method).await;
    let by_router = Router::new().route(PATH, post(unsubscribed)).layer(stack.clone());
    assert_works(&by_router).await;
    let by_route = Router::new().route(PATH, post(unsubscribed)).route_layer(stack);
    assert_works(&by_route).await;
}

#[tokio::test]
async fn it_may_stand_in_the_middle_of_boxed_bodies() {
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
async fn a_refusal_is_compressed_as_any_answer_is() {
    // Compression leaves small answers alone, so this predicate takes all.
    let compression = CompressionLayer::new()
        .compress_when(|_: StatusCode, _, _: &http::HeaderMap, _: &http::Extensions| true);
    let app = Router::new().route(
        PATH,
        post(unsubscribed)
            .layer(ServiceBuilder::new().layer(compression).layer(WebhookAuth::new(SECRET))),
    );
    let mut request = unsigned(EXAMPLE);
    request.headers_mut().insert("accept-encoding", HeaderValue::from_static("gzip"));
    let response = app.oneshot(request).await.expect("a router does not fail");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.extensions().get::<Rejection>().is_some());
    let body = axum::body::to_bytes(response.into_body(), LIMIT).await.expect("a body");
    assert_eq!(body[..2], [0x1f, 0x8b], "gzip's magic number");
}

#[tokio::test]
async fn an_inner_error_stays_the_inner_services() {
    #[derive(Debug, PartialEq)]
    struct Mine;
    let service = ServiceBuilder::new()
        .layer(WebhookAuth::new(SECRET))
        .service(service_fn(async |_: Request| Err::<Response<Empty<Bytes>>, Mine>(Mine)));
    assert_eq!(service.clone().oneshot(signed(EXAMPLE)).await.expect_err("an error"), Mine);
    let refused = service.oneshot(unsigned(EXAMPLE)).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

/// The whole way on hyper: no axum, boxed bodies, a real socket.
#[tokio::test]
async fn a_plain_hyper_service_goes_the_whole_way() {
    type Answered = Result<Response<BoxBody<Bytes, Infallible>>, Infallible>;
    async fn unsubscribed(request: http::Request<Incoming>) -> Answered {
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

    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let send = async |mut request: Request| -> Answer {
        let uri = format!("http://{address}{PATH}");
        *request.uri_mut() = uri.parse().expect("a URI");
        let answer = tokio::time::timeout(Duration::from_secs(10), client.request(request));
        let mut answer = answer.await.expect("in time").expect("an answer");
        answer.headers_mut().remove("date");
        read(answer.map(Body::new)).await
    };

    let refused = async |request, code, pointer| {
        assert_refused_over_network(&send(request).await, code, pointer);
    };
    assert_received(&send(signed(EXAMPLE)).await);
    refused(unsigned(EXAMPLE), "unauthorized", None).await;
    refused(signed("{}"), "missing_field", Some("/name")).await;
    let long = Bytes::from(" ".repeat(LIMIT + 1));
    for body in [Body::from(long.clone()), Body::new(Unsized(Full::new(long)))] {
        refused(signed(body), "body_too_large", None).await;
    }
    server.abort();
}

#[tokio::test]
async fn a_body_is_read_only_behind_the_layer_and_may_break_off() {
    let (head, ()) = Request::post(PATH).body(()).expect("a request").into_parts();
    let rejection = UnsubscribeEvent::from_body(&head, untouchable()).await.expect_err("no proof");
    assert_eq!(rejection.code(), Code::MissingLayer);

    let service = ServiceBuilder::new().layer(WebhookAuth::new(SECRET)).service(service_fn(
        async |request: Request| {
            let (head, _) = request.into_parts();
            let broken = Body::new(Broken);
            let rejection = UnsubscribeEvent::from_body(&head, broken).await.expect_err("broken");
            Ok::<Response<Full<Bytes>>, Infallible>(rejection.into())
        },
    ));
    let answer = service.oneshot(signed(EXAMPLE)).await.expect("an answer").map(Body::new);
    assert_refused(&read(answer).await, "body_incomplete", None);
}

/// tower-http answers a length over its limit before the extractor can: 413, which is not the
/// contract's, and is documented.
#[tokio::test]
async fn a_limit_of_tower_http_answers_a_length_itself() {
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
    assert_eq!(send(&inside, with_length(signed(EXAMPLE))).await.status, 413);
    assert_no_token(&send(&inside, with_length(unsigned(EXAMPLE))).await);
    assert_eq!(send(&outside, with_length(unsigned(EXAMPLE))).await.status, 413);
}
