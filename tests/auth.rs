//! The layer: which requests get through, in which order they are refused, and what a refused
//! request costs.

mod common;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use common::{
    Answer, EXAMPLE, Fields, PATH, SECRET, assert_no_token, assert_received, assert_refused,
    assert_unauthorized, host, read, send, signed, signed_by, token, unsigned, untouchable,
};
use http::HeaderValue;
use tower::{Layer, ServiceExt, service_fn};
use unsubscribe_webhook::{
    Authenticated, Code, Credential, Received, UnsubscribeEvent, WebhookAuth,
};

const TOKEN: &str = r#"Token realm="webhook""#;
const BEARER: &str = r#"Bearer realm="webhook""#;
const BASIC: &str = r#"Basic realm="webhook", charset="UTF-8""#;

/// A delivery with these headers.
fn with_headers(headers: &[(&'static str, &str)]) -> Request {
    let mut request = unsigned(EXAMPLE);
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
        request.headers_mut().append(*name, value);
    }
    request
}

fn with_uri(uri: &str) -> Request {
    let mut request = unsigned(EXAMPLE);
    *request.uri_mut() = uri.parse().expect("a URI");
    request
}

async fn status(app: &Router, request: Request) -> u16 {
    let answer = send(app, request).await;
    match answer.status {
        200 => assert_received(&answer),
        _ => assert_eq!(answer.rejection.expect("a rejection").code(), Code::Unauthorized),
    }
    answer.status
}

#[tokio::test]
async fn the_token_lets_a_delivery_in_and_nothing_else_does() {
    let app = host(WebhookAuth::new(SECRET));
    assert_received(&send(&app, signed(EXAMPLE)).await);
    assert_received(&send(&app, with_headers(&[("X-LOX24-Token", SECRET)])).await);

    assert_no_token(&send(&app, unsigned(EXAMPLE)).await);
    for wrong in [
        "",
        "c",
        "correct-horse-",
        "correct-horse-8",
        "Correct-Horse-7",
        "correct-horse-7 ",
        " correct-horse-7",
        "correct-horse-77",
        "correct-horse-7,correct-horse-7",
        "Bearer correct-horse-7",
        "\"correct-horse-7\"",
        "correct-horse-7\u{e4}",
        "cörrect-horse-7",
    ] {
        assert_no_token(&send(&app, with_headers(&[("x-lox24-token", wrong)])).await);
    }
    // In another place.
    assert_no_token(&send(&app, with_headers(&[("authorization", SECRET)])).await);
    assert_no_token(
        &send(&app, with_headers(&[("authorization", "Bearer correct-horse-7")])).await,
    );
    assert_no_token(&send(&app, with_uri(&format!("{PATH}?x-lox24-token={SECRET}"))).await);
}

#[tokio::test]
async fn a_place_that_is_given_twice_holds_no_credential() {
    let app = host(WebhookAuth::new(SECRET));
    for (first, second) in [(SECRET, SECRET), (SECRET, "wrong"), ("wrong", SECRET), ("", SECRET)] {
        let doubled = with_headers(&[("x-lox24-token", first), ("x-lox24-token", second)]);
        assert_no_token(&send(&app, doubled).await);
    }
    // `Authorization` is one place, whichever schemes it holds.
    let auth = WebhookAuth::from_credential(Credential::bearer(SECRET).expect("usable"))
        .or(Credential::basic("lox24", SECRET).expect("usable"));
    let basic = format!("Basic {}", BASE64.encode(format!("lox24:{SECRET}")));
    let doubled = [("authorization", "Bearer correct-horse-7"), ("authorization", basic.as_str())];
    let answer = send(&host(auth.clone()), with_headers(&doubled)).await;
    assert_unauthorized(&answer, &[BEARER, BASIC]);
    assert_received(&send(&host(auth.clone()), with_headers(&doubled[..1])).await);
    assert_received(&send(&host(auth), with_headers(&doubled[1..])).await);
}

#[tokio::test]
async fn one_right_place_is_enough_whatever_the_others_hold() {
    let auth = WebhookAuth::new(SECRET)
        .or(Credential::header("x-key", "other-secret").expect("usable"))
        .or(Credential::query("key", "third-secret").expect("usable"));
    let app = host(auth);
    let twice_wrong =
        [("x-lox24-token", "wrong"), ("x-lox24-token", SECRET), ("x-key", "other-secret")];
    assert_received(&send(&app, with_headers(&twice_wrong)).await);
    assert_no_token(&send(&app, with_headers(&twice_wrong[..2])).await);
    let mut by_query = with_headers(&twice_wrong[..2]);
    *by_query.uri_mut() = format!("{PATH}?key=third-secret").parse().expect("a URI");
    assert_received(&send(&app, by_query).await);
    // The right secret in the place of another one.
    assert_no_token(&send(&app, with_headers(&[("x-key", SECRET)])).await);
}

#[tokio::test]
async fn a_header_of_any_name_can_hold_the_secret() {
    let app = host(WebhookAuth::from_credential(
        Credential::header("X-Hook", "two words, one").expect("usable"),
    ));
    assert_received(&send(&app, with_headers(&[("x-hook", "two words, one")])).await);
    assert_no_token(&send(&app, with_headers(&[("x-hook", "two words,  one")])).await);
}

#[tokio::test]
async fn a_bearer_token_follows_rfc_6750() {
    let app =
        host(WebhookAuth::from_credential(Credential::bearer("a-._~+/Z9==").expect("usable")));
    for right in ["Bearer a-._~+/Z9==", "bearer a-._~+/Z9==", "BEARER   a-._~+/Z9=="] {
        assert_received(&send(&app, with_headers(&[("authorization", right)])).await);
    }
    for wrong in [
        "Bearer",
        "Bearer ",
        "Bearera-._~+/Z9==",
        "Bearer\ta-._~+/Z9==",
        "Bearer a-._~+/Z9",
        "Bearer a-._~+/Z9== ",
        "Bearer a-._~+/z9==",
        " Bearer a-._~+/Z9==",
        "Bearer a-._~+/Z9==, Bearer a-._~+/Z9==",
        "Basic a-._~+/Z9==",
        "a-._~+/Z9==",
        "B",
        "",
    ] {
        let answer = send(&app, with_headers(&[("authorization", wrong)])).await;
        assert_unauthorized(&answer, &[BEARER]);
    }
}

#[tokio::test]
async fn basic_credentials_follow_rfc_7617() {
    let app =
        host(WebhookAuth::from_credential(Credential::basic("lox24", "pä:ss").expect("usable")));
    let pair = BASE64.encode("lox24:pä:ss");
    for right in [format!("Basic {pair}"), format!("basic   {pair}")] {
        assert_received(&send(&app, with_headers(&[("authorization", &right)])).await);
    }
    for wrong in [
        "Basic".to_owned(),
        format!("Basic{pair}"),
        format!("Bearer {pair}"),
        format!("Basic {}", BASE64.encode("lox24:pä:s")),
        format!("Basic {}", BASE64.encode("LOX24:pä:ss")),
        format!("Basic {}", BASE64.encode(":pä:ss")),
        format!("Basic {}", BASE64.encode(b"lox24:p\xe4:ss")),
        "Basic lox24:pä:ss".to_owned(),
        "Basic !!!".to_owned(),
    ] {
        let answer = send(&app, with_headers(&[("authorization", &wrong)])).await;
        assert_unauthorized(&answer, &[BASIC]);
    }
    let app =
        host(WebhookAuth::from_credential(Credential::basic("", "password").expect("usable")));
    let right = format!("Basic {}", BASE64.encode(":password"));
    assert_received(&send(&app, with_headers(&[("authorization", &right)])).await);
}

#[tokio::test]
async fn a_query_is_decoded_once() {
    let app = host(WebhookAuth::from_credential(
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
        // Twice, in whatever spelling.
        "the+key=a%2Bb+c%26%C3%A4%2541&the+key=a%2Bb+c%26%C3%A4%2541",
        "the+key=a%2Bb+c%26%C3%A4%2541&the%20key=wrong",
        "the+key&the+key=a%2Bb+c%26%C3%A4%2541",
    ] {
        assert_eq!(status(&app, with_uri(&format!("{PATH}?{wrong}"))).await, 401, "{wrong}");
    }
    let answer = send(&app, with_uri(PATH)).await;
    assert_unauthorized(&answer, &[TOKEN]);
}

#[tokio::test]
async fn each_credential_opens_what_it_signs() {
    let credentials = [
        token(SECRET),
        Credential::header("x-hook", "! two words ~").expect("usable"),
        Credential::bearer("mF_9.B5f-4.1JqM==").expect("usable"),
        Credential::basic("lox24", "pä:ss wörd").expect("usable"),
        Credential::basic("", "password").expect("usable"),
        Credential::query("k&=+ y", "s&=+ä%41 t").expect("usable"),
    ];
    for (index, credential) in credentials.iter().enumerate() {
        let app = host(WebhookAuth::from_credential(credential.clone()));
        let mut request = signed_by(credential, EXAMPLE);
        assert_eq!(status(&app, request).await, 200, "{credential:?}");

        // Signing again, and over a wrong value, still leaves one right value.
        request = with_uri(&format!("{PATH}?k%26%3D%2B%20y=wrong&other=kept"));
        request.headers_mut().append("x-lox24-token", HeaderValue::from_static("wrong"));
        request.headers_mut().append("authorization", HeaderValue::from_static("wrong"));
        credential.apply_to(&mut request);
        credential.apply_to(&mut request);
        assert!(request.uri().query().expect("a query").contains("other=kept"));
        assert_eq!(status(&app, request).await, 200, "{credential:?} again");

        for other in credentials.iter().skip(index + 1) {
            assert_eq!(status(&app, signed_by(other, EXAMPLE)).await, 401);
        }
    }
}

#[test]
fn signing_a_whole_uri_keeps_the_rest_of_it() {
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
async fn the_proof_says_which_credential_matched() {
    let auth = WebhookAuth::new("newest").or(token("newer")).or(token("old")).or(token("newer"));
    let app = Router::new()
        .route(PATH, post(async |proof: Authenticated| proof.credential_index().to_string()))
        .layer(auth);
    for (secret, index) in [("newest", "0"), ("newer", "1"), ("old", "2")] {
        assert_eq!(send(&app, signed_by(&token(secret), "")).await.body, index);
    }
    assert_no_token(&send(&app, signed_by(&token("oldest"), "")).await);
}

#[tokio::test]
async fn a_challenge_names_each_kind_once() {
    let auth = WebhookAuth::from_credential(Credential::basic("u", "p").expect("usable"))
        .or(token(SECRET))
        .or(Credential::query("t", "s").expect("usable"))
        .or(Credential::bearer("b").expect("usable"))
        .or(Credential::basic("u", "q").expect("usable"));
    assert_unauthorized(&send(&host(auth), unsigned(EXAMPLE)).await, &[BASIC, TOKEN, BEARER]);
}

#[tokio::test]
async fn the_first_fault_in_the_contracts_order_is_the_answer() {
    let auth = WebhookAuth::new(SECRET)
        .allow_accounts([2])
        .require(|head| head.headers.get("x-from").is_some_and(|from| from == "provider"));
    let app = host(auth);
    let foreign = Fields::example().with("/data/user_id", "3").text();
    let broken = Fields::example().with("/data/user_id", "3").without("/data/phone").text();

    // All four faults at once, then one less each time.
    let mut request = unsigned(broken.clone());
    request.headers_mut().remove("content-type");
    assert_no_token(&send(&app, request).await);

    let mut request = signed(broken.clone());
    request.headers_mut().remove("content-type");
    assert_refused(&send(&app, request).await, "forbidden", None);

    let from_provider = |mut request: Request| {
        request.headers_mut().insert("x-from", HeaderValue::from_static("provider"));
        request
    };
    let mut request = from_provider(signed(broken.clone()));
    request.headers_mut().remove("content-type");
    assert_refused(&send(&app, request).await, "content_type", None);

    let answer = send(&app, from_provider(signed(broken))).await;
    assert_refused(&answer, "missing_field", Some("/data/phone"));

    let answer = send(&app, from_provider(signed(foreign.clone()))).await;
    assert_refused(&answer, "foreign_account", Some("/data/user_id"));
    assert_eq!(answer.rejection.expect("a rejection").body().expect("the body"), &foreign);

    assert_received(&send(&app, from_provider(signed(EXAMPLE))).await);
}

#[tokio::test]
async fn every_requirement_must_hold() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let auth = WebhookAuth::new(SECRET)
        .require(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            true
        })
        .require(|head| head.headers.contains_key("x-one"))
        .require(|head| head.headers.contains_key("x-two"));
    let app = host(auth);
    for (headers, expected) in
        [(&[][..], 403), (&["x-one"], 403), (&["x-two"], 403), (&["x-one", "x-two"], 200)]
    {
        let mut request = signed(EXAMPLE);
        for name in headers {
            request.headers_mut().insert(*name, HeaderValue::from_static("1"));
        }
        assert_eq!(send(&app, request).await.status, expected, "{headers:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    // The host's check is not asked about strangers.
    assert_no_token(&send(&app, unsigned(EXAMPLE)).await);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

async fn status_of_user(app: &Router, user: i64) -> u16 {
    let body = Fields::example().with("/data/user_id", &user.to_string()).text();
    let answer = send(app, signed(body)).await;
    if answer.status != 200 {
        assert_refused(&answer, "foreign_account", Some("/data/user_id"));
    }
    answer.status
}

#[tokio::test]
async fn accounts_only_ever_narrow() {
    let auth = || WebhookAuth::new(SECRET);
    let app = host(auth().allow_accounts([2, 3, -9]));
    assert_eq!(status_of_user(&app, 2).await, 200);
    assert_eq!(status_of_user(&app, 3).await, 200);
    assert_eq!(status_of_user(&app, -9).await, 200);
    assert_eq!(status_of_user(&app, 4).await, 403);

    let app = host(auth().allow_accounts([2, 3]).allow_accounts([3, 4]));
    assert_eq!(status_of_user(&app, 2).await, 403);
    assert_eq!(status_of_user(&app, 3).await, 200);
    assert_eq!(status_of_user(&app, 4).await, 403);

    // An event of another kind has no account.
    let other = signed(r#"{"name":"sms.delivery","data":{"user_id":4}}"#);
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
async fn nested_layers_narrow_each_other() {
    let outer = WebhookAuth::new(SECRET).allow_accounts([2, 3]);
    let inner = WebhookAuth::from_credential(Credential::bearer("older").expect("usable"))
        .or(Credential::bearer("inner").expect("usable"))
        .allow_accounts([3, 4]);
    let innermost = WebhookAuth::new(SECRET).require(|head| !head.headers.contains_key("x-no"));
    let proof = async |proof: Authenticated| proof.credential_index().to_string();
    let app = host(innermost.or(token("x"))).route("/proof", post(proof)).layer(inner).layer(outer);

    let both = |user: &str| {
        let mut request = signed(Fields::example().with("/data/user_id", user).text());
        request.headers_mut().insert("authorization", HeaderValue::from_static("Bearer inner"));
        request
    };
    assert_received(&send(&app, both("3")).await);
    for user in ["2", "4"] {
        let answer = send(&app, both(user)).await;
        assert_refused(&answer, "foreign_account", Some("/data/user_id"));
    }
    let mut proven = both("3");
    *proven.uri_mut() = "/proof".parse().expect("a URI");
    assert_eq!(send(&app, proven).await.body, "1", "the innermost layer tells");
    let mut refused = both("3");
    refused.headers_mut().remove("authorization");
    assert_unauthorized(&send(&app, refused).await, &[BEARER]);
    let mut refused = both("3");
    refused.headers_mut().remove("x-lox24-token");
    assert_no_token(&send(&app, refused).await);
    let mut refused = both("3");
    refused.headers_mut().insert("x-no", HeaderValue::from_static("1"));
    assert_refused(&send(&app, refused).await, "forbidden", None);
}

#[tokio::test]
async fn accounts_can_be_checked_by_those_who_decode_by_themselves() {
    async fn handler(proof: Authenticated, body: String) -> String {
        let event: UnsubscribeEvent = serde_json::from_str(&body).expect("an event");
        proof.accepts(event.data.user_id).to_string()
    }
    let app = Router::new()
        .route(PATH, post(handler))
        .layer(WebhookAuth::new(SECRET).allow_accounts([2]))
        .layer(WebhookAuth::new(SECRET).allow_accounts([2, 3]));
    let body = |user| Fields::example().with("/data/user_id", user).text();
    assert_eq!(send(&app, signed(body("2"))).await.body, "true");
    assert_eq!(send(&app, signed(body("3"))).await.body, "false");
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_service() {
    let inner = service_fn(|request: Request| async move {
        assert!(request.headers().contains_key("x-through"), "the inner service was called");
        Ok::<_, Infallible>(Response::new(Body::from("inner")))
    });
    let auth = WebhookAuth::new(SECRET).require(|head| head.headers.contains_key("x-through"));
    let service = auth.layer(inner);
    let ask = async |request: Request| -> Answer {
        read(service.clone().oneshot(request).await.expect("a response").map(Body::new)).await
    };
    assert_no_token(&ask(unsigned(EXAMPLE)).await);
    let mut forged = unsigned(EXAMPLE);
    forged.headers_mut().insert("x-lox24-token", HeaderValue::from_static("forged"));
    forged.headers_mut().insert("x-through", HeaderValue::from_static("1"));
    assert_no_token(&ask(forged).await);
    assert_refused(&ask(signed(EXAMPLE)).await, "forbidden", None);

    let mut passed = signed(untouchable());
    passed.headers_mut().insert("x-through", HeaderValue::from_static("1"));
    assert_eq!(ask(passed).await.body, "inner");
}

#[tokio::test]
async fn a_head_as_large_as_heads_get_is_no_trouble() {
    let mut request = signed(EXAMPLE);
    for index in 0.. {
        let name = http::HeaderName::try_from(format!("x-{index}")).expect("a name");
        if request.headers_mut().try_append(name, HeaderValue::from_static("x")).is_err() {
            break;
        }
    }
    assert!(request.headers().len() > 20_000);
    let auth = WebhookAuth::new(SECRET).or(Credential::bearer("absent").expect("usable"));
    assert_received(&send(&host(auth), request).await);
}

#[tokio::test]
async fn it_guards_routers_routes_and_handlers() {
    async fn unsubscribed(_: UnsubscribeEvent) -> Received {
        Received
    }
    let open = async || "open";
    let auth = || WebhookAuth::new(SECRET);
    let hook = || Router::new().route(PATH, post(unsubscribed));

    let by_router = hook().layer(auth()).route("/open", get(open));
    let by_route = hook().route_layer(auth()).route("/open", get(open));
    let by_method =
        Router::new().route(PATH, post(unsubscribed).layer(auth())).route("/open", get(open));
    let by_nest = Router::new()
        .nest("/webhooks", Router::new().route("/unsubscribe", post(unsubscribed)).layer(auth()))
        .route("/open", get(open));
    for app in [by_router, by_route, by_method, by_nest] {
        assert_received(&send(&app, signed(EXAMPLE)).await);
        assert_no_token(&send(&app, unsigned(EXAMPLE)).await);
        let request = Request::get("/open").body(Body::empty()).expect("a request");
        assert_eq!(send(&app, request).await.body, "open");
    }
}

#[tokio::test]
async fn a_route_without_the_layer_lets_nothing_in() {
    async fn unsubscribed(_: UnsubscribeEvent) -> Received {
        Received
    }
    async fn optional(_: Option<UnsubscribeEvent>) -> Received {
        Received
    }
    async fn other(_: Authenticated) -> Received {
        Received
    }
    let app = Router::new()
        .layer(WebhookAuth::new(SECRET))
        .route(PATH, post(unsubscribed))
        .route("/optional", post(optional))
        .route("/other", post(other));
    for path in [PATH, "/optional", "/other"] {
        let mut request = signed(untouchable());
        *request.uri_mut() = path.parse().expect("a URI");
        let answer = send(&app, request).await;
        assert_refused(&answer, "missing_layer", None);
        assert!(answer.rejection.expect("a rejection").body().is_none());
    }
    let (head, ()) = Request::post(PATH).body(()).expect("a request").into_parts();
    let rejection = UnsubscribeEvent::from_body(&head, untouchable()).await.expect_err("no layer");
    assert_eq!((rejection.code(), rejection.body()), (Code::MissingLayer, None));
}
