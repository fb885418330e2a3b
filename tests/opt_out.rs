//! The opt-out that a refused body still contains: the contract's rule, case by case.

mod common;

use common::prelude::*;
use uuid::Uuid;

const PHONE: &str = "+4911113333444";
const ID: &str = "ef58b437-1319-4b0c-961b-17214cf1cf32";

fn app(auth: WebhookAuth) -> Router {
    async fn unsubscribed(event: Decoded) -> Result<Received, ServerError> {
        event?;
        Ok(Received)
    }
    Router::new().route(PATH, post(unsubscribed).layer(auth))
}

/// The opt-out of a refused body.
async fn refused(app: &Router, body: impl Into<Body>) -> Option<OptOut> {
    let reply = send(app, authenticated(body)).await;
    let rejection = reply.rejection.as_ref().expect("a refusal");
    assert_refused(&reply, rejection.code().as_str(), rejection.pointer());
    rejection.opt_out().cloned()
}

/// The example with a Latin-1 byte instead of `@`.
fn with_latin(pointer: &str, text: &str) -> Vec<u8> {
    let body = Fields::example().with(pointer, text).json();
    body.bytes().map(|byte| if byte == b'@' { 0xfc } else { byte }).collect()
}

#[tokio::test]
async fn a_flaw_elsewhere_leaves_the_opt_out() {
    let fields = Fields::example();
    let reason = "/data/additional_data/reason";
    let flawed = [
        fields.with("/data/additional_data", "[]"),
        fields.with(reason, "null"),
        fields.without(reason),
        fields.with("/data/additional_data/reason/id", "7"),
        fields.without("/data/unsubscribe_request_id"),
        fields.with("/data/campaign_code", "300000"),
        fields.with("/attempts_total", "5"),
        fields.with("/attempt_number", r#""4""#),
        fields.and("/data/group_id", "1"),
        fields.with("/data/campaign_code", r#""\ud800""#),
        fields.with("/created_at", "1e999"),
        fields.with("/api_version", &nested(200)),
        fields.and("/\\ud800", "1"),
    ];
    let cut_off = fields.json().trim_end_matches('}').to_owned();
    let not_json = [
        with_latin("/data/additional_data/additional_text", r#""gr@n""#),
        with_latin("/unknown", r#""gr@n""#),
        (fields.json() + "}").into(),
        // Cut off after all that counts.
        format!("\u{feff}{cut_off}").into(),
        cut_off.into(),
        fields.json().replacen("2022", "\n2022", 1).into(),
    ];
    let app = app(WebhookAuth::new(SECRET).allow_accounts([2]));
    for body in flawed.map(|fields| fields.json().into_bytes()).into_iter().chain(not_json) {
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(refused(&app, body).await, Some(example().opt_out()), "{text}");
    }
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[tokio::test]
async fn an_uncertain_opt_out_is_not_returned() {
    let flawed = Fields::example().with("/data/additional_data", "[]");
    let text = flawed.json();
    let (before_name, _) = text.split_once(r#""name""#).expect("the name");
    let (before_user, _) = text.split_once(r#""user_id""#).expect("the account");
    let phone = format!("{PHONE:?}");
    let uncertain = [
        flawed.with("/data/phone", "4911113333444"),
        flawed.with("/data/phone", "null"),
        flawed.with("/data/phone", r#""""#),
        flawed.with("/data/phone", r#""\ud83d""#),
        flawed.and("/data/phone", &phone),
        flawed.without("/data/phone"),
        flawed.without("/data/phone").and("/phone", &phone),
        flawed.without("/name"),
        flawed.with("/name", r#""phone.subscribe""#),
        flawed.with("/name", r#"["phone.unsubscribe"]"#),
        flawed.and("/name", r#""phone.unsubscribe""#),
        flawed.and("/name", r#""phone.subscribe""#),
        // The private names under which serde_json's features hand over raw text and numbers.
        flawed.with("/data/phone", r#"{"$serde_json::private::RawValue":"\"+49\""}"#),
        flawed.with("/data/phone", r#"{"$serde_json::private::Number":"49"}"#),
    ];
    let bodies: [Vec<u8>; 8] = [
        with_latin("/data/phone", r#""+49@""#),
        text.replacen(r#""data":{"#, r#""data":{},"data":{"#, 1).into(),
        text.replacen(r#""data":{"#, r#""data":[{"#, 1).replacen("},\"name", "}],\"name", 1).into(),
        before_name.into(),
        // The second of two is cut off.
        format!(r#"{before_user}"phone":"+49"#).into(),
        b"".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
    ];
    let uncertain = uncertain.map(|fields| fields.json().into_bytes());
    let bodies = uncertain.into_iter().chain(bodies);
    let app = app(WebhookAuth::new(SECRET));
    for body in bodies {
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(refused(&app, body).await, None, "{text}");
    }
}

/// A tree of the body would recurse through the private name of `serde_json`'s `raw_value`, which
/// axum turns on, until the stack overflows.
#[tokio::test]
async fn no_body_is_read_into_a_tree() {
    let mut id = nested(120);
    for _ in 0..60 {
        let quoted = id.replace('\\', r"\u005c").replace('"', r"\u0022");
        let raw = format!(r#"{{"$serde_json::private::RawValue":"{quoted}"}}"#);
        id = format!("{}{raw}{}", "[".repeat(120), "]".repeat(120));
    }
    let app = app(WebhookAuth::new(SECRET));
    let wide = format!("[{}0]", r#"{"":0},"#.repeat(100_000));
    for id in [id, wide] {
        let body = Fields::example().with("/id", &id).json();
        let opt_out = refused(&app, body).await;
        assert_eq!(opt_out.map(|opt_out| opt_out.phone).as_deref(), Some(PHONE));
    }
}

#[tokio::test]
async fn the_account_and_the_id_are_there_if_they_can_be_read() {
    let app = app(WebhookAuth::new(SECRET));
    let id = Some(ID.parse::<Uuid>().expect("a UUID"));
    let flawed = Fields::example().with("/data/additional_data", "[]");
    for (fields, user_id, expected_id) in [
        (flawed.clone(), Some(2), id),
        (flawed.with("/data/user_id", "2.0"), Some(2), id),
        (flawed.with("/data/user_id", r#""2""#), None, id),
        (flawed.with("/data/user_id", "2.5"), None, id),
        (flawed.with("/data/user_id", "1e999"), None, id),
        (flawed.with("/data/user_id", r#"{"$serde_json::private::Number":"2"}"#), None, id),
        (flawed.with("/id", "1e999"), Some(2), None),
        (flawed.with("/id", &nested(200)), Some(2), None),
        (flawed.and("/data/user_id", "2"), None, id),
        (flawed.without("/data/user_id"), None, id),
        (flawed.with("/id", &format!("{:?}", ID.to_uppercase())), Some(2), id),
        (flawed.with("/id", "17"), Some(2), None),
        (flawed.with("/id", r#""\ud800""#), Some(2), None),
        (flawed.and("/id", &format!("{ID:?}")), Some(2), None),
        (flawed.without("/id"), Some(2), None),
    ] {
        let opt_out = refused(&app, fields.json()).await.expect("an opt-out");
        assert_eq!((&*opt_out.phone, opt_out.user_id, opt_out.id), (PHONE, user_id, expected_id));
    }
    // The phone number as it was sent, with a U+FFFD of its own.
    let odd = flawed.with("/data/phone", r#"" 0049 / (0) \u00e4\ufffd""#);
    let opt_out = refused(&app, odd.json()).await.expect("an opt-out");
    assert_eq!(opt_out.phone, " 0049 / (0) ä\u{fffd}");
}

#[tokio::test]
async fn it_belongs_to_an_allowed_account() {
    let outer = WebhookAuth::new(SECRET).allow_accounts([2, 3]);
    let inner = WebhookAuth::new(SECRET).allow_accounts([2, 4]);
    let app = app(inner).layer(outer);
    let flawed = Fields::example().with("/data/additional_data", "[]");
    for (fields, is_there) in [
        (flawed.clone(), true),
        (flawed.with("/data/user_id", "3"), false),
        (flawed.with("/data/user_id", "4"), false),
        (flawed.with("/data/user_id", r#""2""#), false),
        (flawed.and("/data/user_id", "2"), false),
        (flawed.without("/data/user_id"), false),
        // Another account's event never has one.
        (Fields::example().with("/data/user_id", "3"), false),
    ] {
        assert_eq!(refused(&app, fields.json()).await.is_some(), is_there, "{}", fields.json());
    }
}

#[tokio::test]
async fn only_a_refused_body_that_was_read_whole_has_one() {
    let limited = app(WebhookAuth::new(SECRET)).layer(DefaultBodyLimit::max(100));
    let forbidden = app(WebhookAuth::new(SECRET).require(|_| false));
    let guarded = app(WebhookAuth::new("another"));
    for app in [limited, forbidden, guarded] {
        assert_eq!(refused(&app, EXAMPLE).await, None);
    }

    let text = with(authenticated(EXAMPLE), "content-type", "text/plain");
    let reply = send(&app(WebhookAuth::new(SECRET)), text).await;
    assert_refused(&reply, "content_type", None);
    let rejection = reply.rejection.expect("a rejection");
    assert_eq!(rejection.opt_out(), Some(&example().opt_out()));
    // The response of a kept one is the same.
    let body = |rejection: Rejection| http::Response::<Vec<u8>>::from(rejection).into_body();
    assert_eq!(body(rejection.clone()), body(rejection.kept()));

    let stored = Fields::example().with("/data/additional_data", "[]").json();
    let rejection = UnsubscribeEvent::from_slice(stored.as_bytes()).expect_err("refused");
    assert_eq!((rejection.opt_out(), rejection.body()), (None, None));
}
