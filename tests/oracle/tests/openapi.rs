//! `docs/openapi.yaml` says what the library does: its event is that of `docs/event.schema.json`, and
//! every answer is as it is described there. A host's document says the same, by the feature `utoipa`.

#[path = "../../common/mod.rs"]
mod common;

use std::{
    collections::BTreeSet,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{DefaultBodyLimit, Request},
    routing::post,
};
use common::{EXAMPLE, Fields, PATH, SECRET, host, send, signed, unsigned};
use http_body::Frame;
use serde_json::{Map, Value, json};
use unsubscribe_webhook::{
    Credential, Received, Rejection, ServerError, UnsubscribeEvent, WebhookAuth, openapi::AnyEvent,
};
use utoipa::OpenApi;

fn description() -> Value {
    yaml_serde::from_str(include_str!("../../../docs/openapi.yaml")).expect("YAML")
}

/// What a host's own document says of the same endpoint.
fn description_by_utoipa() -> Value {
    let mut api = HostApi::openapi();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("token", common::token(SECRET).security_scheme());
    serde_json::to_value(api).expect("JSON")
}

#[derive(OpenApi)]
#[openapi(paths(unsubscribed))]
struct HostApi;

#[utoipa::path(
    post,
    path = PATH,
    request_body = AnyEvent,
    responses(Received, Rejection),
    security(("token" = [])),
)]
async fn unsubscribed(_: UnsubscribeEvent) -> Received {
    Received
}

fn event_schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/event.schema.json")).expect("JSON")
}

/// The event's schema without what names it as a file, and its draft: OpenAPI 3.1 has one for all.
fn event_component() -> Value {
    let mut schema = event_schema();
    let members = schema.as_object_mut().expect("an object");
    assert!(members.remove("$schema").is_some() && members.remove("$id").is_some());
    schema
}

fn example() -> Value {
    serde_json::from_str(EXAMPLE).expect("JSON")
}

/// A schema of the description, which may refer to its components.
fn validator(description: &Value, mut schema: Value) -> jsonschema::Validator {
    schema["components"] = description["components"].clone();
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&schema).expect("a schema of draft 2020-12")
}

#[test]
fn the_event_is_that_of_the_schema() {
    for description in [description(), description_by_utoipa()] {
        assert_eq!(description["components"]["schemas"]["UnsubscribeEvent"], event_component());
    }
}

#[test]
fn a_hosts_document_says_the_same() {
    let (mut ours, mut hosts) = (description(), description_by_utoipa());
    for (status, response) in members(&mut hosts["paths"][PATH]["post"]["responses"]) {
        for (_, content) in members(&mut response["content"]) {
            let Some(example) = members(content).remove("example") else { continue };
            assert_eq!(example["status"].to_string(), *status);
            assert!(validator(&Value::Null, content["schema"].clone()).is_valid(&example));
        }
    }
    // utoipa has no word for this.
    let headers = &mut ours["paths"][PATH]["post"]["responses"]["401"]["headers"];
    let required = members(&mut headers["WWW-Authenticate"]).remove("required");
    assert_eq!(required, Some(true.into()));

    for part in ["/responses", "/requestBody/content", "/requestBody/required"] {
        let part = format!("/paths/{}/post{part}", PATH.replace('/', "~1"));
        let part = |document| resolved(document, document.pointer(&part).expect("it"));
        assert_eq!(part(&hosts), part(&ours));
    }
    assert_eq!(hosts["paths"][PATH]["post"]["security"], ours["security"]);
    let [hosts, ours] = [&hosts, &ours].map(|document| {
        let scheme = &document["components"]["securitySchemes"]["token"];
        ["type", "in", "name"].map(|member| scheme[member].to_string().to_lowercase())
    });
    assert_eq!(hosts, ours);
}

fn members(object: &mut Value) -> &mut Map<String, Value> {
    object.as_object_mut().expect("an object")
}

/// A part of a document, with what it refers to in its place, and lists without an order sorted.
fn resolved(document: &Value, part: &Value) -> Value {
    let mut plain = match part {
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), resolved(document, member)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| resolved(document, item)).collect(),
        _ => part.clone(),
    };
    for list in ["enum", "required"] {
        if let Some(list) = plain.get_mut(list).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    if let Some(Value::String(target)) = plain.get("$ref") {
        let target = resolved(document, document.pointer(&target[1..]).expect("a component"));
        let beside = members(&mut plain);
        beside.remove("$ref");
        assert!(beside.keys().all(|name| name == "description"), "{beside:?}");
        for (name, member) in target.as_object().expect("an object") {
            beside.entry(name).or_insert(member.clone());
        }
    }
    plain
}

#[test]
fn the_contracts_example_is_valid_and_shown() {
    let schema = event_schema();
    jsonschema::meta::validate(&schema).expect("a schema");
    assert!(validator(&description(), schema.clone()).is_valid(&example()));
    assert_eq!(schema["examples"], json!([example()]));
}

#[test]
fn pointers_are_those_of_the_events_fields() {
    let (mut fields, mut required) = (BTreeSet::new(), BTreeSet::new());
    collect_fields(&event_schema(), "", &mut fields, &mut required);
    let schemas = &description()["components"]["schemas"];
    assert_eq!(words(&schemas["Pointer"]["enum"]), fields);
    let missing = &schemas["InvalidBody"]["oneOf"][1]["properties"];
    assert_eq!(missing["code"]["const"], "missing_field");
    assert_eq!(words(&missing["pointer"]["enum"]), required);
}

fn collect_fields(
    schema: &Value,
    above: &str,
    fields: &mut BTreeSet<String>,
    required: &mut BTreeSet<String>,
) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let pointer = format!("{above}/{name}");
        if words(&schema["required"]).contains(name) {
            required.insert(pointer.clone());
        }
        collect_fields(field, &pointer, fields, required);
        fields.insert(pointer);
    }
}

fn words(list: &Value) -> BTreeSet<String> {
    let words = list.as_array().expect("a list").iter();
    words.map(|word| word.as_str().expect("a word").to_owned()).collect()
}

#[test]
fn a_body_is_an_event_or_one_of_another_kind() {
    for description in [description(), description_by_utoipa()] {
        assert_takes_both_kinds(&description);
    }
}

fn assert_takes_both_kinds(description: &Value) {
    let schema = &description["paths"][PATH]["post"]["requestBody"]["content"]["application/json"];
    let body = validator(description, schema["schema"].clone());
    let accepts = |text: &str| body.is_valid(&serde_json::from_str(text).expect("JSON"));

    assert!(accepts(EXAMPLE));
    assert!(accepts(r#"{"name":"sms.delivery"}"#));
    assert!(!accepts(r#"{"name":"phone.unsubscribe"}"#));
    assert!(!accepts(&Fields::example().with("/data/additional_data/reason/id", "7").text()));
    assert!(!accepts(&Fields::example().with("/name", "4").text()));
    assert!(!accepts("[]"));
}

#[tokio::test]
async fn every_answer_is_as_described() {
    assert_describes_every_answer(&description()).await;
}

#[tokio::test]
async fn every_answer_is_as_a_hosts_document_says() {
    assert_describes_every_answer(&description_by_utoipa()).await;
}

async fn assert_describes_every_answer(description: &Value) {
    let responses = &description["paths"][PATH]["post"]["responses"];
    let mut codes = BTreeSet::new();
    let mut statuses = BTreeSet::new();
    for (app, request) in exchanges() {
        let answer = send(&app, request).await;
        let status = answer.status.to_string();
        let response = &responses[&status];
        let content_type = common::header(&answer, "content-type").concat();
        let media_type = content_type.split(';').next().expect("a media type");
        let content = &response["content"][media_type];
        assert!(content.is_object(), "{answer:?} has an unknown status or Content-Type");

        let is_problem = media_type == PROBLEM_JSON;
        let body = if is_problem {
            serde_json::from_str(&answer.body).expect("JSON")
        } else {
            Value::from(answer.body.as_str())
        };
        let schema = validator(description, content["schema"].clone());
        assert!(schema.is_valid(&body), "{:?}", schema.validate(&body));
        if is_problem {
            let code = body["code"].as_str().expect("a code").to_owned();
            assert_belongs_to_one_status(description, responses, &body);
            assert!(codes.insert(code), "{body} is not needed twice");
        }

        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let values = common::header(&answer, name.to_ascii_lowercase().as_str());
            assert_eq!(values.len(), 3, "one for each kind of credential");
            let schema = validator(description, header["schema"].clone());
            assert!(values.into_iter().all(|value| schema.is_valid(&value.into())), "{answer:?}");
        }
        statuses.insert(status);
    }
    let refusal = &responses["500"]["content"][PROBLEM_JSON]["schema"];
    let described = &resolved(description, refusal)["allOf"][0]["properties"]["code"]["enum"];
    assert_eq!(codes, words(described));
    let described = responses.as_object().expect("the answers").keys().cloned().collect();
    assert_eq!(statuses, described);
}

const PROBLEM_JSON: &str = "application/problem+json";

/// Asserts that the schemas of the statuses tell apart what they describe.
fn assert_belongs_to_one_status(description: &Value, responses: &Value, problem: &Value) {
    let fits = ["400", "401", "403", "500"].into_iter().filter(|status| {
        let mut unlike = problem.clone();
        unlike["pointer"] = "/data/unknown".into();
        let schema = responses[status]["content"][PROBLEM_JSON]["schema"].clone();
        let schema = validator(description, schema);
        assert!(!schema.is_valid(&unlike), "{unlike} is no {status}");
        schema.is_valid(problem)
    });
    assert_eq!(fits.count(), 1, "{problem}");
}

/// A request for each answer of the library.
fn exchanges() -> Vec<(Router, Request)> {
    async fn failing(_: UnsubscribeEvent) -> Result<Received, ServerError> {
        Err("out of disk".into())
    }
    let auth = || WebhookAuth::new(SECRET);
    let any_place = auth()
        .or(Credential::bearer(SECRET).expect("a token"))
        .or(Credential::basic("lox24", SECRET).expect("a pair"));
    let mut text = signed(EXAMPLE);
    text.headers_mut().insert("content-type", "text/plain".parse().expect("a value"));
    let doubled = Fields::example().and("/data/phone", r#""""#).text();
    vec![
        (host(auth()), signed(EXAMPLE)),
        (host(auth()), text),
        (host(auth()).layer(DefaultBodyLimit::max(10)), signed(EXAMPLE)),
        (host(auth()), signed(cut_off())),
        (host(auth()), signed("{")),
        (host(auth()), signed(Fields::example().without("/data/phone").text())),
        (host(auth()), signed(Fields::example().with("/data/phone", "4").text())),
        (host(auth()), signed(doubled)),
        (host(auth()), signed(r#"{"name":"sms.delivery"}"#)),
        (host(any_place), unsigned(EXAMPLE)),
        (host(auth().require(|_| false)), signed(EXAMPLE)),
        (host(auth().allow_accounts([3])), signed(EXAMPLE)),
        (Router::new().route(PATH, post(unsubscribed)), signed(EXAMPLE)),
        (Router::new().route(PATH, post(failing).layer(auth())), signed(EXAMPLE)),
    ]
}

/// A body that ends before it is whole.
fn cut_off() -> Body {
    struct CutOff;

    impl HttpBody for CutOff {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
        }
    }

    Body::new(CutOff)
}
