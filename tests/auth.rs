//! The layer: which requests it accepts, in which order it refuses them, and what a refused request
//! costs.
//!
//! Two advisories have no test here: CVE-2018-6596 (django-anymail) and CVE-2022-43411 (Jenkins'
//! GitLab plugin), where the time of a comparison revealed how much of a guessed secret was right. A
//! test with a clock fails by chance, so `timing` in `benches/` measures it.

#[path = "common/bodies.rs"]
mod bodies;
mod common;
#[path = "common/locations.rs"]
mod locations;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    handler::{Handler, HandlerWithoutStateExt},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bodies::untouchable;
use common::{
    EXAMPLE, Fields, PATH, Reply, SECRET, app_with, assert_received, assert_refused,
    assert_token_required, assert_unauthorized, authenticated, authenticated_by, over_http2, read,
    send, token, unauthenticated,
};
use http::{HeaderName, HeaderValue};
use locations::locations;
use tower::ServiceExt;
use unsubscribe_webhook::{
    Authenticated, Code, Credential, Received, Rejection, UnsubscribeEvent, WebhookAuth,
};

const TOKEN: &str = r#"Token realm="webhook""#;
const BEARER: &str = r#"Bearer realm="webhook""#;
const BASIC: &str = r#"Basic realm="webhook", charset="UTF-8""#;

/// A delivery with these headers.
fn with_headers(headers: &[(&'static str, &str)]) -> Request {
    let mut request = unauthenticated(EXAMPLE);
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers_mut().append(*name, value);
    }
    request
}

fn with(mut request: Request, name: &'static str, value: &'static str) -> Request {
    request.headers_mut().insert(name, HeaderValue::from_static(value));
    request
}

fn without(mut request: Request, name: &str) -> Request {
    request.headers_mut().remove(name);
    request
}

fn with_uri(uri: &str) -> Request {
    let mut request = unauthenticated(EXAMPLE);
    *request.uri_mut() = uri.parse().expect("a URI");
    request
}

async fn status(app: &Router, request: Request) -> u16 {
    let reply = send(app, request).await;
    match reply.status {
        200 => assert_received(&reply),
        _ => assert_eq!(reply.rejection.expect("a rejection").code(), Code::Unauthorized),
    }
    reply.status
}

/// CVE-2026-45754: Symfony's bridge for this provider was given a token and never compared it with
/// anything, so any POST was an event. CVE-2026-42294: Argo Workflows read the body of a webhook
/// into memory before it checked who had sent it.
#[tokio::test]
async fn a_configured_secret_is_compared_before_the_body_is_read() {
    async fn must_not_run(_: Result<UnsubscribeEvent, Rejection>) {
        panic!("the handler ran");
    }
    // Over HTTP/1 the body would be discarded.
    let send_forged = async |auth: WebhookAuth, request: Request| {
        let app = Router::new().route(PATH, post(must_not_run).layer(auth));
        send(&app, over_http2(request)).await
    };
    for location in locations() {
        let mut forged = vec![unauthenticated(untouchable())];
        for value in ["", "guess", "token-s3cr3u", &BASE64.encode(":basic-s3cr3t")] {
            forged.push(location.request([value], untouchable()));
        }
        for other in locations().iter().filter(|other| other.value != location.value) {
            forged.push(other.request([other.value], untouchable()));
            forged.push(location.request([other.value], untouchable()));
            forged.push(other.request([location.value], untouchable()));
        }
        for request in forged {
            let reply = send_forged(location.auth(), request).await;
            assert_refused(&reply, "unauthorized", None);
        }
        let right = location.request([location.value], untouchable());
        let reply = send_forged(location.auth().require(|_| false), right).await;
        assert_refused(&reply, "forbidden", None);
        let right = location.request([location.value], EXAMPLE);
        assert_received(&send(&app_with(location.auth()), right).await);
    }
}

/// RUSTSEC-2024-0010: svix compared signatures up to the length of the shorter one, so an empty one
/// always matched.
#[tokio::test]
async fn a_part_of_the_secret_is_not_the_secret() {
    for location in locations() {
        let app = app_with(location.auth());
        let right = location.value;
        let mut wrong: Vec<String> = (0..right.len()).map(|end| right[..end].to_owned()).collect();
        wrong.extend((1..right.len()).map(|start| right[start..].to_owned()));
        // A comparison that skips a byte is one with a part, too.
        wrong.extend((0..right.len()).map(|at| {
            let other = if right[at..].starts_with('x') { "y" } else { "x" };
            [&right[..at], other, &right[at + 1..]].concat()
        }));
        for (before, after) in [
            ("", "x"),
            ("x", ""),
            ("", right),
            ("", " "),
            ("", "\u{e4}"),
            ("\"", "\""),
            ("Bearer ", ""),
            (right, ","),
            (&format!("{right},"), ""),
        ] {
            wrong.push([before, right, after].concat());
        }
        wrong.push(right.to_uppercase());
        for wrong in wrong {
            let reply = send(&app, location.request([&wrong], EXAMPLE)).await;
            assert_eq!(reply.status, 401, "{wrong} in {:?}", location.credential);
            assert_refused(&reply, "unauthorized", None);
        }
    }
    let padded = with_headers(&[("x-lox24-token", &format!(" {SECRET}"))]);
    assert_token_required(&send(&app_with(WebhookAuth::new(SECRET)), padded).await);
}

/// Of a duplicate header `HeaderMap::get` returns the first and other programs take the last: what a
/// proxy has checked is then not what the app checks.
#[tokio::test]
async fn of_two_values_in_one_location_neither_counts() {
    for location in locations() {
        let app = app_with(location.auth());
        let right = location.value;
        assert_received(&send(&app, location.request([right], EXAMPLE)).await);
        for pair in [[right, "wrong"], ["wrong", right], [right, right], [right, ""], ["", right]] {
            let reply = send(&app, location.request(pair, EXAMPLE)).await;
            assert_eq!(reply.status, 401, "{pair:?} in {:?}", location.credential);
            assert_refused(&reply, "unauthorized", None);
        }
    }
    // `Authorization` is one location, whichever schemes it holds.
    let [_, _, bearer, basic, _] = locations();
    let app = app_with(bearer.auth().or(basic.credential.clone()));
    let mut both = bearer.request([bearer.value], EXAMPLE);
    basic.add_to(&mut both, basic.value);
    assert_unauthorized(&send(&app, both).await, &[BEARER, BASIC]);
    for location in [bearer, basic] {
        assert_received(&send(&app, location.request([location.value], EXAMPLE)).await);
    }
}

/// RFC 9110, section 11.4: comparing the bytes of `Bearer ` refuses good clients, and removing only
/// the word accepts what is glued to it.
#[tokio::test]
async fn a_scheme_has_any_case_and_spaces_behind_it() {
    let [_, _, bearer, basic, _] = locations();
    for (location, scheme, challenge) in [(bearer, "Bearer", BEARER), (basic, "Basic", BASIC)] {
        let (app, right) = (app_with(location.auth()), location.value);
        let reply =
            async |value: String| send(&app, with_headers(&[("authorization", &value)])).await;
        for scheme in [scheme.to_owned(), scheme.to_lowercase(), scheme.to_uppercase()] {
            for spaces in [" ", "   "] {
                assert_received(&reply(format!("{scheme}{spaces}{right}")).await);
            }
            for glue in ["", "\t", ":", "=", ", ", "_"] {
                let reply = reply(format!("{scheme}{glue}{right}")).await;
                assert_unauthorized(&reply, &[challenge]);
            }
        }
        for wrong in [
            String::new(),
            scheme[..1].to_owned(),
            scheme.to_owned(),
            format!("{scheme} "),
            right.to_owned(),
            format!("Token {right}"),
            format!(" {scheme} {right}"),
            format!("{scheme} {right} "),
            format!("{scheme} {right}, {scheme} {right}"),
        ] {
            assert_unauthorized(&reply(wrong).await, &[challenge]);
        }
    }
}

#[tokio::test]
async fn one_right_location_is_enough_whatever_the_others_hold() {
    let auth = WebhookAuth::new(SECRET)
        .or(Credential::header("x-key", "other-secret").expect("usable"))
        .or(Credential::query("key", "third-secret").expect("usable"));
    let app = app_with(auth);
    let twice_wrong =
        [("x-lox24-token", "wrong"), ("x-lox24-token", SECRET), ("x-key", "other-secret")];
    assert_received(&send(&app, with_headers(&twice_wrong)).await);
    assert_token_required(&send(&app, with_headers(&twice_wrong[..2])).await);
    let mut by_query = with_headers(&twice_wrong[..2]);
    *by_query.uri_mut() = format!("{PATH}?key=third-secret").parse().expect("a URI");
    assert_received(&send(&app, by_query).await);
    // The right secret in another location.
    assert_token_required(&send(&app, with_headers(&[("x-key", SECRET)])).await);
}

#[tokio::test]
async fn a_bearer_token_follows_rfc_6750() {
    let auth = WebhookAuth::from_credential(Credential::bearer("a-._~+/Z9==").expect("usable"));
    for (token, expected) in [("a-._~+/Z9==", 200), ("a-._~+/Z9", 401), ("a-._~+/z9==", 401)] {
        let request = with_headers(&[("authorization", &format!("Bearer {token}"))]);
        assert_eq!(status(&app_with(auth.clone()), request).await, expected, "{token}");
    }
}

#[tokio::test]
async fn basic_credentials_follow_rfc_7617() {
    let status = async |(user, password), pair: &str| {
        let credential = Credential::basic(user, password).expect("usable");
        let request = with_headers(&[("authorization", &format!("Basic {pair}"))]);
        status(&app_with(WebhookAuth::from_credential(credential)), request).await
    };
    let umlaut = ("lox24", "pä:ss");
    assert_eq!(status(umlaut, &BASE64.encode("lox24:pä:ss")).await, 200);
    assert_eq!(status(("", "password"), &BASE64.encode(":password")).await, 200);
    for wrong in
        ["lox24:pä:s".as_bytes(), "LOX24:pä:ss".as_bytes(), b":p\xc3\xa4:ss", b"lox24:p\xe4:ss"]
    {
        assert_eq!(status(umlaut, &BASE64.encode(wrong)).await, 401, "{wrong:?}");
    }
    for not_base64 in ["lox24:pä:ss", "!!!"] {
        assert_eq!(status(umlaut, not_base64).await, 401, "{not_base64}");
    }
}

#[tokio::test]
async fn a_query_is_decoded_once() {
    let app = app_with(WebhookAuth::from_credential(
        Credential::query("the key", "a+b c&ä%41").expect("usable"),
    ));
    for right in [
        "the+key=a%2Bb+c%26%C3%A4%2541",
        "the%20key=a%2bb%20c%26%c3%a4%2541",
        "%74he+key=%61%2Bb+c%26%C3%A4%2541",
        "other=1&the+key=a%2Bb+c%26%C3%A4%2541&&more",
        "the+keys=x&the+key=a%2Bb+c%26%C3%A4%2541",
    ] {
        assert_eq!(status(&app, with_uri(&format!("{PATH}?{right}"))).await, 200, "{right}");
    }
    for wrong in [
        "",
        "the+key",
        "the+key=",
        "the+key=a+b+c%26%C3%A4%2541",
        "the+key=a%2Bb+c%26%C3%A4%41",
        "the+key=a%2Bb+c%26%C3%A4%252541",
        "the+key=a%2Bb+c%26%C3%A4%2541x",
        "the+key=a%2Bb+c%26%C3%A4%254",
        "the+key=a%2Bb+c%26%E4%2541",
        "the+key=a%2Bb+c%26%EF%BF%BD%2541",
        "The+Key=a%2Bb+c%26%C3%A4%2541",
        "key=a%2Bb+c%26%C3%A4%2541",
        // Twice, in any encoding.
        "the+key=a%2Bb+c%26%C3%A4%2541&the+key=a%2Bb+c%26%C3%A4%2541",
        "the+key=a%2Bb+c%26%C3%A4%2541&the%20key=wrong",
        "the+key&the+key=a%2Bb+c%26%C3%A4%2541",
    ] {
        assert_eq!(status(&app, with_uri(&format!("{PATH}?{wrong}"))).await, 401, "{wrong}");
    }
    let reply = send(&app, with_uri(PATH)).await;
    assert_unauthorized(&reply, &[TOKEN]);
}

#[tokio::test]
async fn each_credential_opens_the_requests_that_it_is_applied_to() {
    let credentials = [
        token(SECRET),
        Credential::header("X-Hook", "! two  words, one ~").expect("usable"),
        Credential::bearer("mF_9.B5f-4.1JqM==").expect("usable"),
        Credential::basic("lox24", "pä:ss wörd").expect("usable"),
        Credential::basic("", "password").expect("usable"),
        Credential::query("k&=+ y", "s&=+ä%41 t").expect("usable"),
    ];
    for (index, credential) in credentials.iter().enumerate() {
        let app = app_with(WebhookAuth::from_credential(credential.clone()));
        let mut request = authenticated_by(credential, EXAMPLE);
        assert_eq!(status(&app, request).await, 200, "{credential:?}");

        // Applied again, and over a wrong value, it still leaves one right value.
        request = with_uri(&format!("{PATH}?k%26%3D%2B%20y=wrong&other=kept"));
        request = with(with(request, "x-lox24-token", "wrong"), "authorization", "wrong");
        credential.apply_to(&mut request);
        credential.apply_to(&mut request);
        assert!(request.uri().query().expect("a query").contains("other=kept"));
        assert_eq!(status(&app, request).await, 200, "{credential:?} again");

        for other in credentials.iter().skip(index + 1) {
            assert_eq!(status(&app, authenticated_by(other, EXAMPLE)).await, 401);
        }
    }
}

#[test]
fn applying_a_credential_keeps_the_rest_of_the_uri() {
    let credential = Credential::query("key", "s e").expect("usable");
    for (before, after) in [
        ("http://example.com", "http://example.com/?key=s+e"),
        ("https://example.com:8443/hook?a=1&b", "https://example.com:8443/hook?a=1&b&key=s+e"),
        ("/hook?key=old&key=older", "/hook?key=s+e"),
    ] {
        let mut request = Request::post(before).body(()).expect("a request");
        credential.apply_to(&mut request);
        assert_eq!(request.uri(), after);
    }
}

#[tokio::test]
async fn authenticated_says_which_credential_matched() {
    let auth = WebhookAuth::new("newest").or(token("newer")).or(token("old")).or(token("newer"));
    let app = Router::new()
        .route(PATH, post(async |auth: Authenticated| auth.credential_index().to_string()))
        .layer(auth);
    for (secret, index) in [("newest", "0"), ("newer", "1"), ("old", "2")] {
        assert_eq!(send(&app, authenticated_by(&token(secret), "")).await.body, index);
    }
    assert_token_required(&send(&app, authenticated_by(&token("oldest"), "")).await);
}

#[tokio::test]
async fn a_challenge_names_each_kind_once() {
    let auth = WebhookAuth::from_credential(Credential::basic("u", "p").expect("usable"))
        .or(token(SECRET))
        .or(Credential::query("t", "s").expect("usable"))
        .or(Credential::bearer("b").expect("usable"))
        .or(Credential::basic("u", "q").expect("usable"));
    assert_unauthorized(
        &send(&app_with(auth), unauthenticated(EXAMPLE)).await,
        &[BASIC, TOKEN, BEARER],
    );
}

#[tokio::test]
async fn the_first_failing_check_determines_the_response() {
    let auth = WebhookAuth::new(SECRET)
        .allow_accounts([2])
        .require(|head| head.headers.get("x-from").is_some_and(|from| from == "provider"));
    let app = app_with(auth);
    let another_account = Fields::example().with("/data/user_id", "3").json();
    let broken = Fields::example().with("/data/user_id", "3").without("/data/phone").json();

    // All four faults at once, then one less each time.
    let request = without(unauthenticated(broken.clone()), "content-type");
    assert_token_required(&send(&app, request).await);

    let request = without(authenticated(broken.clone()), "content-type");
    assert_refused(&send(&app, request).await, "forbidden", None);

    let send = async |request| send(&app, with(request, "x-from", "provider")).await;
    let request = without(authenticated(broken.clone()), "content-type");
    assert_refused(&send(request).await, "content_type", None);

    assert_refused(&send(authenticated(broken)).await, "missing_field", Some("/data/phone"));

    let reply = send(authenticated(another_account.clone())).await;
    assert_refused(&reply, "foreign_account", Some("/data/user_id"));
    assert_eq!(reply.rejection.expect("a rejection").body().expect("the body"), &another_account);

    assert_received(&send(authenticated(EXAMPLE)).await);
}

#[tokio::test]
async fn every_check_must_pass() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let auth = WebhookAuth::new(SECRET)
        .require(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            true
        })
        .require(|head| head.headers.contains_key("x-one"))
        .require(|head| head.headers.contains_key("x-two"));
    let app = app_with(auth);
    for (headers, expected) in
        [(&[][..], 403), (&["x-one"], 403), (&["x-two"], 403), (&["x-one", "x-two"], 200)]
    {
        let request =
            headers.iter().fold(authenticated(EXAMPLE), |request, name| with(request, name, "1"));
        assert_eq!(send(&app, request).await.status, expected, "{headers:?}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    // The app's check is not called for unauthenticated requests.
    assert_token_required(&send(&app, unauthenticated(EXAMPLE)).await);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

async fn status_of_user(app: &Router, user: i64) -> u16 {
    let body = Fields::example().with("/data/user_id", &user.to_string()).json();
    let reply = send(app, authenticated(body)).await;
    if reply.status != 200 {
        assert_refused(&reply, "foreign_account", Some("/data/user_id"));
    }
    reply.status
}

#[tokio::test]
async fn lists_of_accounts_intersect() {
    let auth = || WebhookAuth::new(SECRET);
    let app = app_with(auth().allow_accounts([2, 3, -9]));
    for (user, expected) in [(2, 200), (3, 200), (-9, 200), (4, 403)] {
        assert_eq!(status_of_user(&app, user).await, expected);
    }

    let app = app_with(auth().allow_accounts([2, 3]).allow_accounts([3, 4]));
    for (user, expected) in [(2, 403), (3, 200), (4, 403)] {
        assert_eq!(status_of_user(&app, user).await, expected);
    }

    // An event of another kind has no account.
    let other = authenticated(r#"{"name":"sms.delivery","data":{"user_id":4}}"#);
    let app = Router::new().route(
        PATH,
        post(async |event: Option<UnsubscribeEvent>| {
            assert!(event.is_none());
            Received
        })
        .layer(auth().allow_accounts([2])),
    );
    assert_received(&send(&app, other).await);
}

#[tokio::test]
async fn nested_layers_must_all_accept() {
    let outer = WebhookAuth::new(SECRET).allow_accounts([2, 3]);
    let inner = WebhookAuth::from_credential(Credential::bearer("older").expect("usable"))
        .or(Credential::bearer("inner").expect("usable"))
        .allow_accounts([3, 4]);
    let innermost = WebhookAuth::new(SECRET).require(|head| !head.headers.contains_key("x-no"));
    let index = async |auth: Authenticated| auth.credential_index().to_string();
    let app =
        app_with(innermost.or(token("x"))).route("/index", post(index)).layer(inner).layer(outer);

    let both = |user: &str| {
        let request = authenticated(Fields::example().with("/data/user_id", user).json());
        with(request, "authorization", "Bearer inner")
    };
    assert_received(&send(&app, both("3")).await);
    for user in ["2", "4"] {
        let reply = send(&app, both(user)).await;
        assert_refused(&reply, "foreign_account", Some("/data/user_id"));
    }
    let mut indexed = both("3");
    *indexed.uri_mut() = "/index".parse().expect("a URI");
    assert_eq!(send(&app, indexed).await.body, "1", "of the innermost layer");
    let refused = without(both("3"), "authorization");
    assert_unauthorized(&send(&app, refused).await, &[BEARER]);
    assert_token_required(&send(&app, without(both("3"), "x-lox24-token")).await);
    assert_refused(&send(&app, with(both("3"), "x-no", "1")).await, "forbidden", None);
}

#[tokio::test]
async fn a_handler_that_decodes_by_itself_can_check_the_account() {
    async fn handler(auth: Authenticated, body: String) -> String {
        let event: UnsubscribeEvent = serde_json::from_str(&body).expect("an event");
        auth.accepts(event.data.user_id).to_string()
    }
    let app = Router::new()
        .route(PATH, post(handler))
        .layer(WebhookAuth::new(SECRET).allow_accounts([2]))
        .layer(WebhookAuth::new(SECRET).allow_accounts([2, 3]));
    let body = |user| Fields::example().with("/data/user_id", user).json();
    assert_eq!(send(&app, authenticated(body("2"))).await.body, "true");
    assert_eq!(send(&app, authenticated(body("3"))).await.body, "false");
}

#[tokio::test]
async fn the_largest_possible_head_is_accepted() {
    let mut request = authenticated(EXAMPLE);
    for index in 0.. {
        let name = HeaderName::try_from(format!("x-{index}")).expect("a name");
        if request.headers_mut().try_append(name, HeaderValue::from_static("x")).is_err() {
            break;
        }
    }
    assert!(request.headers().len() > 20_000);
    let auth = WebhookAuth::new(SECRET).or(Credential::bearer("absent").expect("usable"));
    assert_received(&send(&app_with(auth), request).await);
}

#[tokio::test]
async fn it_guards_routers_routes_and_handlers() {
    let unsubscribed = async |_: UnsubscribeEvent| Received;
    let auth = || WebhookAuth::new(SECRET);
    let hook = |path| Router::new().route(path, post(unsubscribed));
    for app in [
        hook(PATH).layer(auth()),
        hook(PATH).route_layer(auth()),
        app_with(auth()),
        Router::new().nest("/webhooks", hook("/unsubscribe").layer(auth())),
    ] {
        let app = app.route("/open", get(async || "open"));
        assert_received(&send(&app, authenticated(EXAMPLE)).await);
        assert_token_required(&send(&app, unauthenticated(EXAMPLE)).await);
        let request = Request::get("/open").body(Body::empty()).expect("a request");
        assert_eq!(send(&app, request).await.body, "open");
    }
}

async fn takes_the_event(_: UnsubscribeEvent) -> Received {
    panic!("the handler ran");
}

async fn takes_an_option(_: Option<UnsubscribeEvent>) -> Received {
    panic!("the handler ran");
}

async fn takes_authenticated(_: Authenticated) -> Received {
    panic!("the handler ran");
}

#[track_caller]
fn assert_no_layer(reply: &Reply, way: &str) {
    let rejection = reply.rejection.as_ref().expect(way);
    assert_eq!((rejection.code(), rejection.body()), (Code::MissingLayer, None), "{way}");
    assert_eq!(reply.status, 500, "{way}");
}

/// In axum a layer covers the routes that exist before it. A route that is added or merged later is
/// open, and neither the compiler nor the tests of the old routes show it.
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
    let ways = [late(takes_the_event), late(takes_an_option), late(takes_authenticated)];
    for (way, app) in ways.into_iter().flatten() {
        assert_no_layer(&send(&app, authenticated(untouchable())).await, way);
        let mut early = authenticated(EXAMPLE);
        *early.uri_mut() = "/early".parse().expect("a URI");
        assert_received(&send(&app, early).await);
    }
}

/// A check in a layer alone is missing wherever the layer does not reach: a fallback, a method that
/// is added later, a nested router, a handler that is mounted as a service.
#[tokio::test]
async fn a_handler_without_the_layer_does_not_run() {
    fn bare<T: 'static>(handler: &impl Handler<T, ()>) -> Vec<(&'static str, Router)> {
        let auth = || WebhookAuth::new(SECRET);
        let open = async || "open";
        let new = Router::new;
        let root = || new().route("/", get(open));
        let route = || post(handler.clone());
        let nested = || new().route("/unsubscribe", route());
        let beside = root().layer(auth());
        vec![
            ("no layer at all", new().route(PATH, route())),
            ("layer before the route", new().layer(auth()).route(PATH, route())),
            ("nest beside", new().nest("/other", beside.clone()).nest("/webhooks", nested())),
            ("nest after the layer", beside.clone().nest("/webhooks", nested())),
            ("nested service", new().layer(auth()).nest_service("/webhooks", nested())),
            ("fallback", beside.fallback(handler.clone())),
            ("after a route layer", root().fallback(handler.clone()).route_layer(auth())),
            ("fallback service", new().layer(auth()).fallback_service(new().route(PATH, route()))),
            ("another method", new().route(PATH, get(open).layer(auth()).merge(route()))),
            (
                "method fallback",
                new().route(PATH, get(open).layer(auth()).fallback(handler.clone())),
            ),
        ]
    }

    let ways = [bare(&takes_the_event), bare(&takes_an_option), bare(&takes_authenticated)];
    for (way, app) in ways.into_iter().flatten() {
        assert_no_layer(&send(&app, authenticated(untouchable())).await, way);
        assert_no_layer(&send(&app, unauthenticated(untouchable())).await, way);
    }

    let service = takes_the_event.into_service();
    let response = service.oneshot(authenticated(untouchable())).await.expect("a response");
    assert_no_layer(&read(response).await, "a service");
    // A handler that takes the result gets no event with it, and `from_body` returns none.
    let result = async |event: Result<UnsubscribeEvent, Rejection>| {
        event.expect_err("not authenticated").code().to_string()
    };
    let app = Router::new().route(PATH, post(result));
    assert_eq!(send(&app, authenticated(untouchable())).await.body, "missing_layer");
    let (head, _) = authenticated("").into_parts();
    let rejection = UnsubscribeEvent::from_body(&head, untouchable()).await.expect_err("no layer");
    assert_eq!((rejection.code(), rejection.body()), (Code::MissingLayer, None));
}
