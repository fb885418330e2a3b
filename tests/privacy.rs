//! The secret, the phone number and the person's texts must not appear anywhere.

mod common;
#[path = "common/hidden.rs"]
mod hidden;
#[path = "common/locations.rs"]
mod locations;
#[path = "common/socket.rs"]
mod socket;

use std::error::Error;

use axum::{Router, extract::Request, routing::post};
use common::{
    EXAMPLE, Fields, PATH, SECRET, app_with, assert_received, authenticated, authenticated_by,
    example, protected, send, token,
};
use hidden::{DIGITS, Log, PHONE, TEXTS, assert_hides, bad_bodies, trace};
use http::{HeaderMap, HeaderValue};
use locations::locations;
use serde::de::{Deserialize, Deserializer, Visitor, value::MapDeserializer};
use socket::{Client, serve, sized};
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
    // It still names the locations.
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
    let with_version = Fields::example().with("/api_version", &format!("{PHONE:?}")).json();
    let event = UnsubscribeEvent::from_slice(with_version.as_bytes()).expect("an event");
    assert_hides(&format!("{event:?}"), &TEXTS);

    let app = protected(async |auth: Authenticated| format!("{auth:?} {auth:#?}"));
    assert_hides(&send(&app, authenticated(EXAMPLE)).await.body, &[SECRET]);

    let error = ServerError::from(PHONE);
    assert_hides(&format!("{error:?} {error:#?}"), &TEXTS);
}

#[tokio::test]
async fn a_refusal_repeats_nothing_of_the_request() {
    let app = app_with(WebhookAuth::new(SECRET).allow_accounts([3]));
    let mut bodies = bad_bodies();
    bodies.push(EXAMPLE.to_owned());
    for body in bodies {
        let reply = send(&app, authenticated(body.clone())).await;
        assert!(reply.status >= 400, "{body}");
        assert_hides(&reply.body, &TEXTS);
        assert_hides(&format!("{:?}", reply.headers), &TEXTS);
        let rejection = reply.rejection.expect("a rejection");
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
    let forged = send(&app, authenticated_by(&token("a-guess"), EXAMPLE)).await;
    assert_hides(&format!("{forged:?}"), &["a-guess", SECRET, "lox24-token"]);
}

/// RUSTSEC-2022-0086: slack-morphism printed secrets by `Debug` into logs. Here all that an app can
/// print is logged, and all that the layers around it log, at any level.
#[tokio::test]
async fn no_log_holds_a_secret_a_number_or_a_text() {
    async fn handler(
        auth: Authenticated,
        headers: HeaderMap,
        event: Result<UnsubscribeEvent, Rejection>,
    ) -> Result<Received, ServerError> {
        tracing::debug!(?auth, ?headers, ?event, "what the handler holds");
        match event {
            Ok(event) if event.data.group_id == Some(500) => Err("the disk is full")?,
            Ok(_) => Ok(Received),
            Err(rejection) => {
                tracing::debug!(%rejection, error = &rejection as &dyn Error);
                Err(rejection)?
            }
        }
    }

    let locations = locations();
    let mut auth = WebhookAuth::new("unused-s3cr3t").allow_accounts([2]);
    for location in &locations {
        auth = auth.or(location.credential.clone());
    }
    let auth = auth.require(|head| !head.headers.contains_key("x-blocked"));
    // A secret in the query is in every log of URIs: see the next test.
    let traced = ServiceBuilder::new().layer(auth.clone()).layer(trace());
    let app = Router::new()
        .route("/traced", post(handler).layer(traced))
        .route("/silent", post(handler).layer(auth.clone()))
        .route("/open", post(async |_: UnsubscribeEvent| Received));

    let log = Log::start();
    tracing::debug!(?auth, "what the app holds");
    let address = serve(app).await;
    let send = async |mut request: Request, path: &str, body: &str| {
        let uri = request.uri().to_string().replace(PATH, path);
        *request.uri_mut() = uri.parse().expect("a URI");
        let mut client = Client::connect(address).await;
        client.send(sized(&request, body)).await;
        client.reply().await.status
    };
    for location in &locations {
        let right = || location.request([location.value], "");
        let mut blocked = right();
        blocked.headers_mut().insert("x-blocked", HeaderValue::from_static("1"));
        let mut others_too = right();
        for other in locations[..2].iter().filter(|other| other.value != location.value) {
            other.add_to(&mut others_too, other.value);
        }
        let fields = Fields::example();
        let mut requests = vec![
            (401, location.request(["a-gu3ss"], ""), EXAMPLE.to_owned()),
            (401, location.request([location.value, "a-gu3ss"], ""), EXAMPLE.to_owned()),
            (403, blocked, EXAMPLE.to_owned()),
            (200, right(), EXAMPLE.to_owned()),
            (200, others_too, EXAMPLE.to_owned()),
            (500, right(), fields.with("/data/group_id", "500").json()),
            (403, right(), fields.with("/data/user_id", "3").json()),
            (400, right(), r#"{"name":"another.ev3nt"}"#.to_owned()),
        ];
        requests.extend(bad_bodies().into_iter().map(|body| (400, right(), body)));

        let path = if location.is_query() { "/silent" } else { "/traced" };
        for (status, request, body) in requests {
            assert_eq!(
                send(request, path, &body).await,
                status,
                "{:?}: {body}",
                location.credential
            );
        }
        assert_eq!(send(right(), "/open", EXAMPLE).await, 500);
    }
    let log = log.stop();

    for logged in ["what the app holds", "what the handler holds", "started processing", "TRACE"] {
        assert!(log.contains(logged), "{logged} in {log}");
    }
    for header in ["x-lox24-token", "x-hook", "authorization"] {
        assert!(log.contains(&format!("{header:?}: Sensitive")), "{log}");
    }
    for location in &locations {
        assert_hides(&log, &[location.value]);
    }
    assert_hides(&log, &["s3cr3t", "a-gu3ss", "another.ev3nt"]);
    assert_hides(&log, &TEXTS);
}

/// RUSTSEC-2022-0086, the documented exception: a layer around or inside of this one that logs URIs
/// logs a secret in the query. So prefer a header.
#[tokio::test]
async fn a_secret_in_a_query_is_visible_to_layers_that_log_uris() {
    for location in locations() {
        let stack = ServiceBuilder::new();
        let inside = stack.clone().layer(location.auth()).layer(trace());
        let app = post(async |_: UnsubscribeEvent| Received);
        let inside = Router::new().route(PATH, app.layer(inside));
        // Outside, with headers, and with the layer that the documentation names for them.
        let names = location.auth().credential_headers();
        let outside = stack.layer(SetSensitiveRequestHeadersLayer::new(names)).layer(trace());
        let outside = app_with(location.auth()).layer(outside);
        for app in [inside, outside] {
            let log = Log::start();
            assert_received(&send(&app, location.request([location.value], EXAMPLE)).await);
            let log = log.stop();
            assert!(log.contains(PATH), "{log}");
            assert_eq!(log.contains(location.value), location.is_query(), "{log}");
            assert_ne!(log.contains("Sensitive"), location.is_query(), "{log}");
            assert_hides(&log, &TEXTS);
        }
    }
}

/// A tree whose keys are numbers, as formats other than JSON have it: the deserializer's own error
/// quotes the key.
#[test]
fn a_number_instead_of_a_name_is_not_repeated() {
    let phone: u64 = DIGITS.parse().expect("digits");
    let keys = MapDeserializer::<_, serde::de::value::Error>::new([(phone, ())].into_iter());
    let newtype = NewtypeDeserializer(keys);

    for error in [
        UnsubscribeEvent::deserialize(newtype.0.clone()).expect_err("not an event"),
        UnsubscribeEvent::deserialize(newtype).expect_err("not an event"),
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
