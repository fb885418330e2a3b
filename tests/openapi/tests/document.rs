//! `docs/openapi.json` says what the library does: its event is that of `docs/event.schema.json`, and
//! every response of the library is as it is described there.

use std::{collections::BTreeSet, io};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{DefaultBodyLimit, Request},
    routing::post,
};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tower::ServiceExt;
use unsubscribe_webhook::{
    Code, Credential, OPENAPI, Received, ServerError, UnsubscribeEvent, WebhookAuth,
};

const PATH: &str = "/webhooks/unsubscribe";
const TOKEN: &str = "correct-horse-7";
const EXAMPLE: &str = include_str!("../../../examples/event.json");

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("JSON")
}

fn event_schema() -> Value {
    serde_json::from_str(include_str!("../../../docs/event.schema.json")).expect("JSON")
}

/// A schema of the document, which may refer to its components.
fn validator(mut schema: Value) -> jsonschema::Validator {
    schema["components"] = document()["components"].clone();
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&schema).expect("a schema of draft 2020-12")
}

#[test]
fn the_event_is_that_of_the_schema() {
    let mut schema = event_schema();
    jsonschema::meta::validate(&schema).expect("a schema");
    let example: Value = serde_json::from_str(EXAMPLE).expect("JSON");
    assert_eq!(schema["examples"], json!([example]));
    // What names it as a file, and its draft: OpenAPI 3.1 has one for all.
    let members = schema.as_object_mut().expect("an object");
    assert!(members.remove("$schema").is_some() && members.remove("$id").is_some());
    assert_eq!(document()["components"]["schemas"]["UnsubscribeEvent"], schema);
}

#[test]
fn pointers_are_those_of_the_events_fields() {
    let schemas = &document()["components"]["schemas"];
    let (mut fields, mut required) = (BTreeSet::new(), BTreeSet::new());
    for (pointer, is_required) in oracle::Oracle::default().fields() {
        fields.insert(pointer.clone());
        required.extend(is_required.then_some(pointer));
    }
    assert_eq!(words(&schemas["WebhookPointer"]["enum"]), fields);
    let missing = &schemas["WebhookInvalidBody"]["oneOf"][1]["properties"];
    assert_eq!(missing["code"]["const"], "missing_field");
    assert_eq!(words(&missing["pointer"]["enum"]), required);
}

fn words(list: &Value) -> BTreeSet<String> {
    let words = list.as_array().expect("a list").iter();
    words.map(|word| word.as_str().expect("a string").to_owned()).collect()
}

#[test]
fn a_body_is_an_event_or_one_of_another_kind() {
    let content = &document()["paths"][PATH]["post"]["requestBody"]["content"]["application/json"];
    let body = validator(content["schema"].clone());
    let accepts = |text: &str| body.is_valid(&serde_json::from_str(text).expect("JSON"));
    assert!(accepts(EXAMPLE));
    assert!(accepts(r#"{"name":"sms.delivery"}"#));
    assert!(!accepts(r#"{"name":"phone.unsubscribe"}"#));
    assert!(!accepts(&EXAMPLE.replace(r#""phone": "#, r#""phone": 4, "telephone": "#)));
    assert!(!accepts(r#"{"name":4}"#));
    assert!(!accepts("[]"));
}

#[tokio::test]
async fn every_response_is_as_described() {
    let document = document();
    let responses = document["paths"][PATH]["post"]["responses"].as_object().expect("an object");
    let (mut codes, mut statuses) = (BTreeSet::new(), BTreeSet::new());
    for (app, request) in exchanges() {
        let response = app.oneshot(request).await.expect("a router does not fail");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body in memory");
        let status = head.status.as_str();
        statuses.insert(status.to_owned());

        let content_type = head.headers["content-type"].to_str().expect("ASCII");
        let media_type = content_type.split(';').next().expect("a media type");
        let schema = &responses[status]["content"][media_type]["schema"];
        let body = match media_type {
            "application/problem+json" => serde_json::from_slice(&body).expect("JSON"),
            _ => Value::from(String::from_utf8_lossy(&body)),
        };
        validator(schema.clone()).validate(&body).expect("as described");
        if let Some(code) = body["code"].as_str() {
            assert!(codes.insert(code.to_owned()), "{body} is there twice");
            assert_is_of_one_status(responses, &body);
        }

        let challenges: Vec<_> = head.headers.get_all("www-authenticate").iter().collect();
        let described = &responses[status]["headers"]["WWW-Authenticate"]["schema"];
        assert_eq!(challenges.len(), if described.is_object() { 3 } else { 0 });
        for challenge in challenges {
            let challenge = Value::from(challenge.to_str().expect("ASCII"));
            assert!(validator(described.clone()).is_valid(&challenge), "{challenge}");
        }
    }
    assert!(statuses.iter().eq(responses.keys()));
    assert_eq!(codes, Code::ALL.iter().map(|code| code.as_str().to_owned()).collect());
    let problem = &document["components"]["schemas"]["WebhookProblemDetails"]["properties"];
    assert_eq!(codes, words(&problem["code"]["enum"]));
}

/// The schemas of the statuses exclude each other, and other pointers.
fn assert_is_of_one_status(responses: &serde_json::Map<String, Value>, problem: &Value) {
    let mut altered = problem.clone();
    altered["pointer"] = "/data/unknown".into();
    let schemas = responses.values().map(|response| &response["content"]);
    let schemas = schemas.filter_map(|content| content.get("application/problem+json"));
    let fitting = schemas.filter(|content| {
        let schema = validator(content["schema"].clone());
        assert!(!schema.is_valid(&altered), "{altered}");
        schema.is_valid(problem)
    });
    assert_eq!(fitting.count(), 1, "{problem}");
}

/// A request for each response of the library.
fn exchanges() -> Vec<(Router, Request)> {
    async fn unsubscribed(_: UnsubscribeEvent) -> Received {
        Received
    }
    async fn failing(_: UnsubscribeEvent) -> Result<Received, ServerError> {
        Err("out of disk".into())
    }
    let auth = || WebhookAuth::new(TOKEN);
    let app = |auth| Router::new().route(PATH, post(unsubscribed).layer(auth));
    let request = |body: Body| {
        let request = Request::post(PATH).header("content-type", "application/json");
        request.header("x-lox24-token", TOKEN).body(body).expect("a request")
    };
    let event = || request(EXAMPLE.into());
    let (mut text, mut unauthenticated) = (event(), event());
    text.headers_mut().insert("content-type", "text/plain".parse().expect("a value"));
    unauthenticated.headers_mut().clear();
    let broken = StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>(io::Error::other("reset"))]));
    let any_location = auth()
        .or(Credential::bearer(TOKEN).expect("a token"))
        .or(Credential::basic("lox24", TOKEN).expect("a pair"));
    vec![
        (app(auth()), event()),
        (app(auth()), text),
        (app(auth()).layer(DefaultBodyLimit::max(10)), event()),
        (app(auth()), request(Body::new(broken))),
        (app(auth()), request("{".into())),
        (app(auth()), request("{}".into())),
        (app(auth()), request(r#"{"id":1}"#.into())),
        (app(auth()), request(r#"{"name":4,"name":4}"#.into())),
        (app(auth()), request(r#"{"name":"sms.delivery"}"#.into())),
        (app(any_location), unauthenticated),
        (app(auth().require(|_| false)), event()),
        (app(auth().allow_accounts([3])), event()),
        (Router::new().route(PATH, post(unsubscribed)), event()),
        (Router::new().route(PATH, post(failing).layer(auth())), event()),
    ]
}
