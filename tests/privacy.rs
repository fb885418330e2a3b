//! The secret, the phone number and the person's texts must not appear anywhere.

mod common;
#[path = "common/hidden.rs"]
mod hidden;
#[path = "common/locations.rs"]
mod locations;
#[path = "common/socket.rs"]
mod socket;

use std::{error::Error, future::ready};

use common::prelude::*;
use hidden::{DIGITS, Log, PHONE, TEXTS, assert_hides, bad_bodies, trace};
use locations::{Location, locations};
use serde::de::{Deserialize, value::MapDeserializer};
use socket::{Client, serve, sized};
use tower::ServiceBuilder;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use unsubscribe_webhook::Unsubscribe;

#[test]
fn debug_hides_secrets() {
    let secrets = ["s3cr3t", "bG94MjQ6cMOkOnMzY3IzdA", "u5er"];
    let user = Credential::basic("u5er", "s3cr3t").expect("usable");
    let mut auth = WebhookAuth::new("token-s3cr3t").or(user);
    for Location { credential, .. } in locations() {
        assert_hides(&format!("{credential:?} {credential:#?}"), &secrets);
        auth = auth.or(credential);
    }
    let service = auth.layer("inner");
    assert_hides(&format!("{auth:?} {auth:#?} {service:?} {service:#?}"), &secrets);
    // They still name the locations.
    let shown = [format!("{auth:?}"), format!("{service:?}")];
    assert!(shown.iter().all(|shown| shown.contains("x-lox24-token")));

    for unusable in [
        Credential::token("s3cr3t\n"),
        Credential::token("s3cr3t ä"),
        Credential::bearer("s3cr3t ä"),
        Credential::basic("u:s3cr3t", "s3cr3t"),
        Credential::header("s3cr3t ä", "s3cr3t"),
        Credential::query("", "s3cr3t"),
    ] {
        let error = unusable.expect_err("unusable");
        assert_hides(&format!("{error} {error:?} {error:#?}"), &secrets);
    }
    let panic = std::panic::catch_unwind(|| WebhookAuth::new("s3cr3t\n")).expect_err("a panic");
    assert_hides(panic.downcast_ref::<String>().expect("a text"), &secrets);
}

#[tokio::test]
async fn debug_hides_what_the_person_sent() {
    let event = example();
    let Unsubscribe { additional_data, .. } = &event.data;
    for shown in [
        format!("{event:?}"),
        format!("{event:#?}"),
        format!("{:?}", event.data),
        format!("{additional_data:?}"),
        format!("{:?}", additional_data.reason),
        format!("{:?}", event.opt_out()),
    ] {
        assert_hides(&shown, &TEXTS);
    }
    let with_version = Fields::example().with("/api_version", &format!("{PHONE:?}")).json();
    let event = UnsubscribeEvent::from_slice(with_version.as_bytes()).expect("an event");
    assert_hides(&format!("{event:?}"), &TEXTS);

    let app = protected(async |auth: Authenticated| format!("{auth:?} {auth:#?}"));
    assert_hides(&send(&app, authenticated(EXAMPLE)).await.body, &[SECRET]);

    let error = ServerError::from(PHONE);
    assert_hides(&format!("{error:?} {error:#?}"), &TEXTS);

    let inner = service_fn(|_| ready(Ok::<_, ConfigError>(http::Response::new(String::new()))));
    let refused = unauthenticated("").map(|_| EXAMPLE.to_owned());
    let discarding = format!("{:?}", WebhookAuth::new(SECRET).layer(inner).call(refused));
    assert_hides(&discarding, &TEXTS);
    assert!(discarding.contains("discard: Discard { plan: Read("), "{discarding}");
}

#[tokio::test]
async fn a_refusal_repeats_nothing_of_the_request() {
    let app = app_with(WebhookAuth::new(SECRET).allow_accounts([3]));
    let mut bodies = bad_bodies();
    bodies.push(EXAMPLE.to_owned());
    for body in bodies {
        let reply = send(&app, authenticated(body.clone())).await;
        assert!(reply.status >= 400, "{body}");
        let (headers, rejection) = (reply.headers, reply.rejection.expect("a rejection"));
        assert_hides(&format!("{headers:?} {} {:?}", reply.body, rejection.pointer()), &TEXTS);
        assert_hides(&format!("{rejection} {rejection:#?}"), &TEXTS);
        assert_hides(&format!("{rejection:?}"), &TEXTS);
        // No source at all: nothing of a JSON reader's error is kept.
        assert!(rejection.source().is_none());
        if let Err(error) = serde_json::from_str::<UnsubscribeEvent>(&body) {
            assert_hides(&format!("{error} {error:?}"), &TEXTS);
            assert!(error.source().is_none());
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
        event: Decoded,
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
    let send = async |request: Request, path: &str, body: &str| {
        let request = to(&request.uri().to_string().replace(PATH, path), request);
        let mut client = Client::connect(address).await;
        client.send(sized(&request, body)).await;
        client.reply().await.status
    };
    for location in &locations {
        let right = || location.request([location.value], "");
        let blocked = with(right(), "x-blocked", "1");
        let others = locations[..2].iter().filter(|other| other.value != location.value);
        let others_too = others.fold(right(), |request, other| other.add(request, other.value));
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
            let responded = send(request, path, &body).await;
            assert_eq!(responded, status, "{:?}: {body}", location.credential);
        }
        assert_eq!(send(right(), "/open", EXAMPLE).await, 500);
    }
    let log = log.take();

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
            let log = log.take();
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
    let error = UnsubscribeEvent::deserialize(keys).expect_err("not an event");
    assert_hides(&format!("{error} {error:?}"), &[DIGITS]);
}
