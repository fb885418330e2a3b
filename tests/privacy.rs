//! What must appear nowhere: the secret, the phone number, what the person wrote.

mod common;
#[path = "common/hidden.rs"]
mod hidden;

use std::error::Error;

use axum::{Router, routing::post};
use common::{
    Answer, EXAMPLE, Fields, PATH, SECRET, example, send, signed, signed_by, token, unsigned,
};
use hidden::{DIGITS, Log, PHONE, TEXTS, assert_hides, bad_bodies, trace};
use serde::de::{Deserialize, Deserializer, Visitor, value::MapDeserializer};
use tower::{Layer, ServiceBuilder};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use unsubscribe_webhook::{
    Authenticated, Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth,
};

#[test]
fn debug_hides_secrets() {
    let secrets = ["s3cr3t-t0k3n", "bearer-t0k3n", "pässw0rd", "u5er", "query-s3cr3t"];
    let credentials = [
        token(secrets[0]),
        Credential::bearer(secrets[1]).expect("usable"),
        Credential::basic(secrets[3], secrets[2]).expect("usable"),
        Credential::query("parameter", secrets[4]).expect("usable"),
    ];
    let mut encoded = http::Request::new(());
    credentials[2].apply_to(&mut encoded);
    let basic =
        encoded.headers()["authorization"].to_str().expect("ASCII")["Basic ".len()..].to_owned();

    let mut auth = WebhookAuth::new(secrets[0]);
    for credential in &credentials {
        assert_hides(&format!("{credential:?} {credential:#?}"), &secrets);
        assert_hides(&format!("{credential:?}"), &[&basic]);
        auth = auth.or(credential.clone());
    }
    let service = auth.layer("inner");
    assert_hides(&format!("{auth:?} {auth:#?} {service:?} {service:#?}"), &secrets);
    assert_hides(&format!("{auth:?} {service:?}"), &[&basic]);
    // It still says what is where.
    assert!(format!("{auth:?}").contains("x-lox24-token"));

    for unusable in [
        Credential::token("s3cr3t-t0k3n\n"),
        Credential::token("s3cr3t-t0k3n ä"),
        Credential::bearer("s3cr3t-t0k3n ä"),
        Credential::basic("u:s3cr3t-t0k3n", "s3cr3t-t0k3n"),
        Credential::header("s3cr3t-t0k3n ä", "s3cr3t-t0k3n"),
        Credential::query("", "s3cr3t-t0k3n"),
    ] {
        let error = unusable.expect_err("unusable");
        assert_hides(&format!("{error} {error:?} {error:#?}"), &secrets);
    }
    let panic =
        std::panic::catch_unwind(|| WebhookAuth::new("s3cr3t-t0k3n\n")).expect_err("a panic");
    assert_hides(panic.downcast_ref::<String>().expect("a text"), &secrets);
}

#[tokio::test]
async fn debug_hides_what_the_person_sent() {
    let event = example();
    assert_hides(&format!("{event:?} {event:#?}"), &TEXTS);
    let data = &event.data;
    assert_hides(&format!("{data:?} {:?}", data.additional_data), &TEXTS);
    assert_hides(&format!("{:?}", data.additional_data.reason), &TEXTS);
    let with_version = Fields::example().with("/api_version", &format!("{PHONE:?}")).text();
    let event = UnsubscribeEvent::from_slice(with_version.as_bytes()).expect("an event");
    assert_hides(&format!("{event:?}"), &TEXTS);

    let app = Router::new()
        .route(PATH, post(async |proof: Authenticated| format!("{proof:?} {proof:#?}")))
        .layer(WebhookAuth::new(SECRET));
    assert_hides(&send(&app, signed(EXAMPLE)).await.body, &[SECRET]);

    let error = ServerError::from(PHONE);
    assert_hides(&format!("{error:?} {error:#?}"), &TEXTS);
}

#[tokio::test]
async fn a_refusal_repeats_nothing_of_the_request() {
    let app = common::host(WebhookAuth::new(SECRET).allow_accounts([3]));
    let mut bodies = bad_bodies();
    bodies.push(EXAMPLE.to_owned());
    for body in bodies {
        let answer: Answer = send(&app, signed(body.clone())).await;
        assert!(answer.status >= 400, "{body}");
        assert_hides(&answer.body, &TEXTS);
        assert_hides(&format!("{:?}", answer.headers), &TEXTS);
        let rejection: Rejection = answer.rejection.expect("a rejection");
        assert_hides(&format!("{rejection} {rejection:?} {rejection:#?}"), &TEXTS);
        assert_hides(rejection.pointer().unwrap_or("none"), &TEXTS);
        // No source at all: nothing of a JSON reader's error is kept.
        assert!(rejection.source().is_none());
        if let Err(error) = serde_json::from_str::<UnsubscribeEvent>(&body) {
            let mut cause: Option<&dyn Error> = Some(&error);
            while let Some(error) = cause {
                assert_hides(&format!("{error} {error:?}"), &TEXTS);
                cause = error.source();
            }
        }
    }
    let forged = send(&app, signed_by(&token("a-guess"), EXAMPLE)).await;
    assert_hides(&format!("{forged:?}"), &["a-guess", SECRET, "lox24-token"]);
}

/// All that a subscriber at TRACE writes while `app` answers, and the statuses.
async fn logged(app: &Router, requests: Vec<axum::extract::Request>) -> (String, Vec<u16>) {
    let log = Log::start();
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(send(app, request).await.status);
    }
    (log.stop(), statuses)
}

#[tokio::test]
async fn a_trace_layer_with_headers_prints_no_credential() {
    async fn unsubscribed(_: UnsubscribeEvent) -> Received {
        Received
    }
    let basic = Credential::basic("lox24", "basic-s3cr3t").expect("usable");
    let auth = || WebhookAuth::new(SECRET).or(basic.clone());
    let mut requests = vec![unsigned(EXAMPLE), signed(EXAMPLE), signed_by(&basic, EXAMPLE)];
    // A real request's header is not marked sensitive by whoever made it.
    for request in &mut requests {
        for value in request.headers_mut().values_mut() {
            value.set_sensitive(false);
        }
    }
    let both = {
        let mut both = signed(EXAMPLE);
        both.headers_mut().insert("authorization", "Bearer other-s3cr3t".parse().expect("a value"));
        both
    };
    requests.push(both);
    let encoded = "bG94MjQ6YmFzaWMtczNjcjN0";
    let secrets = [SECRET, encoded, "other-s3cr3t", DIGITS, "Benutzertext"];
    let clone = |requests: &Vec<axum::extract::Request>| -> Vec<_> {
        let copy = |request: &axum::extract::Request| {
            let mut copy = unsigned(EXAMPLE);
            *copy.headers_mut() = request.headers().clone();
            copy
        };
        requests.iter().map(copy).collect()
    };

    let inside = ServiceBuilder::new().layer(auth()).layer(trace());
    let inside = Router::new().route(PATH, post(unsubscribed).layer(inside));
    let (log, statuses) = logged(&inside, clone(&requests)).await;
    assert_eq!(statuses, [401, 200, 200, 200]);
    assert!(log.contains(r#""x-lox24-token": Sensitive"#), "{log}");
    assert!(log.contains(r#""authorization": Sensitive"#), "{log}");
    assert_hides(&log, &secrets);

    // Outside, with the layer that the documentation names.
    let names = auth().credential_headers();
    let outside = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new(names))
        .layer(trace())
        .layer(auth());
    let outside = Router::new().route(PATH, post(unsubscribed).layer(outside));
    let (log, statuses) = logged(&outside, clone(&requests)).await;
    assert_eq!(statuses, [401, 200, 200, 200]);
    assert!(log.contains(r#""x-lox24-token": Sensitive"#), "{log}");
    assert_hides(&log, &secrets);
}

#[tokio::test]
async fn our_own_log_says_what_is_wrong_and_nothing_personal() {
    async fn unsubscribed(_: UnsubscribeEvent) -> Result<Received, ServerError> {
        Err(std::io::Error::other("the disk is full"))?
    }
    let open = Router::new().route(PATH, post(unsubscribed));
    let (log, statuses) = logged(&open, vec![signed(EXAMPLE)]).await;
    assert_eq!(statuses, [500]);
    assert!(log.contains("ERROR") && log.contains("missing_layer"), "{log}");
    assert!(log.contains("Add .layer(WebhookAuth::new(secret)) to the route."), "{log}");
    assert_hides(&log, &[SECRET, DIGITS]);

    let guarded = open.layer(WebhookAuth::new(SECRET));
    let mut requests: Vec<_> = bad_bodies().into_iter().map(signed).collect();
    requests.push(signed(EXAMPLE));
    requests.insert(0, signed(r#"{"name":"sms.delivery"}"#));
    let (log, statuses) = logged(&guarded, requests).await;
    assert_eq!(statuses.last(), Some(&500));
    let narrow = Router::new()
        .route(PATH, post(async |_: UnsubscribeEvent| Received))
        .layer(WebhookAuth::new(SECRET).require(|_| false));
    let (forbidden, statuses_of_forbidden) =
        logged(&narrow, vec![signed(EXAMPLE), unsigned(EXAMPLE)]).await;
    assert_eq!(statuses_of_forbidden, [403, 401]);
    assert_eq!(forbidden.matches("Delivery refused.").count(), 1, "{forbidden}");
    assert_hides(&forbidden, &[SECRET]);
    assert_hides(&forbidden, &TEXTS);

    // Each authentic delivery that is refused leaves a trace; another kind of event is no loss.
    let refused = statuses.iter().filter(|status| **status == 400).count() - 2;
    assert_eq!(log.matches("Delivery refused.").count(), refused, "{log}");
    assert!(log.contains("DEBUG") && log.contains("of another kind"), "{log}");
    assert_hides(&log, &["sms.delivery"]);
    assert!(log.contains("WARN") && log.contains(r#"pointer="/data/user_id""#), "{log}");
    assert!(log.contains("ERROR") && log.contains("the disk is full"), "{log}");
    assert_hides(&log, &[SECRET]);
    assert_hides(&log, &TEXTS);
}

/// A tree whose keys are numbers, as formats other than JSON have it: the deserializer's own error
/// quotes the key.
#[test]
fn a_number_in_the_place_of_a_name_is_not_repeated() {
    let phone: u64 = DIGITS.parse().expect("digits");
    let keys = MapDeserializer::<_, serde::de::value::Error>::new([(phone, ())].into_iter());
    let newtype = NewtypeDeserializer(keys);

    for error in [
        UnsubscribeEvent::deserialize(newtype.0.clone()).expect_err("no event"),
        UnsubscribeEvent::deserialize(newtype).expect_err("no event"),
    ] {
        assert_hides(&format!("{error} {error:?}"), &[DIGITS]);
    }
}

/// Shows newtypes as such, which most formats do.
struct NewtypeDeserializer<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for NewtypeDeserializer<D> {
    type Error = D::Error;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self.0)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
