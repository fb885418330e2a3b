//! The log: one event per delivery, at a level that depends on the outcome, with nothing personal.

mod common;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::IntoResponse,
    routing::{get, post},
};
use common::{
    EXAMPLE, Fields, PATH, SECRET, app_with, authenticated, authenticated_by, protected, send,
    token, unauthenticated,
};
use tower::{Layer as _, Service, ServiceExt, service_fn};
use tracing::{Event, Level, Subscriber, field::Visit, subscriber::DefaultGuard};
use tracing_subscriber::{Layer, layer::Context, prelude::*};
use unsubscribe_webhook::{
    Authenticated, Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth,
};

const ID: &str = "ef58b437-1319-4b0c-961b-17214cf1cf32";

/// An event of the log, its fields in the order of their names.
#[derive(Clone, Debug)]
struct Logged {
    level: Level,
    target: String,
    fields: BTreeMap<&'static str, String>,
}

impl Logged {
    /// All but the message: `code=forbidden credential=0 id=ID …`, where `ID` is the example's.
    fn fields(&self) -> String {
        let fields = self.fields.iter().filter(|(name, _)| **name != "message");
        let fields: Vec<_> = fields.map(|(name, value)| format!("{name}={value}")).collect();
        fields.join(" ").replace(ID, "ID")
    }

    fn message(&self) -> &str {
        &self.fields["message"]
    }
}

/// All that is logged on this thread.
struct Recorder {
    logged: Arc<Mutex<Vec<Logged>>>,
    _guard: DefaultGuard,
}

impl Recorder {
    fn start() -> Self {
        let logged = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Record(Arc::clone(&logged)));
        Self { logged, _guard: subscriber.set_default() }
    }

    /// Asserts that there is exactly one event since the last call, of this crate.
    #[track_caller]
    fn one(&self) -> Logged {
        let logged = std::mem::take(&mut *self.logged.lock().expect("no panic"));
        let [logged] = &logged[..] else { panic!("not one event: {logged:#?}") };
        assert_eq!(logged.target, "unsubscribe_webhook");
        logged.clone()
    }

    /// Asserts that the one event is this one.
    #[track_caller]
    fn assert(&self, level: Level, fields: &str) -> Logged {
        let logged = self.one();
        assert_eq!((logged.level, logged.fields().as_str()), (level, fields));
        logged
    }
}

struct Record(Arc<Mutex<Vec<Logged>>>);

impl<S: Subscriber> Layer<S> for Record {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fielded::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let logged = Logged {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            fields: fields.0,
        };
        self.0.lock().expect("no panic").push(logged);
    }
}

#[derive(Default)]
struct Fielded(BTreeMap<&'static str, String>);

impl Visit for Fielded {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// The body of an attempt, with another value of one field.
fn attempt(number: u8, pointer: &str, text: &str) -> String {
    Fields::example().with("/attempt_number", &number.to_string()).with(pointer, text).json()
}

fn failing() -> Router {
    async fn unsubscribed(_: UnsubscribeEvent) -> Result<Received, ServerError> {
        Err(std::io::Error::other("the disk is full"))?
    }
    protected(unsubscribed)
}

#[tokio::test]
async fn an_accepted_delivery_is_one_event_at_debug() {
    let app = app_with(WebhookAuth::new("another").or(token(SECRET)));
    let log = Recorder::start();
    send(&app, authenticated(EXAMPLE)).await;
    let logged = log.assert(
        Level::DEBUG,
        "attempt_number=1 credential=1 id=ID last_attempt=false outcome=accepted status=200",
    );
    assert_eq!(logged.message(), "Delivery accepted.");

    // On the last attempt too: nothing is lost.
    send(&app, authenticated(attempt(4, "/attempts_total", "4"))).await;
    log.assert(
        Level::DEBUG,
        "attempt_number=4 credential=1 id=ID last_attempt=true outcome=accepted status=200",
    );
}

#[tokio::test]
async fn only_the_log_has_the_cause_of_a_401() {
    let bearer = Credential::bearer("b3arer").expect("usable");
    let app = app_with(WebhookAuth::new(SECRET).or(bearer));
    let with = |headers: &[(&'static str, &'static str)]| {
        let mut request = unauthenticated(EXAMPLE);
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        request
    };
    let token = "x-lox24-token";
    let log = Recorder::start();
    for (request, cause) in [
        (with(&[]), "absent"),
        (with(&[("x-lox24-tokens", SECRET)]), "absent"),
        (with(&[(token, "a-guess")]), "wrong"),
        (with(&[("authorization", "Basic b3arer")]), "wrong"),
        (with(&[(token, SECRET), (token, SECRET)]), "duplicate"),
        (with(&[(token, SECRET), (token, SECRET), ("authorization", "Bearer a")]), "duplicate"),
    ] {
        let reply = send(&app, request).await;
        let fields = format!("cause={cause} code=unauthorized outcome=unauthenticated status=401");
        log.assert(Level::INFO, &fields);
        common::assert_refused(&reply, "unauthorized", None);
    }
}

/// The client is gone before its body has been discarded.
#[tokio::test]
async fn a_refusal_whose_client_is_gone_is_logged() {
    let app = app_with(WebhookAuth::new(SECRET));
    let log = Recorder::start();
    let endless = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, Infallible>>());
    drop_after_a_moment(app, unauthenticated(endless)).await;
    log.assert(Level::INFO, "cause=absent code=unauthorized outcome=unauthenticated");
}

#[tokio::test]
async fn an_authentic_delivery_that_is_refused_is_a_warning() {
    let app = app_with(WebhookAuth::new(SECRET).allow_accounts([2]));
    let log = Recorder::start();
    for (pointer, text, code) in
        [("/data/user_id", "3", "foreign_account"), ("/data/user_id", "\"2\"", "invalid_field")]
    {
        send(&app, authenticated(attempt(3, pointer, text))).await;
        let fields = format!(
            "attempt_number=3 code={code} credential=0 id=ID last_attempt=false \
             outcome=refused pointer={pointer} status={}",
            if code == "foreign_account" { 403 } else { 400 }
        );
        log.assert(Level::WARN, &fields);
    }
    send(&app, authenticated("nothing")).await;
    log.assert(Level::WARN, "code=not_json credential=0 outcome=refused status=400");

    let mut text = authenticated(EXAMPLE);
    text.headers_mut().insert("content-type", "text/plain".parse().expect("a value"));
    send(&app, text).await;
    let logged = log.one();
    assert_eq!(
        (logged.level, &*logged.fields["code"], &*logged.fields["id"]),
        (Level::WARN, "content_type", ID)
    );

    let forbidden = app_with(WebhookAuth::new(SECRET).require(|_| false));
    send(&forbidden, authenticated(EXAMPLE)).await;
    log.assert(Level::WARN, "code=forbidden credential=0 outcome=refused status=403");

    let limited = app.layer(axum::extract::DefaultBodyLimit::max(100));
    send(&limited, authenticated(EXAMPLE)).await;
    log.assert(Level::WARN, "code=body_too_large credential=0 outcome=refused status=400");
}

/// Whatever can be read of the body decides: an opt-out is about to be lost.
#[tokio::test]
async fn a_refusal_on_the_last_attempt_is_an_error() {
    let app = app_with(WebhookAuth::new(SECRET).allow_accounts([2]));
    let log = Recorder::start();
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
    for body in last {
        send(&app, authenticated(body.clone())).await;
        let logged = log.one();
        assert_eq!(logged.level, Level::ERROR, "{body}: {logged:?}");
        assert_eq!(logged.fields["last_attempt"], "true");
        assert_eq!(
            logged.message(),
            "Last attempt failed: the opt-out is lost unless it was stored."
        );
    }
    // Latin-1 in the person's text, which stands before the attempt.
    let latin = attempt(4, "/data/additional_data/additional_text", r#""gr@n""#);
    let latin: Vec<u8> = latin.bytes().map(|byte| if byte == b'@' { 0xfc } else { byte }).collect();
    send(&app, authenticated(latin)).await;
    assert_eq!(log.one().level, Level::ERROR);

    for body in [
        attempt(3, "/data/phone", "7"),
        Fields::example().without("/attempt_number").without("/id").json(),
        r#"{"data": {"attempt_number": 4}, "attempt_number": 1"#.to_owned(),
        r#"[{"attempt_number": 4}]"#.to_owned(),
        // Duplicate, so neither counts.
        attempt(4, "/data/phone", "7").replacen('{', r#"{"attempt_number":1,"#, 1),
    ] {
        send(&app, authenticated(body.clone())).await;
        let logged = log.one();
        assert_eq!(logged.level, Level::WARN, "{body}: {logged:?}");
    }
}

#[tokio::test]
async fn a_kept_opt_out_is_not_lost() {
    async fn keeps(event: Result<UnsubscribeEvent, Rejection>) -> Result<Received, ServerError> {
        Err(event.expect_err("a refused body").kept())?
    }
    let app = protected(keeps);
    let log = Recorder::start();
    for number in [1, 4] {
        let body = attempt(number, "/data/additional_data", "[]");
        let reply = send(&app, authenticated(body)).await;
        common::assert_refused(&reply, "invalid_field", Some("/data/additional_data"));
        let last = number == 4;
        let logged = log.assert(
            Level::WARN,
            &format!(
                "attempt_number={number} code=invalid_field credential=0 id=ID kept=true \
                     last_attempt={last} outcome=refused pointer=/data/additional_data status=400"
            ),
        );
        assert_eq!(logged.message(), "Delivery refused; its opt-out is kept.");
    }
}

/// A handler may return the rejection of another service, or of another body.
#[tokio::test]
async fn a_lost_event_is_an_error_whatever_the_handler_returns() {
    async fn other_body(_: UnsubscribeEvent) -> Result<Received, Rejection> {
        UnsubscribeEvent::from_slice(br#"{"name":"sms.delivery"}"#)?;
        Ok(Received)
    }
    let log = Recorder::start();
    let app = protected(other_body);
    send(&app, authenticated(attempt(4, "/attempts_total", "4"))).await;
    assert_eq!(log.one().level, Level::ERROR);

    let refusal =
        send(&app_with(WebhookAuth::new("another")), authenticated(EXAMPLE)).await.rejection;
    log.assert(Level::INFO, "cause=wrong code=unauthorized outcome=unauthenticated status=401");
    let forwards = async move |_: UnsubscribeEvent| refusal.clone().expect("a refusal");
    let app = protected(forwards);
    send(&app, authenticated(attempt(4, "/attempts_total", "4"))).await;
    assert_eq!(log.one().level, Level::ERROR);
}

/// It does not come again, on whichever attempt.
#[tokio::test]
async fn a_handlers_error_that_is_acknowledged_is_an_error() {
    let fails = async |_: UnsubscribeEvent| (StatusCode::OK, ServerError::from("the disk is full"));
    let app = protected(fails);
    let log = Recorder::start();
    send(&app, authenticated(EXAMPLE)).await;
    let logged = log.assert(
        Level::ERROR,
        "attempt_number=1 code=server_error credential=0 error=the disk is full id=ID \
         last_attempt=false outcome=failed status=200",
    );
    assert_eq!(logged.message(), "Delivery failed but was acknowledged: it is not sent again.");
}

#[tokio::test]
async fn a_panic_is_logged_wherever_it_happens() {
    let in_the_check = app_with(WebhookAuth::new(SECRET).require(|_| panic!("in the app's check")));
    let handler = async |_: UnsubscribeEvent| -> Received { panic!("in the handler") };
    let in_the_handler = protected(handler);
    let log = Recorder::start();
    for app in [in_the_check, in_the_handler] {
        tokio::spawn(app.oneshot(authenticated(EXAMPLE))).await.expect_err("a panic");
        let logged = log.one();
        assert_eq!((logged.level, &*logged.fields["outcome"]), (Level::WARN, "abandoned"));
    }
}

#[tokio::test]
async fn a_handlers_error_is_logged_with_its_delivery() {
    let app = failing();
    let log = Recorder::start();
    send(&app, authenticated(EXAMPLE)).await;
    let logged = log.assert(
        Level::ERROR,
        "attempt_number=1 code=server_error credential=0 error=the disk is full id=ID \
         last_attempt=false outcome=failed status=500",
    );
    assert_eq!(logged.message(), "Delivery failed.");

    send(&app, authenticated(attempt(4, "/attempts_total", "4"))).await;
    let logged = log.one();
    assert_eq!((logged.level, &*logged.fields["error"]), (Level::ERROR, "the disk is full"));
    assert_eq!(logged.message(), "Last attempt failed: the opt-out is lost unless it was stored.");
}

/// The layer sees the status of the app's own responses.
#[tokio::test]
async fn the_apps_own_responses_are_logged_by_their_status() {
    for (status, level, outcome) in [
        (StatusCode::NO_CONTENT, Level::DEBUG, "accepted"),
        (StatusCode::FOUND, Level::WARN, "failed"),
        (StatusCode::CONFLICT, Level::WARN, "failed"),
        (StatusCode::SERVICE_UNAVAILABLE, Level::ERROR, "failed"),
    ] {
        let reply = async move |_: UnsubscribeEvent| status;
        let app = protected(reply);
        let log = Recorder::start();
        send(&app, authenticated(EXAMPLE)).await;
        log.assert(
            level,
            &format!(
                "attempt_number=1 credential=0 id=ID \
                 last_attempt=false outcome={outcome} status={}",
                status.as_u16()
            ),
        );
        send(&app, authenticated(attempt(4, "/attempts_total", "4"))).await;
        let lost = if outcome == "accepted" { level } else { Level::ERROR };
        assert_eq!(log.one().level, lost, "{status}");
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
    let log = Recorder::start();
    let to = |path: &str| {
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        token(SECRET).apply_to(&mut request);
        request
    };
    send(&app, to("/list")).await;
    log.assert(Level::DEBUG, "credential=0 outcome=passed status=200");
    send(&app, to("/lost")).await;
    log.assert(Level::WARN, "credential=0 outcome=not_found status=404");
    send(&app, to(PATH)).await;
    log.assert(Level::WARN, "credential=0 outcome=not_found status=405");
    let mut blocked = authenticated(EXAMPLE);
    blocked.headers_mut().insert("x-block", "1".parse().expect("a value"));
    send(&app, blocked).await;
    log.assert(Level::WARN, "credential=0 outcome=failed status=413");
}

#[tokio::test]
async fn a_refusal_that_the_app_acknowledges_has_its_status() {
    async fn keeps_all(event: Result<UnsubscribeEvent, Rejection>) -> Received {
        drop(event);
        Received
    }
    let app = protected(keeps_all);
    let log = Recorder::start();
    send(&app, authenticated(attempt(4, "/data/phone", "7"))).await;
    let logged = log.assert(
        Level::WARN,
        "attempt_number=4 code=invalid_field credential=0 id=ID \
         last_attempt=true outcome=refused pointer=/data/phone status=200",
    );
    let message = "Refused delivery was acknowledged: it is not sent again.";
    assert_eq!(logged.message(), message);

    // The same where a layer replaces every refusal by its own page.
    let pages = from_fn(async |request: Request, next: Next| {
        let status = next.run(request).await.status();
        (status, "an error page").into_response()
    });
    let app = Router::new()
        .route(PATH, post(async |_: UnsubscribeEvent| Received))
        .layer(pages)
        .layer(WebhookAuth::new(SECRET));
    send(&app, authenticated(attempt(1, "/data/phone", "7"))).await;
    let logged = log.one();
    assert_eq!((logged.level, &*logged.fields["code"]), (Level::WARN, "invalid_field"));
}

#[tokio::test]
async fn events_of_another_kind_are_not_warnings() {
    const OTHER: &str = r#"{"name":"sms.delivery","id":"9bd2ee94-0671-4a4a-a19c-fd3fd2b0ee79",
        "attempt_number":4,"attempts_total":4,"data":{}}"#;
    let other = "attempt_number=4 code=other_event credential=0 \
        id=9bd2ee94-0671-4a4a-a19c-fd3fd2b0ee79 outcome=other_event pointer=/name";
    let takes_it = protected(async |_: Option<UnsubscribeEvent>| Received);
    let log = Recorder::start();
    send(&takes_it, authenticated(OTHER)).await;
    log.assert(Level::DEBUG, &format!("{other} status=200"));
    send(&app_with(WebhookAuth::new(SECRET)), authenticated(OTHER)).await;
    log.assert(Level::DEBUG, &format!("{other} status=400"));

    // If its handler fails or is dropped that is logged, but no opt-out is lost with it.
    let fails = async |_: Option<UnsubscribeEvent>| ServerError::from("the queue is full");
    let fails = protected(fails);
    send(&fails, authenticated(OTHER)).await;
    let logged = log.one();
    assert_eq!((logged.level, &*logged.fields["outcome"]), (Level::ERROR, "failed"));
    assert_eq!(logged.message(), "Delivery failed.");
    assert!(!logged.fields.contains_key("last_attempt"), "{logged:?}");

    let waits = async |_: Option<UnsubscribeEvent>| std::future::pending::<Received>().await;
    let waits = protected(waits);
    drop_after_a_moment(waits, authenticated(OTHER)).await;
    let logged = log.one();
    assert_eq!((logged.level, &*logged.fields["outcome"]), (Level::WARN, "abandoned"));
    assert!(!logged.fields.contains_key("last_attempt"), "{logged:?}");
}

/// Whatever the extractor found, if the response does not say it.
#[tokio::test]
async fn a_failure_of_the_app_is_not_hidden_by_a_refusal() {
    let fails = async |_: Result<UnsubscribeEvent, Rejection>| StatusCode::SERVICE_UNAVAILABLE;
    let app = protected(fails);
    let log = Recorder::start();
    for body in [r#"{"name":"sms.delivery"}"#.to_owned(), attempt(1, "/data/phone", "7")] {
        send(&app, authenticated(body)).await;
        let logged = log.one();
        assert_eq!((logged.level, &*logged.fields["outcome"]), (Level::ERROR, "failed"));
    }
}

/// A subscriber may read the same request while the event is emitted.
#[tokio::test]
async fn no_lock_is_held_while_the_event_is_emitted() {
    static HEAD: Mutex<Option<http::request::Parts>> = Mutex::new(None);
    struct Reads;
    impl<S: Subscriber> Layer<S> for Reads {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            let head = HEAD.lock().expect("no panic").take().expect("the head");
            let body = http_body_util::Full::from(EXAMPLE);
            let event = std::pin::pin!(UnsubscribeEvent::from_body(&head, body));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(event.poll(&mut context).is_ready());
        }
    }
    let handler = async |head: http::request::Parts| {
        *HEAD.lock().expect("no panic") = Some(head);
        Received
    };
    let app = protected(handler);
    let _guard = tracing_subscriber::registry().with(Reads).set_default();
    assert_eq!(send(&app, authenticated(EXAMPLE)).await.status, 200);
    assert!(HEAD.lock().expect("no panic").is_none(), "no event was emitted");
}

async fn drop_after_a_moment(app: Router, request: Request) {
    let patience = std::time::Duration::from_millis(20);
    tokio::time::timeout(patience, app.oneshot(request)).await.expect_err("no response");
}

#[tokio::test]
async fn a_delivery_that_is_dropped_is_logged() {
    async fn waits(_: UnsubscribeEvent) -> Received {
        std::future::pending().await
    }
    let app = protected(waits);
    let log = Recorder::start();
    for (number, level) in [(1, Level::WARN), (4, Level::ERROR)] {
        drop_after_a_moment(app.clone(), authenticated(attempt(number, "/attempts_total", "4")))
            .await;
        let last = number == 4;
        log.assert(
            level,
            &format!(
                "attempt_number={number} credential=0 id=ID last_attempt={last} outcome=abandoned"
            ),
        );
    }
}

#[tokio::test]
async fn an_inner_service_that_fails_is_logged() {
    let broken = service_fn(async |_: Request| Err::<axum::response::Response, _>("gone"));
    let log = Recorder::start();
    let mut service = WebhookAuth::new(SECRET).layer(broken);
    service.call(authenticated(EXAMPLE)).await.expect_err("gone");
    log.assert(Level::ERROR, "credential=0 outcome=failed");
}

#[tokio::test]
async fn nested_layers_log_once() {
    let inner = WebhookAuth::new("another").or(token(SECRET)).require(|head| {
        // `Authenticated` of the outer layer is there for the app's check.
        head.extensions.get::<Authenticated>().is_some() && !head.headers.contains_key("x-block")
    });
    let app = app_with(inner)
        .layer(WebhookAuth::from_credential(Credential::query("key", "k3y").expect("usable")));
    let request = |secret: &str| {
        let mut request = authenticated_by(&token(secret), EXAMPLE);
        Credential::query("key", "k3y").expect("usable").apply_to(&mut request);
        request
    };
    let log = Recorder::start();
    send(&app, request(SECRET)).await;
    log.assert(
        Level::DEBUG,
        "attempt_number=1 credential=1 id=ID last_attempt=false outcome=accepted status=200",
    );
    send(&app, authenticated(EXAMPLE)).await;
    log.assert(Level::INFO, "cause=absent code=unauthorized outcome=unauthenticated status=401");
    send(&app, request("a-guess")).await;
    let fields = "cause=wrong code=unauthorized credential=0 outcome=unauthenticated status=401";
    log.assert(Level::INFO, fields);
    let mut blocked = request(SECRET);
    blocked.headers_mut().insert("x-block", "1".parse().expect("a value"));
    send(&app, blocked).await;
    log.assert(Level::WARN, "code=forbidden credential=1 outcome=refused status=403");
}

#[tokio::test]
async fn a_missing_layer_is_an_error_that_says_how_to_fix_it() {
    let open = Router::new().route(PATH, post(async |_: UnsubscribeEvent| Received));
    let log = Recorder::start();
    send(&open, authenticated(EXAMPLE)).await;
    let logged = log.assert(Level::ERROR, "code=missing_layer outcome=misconfigured status=500");
    assert!(logged.message().contains("Add .layer(WebhookAuth::new(secret)) to the route."));

    // Also if a layer in between loses `Authenticated` with a new request.
    let forgets = service_fn(move |request: Request| {
        let (head, body) = request.into_parts();
        let mut bare = Request::new(body);
        (*bare.method_mut(), *bare.uri_mut(), *bare.headers_mut()) =
            (head.method, head.uri, head.headers);
        open.clone().oneshot(bare)
    });
    let guarded = WebhookAuth::new(SECRET).layer(forgets);
    let reply: Result<_, Infallible> = guarded.oneshot(authenticated(EXAMPLE)).await;
    assert_eq!(reply.expect("a response").status(), 500);
    log.assert(Level::ERROR, "code=missing_layer outcome=misconfigured status=500");
}

/// An integer may be a phone number that came in the wrong field.
#[tokio::test]
async fn a_phone_number_instead_of_an_attempt_is_not_logged() {
    let log = Recorder::start();
    for body in [
        Fields::example().with("/attempt_number", "4911113333444").json(),
        Fields::example().with("/attempt_number", "4911113333444").without("/data").json(),
        Fields::example().with("/id", "\"4911113333444\"").json(),
    ] {
        send(&app_with(WebhookAuth::new(SECRET)), authenticated(body)).await;
        let logged = log.one();
        assert!(!format!("{logged:?}").contains("4911113333444"), "{logged:?}");
    }
}
