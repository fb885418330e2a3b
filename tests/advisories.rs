//! The field's mistakes: what went wrong in other projects that take requests from strangers, tried
//! on this one from outside. Each test says which project it was, and what the fault was.
//!
//! Two advisories have no test. In CVE-2018-6596 (django-anymail) and CVE-2022-43411 (Jenkins'
//! GitLab plugin) the time of a comparison told how much of a guessed webhook secret was right. Only
//! a clock can show that, and a test with a clock fails by chance, so it is measured instead: see
//! `timing` in `benches/`.

mod common;
#[path = "common/hidden.rs"]
mod hidden;
#[path = "common/socket.rs"]
mod socket;

use std::{
    convert::Infallible,
    future::Future,
    panic::catch_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use allocation_counter::AllocationInfo;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request},
    handler::{Handler, HandlerWithoutStateExt},
    middleware::{Next, from_fn},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use common::{
    Answer, EXAMPLE, Fields, PATH, SECRET, assert_received, assert_refused,
    assert_refused_over_network, detail, host, send, signed, token, unsigned, untouchable,
};
use hidden::{Log, TEXTS, assert_hides, bad_bodies, trace};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use http_body::Frame;
use socket::{Client, head, serve};
use tower::{Service, ServiceBuilder, ServiceExt};
use unsubscribe_webhook::{
    Authenticated, ConfigError, Credential, Received, Rejection, ServerError, UnsubscribeEvent,
    WebhookAuth,
};

/// A place in which the secret travels.
struct Place {
    credential: Credential,
    /// What it holds when it is right.
    right: String,
    /// Puts a value there, beside what is there already.
    add: fn(&mut Request, &str),
}

impl Place {
    /// A delivery with these values in the place.
    fn request<const N: usize>(&self, values: [&str; N], body: impl Into<Body>) -> Request {
        let mut request = unsigned(body);
        for value in values {
            (self.add)(&mut request, value);
        }
        request
    }
}

/// Every place there is, each with a secret of its own.
fn places() -> [Place; 5] {
    fn add_header(request: &mut Request, name: &'static str, value: &str) {
        request.headers_mut().append(name, value.parse().expect("a header value"));
    }
    let pair = BASE64.encode("lox24:basic-s3cr3t");
    [
        Place {
            credential: token("token-s3cr3t"),
            right: "token-s3cr3t".to_owned(),
            add: |request, value| add_header(request, "x-lox24-token", value),
        },
        Place {
            credential: Credential::header("x-hook", "header-s3cr3t").expect("usable"),
            right: "header-s3cr3t".to_owned(),
            add: |request, value| add_header(request, "x-hook", value),
        },
        Place {
            credential: Credential::bearer("bearer-s3cr3t").expect("usable"),
            right: "bearer-s3cr3t".to_owned(),
            add: |request, value| add_header(request, "authorization", &format!("Bearer {value}")),
        },
        Place {
            credential: Credential::basic("lox24", "basic-s3cr3t").expect("usable"),
            right: pair,
            add: |request, value| add_header(request, "authorization", &format!("Basic {value}")),
        },
        Place {
            credential: Credential::query("key", "query-s3cr3t").expect("usable"),
            right: "query-s3cr3t".to_owned(),
            add: |request, value| {
                let joint = if request.uri().query().is_some() { '&' } else { '?' };
                let uri = format!("{}{joint}key={value}", request.uri());
                *request.uri_mut() = uri.parse().expect("a URI");
            },
        },
    ]
}

/// Of `places`, the one whose secret no layer can hide from a log.
fn in_the_query(place: &Place) -> bool {
    place.request([&place.right], "").uri().query().is_some()
}

/// A host whose handler must not be reached.
fn trap(auth: WebhookAuth) -> Router {
    Router::new().route(PATH, post(must_not_run).layer(auth))
}

async fn must_not_run(_: Result<UnsubscribeEvent, Rejection>) {
    panic!("the handler ran");
}

#[track_caller]
fn assert_refused_as(answer: &Answer, code: &str) {
    assert_refused(answer, code, None, detail(code, None));
}

/// A request as it goes over the wire.
fn whole(request: &Request, body: &str) -> String {
    format!("{}content-length: {}\r\n\r\n{body}", head(request), body.len())
}

/// CVE-2026-45754: Symfony's bridge for this very provider was given a token and never looked at
/// it, so that any POST was an event. Its twin for Mailjet did the same with a Basic password.
#[tokio::test]
async fn a_configured_secret_is_compared() {
    for place in places() {
        let auth = WebhookAuth::from_credential(place.credential.clone());
        let app = trap(auth.clone());
        assert_refused_as(&send(&app, place.request([], untouchable())).await, "unauthorized");
        for forged in ["", "guess", "token-s3cr3u", &BASE64.encode(":basic-s3cr3t")] {
            let answer = send(&app, place.request([forged], untouchable())).await;
            assert_refused_as(&answer, "unauthorized");
        }
        for other in places().iter().filter(|other| other.right != place.right) {
            let answer = send(&app, other.request([&other.right], untouchable())).await;
            assert_refused_as(&answer, "unauthorized");
            let answer = send(&app, place.request([&other.right], untouchable())).await;
            assert_refused_as(&answer, "unauthorized");
        }
        assert_received(&send(&host(auth), place.request([&place.right], EXAMPLE)).await);
    }
}

/// CVE-2026-45754, what its fix left as it was: with an empty secret, as an unset variable gives one,
/// nothing is compared and everybody is let in.
#[test]
fn an_empty_secret_opens_nothing() {
    type Make = fn(&str) -> Result<Credential, ConfigError>;
    let makers: [Make; 5] = [
        |secret| Credential::token(secret),
        |secret| Credential::header("x-hook", secret),
        |secret| Credential::bearer(secret),
        |secret| Credential::basic("lox24", secret),
        |secret| Credential::query("key", secret),
    ];
    for make in makers {
        assert!(make(SECRET).is_ok());
        for empty in ["", " ", "\n"] {
            assert!(make(empty).is_err(), "{empty:?}");
        }
    }
    assert!(WebhookAuth::try_new("").is_err());
    assert!(catch_unwind(|| WebhookAuth::new("")).is_err());
}

/// RUSTSEC-2024-0010: svix compared signatures as far as the shorter one went, so that an empty one
/// always matched.
#[tokio::test]
async fn a_part_of_the_secret_is_not_the_secret() {
    for place in places() {
        let app = host(WebhookAuth::from_credential(place.credential.clone()));
        let right = place.right.as_str();
        assert_received(&send(&app, place.request([right], EXAMPLE)).await);

        let mut wrong: Vec<String> = (0..right.len()).map(|end| right[..end].to_owned()).collect();
        wrong.extend((1..right.len()).map(|start| right[start..].to_owned()));
        wrong.extend([format!("{right}x"), format!("{right}{right}"), format!("x{right}")]);
        // A comparison that leaves a byte out is one over a part, too.
        wrong.extend((0..right.len()).map(|at| {
            let other = if right[at..].starts_with('x') { "y" } else { "x" };
            [&right[..at], other, &right[at + 1..]].concat()
        }));
        for wrong in wrong {
            let answer = send(&app, place.request([&wrong], EXAMPLE)).await;
            assert_eq!(answer.status, 401, "{wrong}");
            assert_refused_as(&answer, "unauthorized");
        }
    }
}

/// A body without an end, which counts what was read of it.
struct Endless(Arc<AtomicUsize>);

impl Endless {
    const FRAME: usize = 1024;
    /// Where a reader who does not stop by himself is stopped.
    const TOO_FAR: usize = 64 * 1024 * 1024;
}

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let read = self.0.fetch_add(Self::FRAME, Ordering::Relaxed);
        assert!(read < Self::TOO_FAR, "no limit ends the reading");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; Self::FRAME])))))
    }
}

/// What is allocated while a future runs, on a runtime of one thread that is made beforehand.
fn allocations_of(future: impl Future<Output = ()>) -> AllocationInfo {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    allocation_counter::measure(|| runtime.block_on(future))
}

/// RUSTSEC-2022-0055: axum's extractors read bodies of any length into memory unless the host had
/// thought of a limit.
#[test]
fn a_body_without_an_end_meets_the_limit() {
    const DEFAULT: usize = 2 * 1024 * 1024;

    let default = host(WebhookAuth::new(SECRET));
    let limited = default.clone().layer(DefaultBodyLimit::max(4096));
    for (app, limit) in [(default, DEFAULT), (limited, 4096)] {
        for length in [None, Some("2"), Some("18446744073709551615")] {
            let read = Arc::new(AtomicUsize::new(0));
            let mut request = signed(Body::new(Endless(Arc::clone(&read))));
            if let Some(length) = length {
                request.headers_mut().insert("content-length", HeaderValue::from_static(length));
            }
            let allocated = allocations_of(async {
                assert_refused_as(&send(&app, request).await, "body_too_large");
            });
            assert_eq!(read.load(Ordering::Relaxed), limit + Endless::FRAME, "{length:?}");
            // A buffer that doubles, and is copied then, and what an answer takes.
            let most = 2 * limit + 32 * 1024;
            assert!(allocated.bytes_max < u64::try_from(most).expect("a size"), "{allocated:?}");
        }
    }
}

/// RUSTSEC-2022-0066: conduit-hyper let `Content-Length` say how much memory to ask for, and panicked
/// when there was not so much. A promise costs its sender nothing.
#[test]
fn a_content_length_is_a_promise_for_which_no_room_is_made() {
    const PROMISED: u64 = 1 << 30;

    let default = host(WebhookAuth::new(SECRET));
    let disabled = default.clone().layer(DefaultBodyLimit::disable());
    for app in [default, disabled] {
        let allocated = allocations_of(async {
            let address = serve(app).await;
            for (request, code) in [(signed(""), "body_incomplete"), (unsigned(""), "unauthorized")]
            {
                let mut client = Client::connect(address).await;
                let head = head(&request);
                client.send(format!("{head}content-length: {PROMISED}\r\n\r\n{EXAMPLE}")).await;
                client.finish().await;
                let answer = client.answer().await;
                assert_refused_over_network(&answer, code, None, detail(code, None));
            }
        });
        // All of it: the server, two connections with their buffers, two requests.
        assert!(allocated.bytes_max < 256 * 1024, "{allocated:?}");
    }
}

/// RUSTSEC-2022-0086: slack-morphism printed secrets by `Debug` into logs. Here all that a host can
/// print is printed, and whatever the stack around it says, at any level, is heard.
#[tokio::test]
async fn no_log_holds_a_secret_a_number_or_a_text() {
    async fn handler(
        proof: Authenticated,
        headers: HeaderMap,
        event: Result<UnsubscribeEvent, Rejection>,
    ) -> Result<Received, ServerError> {
        tracing::debug!(?proof, ?headers, ?event, "what the handler holds");
        match event {
            Ok(event) if event.data.group_id == Some(500) => Err("there is no disk")?,
            Ok(_) => Ok(Received),
            Err(rejection) => {
                tracing::debug!(%rejection, error = &rejection as &dyn std::error::Error);
                Err(rejection)?
            }
        }
    }

    let places = places();
    let mut auth = WebhookAuth::new("unused-s3cr3t").allow_accounts([2]);
    for place in &places {
        auth = auth.or(place.credential.clone());
    }
    let auth = auth.require(|head| !head.headers.contains_key("x-stranger"));
    // Where the secret is in the query, no layer that logs URIs stands: see the next test.
    let traced = ServiceBuilder::new().layer(auth.clone()).layer(trace());
    let app = Router::new()
        .route("/traced", post(handler).layer(traced))
        .route("/silent", post(handler).layer(auth.clone()));

    let log = Log::start();
    tracing::debug!(?auth, "what the host holds");
    let address = serve(app).await;
    for place in &places {
        let right = || place.request([&place.right], "");
        let doubled = place.request([&place.right, "a-gu3ss"], "");
        let mut strange = right();
        strange.headers_mut().insert("x-stranger", HeaderValue::from_static("1"));
        let mut beside = right();
        for other in places[..2].iter().filter(|other| other.right != place.right) {
            (other.add)(&mut beside, &other.right);
        }
        let failing = Fields::example().with("/data/group_id", "500").text();
        let foreign = Fields::example().with("/data/user_id", "3").text();
        let mut requests = vec![
            (401, place.request(["a-gu3ss"], ""), EXAMPLE.to_owned()),
            (401, doubled, EXAMPLE.to_owned()),
            (403, strange, EXAMPLE.to_owned()),
            (200, right(), EXAMPLE.to_owned()),
            (200, beside, EXAMPLE.to_owned()),
            (500, right(), failing),
            (403, right(), foreign),
        ];
        requests.extend(bad_bodies().into_iter().map(|body| (400, right(), body)));

        let route = if in_the_query(place) { "/silent" } else { "/traced" };
        for (status, mut request, body) in requests {
            let uri = request.uri().to_string().replace(PATH, route);
            *request.uri_mut() = uri.parse().expect("a URI");
            let mut client = Client::connect(address).await;
            client.send(whole(&request, &body)).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, status, "{:?}: {body}", place.credential);
        }
    }
    let log = log.stop();

    for heard in ["what the host holds", "what the handler holds", "started processing", "TRACE"] {
        assert!(log.contains(heard), "{heard} in {log}");
    }
    assert!(log.contains(r#""x-lox24-token": Sensitive"#), "{log}");
    let rights: Vec<&str> = places.iter().map(|place| place.right.as_str()).collect();
    assert_hides(&log, &rights);
    assert_hides(&log, &["s3cr3t", "a-gu3ss"]);
    assert_hides(&log, &TEXTS);
}

/// RUSTSEC-2022-0086, the exception that is documented: whatever stands around or inside the layer
/// and logs URIs, logs the secret in one. So a header is to be preferred.
#[tokio::test]
async fn a_secret_in_a_query_is_seen_by_layers_that_log_uris() {
    for place in places() {
        let auth = || WebhookAuth::from_credential(place.credential.clone());
        let inside = ServiceBuilder::new().layer(auth()).layer(trace());
        let inside =
            Router::new().route(PATH, post(async |_: UnsubscribeEvent| Received).layer(inside));
        let outside = host(auth()).layer(tower_http::trace::TraceLayer::new_for_http());
        for app in [inside, outside] {
            let log = Log::start();
            assert_received(&send(&app, place.request([&place.right], EXAMPLE)).await);
            let log = log.stop();
            assert!(log.contains(PATH), "{log}");
            assert_eq!(log.contains(&place.right), in_the_query(&place), "{log}");
        }
    }
}

/// CVE-2026-42294: Argo Workflows read the body of a webhook into memory before it looked at who
/// had sent it.
#[tokio::test]
async fn a_strangers_body_is_not_touched() {
    for place in places() {
        let auth = WebhookAuth::from_credential(place.credential.clone());
        let wrong = place.request(["guess"], untouchable());
        for stranger in [unsigned(untouchable()), wrong] {
            assert_refused_as(&send(&trap(auth.clone()), stranger).await, "unauthorized");
        }
        let refused = place.request([&place.right], untouchable());
        assert_refused_as(&send(&trap(auth.require(|_| false)), refused).await, "forbidden");
    }
}

/// CVE-2026-42294 on a socket: a server asks for a body (100) once somebody reads it, and a stranger
/// is not asked.
#[tokio::test]
async fn a_stranger_is_refused_before_the_body_is_sent() {
    let address = serve(host(WebhookAuth::new(SECRET))).await;
    let expecting = |request: &Request| {
        let length = EXAMPLE.len();
        format!("{}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n", head(request))
    };
    let mut stranger = Client::connect(address).await;
    stranger.send(expecting(&unsigned(""))).await;
    let answer = stranger.answer().await;
    assert_refused_over_network(&answer, "unauthorized", None, detail("unauthorized", None));

    let mut provider = Client::connect(address).await;
    provider.send(expecting(&signed(""))).await;
    assert_eq!(provider.line().await, "HTTP/1.1 100 Continue");
    assert_eq!(provider.line().await, "");
    provider.send(EXAMPLE).await;
    assert_eq!(provider.answer().await.status, 200);
}

/// Of a header given twice, `HeaderMap::get` hands over the first and other programs the last: what a
/// proxy has checked is then not what the host checks.
#[tokio::test]
async fn of_two_values_in_one_place_neither_counts() {
    for place in places() {
        let app = host(WebhookAuth::from_credential(place.credential.clone()));
        let right = place.right.as_str();
        assert_received(&send(&app, place.request([right], EXAMPLE)).await);
        for pair in [[right, "wrong"], ["wrong", right], [right, right], [right, ""], ["", right]] {
            let answer = send(&app, place.request(pair, EXAMPLE)).await;
            assert_eq!(answer.status, 401, "{pair:?} in {:?}", place.credential);
            assert_refused_as(&answer, "unauthorized");
        }
    }
}

/// RFC 9110 has schemes in any case, and a space behind them: who compares the bytes of `Bearer `
/// refuses good clients, and who strips the word alone takes what is glued to it.
#[tokio::test]
async fn a_scheme_has_any_case_and_a_space_behind_it() {
    let basic = BASE64.encode("lox24:basic-s3cr3t");
    let basic = (Credential::basic("lox24", "basic-s3cr3t").expect("usable"), "Basic", &*basic);
    let bearer = (Credential::bearer("bearer-s3cr3t").expect("usable"), "Bearer", "bearer-s3cr3t");
    for (credential, scheme, right) in [bearer, basic] {
        let app = host(WebhookAuth::from_credential(credential));
        let status = async |value: String| {
            let mut request = unsigned(EXAMPLE);
            request.headers_mut().insert("authorization", value.parse().expect("a value"));
            send(&app, request).await.status
        };
        for scheme in [scheme.to_owned(), scheme.to_lowercase(), scheme.to_uppercase()] {
            assert_eq!(status(format!("{scheme} {right}")).await, 200, "{scheme}");
            for glue in ["", "\t", ":", "=", ", ", "_"] {
                assert_eq!(status(format!("{scheme}{glue}{right}")).await, 401, "{scheme}{glue}");
            }
        }
        assert_eq!(status(right.to_owned()).await, 401);
        assert_eq!(status(format!("Token {right}")).await, 401);
    }
}

/// That a chunked body is too long turns out only while it is read. Who unwraps what the limit then
/// returns panics, and with `panic = "abort"` any sender ends the process.
#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_and_the_server_goes_on() {
    const LIMIT: usize = 4096;

    let app = host(WebhookAuth::new(SECRET)).layer(DefaultBodyLimit::max(LIMIT));
    let address = serve(app).await;
    for _ in 0..3 {
        let mut client = Client::connect(address).await;
        let (head, length) = (head(&signed("")), LIMIT + 1);
        let chunk = " ".repeat(length);
        client.send(format!("{head}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{chunk}")).await;
        let answer = client.answer().await;
        assert_refused_over_network(
            &answer,
            "body_too_large",
            None,
            detail("body_too_large", None),
        );

        let mut client = Client::connect(address).await;
        client.send(whole(&signed(""), EXAMPLE)).await;
        assert_eq!(client.answer().await.status, 200);
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

/// A server that waits for a body with a worker, a lock or a connection of a pool in its hand is out
/// of them after a few senders that never finish.
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
            let answer = next.run(request).await;
            drop(guard);
            answer
        }
    });
    let app = Router::new().route(PATH, post(handler).layer(WebhookAuth::new(SECRET)));
    let address = serve(app.layer(census)).await;

    let unfinished = |request: &Request| {
        format!("{}content-length: {}\r\n\r\n{EXAMPLE}", head(request), EXAMPLE.len() + 1)
    };
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = Client::connect(address).await;
        client.send(unfinished(&signed(""))).await;
        slow.push(client);
    }
    until("all are on their way", || requests.count() == SLOW).await;
    until("nothing is kept of them but their bodies", || heads.count() == 0).await;

    let mut stranger = Client::connect(address).await;
    stranger.send(unfinished(&unsigned(""))).await;
    let answer = stranger.answer().await;
    assert_refused_over_network(&answer, "unauthorized", None, detail("unauthorized", None));
    let mut provider = Client::connect(address).await;
    provider.send(whole(&signed(""), EXAMPLE)).await;
    assert_eq!(provider.answer().await.status, 200);
    assert_eq!(events.load(Ordering::Relaxed), 1);

    // Some say that they are done, and the others just go.
    for mut client in slow.drain(..SLOW / 2) {
        client.finish().await;
        let answer = client.answer().await;
        assert_refused_over_network(
            &answer,
            "body_incomplete",
            None,
            detail("body_incomplete", None),
        );
    }
    drop(slow);
    until("all are gone", || requests.count() == 0).await;
    assert_eq!(events.load(Ordering::Relaxed), 1, "what was cut off is no event");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(what);
}

/// What tower's documentation warns of: a middleware that calls a clone of its inner service, when it
/// is the original that was polled until it was ready.
#[tokio::test]
async fn the_inner_service_is_called_only_when_it_is_ready() {
    /// Panics, as some services do, when it is called without having been ready before.
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
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            self.0 = true;
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request) -> Self::Future {
            assert!(std::mem::take(&mut self.0), "called while not ready");
            std::future::ready(Ok(Response::default()))
        }
    }

    let mut service =
        ServiceBuilder::new().layer(WebhookAuth::new(SECRET)).service(Strict::default());
    for _ in 0..2 {
        let ready = service.ready().await.expect("it is always ready");
        assert_eq!(ready.call(signed(EXAMPLE)).await.expect("an answer").status(), StatusCode::OK);
    }
}

async fn takes_the_event(_: UnsubscribeEvent) -> Received {
    panic!("the handler ran");
}

async fn takes_an_option(_: Option<UnsubscribeEvent>) -> Received {
    panic!("the handler ran");
}

async fn takes_the_proof(_: Authenticated) -> Received {
    panic!("the handler ran");
}

#[track_caller]
fn assert_no_layer(answer: &Answer, way: &str) {
    assert_eq!(answer.status, 500, "{way}");
    assert_eq!(answer.rejection.as_ref().expect("a rejection").code(), "missing_layer", "{way}");
}

/// In axum a layer covers the routes that are there before it. One that is added or merged below that
/// line is open, and neither the compiler nor the tests of the old routes say so.
#[tokio::test]
async fn a_route_that_is_merged_after_the_layer_is_closed() {
    fn late<T: 'static>(handler: impl Handler<T, ()>) -> [(&'static str, Router); 3] {
        let guarded = || {
            let early = Router::new().route("/early", post(async |_: UnsubscribeEvent| Received));
            early.layer(WebhookAuth::new(SECRET))
        };
        let route = Router::new().route(PATH, post(handler.clone()));
        [
            ("route", guarded().route(PATH, post(handler))),
            ("merge", guarded().merge(route.clone())),
            ("merged into", route.merge(guarded())),
        ]
    }
    let ways = [late(takes_the_event), late(takes_an_option), late(takes_the_proof)];
    for (way, app) in ways.into_iter().flatten() {
        assert_no_layer(&send(&app, signed(untouchable())).await, way);
        let mut early = signed(EXAMPLE);
        *early.uri_mut() = Uri::from_static("/early");
        assert_received(&send(&app, early).await);
    }
}

/// A check that lives in a layer alone is gone wherever the layer does not reach: a fallback, a
/// method that is added later, a nested router, a handler that is mounted as a service.
#[tokio::test]
async fn a_handler_without_the_layer_does_not_run() {
    fn bare<T: 'static>(handler: &impl Handler<T, ()>) -> Vec<(&'static str, Router)> {
        let auth = || WebhookAuth::new(SECRET);
        let open = async || "open";
        let (new, route) = (Router::new, || post(handler.clone()));
        let nested = || new().route("/unsubscribe", route());
        vec![
            ("no layer at all", new().route(PATH, route())),
            (
                "nest beside the layer",
                new()
                    .nest("/other", new().route("/", get(open)).layer(auth()))
                    .nest("/webhooks", nested()),
            ),
            (
                "nest after the layer",
                new().route("/", get(open)).layer(auth()).nest("/webhooks", nested()),
            ),
            ("nested service", new().layer(auth()).nest_service("/webhooks", nested())),
            ("fallback", new().route("/", get(open)).layer(auth()).fallback(handler.clone())),
            (
                "fallback of a router that has a route layer",
                new().route("/", get(open)).fallback(handler.clone()).route_layer(auth()),
            ),
            ("fallback service", new().layer(auth()).fallback_service(new().route(PATH, route()))),
            ("another method", new().route(PATH, get(open).layer(auth()).merge(route()))),
            (
                "fallback of methods",
                new().route(PATH, get(open).layer(auth()).fallback(handler.clone())),
            ),
        ]
    }

    let ways = [bare(&takes_the_event), bare(&takes_an_option), bare(&takes_the_proof)];
    for (way, app) in ways.into_iter().flatten() {
        assert_no_layer(&send(&app, signed(untouchable())).await, way);
        assert_no_layer(&send(&app, unsigned(untouchable())).await, way);
    }

    let service = takes_the_event.into_service();
    let answer = service.oneshot(signed(untouchable())).await.expect("an answer");
    assert_no_layer(&common::read(answer).await, "a service");
    // Who takes the refusal himself gets no event with it.
    let result = async |event: Result<UnsubscribeEvent, Rejection>| {
        event.expect_err("no proof").code().to_owned()
    };
    let app = Router::new().route(PATH, post(result));
    assert_eq!(send(&app, signed(untouchable())).await.body, "missing_layer");
}
