//! The feature `testing`: the suite passes apps that are right, and names the cause in those that are not.

mod common;

use std::{
    cell::Cell,
    collections::HashSet,
    convert::Infallible,
    future::ready,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json,
    body::to_bytes,
    extract::ConnectInfo,
    middleware::map_response,
    response::Response as AnyResponse,
    routing::{MethodRouter, put},
};
use common::prelude::{app_with as app, *};
use http::Response;
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use serde_json::Value;
use tower::ServiceBuilder;
use tower_http::{
    compression::CompressionLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
    trace::TraceLayer,
};
use unsubscribe_webhook::testing::{self, Conformance, Finding, Report};

const LIMIT: usize = 4096;
const USABLE: &str = "a usable secret";

fn auth() -> WebhookAuth {
    WebhookAuth::new(SECRET)
}

async fn unsubscribed(_: UnsubscribeEvent) -> Received {
    Received
}

fn routed(route: MethodRouter) -> Router {
    Router::new().route(PATH, route)
}

fn suite<S>(app: S) -> Conformance<S> {
    testing::conformance(app, PATH, &token(SECRET))
}

fn names(report: &Report) -> Vec<&str> {
    report.findings().iter().map(Finding::probe).collect()
}

/// Asserts the likely cause of these probes, whose names stand in one text, and what holds for every
/// finding.
#[track_caller]
fn assert_cause(report: &Report, probes: &str, likely_cause: &str) {
    for probe in probes.split(' ') {
        let finding = report.findings().iter().find(|finding| finding.probe() == probe);
        let finding = finding.unwrap_or_else(|| panic!("{probe}: {likely_cause}\n{report}"));
        assert!(finding.likely_cause().contains(likely_cause), "{likely_cause}\n{report}");
    }
    for finding in report.findings() {
        assert_ne!(finding.expected(), finding.response(), "{report}");
        assert!(!finding.likely_cause().contains('\n'), "{report}");
    }
    let texts = format!("{report} {report:?}");
    assert!(!texts.contains(SECRET) && !texts.contains("491111"), "{texts}");
}

#[track_caller]
fn assert_first(report: &Report, probe: &str, likely_cause: &str) {
    assert_cause(report, probe, likely_cause);
    assert_eq!(names(report)[0], probe, "{likely_cause}\n{report}");
}

/// Asserts which probes have findings.
#[track_caller]
fn assert_only(report: &Report, probes: &str, likely_cause: &str) {
    assert_eq!(names(report).join(" "), probes, "{likely_cause}\n{report}");
    assert_cause(report, probes, likely_cause);
}

/// The numbers that an app has stored.
#[derive(Clone, Default)]
struct List(Arc<Mutex<HashSet<String>>>);

impl List {
    fn add(&self, phone: &str) {
        self.0.lock().expect("the list").insert(phone.to_owned());
    }

    fn suite<S>(&self, app: S) -> Conformance<S> {
        let list = self.clone();
        suite(app).suppressed(async move |phone| list.0.lock().expect("the list").contains(phone))
    }

    /// A handler that stores what `choose` returns, and returns the refusal.
    fn route<F>(&self, choose: F) -> MethodRouter
    where
        F: Fn(&Decoded) -> Option<String> + Clone + Send + Sync + 'static,
    {
        let list = self.clone();
        post(async move |event: Decoded| {
            choose(&event).inspect(|phone| list.add(phone));
            event.map(|_| Received)
        })
    }
}

/// What an app stores that loses no opt-out.
fn every_opt_out(event: &Decoded) -> Option<String> {
    match event {
        Ok(event) => Some(event.data.phone.clone()),
        Err(rejection) => rejection.opt_out().map(|opt_out| opt_out.phone.clone()),
    }
}

/// Whatever number a body holds, in any type.
fn any_phone(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.pointer("/data/phone")?.to_string().replace('"', ""))
}

// Apps that are right.

#[tokio::test]
async fn every_credential_passes() {
    for (query, credential) in [
        ("", Credential::token(SECRET)),
        ("", Credential::token("x")),
        ("", Credential::token("===")),
        ("", Credential::header("Authorization", "two words")),
        ("", Credential::header("X-Other-Location", SECRET)),
        ("", Credential::bearer("mF_9.B5f-4.1JqM==")),
        ("", Credential::basic("lox24", "p:ässwörd")),
        ("", Credential::basic("", "x")),
        ("", Credential::query("tok&en", "pä&ss+wörd %")),
        ("", Credential::query("key", "a\nb\u{7f}")),
        // A duplicate makes the URI too long.
        ("", Credential::query("key", "%".repeat(16_000))),
        ("?a=1", Credential::query("token", SECRET)),
        ("?token=correct-horse-7", Credential::query("token", SECRET)),
        ("?a=1&%74oken=correct-horse-7&b=2", Credential::query("token", SECRET)),
    ] {
        let credential = credential.expect(USABLE);
        let app = app(WebhookAuth::from_credential(credential.clone()));
        let report = testing::conformance(app, &format!("{PATH}{query}"), &credential).await;
        report.assert_passed();
        assert!(report.passed() && report.probes() > 100, "{report}");
        assert_eq!(report.to_string(), format!("{} probes, 0 findings", report.probes()));
    }
}

#[tokio::test]
async fn an_app_that_stores_every_opt_out_passes() {
    let list = List::default();
    let route = list.route(every_opt_out);
    list.suite(routed(route.clone().layer(auth()))).await.assert_passed();
    let some = auth().allow_accounts([7, i64::MAX, -1]);
    list.suite(routed(route.layer(some))).accounts([7, i64::MAX, -1]).await.assert_passed();
    let any_event = protected(async |_: Option<UnsubscribeEvent>| Received);
    suite(any_event).acknowledges_other_events().await.assert_passed();
}

#[tokio::test]
async fn an_app_may_rotate_nest_and_have_other_layers() {
    let bearer = Credential::bearer("another").expect(USABLE);
    let rotating = app(auth().or(bearer.clone()));
    testing::conformance(rotating, PATH, &bearer).await.assert_passed();
    let nested = app(auth()).layer(WebhookAuth::from_credential(bearer.clone()));
    suite(nested).map_request(move |request| bearer.apply_to(request)).await.assert_passed();

    let timeout = StatusCode::SERVICE_UNAVAILABLE;
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(auth())
        .layer(TimeoutLayer::with_status_code(timeout, Duration::from_secs(9)))
        .layer(DefaultBodyLimit::max(LIMIT));
    let routes = Router::new().route("/unsubscribe", post(unsubscribed).layer(layers));
    let app = Router::new().route("/health", get(async || "ok")).nest("/webhooks", routes);
    suite(app).body_limit(LIMIT).await.assert_passed();
}

/// The app with a stack around the method, the router and the route.
macro_rules! apps_with {
    ($stack:expr) => {{
        let stack = $stack;
        [
            routed(post(unsubscribed).layer(stack.clone())),
            routed(post(unsubscribed)).layer(stack.clone()),
            routed(post(unsubscribed)).route_layer(stack),
        ]
    }};
}

/// tower-http refuses a length over its limit before the extractor can: 413, which is documented and
/// not the contract's. A longer body without a length is the extractor's to refuse.
#[tokio::test]
async fn tower_http_may_be_outside_or_inside() {
    let (auth, limit) = (auth(), RequestBodyLimitLayer::new(LIMIT));
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
        let report = suite(app).body_limit(LIMIT).await;
        let [finding] = report.findings() else { panic!("{report}") };
        assert_eq!(finding.probe(), "body_too_large");
        assert!(finding.response().starts_with("413 "), "{report}");
    }
}

#[tokio::test]
async fn an_app_needs_no_axum_and_no_threads_and_may_box_bodies() {
    let handled = Rc::new(Cell::new(0));
    let counter = Rc::clone(&handled);
    let service = service_fn(move |request: http::Request<UnsyncBoxBody<_, _>>| {
        let handled = Rc::clone(&counter);
        async move {
            let (head, body) = request.into_parts();
            let event = UnsubscribeEvent::from_body(&head, Limited::new(body, LIMIT)).await;
            handled.set(handled.get() + usize::from(event.is_ok()));
            let response: Response<Full<Bytes>> =
                event.map_or_else(Rejection::into, |_| Received.into());
            Ok::<_, Infallible>(response.map(BodyExt::boxed_unsync))
        }
    });
    let boxed = |request: Request| request.map(BodyExt::boxed_unsync);
    let app = ServiceBuilder::new().map_request(boxed).layer(auth()).service(service);
    suite(app).body_limit(LIMIT).await.assert_passed();
    assert!(handled.get() > 35, "{}", handled.get());
    // tower's documentation warns of a middleware that polls its inner service until it is ready, and
    // then calls a clone of it: this one panics if it is called before it is ready.
    let limited = ServiceBuilder::new().layer(auth()).concurrency_limit(1);
    suite(limited.service(routed(post(unsubscribed)))).await.assert_passed();
}

// How the suite is configured.

#[tokio::test]
async fn accounts_and_what_a_server_adds_can_be_configured() {
    let some = app(auth().allow_accounts([7, 8]));
    let report = suite(some.clone()).accounts([7, 8]).await;
    report.assert_passed();
    assert_eq!(report.probes(), suite(app(auth())).await.probes() + 2);
    let found = suite(some).accounts([7, 9]).await;
    assert_only(&found, "own_account:9", "`allow_accounts` lacks an account");

    let gateway = SocketAddr::from(([192, 0, 2, 1], 443));
    let peer = auth().require(move |head| {
        head.extensions.get::<ConnectInfo<SocketAddr>>().is_some_and(|peer| peer.0 == gateway)
    });
    let configured = suite(app(peer)).map_request(move |request| {
        request.extensions_mut().insert(ConnectInfo(gateway));
    });
    assert!(!format!("{configured:?}").contains(SECRET));
    configured.await.assert_passed();
}

#[test]
fn a_wrong_configuration_panics() {
    type Configure = fn() -> Conformance<Router>;
    let relative: Configure = || testing::conformance(Router::new(), "hook", &token(SECRET));
    for (configure, message) in [
        (relative, "start with a slash"),
        (|| suite(Router::new()).body_limit(usize::MAX), "without a limit"),
        (|| suite(Router::new()).accounts([]), "accepts no account"),
    ] {
        let panic = std::panic::catch_unwind(configure).expect_err(message);
        assert!(panic.downcast::<&str>().expect("a text").contains(message), "{message}");
    }
}

#[tokio::test]
#[should_panic(expected = "`.map_request(..)` adds the credential to a forged delivery")]
async fn a_forged_delivery_stays_forged() {
    let _ = suite(app(auth())).map_request(|request| token(SECRET).apply_to(request)).await;
}

// Apps that are wrong.

fn code(status: u16) -> AnyResponse {
    StatusCode::from_u16(status).expect("a status").into_response()
}

/// Changes the responses of one status; 0 stands for all.
fn changed(status: u16, change: fn(AnyResponse) -> AnyResponse) -> Router {
    app(auth()).layer(map_response(move |response: AnyResponse| {
        let is_meant = status == 0 || response.status() == status;
        ready(if is_meant { change(response) } else { response })
    }))
}

/// Changes the requests, outside or inside of the layer.
fn rewritten(is_outside: bool, rewrite: fn(HeaderMap, Bytes) -> (HeaderMap, Bytes)) -> Router {
    let rewrite = from_fn(move |request: Request, next: Next| async move {
        let (mut head, body) = request.into_parts();
        let Ok(body) = to_bytes(body, usize::MAX).await else { return code(400) };
        let (headers, body) = rewrite(std::mem::take(&mut head.headers), body);
        head.headers = headers;
        next.run(Request::from_parts(head, body.into())).await
    });
    let app = routed(post(unsubscribed));
    if is_outside { app.layer(auth()).layer(rewrite) } else { app.layer(rewrite).layer(auth()) }
}

/// Apps in which the first delivery fails: one finding says all.
#[tokio::test]
async fn an_app_that_acknowledges_nothing_is_named() {
    let bare = || routed(post(unsubscribed));
    let elsewhere = Router::new().route("/hook", post(unsubscribed));
    let bearer = WebhookAuth::from_credential(Credential::bearer(SECRET).expect(USABLE));
    let before = Router::new().route("/other", get(async || "")).layer(auth());
    let drops_extensions = from_fn(async |mut request: Request, next: Next| {
        request.extensions_mut().clear();
        next.run(request).await
    });
    let inside = ServiceBuilder::new().layer(auth()).layer(drops_extensions);
    let no_headers = |_, body| (HeaderMap::new(), body);
    let no_body = |headers, _| (headers, Bytes::new());
    let fails = async |_: UnsubscribeEvent| Err::<Received, ServerError>("no database".into());
    let panics = async |event: UnsubscribeEvent| -> Received { panic!("on purpose: {event:?}") };
    let peer = async |_: ConnectInfo<SocketAddr>, _: UnsubscribeEvent| Received;
    for (app, response, likely_cause) in [
        (bare(), "500 missing_layer", "the route is not behind the layer"),
        (before.merge(bare()), "500 missing_layer", "the route is not behind the layer"),
        (routed(post(unsubscribed).layer(inside)), "500 missing_layer", "keep the request's ext"),
        (elsewhere.layer(auth()), "404", "no route at this path"),
        (routed(put(unsubscribed).layer(auth())), "405", "use `post(..)`"),
        (app(WebhookAuth::new("another")), "401 unauthorized", "another credential"),
        (app(bearer), "401 unauthorized", "another credential"),
        (rewritten(true, no_headers), "401 unauthorized", "changes the header"),
        (app(auth().require(|_| false)), "403 forbidden", "`.map_request(..)`"),
        (app(auth().allow_accounts([3])), "403 foreign_account", "`.accounts(..)`"),
        (rewritten(false, no_headers), "400 content_type", "changes the body, its type"),
        (rewritten(false, no_body), "400 not_json", "changes the body"),
        (app(auth()).layer(DefaultBodyLimit::max(100)), "400 body_too_large", "the body limit"),
        (protected(fails), "500 server_error", "failed, see the log"),
        (protected(peer), "500", "`ConnectInfo`"),
        (protected(panics), "a panic", "the app panics"),
        (changed(0, |_| code(303)), "303", "a redirect"),
        (changed(0, |_| code(403)), "403", "CSRF"),
        (changed(0, |_| code(422)), "422", "`axum::Json`"),
        (changed(0, |_| code(429)), "429", "a rate or load limit"),
        (changed(0, |_| code(503)), "503", "a timeout"),
        (changed(0, |_| code(502)), "502", "`Result<Received, ServerError>`"),
    ] {
        let report = suite(app).await;
        assert_only(&report, "good_delivery", likely_cause);
        assert_cause(&report, "good_delivery", "were not sent");
        assert!(report.findings()[0].response().starts_with(response), "{report}");
    }
    let down = service_fn(|_: Request| ready(Err::<Response<Body>, _>("down")));
    assert_only(&suite(down).await, "good_delivery", "returns an error");
}

/// Apps that accept, read or refuse in another way what is forged.
#[tokio::test]
async fn an_app_that_does_not_reject_forged_deliveries_is_named() {
    let json = routed(post(async |_: Json<UnsubscribeEvent>| Received));
    let broken = |_| {
        let gone = futures_util::stream::once(async { Err::<Bytes, _>("gone") });
        (StatusCode::UNAUTHORIZED, Body::from_stream(gone)).into_response()
    };
    let html = |response| ([("content-type", "text/html")], response).into_response();
    let no_challenge = |mut response: AnyResponse| {
        response.headers_mut().remove("www-authenticate");
        response
    };
    let ok = |response: AnyResponse| (StatusCode::OK, response).into_response();
    for (app, likely_cause) in [
        (json, "CRITICAL: a forged event is accepted: nothing checks the credential"),
        (changed(401, |_| code(200)), "CRITICAL: a forged event is acknowledged"),
        (changed(0, ok), "something turns refusals into acknowledgements"),
        (changed(401, |_| panic!("on purpose")), "the app panics"),
        (changed(401, broken), "returns an error"),
        (changed(401, |_| code(303)), "something else responds first"),
        (changed(401, |_| code(422)), "before the credential is checked"),
        (changed(401, |_| code(502)), "before the credential is checked"),
        (changed(401, |_| code(401)), "something rewrites the refusal"),
        (changed(401, html), "something rewrites the refusal"),
        (changed(401, no_challenge), "something rewrites the refusal"),
        (rewritten(true, |headers, body| (headers, body)), "reads the body of unauthenticated"),
    ] {
        let report = suite(app).await;
        assert_first(&report, "no_credential", likely_cause);
        assert!(report.findings().len() >= 17, "{report}");
    }

    // A refusal whose code is removed too.
    let report = suite(changed(0, |_| code(200))).await;
    assert_cause(&report, "body_empty", "something turns refusals into acknowledgements");

    let later = async |request: Request| drop(tokio::spawn(to_bytes(request.into_body(), 9)));
    let elsewhere = Router::new().route("/hook", post(unsubscribed).layer(auth()));
    let elsewhere = elsewhere.fallback(async || "<!doctype html>");
    for (app, likely_cause) in [
        (elsewhere.clone(), "CRITICAL: an opt-out is lost: a fallback or another route responds"),
        (routed(post(later)), "the body is read after the response"),
    ] {
        let report = suite(app).await;
        assert_first(&report, "good_delivery", likely_cause);
        assert_eq!(report.findings()[0].response(), "200, body unread");
        assert_cause(&report, "no_credential", "CRITICAL: a forged event is acknowledged");
    }
    let report = suite(elsewhere).over_network().await;
    assert_first(&report, "no_credential", "or a fallback responds 200 to everything");

    // Also if no good delivery is acknowledged.
    let upside_down = async |headers: HeaderMap, _: Bytes| {
        code(if headers.contains_key("x-lox24-token") { 502 } else { 200 })
    };
    let report = suite(routed(post(upside_down))).await;
    assert_first(&report, "good_delivery", "`Result<Received, ServerError>`");
    let accepted = "no_credential secret_in_another_header no_credential_stream \
                    no_credential_malformed no_credential_other_event";
    assert_eq!(names(&report)[1..].join(" "), accepted);
    assert_cause(&report, "no_credential", "CRITICAL: a forged event is accepted");
}

/// Whether the values of every location that can hold a credential are right.
type IsRight = fn(&[&str]) -> bool;

/// An app with a check of its own, and right in all else.
fn by_hand(credential: &Credential, is_right: IsRight) -> Router {
    let (credential, applied) = (credential.clone(), credential.clone());
    let check = move |mut request: Request, next: Next| {
        let headers = ["x-lox24-token", "authorization", "x-other-location"];
        let values = headers.iter().flat_map(|name| request.headers().get_all(*name));
        let values = values.map(|value| value.to_str().expect("ASCII"));
        if is_right(&values.chain(request.uri().query()).collect::<Vec<_>>()) {
            *request.uri_mut() = PATH.parse().expect("a path");
            credential.apply_to(&mut request);
        }
        next.run(request)
    };
    app(WebhookAuth::from_credential(applied)).layer(from_fn(check))
}

#[tokio::test]
async fn a_comparison_by_hand_is_named() {
    let bearer = &Credential::bearer(SECRET).expect(USABLE);
    let basic = &Credential::basic("user", "ab").expect(USABLE);
    let query = &Credential::query("key", SECRET).expect(USABLE);
    let (short, token) = (&token("A"), &token(SECRET));

    let any: IsRight = |given| matches!(given, [given] if given != &SECRET);
    let start: IsRight = |given| matches!(given, [given] if given.starts_with(SECRET));
    let end: IsRight = |given| matches!(given, [given] if given.ends_with(SECRET));
    let case: IsRight = |given| given.concat().eq_ignore_ascii_case(SECRET);
    let first: IsRight = |given| given.first() == Some(&SECRET) && given.len() > 1;
    let last: IsRight = |given| given.last() == Some(&SECRET) && given.len() > 1;
    let bare: IsRight = |given| given == [SECRET];
    let digest: IsRight = |given| given.concat().starts_with("Digest");
    let base64: IsRight = |given| given.concat().eq_ignore_ascii_case("Basic dXNlcjphYg==");
    let user: IsRight = |given| given == ["Basic dXNlcng6YWI="];
    let pairs: IsRight = |given| given.concat().starts_with("key=correct-horse-7&");
    let wrong = "secret_wrong secret_wrong_at_the_end secret_without_its_start \
                 secret_without_its_end secret_with_prefix secret_with_suffix \
                 secret_in_other_case secret_empty secret_in_a_list";
    let hidden = "secret_twice secret_before_a_wrong_one secret_before_a_hidden_wrong_one";
    for (credential, is_right, probes, likely_cause) in [
        (token, any, wrong, "another secret is accepted"),
        (token, |given| given == [""], "secret_empty", "an empty secret"),
        (short, |given| given == [""], "secret_empty", "an empty secret"),
        (short, |given| given == ["a"], "secret_in_other_case", "case-insensitively"),
        (token, start, "secret_with_suffix secret_in_another_header", "only a part"),
        (token, end, "secret_with_prefix secret_in_a_list secret_in_another_header", "only a part"),
        (token, case, "secret_in_other_case secret_in_another_header", "case-insensitively"),
        (token, first, "secret_twice secret_before_a_wrong_one", "a duplicate credential"),
        (token, last, "secret_twice secret_after_a_wrong_one", "a duplicate credential"),
        (token, bare, "secret_in_another_header", "another location"),
        (bearer, bare, "secret_without_scheme secret_in_another_header", "another location"),
        (bearer, digest, "secret_in_another_scheme", "another location"),
        (basic, base64, "base64_in_other_case", "case-insensitively"),
        (basic, user, "secret_of_another_user", "only a part"),
        (query, pairs, hidden, "a duplicate credential"),
    ] {
        let report = testing::conformance(by_hand(credential, is_right), PATH, credential).await;
        assert_only(&report, probes, "CRITICAL: a forged event is accepted");
        assert_first(&report, names(&report)[0], likely_cause);
    }
}

/// Apps that refuse in another way than the contract, or acknowledge what they must refuse.
#[tokio::test]
async fn an_app_that_does_not_refuse_as_the_contract_says_is_named() {
    let bytes = async |_: Authenticated, head: Parts, body: Bytes| {
        UnsubscribeEvent::from_body(&head, Full::new(body)).await.map(|_| Received)
    };
    let wraps = async |event: Decoded| match event {
        Ok(_) => Ok(Received),
        Err(rejection) => Err(ServerError::from(anyhow::Error::new(rejection).context("failed"))),
    };
    let swallows = async |_: Decoded| Received;
    let json = async |_: Json<UnsubscribeEvent>| Received;
    let limit = ServiceBuilder::new().layer(auth()).layer(RequestBodyLimitLayer::new(2_097_152));
    let parses = |headers, body: Bytes| {
        let parsed = serde_json::from_slice::<Value>(&body);
        (headers, parsed.map_or(body, |tree| tree.to_string().into()))
    };
    let rewrites = async |response: AnyResponse| {
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body in memory");
        let text = String::from_utf8(body.into()).expect("UTF-8");
        Response::from_parts(head, Body::from(text.replace("\"/id\"", "\"/data\"")))
    };
    let duplicate_phone = format!("{}:/data/phone", Code::DuplicateField);
    for (app, probe, likely_cause) in [
        (protected(bytes), "body_incomplete", "something rewrites the refusal"),
        (protected(bytes), "body_too_large", "the extractor `Bytes`"),
        (routed(post(unsubscribed).layer(limit)), "body_too_large", "`RequestBodyLimitLay"),
        (app(auth()).layer(DefaultBodyLimit::disable()), "body_too_large", "body is not limited"),
        (protected(wraps), "missing_field:/id", "a refusal becomes a failure"),
        (protected(swallows), "missing_field:/name", "acknowledges a `Rejection`"),
        (protected(json), "content_type_missing", "`axum::Json`"),
        (protected(json), "missing_field:/id", "`axum::Json`"),
        (rewritten(false, parses), &*duplicate_phone, "parses the body and writes it"),
        (app(auth()).layer(map_response(rewrites)), "missing_field:/id", "changes the body"),
        (changed(400, |_| panic!("on purpose")), "body_empty", "the app panics"),
        (changed(400, |_| code(200)), "body_empty", "acknowledges a `Rejection`"),
        (changed(400, |_| code(400)), "content_type_text", "something rewrites the refusal"),
        (changed(400, |_| code(403)), "content_type_text", "something else responds first"),
        (changed(400, |_| code(502)), "missing_field:/id", "a refusal becomes a failure"),
    ] {
        let report = suite(app).await;
        assert_cause(&report, probe, likely_cause);
        assert!(!names(&report).contains(&"no_credential"), "{report}");
    }
    let report = suite(app(auth()).layer(map_response(rewrites))).await;
    assert_eq!(report.findings()[0].response(), "400 missing_field, another pointer");
    let small = suite(app(auth()).layer(DefaultBodyLimit::max(700))).body_limit(700);
    assert_cause(&small.await, "text_long", "the body limit is smaller");
    let report = suite(app(auth())).accounts([3]).await;
    assert_only(&report, "foreign_account", "`allow_accounts` is absent");
}

/// Apps that do not acknowledge what they must.
#[tokio::test]
async fn an_app_that_refuses_valid_events_is_named() {
    /// Takes the example, and not every event that the contract allows.
    async fn own(_: Authenticated, headers: HeaderMap, body: Bytes) -> AnyResponse {
        let event: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or("\0");
        let id = &event["data"]["unsubscribe_request_id"];
        let is_good = headers["content-type"] == "application/json"
            && event["attempts_total"].is_u64()
            && id.as_i64().is_some_and(|id| i32::try_from(id).is_ok())
            && text("/data/phone").starts_with('+')
            && text("/data/additional_data/additional_text").len() < 256
            && !text("/data/additional_data/additional_text").contains('\0');
        code(if is_good { 200 } else { 500 })
    }
    let report = suite(protected(own)).await;
    for (probes, likely_cause) in [
        ("phone_national phone_with_zeros phone_with_extension phone_not_number", "an opt-out too"),
        ("content_type_charset content_type_case", "refused for its form"),
        ("text_long request_id_of_64_bits", "does not take every value"),
        ("text_with_control_characters", "PostgreSQL"),
        ("total_of_the_page without_optional_fields optional_fields_null", "for its form"),
        ("integers_with_exponent byte_order_mark", "for its form"),
    ] {
        assert_cause(&report, probes, likely_cause);
    }

    let unlucky = async |event: UnsubscribeEvent| {
        assert_ne!(i64::from(event.data.additional_data.reason.id), 3, "on purpose");
        Received
    };
    let report = suite(protected(unlucky)).await;
    assert_only(&report, "reason_3", "the app panics");

    let fails = async |event: Option<UnsubscribeEvent>| code(event.map_or(501, |_| 200));
    for report in
        [suite(app(auth())).acknowledges_other_events().await, suite(protected(fails)).await]
    {
        assert_only(&report, "other_event other_event_bare", "take `Option<UnsubscribeEvent>`");
    }

    let skips = from_fn(async |request: Request, next: Next| {
        let is_stream = !request.headers().contains_key("content-length");
        if is_stream { code(200) } else { next.run(request).await }
    });
    assert_cause(&suite(app(auth()).layer(skips)).await, "stream", "CRITICAL: an opt-out is lost");

    for status in [409, 500] {
        let ids = Arc::new(Mutex::new(HashSet::new()));
        let unique_key = async move |event: UnsubscribeEvent| {
            let is_new = ids.lock().expect("the ids").insert(event.id);
            code(if is_new { 200 } else { status })
        };
        let report = suite(protected(unique_key)).await;
        let repeated = "duplicate attempt_2 attempt_3 attempt_4 same_id_other_phone";
        assert_only(&report, repeated, "");
        assert_cause(&report, "duplicate", "`ON CONFLICT DO NOTHING`");
        assert_cause(&report, "same_id_other_phone", "make both the unique key");
    }
}

// What an app stores.

#[tokio::test]
async fn an_app_that_stores_nothing_is_named() {
    let report = List::default().suite(app(auth())).await;
    assert_first(&report, "good_delivery", "CRITICAL: an opt-out is lost: it is acknowledged");
    let line = "good_delivery: expected 200, suppressed, got 200, not suppressed";
    assert_eq!(report.findings()[0].to_string(), line);
    assert_cause(&report, "invalid_field:reason_null", "`Rejection::opt_out()`");
    assert!(report.to_string().lines().count() < 20, "{report}");
}

#[tokio::test]
async fn an_app_that_stores_too_little_is_named() {
    let list = List::default();
    let only_valid = list.route(|event| Some(event.as_ref().ok()?.data.phone.clone()));
    let report = list.suite(routed(only_valid.layer(auth()))).await;
    assert_first(&report, "content_type_missing", "although the refused body contains it");
    let probes = "content_type_text body_cut_off_at_end body_with_more_behind body_latin_1 \
                  field_name_surrogate missing_field:/data/user_id \
                  missing_field:/data/unsubscribe_request_id invalid_field:account_string \
                  invalid_field:additional_data_array invalid_field:campaign_number \
                  invalid_field:reason_null invalid_field:reason_7 invalid_field:total_5";
    assert_cause(&report, probes, "although the refused body contains it");
    let duplicate_id = format!("{}:/id", Code::DuplicateField);
    assert_cause(&report, &duplicate_id, "although the refused body contains it");
    for finding in report.findings() {
        assert!(finding.expected().starts_with("400 "), "{finding}");
        assert!(finding.expected().ends_with(", suppressed"), "{finding}");
    }

    let ids = Arc::new(Mutex::new(HashSet::new()));
    let one_number_of_an_id = list.route(move |event| {
        let is_new = |id| ids.lock().expect("the ids").insert(id);
        every_opt_out(event).filter(|_| event.as_ref().map_or(true, |event| is_new(event.id)))
    });
    let report = list.suite(routed(one_number_of_an_id.layer(auth()))).await;
    assert_only(&report, "same_id_other_phone", "make both the unique key");
}

#[tokio::test]
async fn an_app_that_stores_too_much_is_named() {
    let list = List::default();
    let anything = list.route(|event| match event {
        Ok(event) => Some(event.data.phone.clone()),
        Err(rejection) => every_opt_out(event).or_else(|| any_phone(rejection.body()?)),
    });
    let app = routed(anything.layer(auth().allow_accounts([2])));
    let duplicate = Code::DuplicateField;
    let probes = format!(
        "missing_field:/name missing_field:/data/user_id invalid_field:name_number \
         invalid_field:account_string invalid_field:account_fraction invalid_field:phone_number \
         {duplicate}:/name {duplicate}:/data/phone {duplicate}:/data/user_id foreign_account \
         other_event"
    );
    let report = list.suite(app).accounts([2]).await;
    assert_only(&report, &probes, "not certainly an opt-out of an accepted account");

    let stores = list.clone();
    let store = from_fn(move |request: Request, next: Next| {
        let list = stores.clone();
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = to_bytes(body, 3_000_000).await else { return code(400) };
            any_phone(&body).inspect(|phone| list.add(phone));
            next.run(Request::from_parts(head, body.into())).await
        }
    });
    let app = routed(list.route(every_opt_out).layer(auth())).layer(store);
    let critical = "CRITICAL: a forged event is stored before the credential is checked";
    let report = list.suite(app.clone()).over_network().await;
    assert_first(&report, "no_credential", critical);
    assert_cause(&report, "no_credential_stream", critical);
    assert_cause(&report, "missing_field:/name", "not certainly an opt-out");
    // In memory, it is observed too that the body is read; the critical cause comes first.
    let report = list.suite(app).await;
    assert_first(&report, "no_credential", "reads the body of unauthenticated requests");
    let text = report.to_string();
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with(critical)), "{text}");
}

/// One finding, whether or not the list is known.
#[tokio::test]
async fn an_app_that_acknowledges_bodies_with_an_opt_out_departs_from_the_contract() {
    let list = List::default();
    let stores = list.clone();
    let handler = async move |event: Decoded| {
        let Some(phone) = every_opt_out(&event) else { return event.map(|_| Received) };
        stores.add(&phone);
        Ok(Received)
    };
    let app = protected(handler);
    for report in [suite(app.clone()).await, list.suite(app).await] {
        assert_only(&report, "content_type_missing", "acknowledges a `Rejection`");
        assert!(report.to_string().ends_with(" more"), "{report}");
    }
}

// What a report is.

#[tokio::test]
async fn a_report_has_each_likely_cause_once_and_critical_ones_first() {
    let report = suite(routed(post(async |_: Json<UnsubscribeEvent>| Received))).await;
    let text = report.to_string();
    let lines: Vec<_> = text.lines().collect();
    let (probes, findings) = (report.probes(), report.findings().len());
    assert_eq!(lines[0], format!("{probes} probes, {findings} findings"));
    assert!(lines[1].starts_with("CRITICAL: a forged event is accepted: nothing checks"), "{text}");
    assert_eq!(lines[2], "  - no_credential: expected 401 unauthorized, got 200");
    let causes: Vec<_> = lines[1..].iter().filter(|line| !line.starts_with("  - ")).collect();
    assert_eq!(causes.iter().collect::<HashSet<_>>().len(), causes.len(), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("  - and ")), "{text}");
    assert_eq!(text.matches("CRITICAL: a forged event is accepted").count(), 1, "{text}");
}

#[tokio::test]
#[should_panic(
    expected = "the app breaks the webhook's contract\n18 probes, 1 finding\nthe route is not behind"
)]
async fn a_report_with_findings_fails_the_test() {
    suite(routed(post(unsubscribed))).await.assert_passed();
}

/// Everything is sent to an app that acknowledges only the first delivery.
#[tokio::test]
async fn the_documentation_lists_every_probe() {
    let chapter = include_str!("../docs/testing.md");
    let shown = suite(routed(post(unsubscribed))).await;
    assert!(chapter.contains(&format!("contract\n{shown}\n```\n")), "{shown}");
    for credential in [
        Credential::token(SECRET),
        Credential::bearer(SECRET),
        Credential::basic("lox24", SECRET),
        Credential::query("key", SECRET),
    ] {
        let first = Rc::new(Cell::new(true));
        let app = service_fn(move |request: Request| {
            let status = if first.take() { 200 } else { 418 };
            async move {
                let _ = to_bytes(request.into_body(), usize::MAX).await;
                Ok::<_, Infallible>(code(status))
            }
        });
        let credential = credential.expect(USABLE);
        let report = testing::conformance(app, PATH, &credential).accounts([2, 3]).await;
        assert_eq!(report.probes(), report.findings().len() + 1);
        let names: HashSet<_> = names(&report).into_iter().collect();
        assert_eq!(names.len(), report.findings().len(), "a duplicate name");
        for name in names {
            let listed = match name.split_once(':') {
                None => format!("`{name}`"),
                Some((kind, _)) => format!("`{kind}:…`"),
            };
            assert!(chapter.contains(&listed), "{listed}");
        }
    }
}

#[test]
fn an_event_is_the_example_with_an_id_of_its_own() {
    let (mut event, other) = (testing::event(), testing::event());
    assert_ne!(event.id, other.id);
    event.id = example().id;
    assert_eq!(event, example());
}
