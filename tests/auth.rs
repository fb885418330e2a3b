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

use axum::handler::{Handler, HandlerWithoutStateExt};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bodies::untouchable;
use common::prelude::*;
use http_body::Body as _;
use locations::locations;

const TOKEN: &str = r#"Token realm="webhook""#;
const BEARER: &str = r#"Bearer realm="webhook""#;
const BASIC: &str = r#"Basic realm="webhook", charset="UTF-8""#;

/// A delivery with these headers.
fn with_headers(headers: &[(&'static str, &str)]) -> Request {
    common::with_headers(unauthenticated(EXAMPLE), headers)
}

async fn must_not_run<E>(_: E) -> Received {
    panic!("the handler ran");
}

/// Whether the app takes the request; one that it does not take is refused as unauthenticated.
async fn accepts(app: &Router, request: Request) -> bool {
    let reply = send(app, request).await;
    match reply.status {
        200 => assert_received(&reply),
        _ => assert_refused(&reply, "unauthorized", None),
    }
    reply.status == 200
}

/// CVE-2026-45754: Symfony's bridge for this provider was given a token and never compared it with
/// anything, so any POST was an event. CVE-2026-42294: Argo Workflows read the body of a webhook
/// into memory before it checked who had sent it.
#[tokio::test]
async fn a_configured_secret_is_compared_before_the_body_is_read() {
    // Over HTTP/1 the body would be discarded.
    let send_forged = async |auth: WebhookAuth, request: Request| {
        let app = Router::new().route(PATH, post(must_not_run::<Decoded>).layer(auth));
        send(&app, over(Version::HTTP_2, request)).await
    };
    for location in locations() {
        let mut forged = vec![unauthenticated(untouchable())];
        for value in ["", "guess", "token-s3cr3u", &BASE64.encode(":pä:s3cr3t")] {
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
        assert!(
            accepts(&app_with(location.auth()), location.request([location.value], EXAMPLE)).await
        );
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
            let is_accepted = accepts(&app, location.request([&wrong], EXAMPLE)).await;
            assert!(!is_accepted, "{wrong} in {:?}", location.credential);
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
        assert!(accepts(&app, location.request([right], EXAMPLE)).await);
        for pair in [[right, "wrong"], ["wrong", right], [right, right], [right, ""], ["", right]] {
            let is_accepted = accepts(&app, location.request(pair, EXAMPLE)).await;
            assert!(!is_accepted, "{pair:?} in {:?}", location.credential);
        }
    }
    // `Authorization` is one location, whichever schemes it holds.
    let [_, _, bearer, basic, _] = locations();
    let app = app_with(bearer.auth().or(basic.credential.clone()));
    let both = basic.add(bearer.request([bearer.value], EXAMPLE), basic.value);
    assert_unauthorized(&send(&app, both).await, &[BEARER, BASIC]);
    for location in [bearer, basic] {
        assert!(accepts(&app, location.request([location.value], EXAMPLE)).await);
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
    let by_query = to("/webhooks/unsubscribe?key=third-secret", with_headers(&twice_wrong[..2]));
    assert_received(&send(&app, by_query).await);
    // The right secret in another location.
    assert_token_required(&send(&app, with_headers(&[("x-key", SECRET)])).await);
}

/// RFC 7617: the pair is UTF-8, in base64.
#[tokio::test]
async fn a_pair_of_basic_is_compared_as_a_whole() {
    let [_, _, _, basic, _] = locations();
    let app = app_with(basic.auth());
    let pairs = ["lox24:pä:s3cr3".as_bytes(), "LOX24:pä:s3cr3t".as_bytes(), b"lox24:p\xe4:s3cr3t"];
    let pairs = pairs.map(|pair| BASE64.encode(pair));
    for wrong in pairs.iter().map(|pair| &**pair).chain(["lox24:pä:s3cr3t", "!!!"]) {
        assert!(!accepts(&app, basic.request([wrong], EXAMPLE)).await, "{wrong}");
    }
}

#[tokio::test]
async fn a_query_is_decoded_once() {
    let app = app_with(WebhookAuth::from_credential(
        Credential::query("the key", "a+b c&ä%41").expect("usable"),
    ));
    let accepts =
        async |query| accepts(&app, to(&format!("{PATH}?{query}"), unauthenticated(EXAMPLE))).await;
    for right in [
        "the+key=a%2Bb+c%26%C3%A4%2541",
        "the%20key=a%2bb%20c%26%c3%a4%2541",
        "%74he+key=%61%2Bb+c%26%C3%A4%2541",
        "other=1&the+key=a%2Bb+c%26%C3%A4%2541&&more",
        "the+keys=x&the+key=a%2Bb+c%26%C3%A4%2541",
    ] {
        assert!(accepts(right).await, "{right}");
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
        assert!(!accepts(wrong).await, "{wrong}");
    }
    assert_token_required(&send(&app, unauthenticated(EXAMPLE)).await);
}

#[tokio::test]
async fn a_credential_is_applied_in_place_of_what_its_location_holds() {
    for location in locations() {
        let mut request = location.request(["wrong", "wrong"], EXAMPLE);
        location.credential.apply_to(&mut request);
        location.credential.apply_to(&mut request);
        assert!(accepts(&app_with(location.auth()), request).await, "{:?}", location.credential);
    }
    let credential = Credential::query("key", "s e").expect("usable");
    for (before, after) in [
        ("http://example.com", "http://example.com/?key=s+e"),
        ("https://example.com:8443/hook?a=1&b", "https://example.com:8443/hook?a=1&b&key=s+e"),
        ("/hook?key=old&a=1&k%65y=older", "/hook?a=1&key=s+e"),
    ] {
        let mut request = Request::post(before).body(()).expect("a request");
        credential.apply_to(&mut request);
        assert_eq!(request.uri(), after);
    }
}

#[tokio::test]
async fn authenticated_says_which_credential_matched() {
    let auth = WebhookAuth::new("newest").or(token("newer")).or(token("old")).or(token("newer"));
    let index = async |auth: Authenticated| auth.credential_index().to_string();
    let app = Router::new().route(PATH, post(index).layer(auth));
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
    let reply = send(&app_with(auth), unauthenticated(EXAMPLE)).await;
    assert_unauthorized(&reply, &[BASIC, TOKEN, BEARER]);
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
    let all = without(unauthenticated(broken.clone()), "content-type");
    assert_token_required(&send(&app, all).await);
    let provider = |body: &str| with(authenticated(body.to_owned()), "x-from", "provider");
    for (request, code, pointer) in [
        (without(authenticated(broken.clone()), "content-type"), "forbidden", None),
        (without(provider(&broken), "content-type"), "content_type", None),
        (provider(&broken), "missing_field", Some("/data/phone")),
    ] {
        assert_refused(&send(&app, request).await, code, pointer);
    }
    let reply = send(&app, provider(&another_account)).await;
    assert_refused(&reply, "foreign_account", Some("/data/user_id"));
    assert_eq!(reply.refused_body(), Some(another_account.as_bytes()));
    assert_received(&send(&app, provider(EXAMPLE)).await);
}

#[tokio::test]
async fn every_check_must_pass() {
    // The app's checks are not called for unauthenticated requests.
    let is_authenticated =
        |head: &Parts| head.headers.get("x-lox24-token").expect("a token") == SECRET;
    let auth = WebhookAuth::new(SECRET)
        .require(is_authenticated)
        .require(|head| head.headers.contains_key("x-one"))
        .require(|head| head.headers.contains_key("x-two"));
    let app = app_with(auth);
    assert_token_required(&send(&app, unauthenticated(EXAMPLE)).await);
    for headers in [&[][..], &[("x-one", "1")], &[("x-two", "1")]] {
        let request = common::with_headers(authenticated(EXAMPLE), headers);
        assert_refused(&send(&app, request).await, "forbidden", None);
    }
    let both = with(with(authenticated(EXAMPLE), "x-one", "1"), "x-two", "1");
    assert_received(&send(&app, both).await);
}

fn of_user(user: i64) -> Request {
    authenticated(Fields::example().with("/data/user_id", &user.to_string()).json())
}

#[tokio::test]
async fn lists_of_accounts_intersect() {
    let auth = || WebhookAuth::new(SECRET);
    for (auth, accepted, refused) in [
        (auth().allow_accounts([2, 3, -9]), &[2, 3, -9][..], &[4][..]),
        (auth().allow_accounts([2, 3]).allow_accounts([3, 4]), &[3], &[2, 4]),
    ] {
        let app = app_with(auth);
        for user in accepted {
            assert_received(&send(&app, of_user(*user)).await);
        }
        for user in refused {
            let reply = send(&app, of_user(*user)).await;
            assert_refused(&reply, "foreign_account", Some("/data/user_id"));
        }
    }
}

#[tokio::test]
async fn nested_layers_must_all_accept() {
    let outer = WebhookAuth::new(SECRET).allow_accounts([2, 3]);
    let inner = WebhookAuth::from_credential(Credential::bearer("older").expect("usable"))
        .or(Credential::bearer("inner").expect("usable"))
        .allow_accounts([3, 4]);
    let innermost = WebhookAuth::new(SECRET).require(|head| !head.headers.contains_key("x-no"));
    // What a handler that decodes by itself can check.
    let shown = async |auth: Authenticated| {
        format!("{} {:?}", auth.credential_index(), [2, 3, 4].map(|user| auth.accepts(user)))
    };
    let app =
        app_with(innermost.or(token("x"))).route("/shown", post(shown)).layer(inner).layer(outer);

    let both = |user| with(of_user(user), "authorization", "Bearer inner");
    assert_received(&send(&app, both(3)).await);
    for user in [2, 4] {
        let reply = send(&app, both(user)).await;
        assert_refused(&reply, "foreign_account", Some("/data/user_id"));
    }
    // The index is that of the innermost layer.
    assert_eq!(send(&app, to("/shown", both(3))).await.body, "1 [false, true, false]");
    let refused = without(both(3), "authorization");
    assert_unauthorized(&send(&app, refused).await, &[BEARER]);
    assert_token_required(&send(&app, without(both(3), "x-lox24-token")).await);
    assert_refused(&send(&app, with(both(3), "x-no", "1")).await, "forbidden", None);
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

#[track_caller]
fn assert_no_layer(reply: &Reply, way: &str) {
    let rejection = reply.rejection.as_ref().expect(way);
    assert_eq!((rejection.code(), rejection.body()), (Code::MissingLayer, None), "{way}");
    assert_eq!(reply.status, 500, "{way}");
}

/// In axum a layer covers the routes that exist before it. A route that is added or merged later, a
/// fallback, a method that is added later, a nested router or a handler that is mounted as a service is
/// open, and neither the compiler nor the tests of the old routes show it.
#[tokio::test]
async fn a_handler_without_the_layer_does_not_run() {
    fn bare<T: 'static>(handler: &impl Handler<T, ()>) -> Vec<(&'static str, Router)> {
        let auth = || WebhookAuth::new(SECRET);
        let open = async || "open";
        let new = Router::new;
        let root = || new().route("/", get(open));
        let route = || post(handler.clone());
        let router = || new().route(PATH, route());
        let nested = || new().route("/unsubscribe", route());
        let beside = || root().layer(auth());
        vec![
            ("no layer at all", router()),
            ("route after the layer", beside().route(PATH, route())),
            ("merge", beside().merge(router())),
            ("merged into", router().merge(beside())),
            ("nest beside", new().nest("/other", beside()).nest("/webhooks", nested())),
            ("nest after the layer", beside().nest("/webhooks", nested())),
            ("nested service", new().layer(auth()).nest_service("/webhooks", nested())),
            ("fallback", beside().fallback(handler.clone())),
            ("after a route layer", root().fallback(handler.clone()).route_layer(auth())),
            ("fallback service", new().layer(auth()).fallback_service(router())),
            ("another method", new().route(PATH, get(open).layer(auth()).merge(route()))),
            (
                "method fallback",
                new().route(PATH, get(open).layer(auth()).fallback(handler.clone())),
            ),
        ]
    }

    let ways = [
        bare(&must_not_run::<UnsubscribeEvent>),
        bare(&must_not_run::<Option<UnsubscribeEvent>>),
        bare(&must_not_run::<Authenticated>),
    ];
    for (way, app) in ways.into_iter().flatten() {
        assert_no_layer(&send(&app, authenticated(untouchable())).await, way);
        assert_no_layer(&send(&app, unauthenticated(untouchable())).await, way);
    }

    let service = must_not_run::<UnsubscribeEvent>.into_service();
    let response = service.oneshot(authenticated(untouchable())).await.expect("a response");
    assert_no_layer(&read(response).await, "a service");
    // A handler that takes the result gets no event with it, and `from_body` returns none.
    let result = async |event: Decoded| event.expect_err("not authenticated");
    let app = Router::new().route(PATH, post(result));
    assert_no_layer(&send(&app, authenticated(untouchable())).await, "the result");
    let (head, _) = authenticated("").into_parts();
    let rejection = UnsubscribeEvent::from_body(&head, untouchable()).await.expect_err("no layer");
    assert_eq!((rejection.code(), rejection.body()), (Code::MissingLayer, None));
}

/// A server that knows the length sends `Content-Length`, and no chunks.
#[tokio::test]
async fn the_length_of_a_response_is_known() {
    for text in ["", "stored"] {
        let inner = service_fn(async |_: Request| {
            Ok::<_, ConfigError>(http::Response::new(Body::from(text)))
        });
        let app = WebhookAuth::new(SECRET).layer(inner);
        let inner = app.clone().oneshot(authenticated("")).await.expect("a response").into_body();
        assert_eq!(inner.is_end_stream(), text.is_empty());
        assert_eq!(inner.size_hint().exact(), Some(text.len() as u64));

        let refusal = app.oneshot(unauthenticated("")).await.expect("a response").into_body();
        assert!(!refusal.is_end_stream());
        let length = refusal.size_hint().exact().expect("a length");
        let refusal = read(http::Response::new(Body::new(refusal))).await;
        assert_eq!(length, refusal.body.len() as u64);
    }
}
