//! What a host's developer gets: a suite that finds nothing in a host that is right, and names the
//! mistake in one that is wrong.

mod common;

use std::{
    cell::Cell,
    collections::HashSet,
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Request},
    http::{HeaderMap, Response, StatusCode},
    middleware::{Next, from_fn, map_response},
    response::{IntoResponse, Redirect},
    routing::{MethodRouter, get, post},
};
use common::{PATH, SECRET, host, token};
use http_body_util::{Full, Limited};
use serde::Deserialize;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    compression::CompressionLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
    trace::TraceLayer,
};
use unsubscribe_webhook::{
    Authenticated, Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth,
    testing::{self, Conformance, Report},
};

/// The probes of somebody who does not have the token.
const FORGED: [&str; 17] = [
    "no_credential",
    "secret_wrong",
    "secret_wrong_at_the_end",
    "secret_without_its_start",
    "secret_without_its_end",
    "secret_with_more_before",
    "secret_with_more_behind",
    "secret_in_other_case",
    "secret_empty",
    "secret_twice",
    "secret_before_a_wrong_one",
    "secret_after_a_wrong_one",
    "secret_in_another_header",
    "secret_in_a_list",
    "no_credential_stream",
    "no_credential_malformed",
    "no_credential_other_event",
];

const AGAIN: [&str; 4] = ["duplicate", "attempt_2", "attempt_3", "attempt_4"];
const TOO_LARGE: [&str; 2] = ["body_too_large", "body_too_large_stream"];
const PHONES: [&str; 4] =
    ["phone_national", "phone_with_zeros", "phone_with_extension", "phone_no_number"];

fn auth() -> WebhookAuth {
    WebhookAuth::new(SECRET)
}

async fn unsubscribed(_: UnsubscribeEvent) -> Received {
    Received
}

fn at_path(route: MethodRouter) -> Router {
    Router::new().route(PATH, route)
}

fn suite<S>(app: S) -> Conformance<S> {
    testing::conformance(app, PATH, &token(SECRET))
}

async fn report(app: Router) -> Report {
    suite(app).await
}

/// Asserts which probes have findings, and that each of them tells the mistake in one line.
#[track_caller]
fn assert_found(report: &Report, probes: &[&str], mistake: &str) {
    assert_eq!(names(report), probes, "{report}");
    assert_all_tell(report, mistake);
}

#[track_caller]
fn assert_all_tell(report: &Report, mistake: &str) {
    assert!(!report.is_clean());
    for finding in report.findings() {
        assert!(finding.mistake().contains(mistake), "{finding}");
        assert!(!finding.to_string().contains('\n'), "{finding}");
    }
    let texts = format!("{report} {report:?}");
    assert!(!texts.contains(SECRET), "{texts}");
}

/// Asserts that some probes are among the findings, and tell the mistake.
#[track_caller]
fn assert_tells(report: &Report, probes: &[&str], mistake: &str) {
    for probe in probes {
        let finding = report.findings().iter().find(|finding| finding.probe() == *probe);
        let finding = finding.unwrap_or_else(|| panic!("{probe} is missing: {report}"));
        assert!(finding.mistake().contains(mistake), "{finding}");
    }
    assert!(!report.to_string().contains(SECRET), "{report}");
}

fn names(report: &Report) -> Vec<&str> {
    report.findings().iter().map(testing::Finding::probe).collect()
}

/// The names of the findings that begin like this.
fn count(report: &Report, start: &str) -> usize {
    names(report).iter().filter(|name| name.starts_with(start)).count()
}

// Hosts that are right.

#[tokio::test]
async fn a_right_host_is_clean_whatever_its_credential() {
    let usable = "a usable secret";
    let credentials = [
        token(SECRET),
        token("x"),
        token("==="),
        Credential::header("Authorization", "two words").expect(usable),
        Credential::bearer("mF_9.B5f-4.1JqM==").expect(usable),
        Credential::bearer("1").expect(usable),
        Credential::basic("lox24", "p:ässwörd").expect(usable),
        Credential::basic("", "x").expect(usable),
        Credential::query("tok&en", "pä&ss+wörd %").expect(usable),
        Credential::query("x", "ä").expect(usable),
    ];
    for credential in credentials {
        let app = host(WebhookAuth::from_credential(credential.clone()));
        let report = testing::conformance(app, PATH, &credential).await;
        report.assert_clean();
        assert!(report.findings().is_empty());
        assert!(report.probes() > 90, "{report}");
        assert_eq!(report.to_string(), format!("{} probes, 0 findings", report.probes()));
    }
}

#[tokio::test]
async fn a_right_host_is_clean_though_its_place_or_secret_is_odd() {
    let usable = "a usable secret";
    let credentials = [
        Credential::query("key", "a\nb\u{7f}").expect(usable),
        // Doubled, it is longer than a URI may be.
        Credential::query("key", "%".repeat(16_000)).expect(usable),
        Credential::header("X-Not-The-Place", SECRET).expect(usable),
    ];
    for credential in credentials {
        let app = host(WebhookAuth::from_credential(credential.clone()));
        let report = testing::conformance(app, PATH, &credential).await;
        report.assert_clean();
        assert!(report.probes() > 90, "{report}");
    }
}

#[tokio::test]
async fn a_path_may_have_a_query() {
    let credential = Credential::query("token", SECRET).expect("a usable secret");
    let app = host(WebhookAuth::from_credential(credential.clone()));
    testing::conformance(app, &format!("{PATH}?a=1"), &credential).await.assert_clean();
}

/// As somebody copies it from the dashboard.
#[tokio::test]
async fn a_path_may_hold_the_credential() {
    let credential = Credential::query("token", SECRET).expect("a usable secret");
    let app = host(WebhookAuth::from_credential(credential.clone()));
    for path in [format!("{PATH}?token={SECRET}"), format!("{PATH}?a=1&%74oken={SECRET}&b=2")] {
        testing::conformance(app.clone(), &path, &credential).await.assert_clean();
    }
}

#[test]
#[should_panic(expected = "without a limit")]
fn a_body_has_a_limit() {
    let _ = suite(Router::<()>::new()).body_limit(usize::MAX);
}

#[test]
fn a_path_begins_with_a_slash() {
    for path in ["", "hook", "webhooks/unsubscribe", "/a b"] {
        let refused = std::panic::catch_unwind(|| {
            let _ = testing::conformance(Router::<()>::new(), path, &token(SECRET));
        });
        let text = refused.expect_err("no path").downcast::<&str>().expect("a text");
        assert!(text.contains("begins with a slash"), "{text}");
    }
}

#[tokio::test]
async fn every_kind_of_handler_is_clean() {
    async fn option(event: Option<UnsubscribeEvent>) -> Result<Received, ServerError> {
        let Some(_) = event else { return Ok(Received) };
        Ok(Received)
    }
    async fn result(
        _: Authenticated,
        event: Result<UnsubscribeEvent, Rejection>,
    ) -> Result<Received, ServerError> {
        match event {
            Ok(_) => Ok(Received),
            Err(rejection) if rejection.code() == Code::OtherEvent => Ok(Received),
            Err(rejection) => Err(rejection)?,
        }
    }
    async fn by_itself(
        _: Authenticated,
        head: http::request::Parts,
        body: Bytes,
    ) -> Result<StatusCode, Rejection> {
        UnsubscribeEvent::from_parts(&head, body).map(|_| StatusCode::NO_CONTENT)
    }
    for route in [post(option), post(result)] {
        let app = at_path(route.layer(auth()));
        suite(app).acknowledges_other_events().await.assert_clean();
    }
    // `Bytes` has answers of its own for a body that it cannot read.
    let report = report(at_path(post(by_itself).layer(auth()))).await;
    assert_eq!(names(&report), ["body_incomplete", TOO_LARGE[0], TOO_LARGE[1]], "{report}");
    assert_all_tell(&report, "`Bytes`");
}

#[tokio::test]
async fn a_right_host_may_rotate_and_nest_and_have_other_layers() {
    let bearer = Credential::bearer("another").expect("a usable secret");
    let rotating = auth().or(bearer.clone());
    suite(host(rotating.clone())).await.assert_clean();
    testing::conformance(host(rotating), PATH, &bearer).await.assert_clean();

    let nested = at_path(post(unsubscribed).layer(auth()))
        .layer(WebhookAuth::from_credential(bearer.clone()).allow_accounts([2]));
    let sign = bearer.clone();
    suite(nested.clone()).on_request(move |request| sign.apply_to(request)).await.assert_clean();
    testing::conformance(nested, PATH, &bearer)
        .on_request(|request| token(SECRET).apply_to(request))
        .await
        .assert_clean();

    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(auth())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            std::time::Duration::from_secs(9),
        ))
        .layer(DefaultBodyLimit::max(4096));
    let routes = Router::new().route("/unsubscribe", post(unsubscribed).layer(layers));
    let app = Router::new().route("/health", get(async || "ok")).nest("/webhooks", routes);
    suite(app).body_limit(4096).await.assert_clean();
}

#[tokio::test]
async fn a_right_host_needs_no_axum_and_no_threads() {
    const LIMIT: usize = 64 * 1024;
    let handled = Rc::new(Cell::new(0));
    let counter = Rc::clone(&handled);
    let app = ServiceBuilder::new().layer(auth()).service(service_fn(move |request: Request| {
        let handled = Rc::clone(&counter);
        async move {
            let (head, body) = request.into_parts();
            let event = UnsubscribeEvent::from_body(&head, Limited::new(body, LIMIT)).await;
            let response: Response<Full<Bytes>> = match event {
                Ok(_) => {
                    handled.set(handled.get() + 1);
                    Received.into()
                }
                Err(rejection) => rejection.into(),
            };
            Ok::<_, Infallible>(response)
        }
    }));
    suite(app).body_limit(LIMIT).await.assert_clean();
    assert!(handled.get() > 30, "{}", handled.get());
}

#[tokio::test]
async fn a_right_host_may_accept_some_accounts_only() {
    let app = host(auth().allow_accounts([7, i64::MAX, -1]));
    let report = suite(app.clone()).accounts([7, i64::MAX, -1]).await;
    report.assert_clean();
    // The other two, and a foreign one.
    let without = suite(host(auth())).await;
    assert_eq!(report.probes(), without.probes() + 3);

    let found = suite(app.clone()).accounts([7, 8]).await;
    assert_found(&found, &["own_account:8"], "compare `allow_accounts` with `.accounts(..)`");
    let found = suite(app).await;
    assert_found(&found, &["good_delivery"], "by `.accounts(..)`");
}

#[test]
#[should_panic(expected = "accepts no account")]
fn a_host_accepts_some_account() {
    let _ = suite(Router::<()>::new()).accounts([]);
}

#[tokio::test]
async fn what_a_server_adds_can_be_added() {
    let gateway = SocketAddr::from(([192, 0, 2, 1], 443));
    let auth = auth().require(move |head| {
        head.extensions.get::<ConnectInfo<SocketAddr>>().is_some_and(|peer| peer.0 == gateway)
    });
    let app = host(auth);
    let found = report(app.clone()).await;
    assert_found(&found, &["good_delivery"], "`WebhookAuth::require` said no");

    let ready = suite(app).on_request(move |request| {
        request.extensions_mut().insert(ConnectInfo(gateway));
    });
    assert!(!format!("{ready:?}").contains(SECRET));
    ready.await.assert_clean();
}

#[tokio::test]
#[should_panic(expected = "`.on_request(..)` puts the right credential on a forged delivery")]
async fn what_a_server_adds_is_not_the_credential() {
    let _ = suite(host(auth())).on_request(|request| token(SECRET).apply_to(request)).await;
}

/// As tower's `Buffer` does, it panics if it is called before it is ready.
#[derive(Clone, Default)]
struct Strict {
    is_ready: bool,
}

impl Service<Request> for Strict {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = tower::util::Oneshot<Router, Request>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.is_ready {
            return Poll::Ready(Ok(()));
        }
        self.is_ready = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, request: Request) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        host(auth()).oneshot(request)
    }
}

#[tokio::test]
async fn a_service_is_called_only_when_it_is_ready() {
    suite(Strict::default()).await.assert_clean();
}

// Hosts that are wrong. First those which let nothing in, for which one finding says all.

#[tokio::test]
async fn a_route_without_the_layer_is_named() {
    let mistake = "the route is not behind the layer";
    let forgotten = at_path(post(unsubscribed));
    assert_found(&report(forgotten).await, &["good_delivery"], mistake);

    let before = Router::new().route("/other", get(async || "ok")).layer(auth());
    let merged_after = before.merge(at_path(post(unsubscribed)));
    let found = report(merged_after).await;
    assert_found(&found, &["good_delivery"], mistake);
    assert_eq!(found.findings()[0].answer(), "500 missing_layer");
    assert_eq!(found.findings()[0].expected(), "200");
}

/// As a middleware does that reads the body, or signs the request anew.
#[tokio::test]
async fn a_middleware_that_drops_the_extensions_is_named() {
    let anew = from_fn(async |request: Request, next: Next| {
        let (head, body) = request.into_parts();
        let mut request = Request::builder().method(head.method).uri(head.uri);
        request.headers_mut().expect("a valid request").extend(head.headers);
        next.run(request.body(body).expect("a valid request")).await
    });
    let layers = ServiceBuilder::new().layer(auth()).layer(anew);
    let found = report(at_path(post(unsubscribed).layer(layers))).await;
    assert_found(&found, &["good_delivery"], "a new request without the extensions");
}

/// Something else answers 200 in the handler's place.
#[tokio::test]
async fn an_acknowledgement_of_what_nobody_read_is_named() {
    let page = async || "<!doctype html>";
    let elsewhere = Router::new().route("/hook", post(unsubscribed).layer(auth())).fallback(page);
    // Over a socket it cannot be seen what was read.
    let found = suite(elsewhere.clone()).over_a_socket().await;
    assert_tells(&found, &FORGED, "or another route answers everything with 200");
    let found = report(elsewhere).await;
    let mistake = "a fallback, another route (compare the path)";
    assert_tells(&found, &["good_delivery"], mistake);
    let text = found.to_string();
    assert!(text.lines().nth(1).is_some_and(|line| line.contains(mistake)), "{text}");

    let last = at_path(post(unsubscribed).layer(auth())).layer(from_fn(
        async |request: Request, next: Next| {
            let is_stream = !request.headers().contains_key("content-length");
            if is_stream { StatusCode::OK.into_response() } else { next.run(request).await }
        },
    ));
    assert_tells(&report(last).await, &["stream"], "acknowledged that nobody has read");
}

#[tokio::test]
async fn a_wrong_path_or_method_is_named() {
    let elsewhere = Router::new().route("/hook", post(unsubscribed));
    let mistake = "no route at the path";
    for app in [elsewhere.clone().route_layer(auth()), elsewhere.layer(auth())] {
        assert_found(&report(app).await, &["good_delivery"], mistake);
    }
    let app = at_path(axum::routing::put(unsubscribed).layer(auth()));
    assert_found(&report(app).await, &["good_delivery"], "use `post(..)`");
    let app =
        host(auth()).layer(from_fn(async |_: Request, _: Next| Redirect::permanent("/elsewhere")));
    assert_found(&report(app).await, &["good_delivery"], "redirects");
}

#[tokio::test]
async fn a_layer_with_another_credential_is_named() {
    let another_secret = WebhookAuth::new("another");
    let another_place =
        WebhookAuth::from_credential(Credential::bearer(SECRET).expect("a usable secret"));
    let mistake = "the layer does not accept the credential";
    for auth in [another_secret, another_place] {
        assert_found(&report(host(auth)).await, &["good_delivery"], mistake);
    }
    let strips = host(auth()).layer(from_fn(async |mut request: Request, next: Next| {
        request.headers_mut().remove("x-lox24-token");
        next.run(request).await
    }));
    assert_found(&report(strips).await, &["good_delivery"], mistake);
}

#[tokio::test]
async fn a_check_of_somebody_else_is_named() {
    let csrf = from_fn(async |_: Request, _: Next| StatusCode::FORBIDDEN);
    assert_found(&report(host(auth()).layer(csrf)).await, &["good_delivery"], "CSRF");
    let limit = from_fn(async |_: Request, _: Next| StatusCode::TOO_MANY_REQUESTS);
    assert_found(
        &report(host(auth()).layer(limit)).await,
        &["good_delivery"],
        "a limit of the rate",
    );
}

/// What answers first, and is no check of a credential.
#[tokio::test]
async fn whatever_comes_instead_of_the_first_acknowledgement_is_named() {
    for (status, mistake) in [
        (StatusCode::BAD_REQUEST, "a check of the head (CSRF, `Host`)"),
        (StatusCode::UNPROCESSABLE_ENTITY, "`axum::Json`"),
        (StatusCode::REQUEST_TIMEOUT, "a timeout"),
        (StatusCode::SERVICE_UNAVAILABLE, "a limit of the load"),
        (StatusCode::NOT_FOUND, "or the handler answers 404"),
    ] {
        let app = host(auth()).layer(from_fn(move |_: Request, _: Next| ready(status)));
        assert_found(&report(app).await, &["good_delivery"], mistake);
    }
    let login = from_fn(async |_: Request, _: Next| Redirect::to("/login"));
    assert_found(&report(host(auth()).layer(login)).await, &["good_delivery"], "to a login");

    let peer = async |_: ConnectInfo<SocketAddr>, _: UnsubscribeEvent| Received;
    let found = report(at_path(post(peer).layer(auth()))).await;
    assert_found(&found, &["good_delivery"], "(`ConnectInfo`, an `Extension`)");
}

#[tokio::test]
async fn a_middleware_that_eats_the_body_is_named() {
    let eats = from_fn(async |request: Request, next: Next| {
        let (head, body) = request.into_parts();
        let _logged = to_bytes(body, usize::MAX).await;
        next.run(Request::from_parts(head, Body::empty())).await
    });
    let layers = ServiceBuilder::new().layer(auth()).layer(eats);
    let found = report(at_path(post(unsubscribed).layer(layers))).await;
    assert_found(&found, &["good_delivery"], "eats or rewrites the body");
    assert_eq!(found.findings()[0].answer(), "400 not_json");

    let types = from_fn(async |mut request: Request, next: Next| {
        request.headers_mut().remove("content-type");
        next.run(request).await
    });
    let found = report(host(auth()).layer(types)).await;
    assert_found(&found, &["good_delivery"], "takes `Content-Type` away");

    let found = report(host(auth()).layer(DefaultBodyLimit::max(100))).await;
    assert_found(&found, &["good_delivery"], "the limit of the body is smaller");
}

#[tokio::test]
async fn a_handler_that_always_fails_is_named() {
    let fails = async |_: UnsubscribeEvent| Err::<Received, ServerError>("no database".into());
    let found = report(at_path(post(fails).layer(auth()))).await;
    assert_found(&found, &["good_delivery"], "the handler failed");
    let fails = async |_: UnsubscribeEvent| StatusCode::BAD_GATEWAY;
    let found = report(at_path(post(fails).layer(auth()))).await;
    assert_found(&found, &["good_delivery"], "`Result<Received, ServerError>`");

    let panics = async |event: UnsubscribeEvent| -> Received { panic!("on purpose: {event:?}") };
    let found = report(at_path(post(panics).layer(auth()))).await;
    assert_found(&found, &["good_delivery"], "the host panics");
    assert_eq!(found.findings()[0].answer(), "a panic");
}

/// A service that is never ready.
#[derive(Clone)]
struct Down;

impl Service<Request> for Down {
    type Response = Response<Body>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Err("down"))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        panic!("called although it is not ready")
    }
}
#[tokio::test]
async fn a_service_that_fails_is_named() {
    let fails = service_fn(|_: Request| ready(Err::<Response<Body>, _>("down")));
    let found = suite(fails).await;
    assert_found(&found, &["good_delivery"], "returns an error instead of an answer");

    let found = suite(Down).await;
    assert_found(&found, &["good_delivery"], "returns an error instead of an answer");
}

// Hosts into which a forged event gets.

#[tokio::test]
async fn a_forged_event_that_gets_in_is_named() {
    let open = at_path(post(async |_: Json<UnsubscribeEvent>| Received));
    let found = report(open).await;
    let (let_in, refused_by_json) = FORGED.split_at(15);
    assert_tells(&found, let_in, "A FORGED EVENT GETS IN: nothing asks for the credential");
    assert_tells(&found, refused_by_json, "judged before the credential");

    // Or is put away, to be read after the answer.
    let later = at_path(post(async |request: Request| {
        drop(tokio::spawn(to_bytes(request.into_body(), 9)));
    }));
    let found = report(later).await;
    assert_tells(&found, &FORGED, "A FORGED EVENT IS ACKNOWLEDGED, unread");
    assert_tells(&found, &FORGED, "nothing asks for the credential and the body is read later");

    // Also if nothing good gets in.
    let upside_down = at_path(post(async |headers: HeaderMap, _: Bytes| {
        if headers.contains_key("x-lox24-token") { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
    }));
    let found = report(upside_down).await;
    assert_tells(&found, &["good_delivery"], "`Result<Received, ServerError>`");
    let open = ["no_credential", "secret_in_another_header", "no_credential_stream"];
    assert_tells(&found, &open, "A FORGED EVENT GETS IN");
    assert_eq!(found.findings().len(), 6, "{found}");
}

/// A host that compares by hand, in one way or another, and is right in all else.
fn by_hand(compare: fn(given: &[&str], secret: &str) -> bool) -> Router {
    host(auth()).layer(from_fn(move |mut request: Request, next: Next| async move {
        let given = request.headers().get_all("x-lox24-token").iter();
        let given: Vec<&str> = given.filter_map(|value| value.to_str().ok()).collect();
        if compare(&given, SECRET) {
            token(SECRET).apply_to(&mut request);
        }
        next.run(request).await
    }))
}

#[tokio::test]
async fn a_comparison_by_hand_is_named() {
    type Compare = fn(&[&str], &str) -> bool;
    let comparisons: [(Compare, &[&str], &str); 9] = [
        (
            |given, secret| given.len() == 1 && secret.starts_with(given[0]),
            &["secret_without_its_end", "secret_empty"],
            "",
        ),
        (
            |given, secret| given.len() == 1 && given[0].starts_with(secret),
            &["secret_with_more_behind"],
            "in part",
        ),
        (
            |given, secret| given.len() == 1 && given[0].ends_with(secret),
            &["secret_with_more_before", "secret_in_a_list"],
            "in part",
        ),
        (
            |given, secret| given.len() == 1 && given[0][..4.min(given[0].len())] == secret[..4],
            &[
                "secret_wrong_at_the_end",
                "secret_without_its_end",
                "secret_with_more_behind",
                "secret_in_a_list",
            ],
            "in part",
        ),
        (|given, _| given == [""], &["secret_empty"], "an empty secret gets in"),
        (
            |given, secret| given.len() == 1 && given[0].eq_ignore_ascii_case(secret),
            &["secret_in_other_case"],
            "without regard to case",
        ),
        (
            |given, secret| given.first() == Some(&secret),
            &["secret_twice", "secret_before_a_wrong_one"],
            "holds two values",
        ),
        (
            |given, secret| given.last() == Some(&secret),
            &["secret_twice", "secret_after_a_wrong_one"],
            "holds two values",
        ),
        (
            |given, _| given.len() == 1 && !given[0].is_empty(),
            &[
                "secret_wrong",
                "secret_wrong_at_the_end",
                "secret_without_its_start",
                "secret_without_its_end",
                "secret_with_more_before",
                "secret_with_more_behind",
                "secret_in_other_case",
                "secret_in_a_list",
            ],
            "",
        ),
    ];
    for (compare, probes, mistake) in comparisons {
        let found = report(by_hand(compare)).await;
        assert_found(&found, probes, mistake);
        assert_all_tell(&found, "A FORGED EVENT GETS IN");
    }
    let anything = report(by_hand(|given, _| given.len() == 1)).await;
    assert_all_tell(&anything, "another secret than the given one is accepted");
    let any_header = host(auth()).layer(from_fn(async |mut request: Request, next: Next| {
        if request.headers().values().any(|value| value == SECRET) {
            token(SECRET).apply_to(&mut request);
        }
        next.run(request).await
    }));
    let probes = ["secret_twice", "secret_before_a_wrong_one", "secret_after_a_wrong_one"];
    let found = report(any_header).await;
    assert_tells(&found, &probes, "holds two values");
    assert_tells(&found, &["secret_in_another_header"], "where it does not belong");
    assert_eq!(found.findings().len(), 4);
}

/// For the places that have a grammar: a check of the host's that is laxer than the place.
#[tokio::test]
async fn a_lax_reading_of_the_place_is_named() {
    type IsRight = fn(&Request) -> bool;
    let usable = "a usable secret";
    let cases: [(Credential, IsRight, &[&str]); 5] = [
        (
            Credential::bearer(SECRET).expect(usable),
            |request| authorization(request) == SECRET,
            &["secret_without_scheme"],
        ),
        (
            Credential::bearer(SECRET).expect(usable),
            |request| authorization(request).ends_with(SECRET),
            &[
                "secret_with_more_before",
                "secret_twice",
                "secret_before_a_wrong_one",
                "secret_in_a_list",
                "secret_without_scheme",
                "secret_in_another_scheme",
            ],
        ),
        (
            Credential::basic("user", "ab").expect(usable),
            |request| authorization(request).eq_ignore_ascii_case("Basic dXNlcjphYg=="),
            &["secret_twice", "secret_before_a_wrong_one", "base64_in_other_case"],
        ),
        (
            Credential::basic("user", "ab").expect(usable),
            |request| authorization(request) == "Basic dXNlcng6YWI=",
            &["secret_of_another_user"],
        ),
        (
            Credential::query("key", SECRET).expect(usable),
            |request| {
                request.uri().query().unwrap_or_default().starts_with("key=correct%2Dhorse%2D7")
            },
            &[
                "secret_with_more_behind",
                "secret_twice",
                "secret_before_a_wrong_one",
                "secret_before_a_wrong_one_in_disguise",
            ],
        ),
    ];
    for (credential, is_right, probes) in cases {
        let signer = credential.clone();
        let app = host(WebhookAuth::from_credential(credential.clone())).layer(from_fn(
            move |mut request: Request, next: Next| {
                let signer = signer.clone();
                async move {
                    if is_right(&request) {
                        *request.uri_mut() = PATH.parse().expect("a path");
                        signer.apply_to(&mut request);
                    }
                    next.run(request).await
                }
            },
        ));
        let found = testing::conformance(app, PATH, &credential).await;
        assert_eq!(names(&found), probes, "{found}");
        assert_all_tell(&found, "A FORGED EVENT GETS IN");
    }

    // And one that is stricter than it.
    let credential = Credential::basic("user", SECRET).expect(usable);
    let strict = host(WebhookAuth::from_credential(credential.clone())).layer(from_fn(
        async |request: Request, next: Next| {
            if authorization(&request).starts_with("basic") {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            next.run(request).await
        },
    ));
    let found = testing::conformance(strict, PATH, &credential).await;
    assert_found(&found, &["scheme_in_lower_case"], "the scheme of `Authorization`");
}

fn authorization(request: &Request) -> &str {
    let value = request.headers().get("authorization");
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_foreign_account_that_gets_in_is_named() {
    let mistake = "an event of another account gets in";
    let found = suite(host(auth())).accounts([3]).await;
    assert_found(&found, &["foreign_account"], mistake);
    let json = post(async |_: Json<UnsubscribeEvent>| Received);
    let found = suite(at_path(json.layer(auth().allow_accounts([3])))).accounts([3]).await;
    assert_tells(&found, &["foreign_account"], mistake);
}

// Hosts with a layer too many, or in the wrong place.

#[tokio::test]
async fn a_middleware_that_reads_what_nobody_authenticated_is_named() {
    async fn buffer(request: Request, next: Next) -> axum::response::Response {
        let (head, body) = request.into_parts();
        match to_bytes(body, usize::MAX).await {
            Ok(body) => next.run(Request::from_parts(head, body.into())).await,
            Err(_) => Rejection::from(ServerError::from("a broken body")).into_response(),
        }
    }
    let outside = ServiceBuilder::new().layer(from_fn(buffer)).layer(auth());
    let found = report(at_path(post(unsubscribed).layer(outside))).await;
    let mut all = FORGED.to_vec();
    all.push("body_incomplete"); // answered by the middleware
    assert_eq!(names(&found), all, "{found}");
    assert_tells(&found, &FORGED, "reads the body of requests that nobody has authenticated");

    let inside = ServiceBuilder::new().layer(auth()).layer(from_fn(buffer));
    let found = report(at_path(post(unsubscribed).layer(inside))).await;
    assert_found(&found, &["body_incomplete"], "");
}

#[tokio::test]
async fn a_middleware_that_rewrites_the_body_is_named() {
    let rewrites = from_fn(async |request: Request, next: Next| {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let body = match serde_json::from_slice::<serde_json::Value>(&body) {
            Ok(tree) => tree.to_string().into(),
            Err(_) => body,
        };
        next.run(Request::from_parts(head, body.into())).await
    });
    let layers = ServiceBuilder::new().layer(auth()).layer(rewrites);
    let found = report(at_path(post(unsubscribed).layer(layers))).await;
    let doubled =
        ["duplicate_field:/id", "duplicate_field:/data/phone", "duplicate_field:/data/user_id"];
    assert_tells(&found, &doubled, "a middleware parses the body and writes it again");
    assert_tells(&found, &["body_incomplete"], "a middleware rewrites the body");
}

#[tokio::test]
async fn refusals_that_become_acknowledgements_are_named() {
    let status = map_response(async |mut response: Response<Body>| {
        *response.status_mut() = StatusCode::OK;
        response
    });
    let all = map_response(async |_: Response<Body>| StatusCode::OK);
    let mistake = "turns refusals into acknowledgements";
    let by_status = report(host(auth()).layer(status)).await;
    assert_all_tell(&by_status, mistake);
    assert_tells(&by_status, &FORGED, mistake);
    let by_all = report(host(auth()).layer(all)).await;
    assert_all_tell(&by_all, mistake);
    assert_tells(&by_all, &FORGED, mistake);
    for found in [&by_status, &by_all] {
        assert_eq!(count(found, "missing_field:"), 14);
        assert_eq!(count(found, "invalid_field:"), 18);
        assert_eq!(count(found, "content_type_"), 4);
    }

    // A handler may do it too, and no forged event gets in by that.
    let swallows = async |_: Result<UnsubscribeEvent, Rejection>| Received;
    let found = report(at_path(post(swallows).layer(auth()))).await;
    assert_tells(&found, &["missing_field:/data/phone"], "acknowledges a `Rejection`");
    assert_tells(&found, &["body_cut_off"], "give its `Rejection` back");
    assert_tells(&found, &["content_type_text"], "it acknowledges a `Rejection`");
    assert_eq!(count(&found, "no_credential"), 0);
}

#[tokio::test]
async fn refusals_that_are_rewritten_are_named() {
    let plain = map_response(async |response: Response<Body>| match response.status() {
        StatusCode::OK => response,
        status => status.into_response(),
    });
    let found = report(host(auth()).layer(plain)).await;
    assert_tells(&found, &FORGED, "the refusal is not the contract's");
    assert_tells(
        &found,
        &["missing_field:/id", "body_empty"],
        "lacks the contract's problem details",
    );
    assert_eq!(
        found.findings()[0].answer(),
        "401 without problem details without WWW-Authenticate"
    );

    let strips = map_response(async |mut response: Response<Body>| {
        response.headers_mut().remove("www-authenticate");
        response
    });
    let found = report(host(auth()).layer(strips)).await;
    assert_found(&found, &FORGED, "strips `WWW-Authenticate`");
    assert_eq!(found.findings()[0].answer(), "401 unauthorized without WWW-Authenticate");

    let retyped = map_response(async |mut response: Response<Body>| {
        let html = axum::http::HeaderValue::from_static("text/html");
        response.headers_mut().insert("content-type", html);
        response
    });
    let found = report(host(auth()).layer(retyped)).await;
    let answer = "401 unauthorized, but not as application/problem+json";
    assert_eq!(found.findings()[0].answer(), answer);

    let promoted = map_response(async |mut response: Response<Body>| {
        if response.status() == 401 {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
        response
    });
    let found = report(host(auth()).layer(promoted)).await;
    assert_eq!(found.findings()[0].answer(), "403 with the problem details of unauthorized");

    let wraps = async |event: Result<UnsubscribeEvent, Rejection>| match event {
        Ok(_) => Ok(Received),
        Err(rejection) => Err(ServerError::from(anyhow::Error::new(rejection).context("no event"))),
    };
    let found = report(at_path(post(wraps).layer(auth()))).await;
    assert_tells(&found, &["missing_field:/id", "body_too_large"], "wraps the `Rejection`");
    assert_tells(&found, &["other_event"], "`Option<UnsubscribeEvent>`");
    assert_eq!(count(&found, "no_credential"), 0);
}

/// Answers of the host's that somebody changes into others.
fn instead_of(status: u16, answer: fn() -> axum::response::Response) -> Router {
    host(auth()).layer(map_response(move |response: Response<Body>| async move {
        if response.status() == status { answer() } else { response.into_response() }
    }))
}

#[tokio::test]
async fn whatever_comes_instead_of_a_refusal_is_named() {
    type Answer = fn() -> axum::response::Response;
    let panics: Answer = || panic!("on purpose");
    let forbidden: Answer = || StatusCode::FORBIDDEN.into_response();
    let not_found: Answer = || StatusCode::NOT_FOUND.into_response();
    let limited: Answer = || StatusCode::TOO_MANY_REQUESTS.into_response();
    let failed: Answer = || StatusCode::BAD_GATEWAY.into_response();
    let redirected: Answer = || Redirect::to("/login").into_response();
    let check = "a check other than `WebhookAuth`";
    for (answer, mistake) in [
        (panics, "the host panics"),
        (forbidden, check),
        (not_found, check),
        (redirected, check),
        (limited, "a limit of the rate"),
        (failed, "the host fails on a request that it should refuse"),
    ] {
        assert_found(&report(instead_of(401, answer)).await, &FORGED, mistake);
    }
    for (answer, mistake) in [
        (panics, "the host panics"),
        (forbidden, check),
        (limited, "a limit of the rate"),
        (failed, "a refusal becomes a failure"),
    ] {
        let found = report(instead_of(400, answer)).await;
        assert_tells(&found, &["content_type_text", "body_empty", "missing_field:/id"], mistake);
        assert_eq!(count(&found, "secret_"), 0);
    }

    // An error, where the contract has an answer.
    let router = host(auth());
    let app = service_fn(move |request: Request| {
        let router = router.clone();
        async move {
            let Ok(response) = router.oneshot(request).await;
            if response.status().is_success() { Ok(response) } else { Err("refused") }
        }
    });
    assert_all_tell(&suite(app).await, "returns an error instead of an answer");

    // A body that does not end well.
    let broken =
        || Body::from_stream(futures_util::stream::once(async { Err::<Bytes, _>("gone") }));
    let app = host(auth()).layer(map_response(move |response: Response<Body>| async move {
        if response.status() == 401 { response.map(|_| broken()) } else { response }
    }));
    assert_found(&report(app).await, &FORGED, "returns an error instead of an answer");
}

#[tokio::test]
async fn a_refusal_that_blames_something_else_is_named() {
    let app = host(auth()).layer(map_response(async |response: Response<Body>| {
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body in memory");
        let text = String::from_utf8(body.into()).expect("UTF-8");
        Response::from_parts(head, Body::from(text.replace("\"/id\"", "\"/data\"")))
    }));
    let probes = [
        "missing_field:/id",
        "invalid_field:id_upper_case",
        "invalid_field:id_without_hyphens",
        "invalid_field:id_null",
        "duplicate_field:/id",
    ];
    assert_found(&report(app).await, &probes, "another field is blamed");
}

#[tokio::test]
async fn a_limit_that_is_not_the_contracts_is_named() {
    let limit = || RequestBodyLimitLayer::new(2_097_152);
    let inside = ServiceBuilder::new().layer(auth()).layer(limit());
    let outside = ServiceBuilder::new().layer(limit()).layer(auth());
    for app in
        [at_path(post(unsubscribed).layer(inside)), at_path(post(unsubscribed).layer(outside))]
    {
        let found = report(app).await;
        assert_found(&found, &["body_too_large"], "`RequestBodyLimitLayer`");
        assert_eq!(found.findings()[0].answer(), "413 without problem details");
    }
    let small = host(auth()).layer(DefaultBodyLimit::max(500));
    let found = suite(small).body_limit(500).await;
    assert_all_tell(&found, "the limit of the body is smaller than a good event");
    let unlimited = host(auth()).layer(DefaultBodyLimit::disable());
    assert_found(&report(unlimited).await, &TOO_LARGE, "nothing limits the body to 2097152 bytes");
}

// Hosts that lose an opt-out.

#[tokio::test]
async fn a_handler_that_fails_on_duplicates_is_named() {
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::CONFLICT] {
        let stored = Arc::new(Mutex::new(HashSet::new()));
        let unique_key = async move |event: UnsubscribeEvent| {
            let is_new = stored.lock().expect("the list").insert(event.id);
            if is_new { StatusCode::OK } else { status }
        };
        let found = report(at_path(post(unique_key).layer(auth()))).await;
        assert_found(&found, &AGAIN, "`ON CONFLICT DO NOTHING`");
    }
}

#[tokio::test]
async fn a_handler_that_takes_json_is_named() {
    let json = post(async |_: Json<UnsubscribeEvent>| Received);
    let found = report(at_path(json.layer(auth()))).await;
    assert_tells(&found, &["content_type_suffix"], "the handler takes `axum::Json`");
    assert_tells(
        &found,
        &["content_type_missing", "missing_field:/id"],
        "the handler takes `axum::Json`",
    );
    assert_tells(&found, &["body_empty"], "or the handler takes `axum::Json`");
}

#[tokio::test]
async fn a_host_that_refuses_good_events_is_named() {
    /// Events as one reads them off the example.
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "attempts_total")]
        _total: u8,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        phone: String,
        unsubscribe_request_id: i32,
        #[serde(rename = "additional_data")]
        additional: Additional,
    }
    #[derive(Deserialize)]
    struct Additional {
        additional_text: String,
    }
    async fn own(_: Authenticated, headers: HeaderMap, body: Bytes) -> StatusCode {
        let Ok(event) = serde_json::from_slice::<Event>(&body) else {
            return StatusCode::UNPROCESSABLE_ENTITY;
        };
        let data = event.data;
        let text = data.additional.additional_text;
        let is_good = headers["content-type"] == "application/json"
            && data.phone.starts_with('+')
            && data.unsubscribe_request_id > 0
            && text.len() < 256
            && !text.contains('\0');
        if is_good { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
    }
    let found = report(at_path(post(own).layer(auth()))).await;
    assert_tells(&found, &PHONES, "an odd format is still an opt-out");
    let types = ["content_type_charset", "content_type_case"];
    assert_tells(&found, &types, "`UnsubscribeEvent`");
    assert_tells(&found, &["text_long"], "cannot take all that the contract allows");
    assert_tells(&found, &["text_with_control_characters"], "PostgreSQL");
    let spellings = [
        "total_of_the_page",
        "without_optional_fields",
        "optional_fields_null",
        "integers_with_exponent",
        "ids_of_64_bits",
    ];
    assert_tells(&found, &spellings, "the handler takes `axum::Json` or decodes by itself");
}

#[tokio::test]
async fn a_panic_on_one_event_is_one_finding() {
    async fn unlucky(event: UnsubscribeEvent) -> Received {
        assert_ne!(event.data.additional_data.reason.id.as_i64(), 3, "on purpose");
        Received
    }
    let found = report(at_path(post(unlucky).layer(auth()))).await;
    assert_found(&found, &["reason_3"], "the host panics");
}

#[tokio::test]
async fn events_of_other_kinds_are_demanded_only_if_told() {
    let app = host(auth());
    report(app.clone()).await.assert_clean();
    let found = suite(app).acknowledges_other_events().await;
    let others = ["other_event", "other_event_bare"];
    assert_found(&found, &others, "take `Option<UnsubscribeEvent>`");

    let fails = async |event: Option<UnsubscribeEvent>| match event {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_IMPLEMENTED,
    };
    let found = report(at_path(post(fails).layer(auth()))).await;
    assert_found(&found, &others, "take `Option<UnsubscribeEvent>`");
}

// What a report is.

#[tokio::test]
async fn a_report_names_a_mistake_once_and_each_finding() {
    let found = report(at_path(
        post(unsubscribed)
            .layer(ServiceBuilder::new().layer(auth()).layer(DefaultBodyLimit::disable())),
    ))
    .await;
    let text = found.to_string();
    let lines: Vec<_> = text.lines().collect();
    let expected = "expected 400 body_too_large, got 200";
    assert_eq!(lines[0], format!("{} probes, 2 findings", found.probes()));
    assert!(lines[1].starts_with("nothing limits the body to 2097152 bytes: "), "{text}");
    assert_eq!(lines[2], format!("  - body_too_large: {expected}"));
    assert_eq!(lines[3], format!("  - body_too_large_stream: {expected}"));
    assert_eq!(lines.len(), 4, "{text}");
    let finding = &found.findings()[0];
    assert_eq!(finding.to_string(), format!("body_too_large: {expected}: {}", finding.mistake()));
}

#[tokio::test]
async fn a_report_begins_with_a_forged_event_that_gets_in() {
    let own = async |headers: HeaderMap, body: Bytes| match headers.get("x-lox24-token") {
        Some(given) if given == SECRET => match UnsubscribeEvent::from_slice(&body) {
            Ok(_) => StatusCode::OK,
            Err(rejection) => rejection.status(),
        },
        _ => StatusCode::UNAUTHORIZED,
    };
    let found = report(at_path(post(own))).await;
    assert_eq!(names(&found)[0], "no_credential");
    let text = found.to_string();
    let first = text.lines().nth(1).expect("a mistake");
    assert!(first.starts_with("A FORGED EVENT GETS IN: a place that holds two values"), "{text}");
}

#[tokio::test]
#[should_panic(
    expected = "the host breaks the webhook's contract\n18 probes, 1 finding\nthe route is not behind"
)]
async fn a_report_with_findings_ends_the_test() {
    suite(at_path(post(unsubscribed))).await.assert_clean();
}

/// All that is sent, by a host that acknowledges nothing but the first delivery.
async fn all_names(credential: &Credential) -> Vec<String> {
    let first = Rc::new(Cell::new(true));
    let app = service_fn(move |request: Request| {
        let status = if first.take() { StatusCode::OK } else { StatusCode::IM_A_TEAPOT };
        async move {
            let _ = to_bytes(request.into_body(), usize::MAX).await;
            Ok::<_, Infallible>(status.into_response())
        }
    });
    let report = testing::conformance(app, PATH, credential).accounts([2, 3]).await;
    assert_eq!(report.probes(), report.findings().len() + 1);
    names(&report).into_iter().map(str::to_owned).chain(["good_delivery".to_owned()]).collect()
}

#[tokio::test]
async fn the_documentation_shows_a_real_report() {
    let report = report(at_path(post(unsubscribed))).await;
    let shown = format!("the host breaks the webhook's contract\n{report}\n```\n");
    assert!(include_str!("../docs/testing.md").contains(&shown), "{shown}");
}

#[tokio::test]
async fn the_documentation_lists_every_probe() {
    let chapter = include_str!("../docs/testing.md");
    let (_, table) = chapter.split_once("| probe | what it is |").expect("a table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let mut listed: HashSet<&str> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let usable = "a usable secret";
    let mut sent = HashSet::new();
    for credential in [
        token(SECRET),
        Credential::bearer(SECRET).expect(usable),
        Credential::basic("lox24", SECRET).expect(usable),
        Credential::query("key", SECRET).expect(usable),
    ] {
        let names = all_names(&credential).await;
        let distinct: HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "a name is given twice");
        sent.extend(names);
    }
    let general = |name: &String| match name.split_once(':') {
        Some((kind, _)) => format!("{kind}:…"),
        None => name.clone(),
    };
    for name in sent.iter().map(general).collect::<HashSet<_>>() {
        assert!(listed.remove(&*name), "{name} is not listed");
    }
    assert!(listed.is_empty(), "never sent: {listed:?}");
}

// Events and deliveries of a test's own.

#[test]
fn an_event_is_the_example_with_an_id_of_its_own() {
    let (mut one, other) = (testing::event(), testing::event());
    assert_ne!(one.id, other.id);
    assert_eq!(one.id.get_version_num(), 4);
    one.id = common::example().id;
    assert_eq!(one, common::example());
}

#[test]
fn a_report_can_be_kept_and_sent() {
    fn assert_value<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    assert_value::<Report>();
    assert_value::<testing::Finding>();
}

#[tokio::test]
async fn a_delivery_is_signed_in_every_place() {
    for credential in [
        token(SECRET),
        Credential::bearer(SECRET).expect("a usable secret"),
        Credential::query("key", SECRET).expect("a usable secret"),
    ] {
        let app = host(WebhookAuth::from_credential(credential.clone()));
        let request = testing::delivery(PATH, &credential, &testing::event());
        common::assert_received(&common::send(&app, request).await);

        let mut body = serde_json::json!(testing::event());
        body["data"]["phone"] = 17.into();
        let request = testing::delivery(PATH, &credential, &body);
        let answer = common::send(&app, request).await;
        common::assert_refused(
            &answer,
            "invalid_field",
            Some("/data/phone"),
            "A string is expected.",
        );
    }
}
