//! The log: one event per delivery, at a level that depends on the outcome, with nothing personal.

mod common;
#[path = "common/hidden.rs"]
mod hidden;

use std::{
    convert::Infallible,
    future::pending,
    pin::pin,
    sync::Mutex,
    task::{Context, Waker},
    time::Duration,
};

use common::prelude::*;
use hidden::{DIGITS, Log};
use tower::Layer as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer, prelude::*};

const ID: &str = "ef58b437-1319-4b0c-961b-17214cf1cf32";
const OTHER: &str = r#"{"name":"sms.delivery","id":"9bd2ee94-0671-4a4a-a19c-fd3fd2b0ee79",
    "attempt_number":4,"attempts_total":4,"data":{}}"#;

/// The one event since the last call: `LEVEL message field=value …`. The fields of the example's first
/// attempt are written `FIRST`, and those of its last one `LAST`.
#[track_caller]
fn one(log: &Log) -> String {
    let log = log.take().replace('"', "").replace(ID, "ID");
    assert_eq!(log.lines().count(), 1, "not one event: {log}");
    let (level, event) = log.trim().split_once(" unsubscribe_webhook: ").expect("of this crate");
    format!("{level} {event}")
        .replace("last_attempt=false attempt_number=1 id=ID", "FIRST")
        .replace("last_attempt=true attempt_number=4 id=ID", "LAST")
}

async fn assert_logs(log: &Log, app: &Router, request: Request, expected: &str) {
    send(app, request).await;
    assert_eq!(one(log), expected);
}

fn app() -> Router {
    app_with(WebhookAuth::new(SECRET).allow_accounts([2]))
}

/// The body of an attempt, with another value of one field.
fn attempt(number: u8, pointer: &str, raw: &str) -> String {
    Fields::example().with("/attempt_number", &number.to_string()).with(pointer, raw).json()
}

fn first() -> Request {
    authenticated(EXAMPLE)
}

fn last() -> Request {
    authenticated(attempt(4, "/attempts_total", "4"))
}

/// A refused delivery, which has an opt-out.
fn flawed(number: u8) -> Request {
    authenticated(attempt(number, "/data/additional_data", "[]"))
}

#[tokio::test]
async fn an_accepted_delivery_is_one_event_at_debug() {
    let app = app_with(WebhookAuth::new("another").or(token(SECRET)));
    let log = Log::start();
    // On the last attempt too: nothing is lost.
    for (request, attempt) in [(first(), "FIRST"), (last(), "LAST")] {
        let accepted = "DEBUG Delivery accepted. outcome=accepted status=200 credential=1";
        assert_logs(&log, &app, request, &format!("{accepted} {attempt}")).await;
    }
}

#[tokio::test]
async fn only_the_log_has_the_cause_of_a_401() {
    let bearer = Credential::bearer("b3arer").expect("usable");
    let app = app_with(WebhookAuth::new(SECRET).or(bearer));
    let token = ("x-lox24-token", SECRET);
    let log = Log::start();
    for (headers, cause) in [
        (&[][..], "absent"),
        (&[("x-lox24-tokens", SECRET)], "absent"),
        (&[("x-lox24-token", "a-guess")], "wrong"),
        (&[("authorization", "Basic b3arer")], "wrong"),
        (&[token, token], "duplicate"),
        (&[token, token, ("authorization", "Bearer a")], "duplicate"),
    ] {
        let request = with_headers(unauthenticated(EXAMPLE), headers);
        assert_refused(&send(&app, request).await, "unauthorized", None);
        assert_eq!(
            one(&log),
            format!(
                "INFO Missing, invalid or duplicate credentials. outcome=unauthenticated \
                 status=401 code=unauthorized cause={cause}"
            )
        );
    }
}

#[tokio::test]
async fn an_authentic_delivery_that_is_refused_is_a_warning() {
    let forbidden = app_with(WebhookAuth::new(SECRET).require(|_| false));
    let limited = app().layer(DefaultBodyLimit::max(100));
    let text = with(first(), "content-type", "text/plain");
    let account = |raw| authenticated(attempt(1, "/data/user_id", raw));
    let at = "pointer=/data/user_id credential=0 FIRST";
    let log = Log::start();
    for (app, request, status, fields) in [
        (app(), account("3"), 403, &*format!("code=foreign_account {at}")),
        (app(), account("\"2\""), 400, &*format!("code=invalid_field {at}")),
        (app(), authenticated("nothing"), 400, "code=not_json credential=0"),
        (app(), text, 400, "code=content_type credential=0 FIRST"),
        (forbidden, first(), 403, "code=forbidden credential=0"),
        (limited, first(), 400, "code=body_too_large credential=0"),
    ] {
        let expected = format!("WARN Delivery refused. outcome=refused status={status} {fields}");
        assert_logs(&log, &app, request, &expected).await;
    }
}

/// Whatever can be read of the body decides: an opt-out is about to be lost.
#[tokio::test]
async fn a_refusal_on_the_last_attempt_is_an_error() {
    let log = Log::start();
    let without_total = Fields::example().without("/attempts_total").without("/id");
    let last = [
        attempt(4, "/data/phone", "7"),
        attempt(4, "/data/user_id", "3"),
        attempt(4, "/id", "\"not a uuid\""),
        attempt(2, "/attempts_total", "2").replace("\"phone\"", "\"fone\""),
        without_total.with("/attempt_total", "1").json(),
        Fields::example().with("/attempt_number", "4.0").without("/data").json(),
        // Four in all, where the body has no total or an invalid one.
        without_total.with("/attempt_number", "4").json(),
        attempt(4, "/attempts_total", "9"),
        attempt(5, "/data/phone", "null"),
        // Up to where it is cut off, or stops being JSON or UTF-8.
        r#"{"attempts_total": 4, "attempt_number": 4, "data": {"phone": "+49"#.to_owned(),
        r#"{"attempts_total": 4, "attempt_number": 4, data: {}}"#.to_owned(),
        format!("{} and more", attempt(4, "/attempts_total", "4")),
        format!("\u{feff}{}", attempt(4, "/data/phone", "7")),
        // Digits in a string count too.
        attempt(4, "/data/phone", "7").replace(r#""attempt_number":4"#, r#""attempt_number":"4""#),
        // Behind a lone surrogate, and a number that no double holds.
        attempt(4, "/data/phone", r#""\ud83d""#),
        attempt(4, "/unknown", r"1e999").replace(r#""phone""#, r#""fone""#),
        // Of totals that disagree the lower one.
        Fields::example().with("/attempt_number", "2").and("/attempt_total", "2").json(),
    ];
    // Latin-1 in the person's text, which stands before the attempt.
    let latin = attempt(4, "/data/additional_data/additional_text", r#""gr@n""#);
    let latin: Vec<u8> = latin.bytes().map(|byte| if byte == b'@' { 0xfc } else { byte }).collect();
    for body in last.map(String::into_bytes).into_iter().chain([latin]) {
        send(&app(), authenticated(body)).await;
        let logged = one(&log);
        let message = "ERROR Last attempt failed: the opt-out is lost unless it was stored. ";
        assert!(logged.starts_with(message), "{logged}");
    }

    for body in [
        attempt(3, "/data/phone", "7"),
        Fields::example().without("/attempt_number").without("/id").json(),
        r#"{"data": {"attempt_number": 4}, "attempt_number": 1"#.to_owned(),
        r#"[{"attempt_number": 4}]"#.to_owned(),
        // Duplicate, so neither counts.
        attempt(4, "/data/phone", "7").replacen('{', r#"{"attempt_number":1,"#, 1),
    ] {
        send(&app(), authenticated(body)).await;
        let logged = one(&log);
        assert!(logged.starts_with("WARN "), "{logged}");
    }
}

/// What the handler returns decides, whatever the extractor found.
#[tokio::test]
async fn the_outcome_is_that_of_the_response() {
    const LOST: &str = "Last attempt failed: the opt-out is lost unless it was stored.";
    let refusal = "code=invalid_field pointer=/data/additional_data credential=0";
    let keeps = async |event: Decoded| {
        Err::<Received, ServerError>(event.expect_err("a refused body").kept().into())
    };
    let swallows = async |_: Decoded| Received;
    let fails = async |_: UnsubscribeEvent| ServerError::from("the disk is full");
    let hides = async |_: UnsubscribeEvent| (StatusCode::OK, ServerError::from("the disk is full"));
    // A handler may return the rejection of another body.
    let other_body = async |_: UnsubscribeEvent| {
        UnsubscribeEvent::from_slice(br#"{"name":"sms.delivery"}"#).map(|_| Received)
    };
    // A layer may replace every refusal by its own page.
    let pages = from_fn(async |request: Request, next: Next| {
        let status = next.run(request).await.status();
        (status, "an error page").into_response()
    });
    let pages = Router::new()
        .route(PATH, post(async |_: UnsubscribeEvent| Received))
        .layer(pages)
        .layer(WebhookAuth::new(SECRET));

    let (keeps, swallows, fails) = (protected(keeps), protected(swallows), protected(fails));
    let kept = "WARN Delivery refused; its opt-out is kept. outcome=refused status=400";
    let refused = "WARN Delivery refused. outcome=refused status=400";
    let acknowledged = "WARN Refused delivery was acknowledged: it is not sent again.";
    let failed = "code=server_error credential=0";
    let disk = " error=the disk is full";
    let hidden = "ERROR Delivery failed but was acknowledged: it is not sent again.";
    let other = "code=other_event pointer=/name credential=0";
    let log = Log::start();
    for (app, request, expected) in [
        (&keeps, flawed(1), format!("{kept} {refusal} kept=true FIRST")),
        (&keeps, flawed(4), format!("{kept} {refusal} kept=true LAST")),
        (&swallows, flawed(4), format!("{acknowledged} outcome=refused status=200 {refusal} LAST")),
        (&pages, flawed(1), format!("{refused} {refusal} FIRST")),
        (
            &fails,
            first(),
            format!("ERROR Delivery failed. outcome=failed status=500 {failed} FIRST{disk}"),
        ),
        (&fails, last(), format!("ERROR {LOST} outcome=failed status=500 {failed} LAST{disk}")),
        // It does not come again, on whichever attempt.
        (
            &protected(hides),
            first(),
            format!("{hidden} outcome=failed status=200 {failed} FIRST{disk}"),
        ),
        (
            &protected(other_body),
            last(),
            format!("ERROR {LOST} outcome=other_event status=400 {other} LAST"),
        ),
    ] {
        assert_logs(&log, app, request, &expected).await;
    }

    // Or that of another service.
    let rejection = send(&app_with(WebhookAuth::new("another")), first()).await.rejection;
    one(&log);
    let forwards =
        protected(async move |_: UnsubscribeEvent| rejection.clone().expect("a refusal"));
    let expected = format!("ERROR {LOST} outcome=unauthenticated status=401 code=unauthorized");
    assert_logs(&log, &forwards, last(), &format!("{expected} credential=0 LAST")).await;
}

/// The layer sees the status of the app's own responses.
#[tokio::test]
async fn the_apps_own_responses_are_logged_by_their_status() {
    let log = Log::start();
    for (status, level, outcome) in [
        (StatusCode::NO_CONTENT, "DEBUG", "accepted"),
        (StatusCode::FOUND, "WARN", "failed"),
        (StatusCode::CONFLICT, "WARN", "failed"),
        (StatusCode::SERVICE_UNAVAILABLE, "ERROR", "failed"),
    ] {
        let app = protected(async move |_: UnsubscribeEvent| status);
        let status = status.as_u16();
        let fields = format!("outcome={outcome} status={status} credential=0");
        let expected = format!("{level} Delivery {outcome}. {fields} FIRST");
        assert_logs(&log, &app, first(), &expected).await;
        send(&app, last()).await;
        let lost = if outcome == "accepted" { level } else { "ERROR" };
        assert!(one(&log).starts_with(lost), "{status}");
    }
    // Not hidden by what the extractor found.
    let fails = async |_: Decoded| StatusCode::SERVICE_UNAVAILABLE;
    let fails = protected(fails);
    for request in [authenticated(r#"{"name":"sms.delivery"}"#), flawed(1)] {
        send(&fails, request).await;
        let logged = one(&log);
        assert!(logged.starts_with("ERROR Delivery failed. outcome=failed status=503"), "{logged}");
    }
}

/// What never reaches the extractor: another handler, a wrong path, a layer that responds itself.
#[tokio::test]
async fn a_request_without_an_extractor_is_logged_too() {
    let app = Router::new()
        .route("/list", get(async |_: Authenticated| "all of them"))
        .route(PATH, post(async |_: UnsubscribeEvent| Received))
        .layer(from_fn(async |request: Request, next: Next| {
            if request.headers().contains_key("x-block") {
                return StatusCode::PAYLOAD_TOO_LARGE.into_response();
            }
            next.run(request).await
        }))
        .layer(WebhookAuth::new(SECRET));
    let get = |path: &str| {
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        token(SECRET).apply_to(&mut request);
        request
    };
    let no_handler = "WARN No handler for the path or method of an authenticated request.";
    let log = Log::start();
    for (request, outcome) in [
        (get("/list"), "DEBUG Authenticated request completed. outcome=passed status=200"),
        (get("/lost"), &*format!("{no_handler} outcome=not_found status=404")),
        (get(PATH), &*format!("{no_handler} outcome=not_found status=405")),
        (with(first(), "x-block", "1"), "WARN Delivery failed. outcome=failed status=413"),
    ] {
        assert_logs(&log, &app, request, &format!("{outcome} credential=0")).await;
    }
}

#[tokio::test]
async fn events_of_another_kind_are_not_warnings() {
    let takes_it = protected(async |_: Option<UnsubscribeEvent>| Received);
    let fails =
        protected(async |_: Option<UnsubscribeEvent>| ServerError::from("the queue is full"));
    let waits = protected(async |_: Option<UnsubscribeEvent>| pending::<Received>().await);
    let other = "DEBUG Authenticated event of another kind. outcome=other_event";
    let fields =
        "pointer=/name credential=0 attempt_number=4 id=9bd2ee94-0671-4a4a-a19c-fd3fd2b0ee79";
    let log = Log::start();
    for (app, status) in [(takes_it, 200), (app(), 400)] {
        let expected = format!("{other} status={status} code=other_event {fields}");
        assert_logs(&log, &app, authenticated(OTHER), &expected).await;
    }
    // If its handler fails or is dropped that is logged, but no opt-out is lost with it.
    send(&fails, authenticated(OTHER)).await;
    let logged = one(&log);
    assert!(logged.starts_with("ERROR Delivery failed. outcome=failed"), "{logged}");
    assert!(!logged.contains("last_attempt"), "{logged}");
    drop_after_a_moment(waits, authenticated(OTHER)).await;
    let logged = one(&log);
    assert!(logged.starts_with("WARN Delivery dropped without a response. outcome=abandoned"));
    assert!(!logged.contains("last_attempt"), "{logged}");
}

/// A subscriber may read the same request while the event is emitted.
#[tokio::test]
async fn no_lock_is_held_while_the_event_is_emitted() {
    static HEAD: Mutex<Option<Parts>> = Mutex::new(None);
    struct Reads;
    impl<S: Subscriber> Layer<S> for Reads {
        fn on_event(&self, _: &Event<'_>, _: layer::Context<'_, S>) {
            let head = HEAD.lock().expect("no panic").take().expect("the head");
            let body = http_body_util::Full::from(EXAMPLE);
            let event = pin!(UnsubscribeEvent::from_body(&head, body));
            assert!(event.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    }
    let app = protected(async |head: Parts| {
        *HEAD.lock().expect("no panic") = Some(head);
        Received
    });
    let _guard = tracing_subscriber::registry().with(Reads).set_default();
    assert_eq!(send(&app, first()).await.status, 200);
    assert!(HEAD.lock().expect("no panic").is_none(), "no event was emitted");
}

async fn drop_after_a_moment(app: Router, request: Request) {
    let patience = Duration::from_millis(20);
    tokio::time::timeout(patience, app.oneshot(request)).await.expect_err("no response");
}

#[tokio::test]
async fn a_delivery_without_a_response_is_logged() {
    let waits = protected(async |_: UnsubscribeEvent| pending::<Received>().await);
    // The client is gone before its body has been discarded.
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, Infallible>>());
    let lost = "ERROR Last attempt failed: the opt-out is lost unless it was stored.";
    let dropped = "WARN Delivery dropped without a response.";
    let log = Log::start();
    for (app, request, expected) in [
        (&waits, first(), format!("{dropped} outcome=abandoned credential=0 FIRST")),
        (&waits, last(), format!("{lost} outcome=abandoned credential=0 LAST")),
        (
            &app(),
            unauthenticated(endless),
            "INFO Missing, invalid or duplicate credentials. outcome=unauthenticated \
             code=unauthorized cause=absent"
                .to_owned(),
        ),
    ] {
        drop_after_a_moment(app.clone(), request).await;
        assert_eq!(one(&log), expected);
    }

    // A panic, wherever it happens.
    let in_the_check = app_with(WebhookAuth::new(SECRET).require(|_| panic!("in the app's check")));
    let handler = async |_: UnsubscribeEvent| -> Received { panic!("in the handler") };
    for app in [in_the_check, protected(handler)] {
        tokio::spawn(app.oneshot(first())).await.expect_err("a panic");
        let logged = one(&log);
        assert!(logged.starts_with(&format!("{dropped} outcome=abandoned")), "{logged}");
    }

    let broken = service_fn(async |_: Request| Err::<axum::response::Response, _>("gone"));
    let error = WebhookAuth::new(SECRET).layer(broken).call(first()).await.expect_err("passed on");
    assert_eq!(error, "gone");
    assert_eq!(one(&log), "ERROR Delivery failed. outcome=failed credential=0");
}

#[tokio::test]
async fn nested_layers_log_once() {
    let query = Credential::query("key", "k3y").expect("usable");
    let inner = WebhookAuth::new("another").or(token(SECRET)).require(|head| {
        // `Authenticated` of the outer layer is there for the app's check.
        head.extensions.get::<Authenticated>().is_some() && !head.headers.contains_key("x-block")
    });
    let app = app_with(inner).layer(WebhookAuth::from_credential(query));
    let both = || to("/webhooks/unsubscribe?key=k3y", first());
    let refused =
        "INFO Missing, invalid or duplicate credentials. outcome=unauthenticated status=401";
    let log = Log::start();
    for (request, expected) in [
        (both(), "DEBUG Delivery accepted. outcome=accepted status=200 credential=1 FIRST"),
        (first(), &*format!("{refused} code=unauthorized cause=absent")),
        (
            with(both(), "x-lox24-token", "a-guess"),
            &*format!("{refused} code=unauthorized cause=wrong credential=0"),
        ),
        (
            with(both(), "x-block", "1"),
            "WARN Delivery refused. outcome=refused status=403 code=forbidden credential=1",
        ),
    ] {
        assert_logs(&log, &app, request, expected).await;
    }
}

#[tokio::test]
async fn a_missing_layer_is_an_error_that_says_how_to_fix_it() {
    let open = Router::new().route(PATH, post(async |_: UnsubscribeEvent| Received));
    // Also if a layer in between loses `Authenticated` with a new request.
    let forgets = from_fn(async |mut request: Request, next: Next| {
        request.extensions_mut().clear();
        next.run(request).await
    });
    let guarded = open.clone().layer(forgets).layer(WebhookAuth::new(SECRET));
    let log = Log::start();
    for app in [open, guarded] {
        assert_refused(&send(&app, first()).await, "missing_layer", None);
        let logged = one(&log);
        let (message, fields) = logged.split_once(" outcome=").expect("the outcome");
        assert!(message.ends_with("Add .layer(WebhookAuth::new(secret)) to the route."));
        assert!(message.starts_with("ERROR The route is not behind the WebhookAuth layer"));
        assert_eq!(fields, "misconfigured status=500 code=missing_layer");
    }
}

/// An integer may be a phone number that came in the wrong field.
#[tokio::test]
async fn a_phone_number_instead_of_an_attempt_is_not_logged() {
    let log = Log::start();
    let number = Fields::example().with("/attempt_number", DIGITS);
    let id = Fields::example().with("/id", &format!("{DIGITS:?}"));
    for fields in [number.clone(), number.without("/data"), id] {
        send(&app(), authenticated(fields.json())).await;
        let logged = one(&log);
        assert!(!logged.contains(DIGITS), "{logged}");
    }
}
