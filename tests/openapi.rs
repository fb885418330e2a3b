//! What the types say of themselves in a host's OpenAPI document. That it is the contract's, and that
//! real answers keep to it, is compared in `tests/oracle`.
#![cfg(feature = "utoipa")]

mod common;

use axum::routing::{MethodRouter, post};
use common::{PATH, SECRET};
use serde_json::{Value, json};
use unsubscribe_webhook::{
    AdditionalData, Credential, Reason, ReasonId, Received, Rejection, ServerError, Unsubscribe,
    UnsubscribeEvent, openapi::AnyEvent,
};
use utoipa::{IntoResponses, OpenApi, PartialSchema, ToSchema, openapi::RefOr};

#[utoipa::path(
    post,
    path = PATH,
    request_body = UnsubscribeEvent,
    responses(Received, Rejection),
    security(("token" = []), ("basic" = [])),
)]
async fn unsubscribed(_: UnsubscribeEvent) -> Result<Received, ServerError> {
    Ok(Received)
}

/// What a host keeps, and shows on a page of its own.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct Kept {
    event: Unsubscribe,
    reason: ReasonId,
}

#[derive(OpenApi)]
#[openapi(paths(unsubscribed), components(schemas(Kept)))]
struct Api;

fn json(part: impl serde::Serialize) -> Value {
    serde_json::to_value(part).expect("JSON")
}

#[test]
fn each_type_is_a_part_of_the_events_schema() {
    let event = json(UnsubscribeEvent::schema());
    let data = &event["properties"]["data"];
    assert_eq!(json(Unsubscribe::schema()), *data);
    let additional = &data["properties"]["additional_data"];
    assert_eq!(json(AdditionalData::schema()), *additional);
    let reason = &additional["properties"]["reason"];
    assert_eq!(json(Reason::schema()), *reason);
    assert_eq!(json(ReasonId::schema()), reason["properties"]["id"]);
    assert_eq!(reason["properties"]["id"]["enum"], json!([1, 2, 3, 4, 5, 6]));
}

#[test]
fn the_schema_can_be_read_in_the_hosts_code() {
    let RefOr::T(utoipa::openapi::Schema::Object(event)) = UnsubscribeEvent::schema() else {
        panic!("an object is expected")
    };
    assert_eq!(event.required, ["id", "name", "data"]);
    assert_eq!(event.properties.len(), 9);
    assert_eq!(event.examples, [json!(common::example())]);
}

#[test]
fn a_document_gets_no_component_that_it_did_not_name() {
    #[derive(OpenApi)]
    #[openapi(components(schemas(AnyEvent)))]
    struct OfAnyEvent;

    let components = &json(Api::openapi())["components"]["schemas"];
    let names: Vec<_> = components.as_object().expect("schemas").keys().collect();
    assert_eq!(names, ["Kept", "ReasonId", "Unsubscribe", "UnsubscribeEvent"]);

    let mut of_any_event = Vec::new();
    AnyEvent::schemas(&mut of_any_event);
    let names: Vec<_> = of_any_event.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["UnsubscribeEvent"]);

    let components = &json(OfAnyEvent::openapi())["components"]["schemas"];
    let names: Vec<_> = components.as_object().expect("schemas").keys().collect();
    assert_eq!(names, ["AnyEvent", "UnsubscribeEvent"]);

    for answers in [json(Received::responses()), json(Rejection::responses())] {
        assert!(!answers.to_string().contains("$ref"), "{answers}");
    }
}

#[test]
fn a_handler_is_described_with_every_answer() {
    let _: MethodRouter = post(unsubscribed);
    let webhook = &json(Api::openapi())["paths"][PATH]["post"];
    let statuses: Vec<_> = webhook["responses"].as_object().expect("answers").keys().collect();
    assert_eq!(statuses, ["200", "400", "401", "403", "500"]);
    assert_eq!(webhook["security"], json!([{ "token": [] }, { "basic": [] }]));
}

#[test]
fn a_server_error_is_the_500_of_a_rejection() {
    let (failed, refused) = (json(ServerError::responses()), json(Rejection::responses()));
    assert_eq!(failed, json!({ "500": refused["500"] }));
}

#[test]
fn the_example_of_an_answer_is_what_the_library_says() {
    let answers = json(Rejection::responses());
    let example = |status: &str| &answers[status]["content"]["application/problem+json"]["example"];
    let body = common::Fields::example().without("/data/phone").text();
    let rejection = UnsubscribeEvent::from_slice(body.as_bytes()).expect_err("a field is missing");
    let answer = http::Response::<axum::body::Bytes>::from(rejection).into_body();
    assert_eq!(*example("400"), serde_json::from_slice::<Value>(&answer).expect("JSON"));
    assert_eq!(example("500")["code"], "server_error");
}

#[test]
fn each_credential_has_its_scheme_and_keeps_its_secret() {
    let http = |scheme: &str| json!({ "type": "http", "scheme": scheme });
    let api_key = |place: &str, name: &str| json!({ "type": "apiKey", "in": place, "name": name });
    for (credential, scheme) in [
        (Credential::token(SECRET), api_key("header", "x-lox24-token")),
        (Credential::header("X-Webhook-Key", SECRET), api_key("header", "x-webhook-key")),
        (Credential::query("töken", SECRET), api_key("query", "töken")),
        (Credential::bearer(SECRET), http("bearer")),
        (Credential::basic("user-17", SECRET), http("basic")),
    ] {
        let credential = credential.expect("a usable secret");
        assert_eq!(json(credential.security_scheme()), scheme);
        let mut api = Api::openapi();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("lox24", credential.security_scheme());
        let document = api.to_json().expect("JSON");
        for secret in [SECRET, "user-17", "dXNlci0xNz"] {
            assert!(!document.contains(secret), "{document}");
        }
    }
}
