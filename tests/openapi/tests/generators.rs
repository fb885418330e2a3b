//! The library's document, merged as JSON into the documents that utoipa and aide generate for an app.

#![allow(missing_docs, reason = "utoipa's derive makes items without")]

use aide::axum::{ApiRouter, routing::get};
use serde_json::{Map, Value};
use unsubscribe_webhook::OPENAPI;
use utoipa::OpenApi;

const PATH: &str = "/webhooks/unsubscribe";

/// Adds the webhook's path, and the components that it refers to.
fn merge(app: &mut Value, webhook: &Value) {
    for part in ["/paths", "/components/schemas", "/components/securitySchemes"] {
        let members = webhook.pointer(part).and_then(Value::as_object).expect("an object");
        let target = part[1..].split('/').fold(&mut *app, |target, name| &mut target[name]);
        for (name, member) in members {
            target[name] = member.clone();
        }
    }
}

async fn health() -> &'static str {
    "healthy"
}

#[test]
fn utoipa_6() {
    #[utoipa::path(get, path = "/health", responses((status = 200, description = "healthy", body = String)))]
    #[allow(dead_code, reason = "only its description is used")]
    fn healthy() {}

    #[derive(OpenApi)]
    #[openapi(paths(healthy), info(title = "App"))]
    struct App;

    assert_merged(&serde_json::to_value(App::openapi()).expect("JSON"));
}

#[test]
fn aide() {
    let mut api = aide::openapi::OpenApi::default();
    "App".clone_into(&mut api.info.title);
    let _: axum::Router = ApiRouter::new().api_route("/health", get(health)).finish_api(&mut api);
    assert_merged(&serde_json::to_value(&api).expect("JSON"));
}

/// Asserts that the document is valid with the webhook in it, and says all that it said before.
fn assert_merged(app: &Value) {
    let webhook: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let mut merged = app.clone();
    merge(&mut merged, &webhook);

    assert_eq!(merged["info"]["title"], "App");
    assert_eq!(merged["paths"]["/health"], app["paths"]["/health"]);
    assert_eq!(merged["paths"][PATH], webhook["paths"][PATH]);
    let post = &merged["paths"][PATH]["post"];
    let statuses: Vec<_> = post["responses"].as_object().expect("responses").keys().collect();
    assert_eq!(statuses, ["200", "400", "401", "403", "500"]);
    assert_eq!(post["security"][0]["webhookToken"], Value::Array(Vec::new()));
    for kind in ["schemas", "securitySchemes"] {
        for (name, part) in webhook["components"][kind].as_object().expect("components") {
            assert_eq!(merged["components"][kind][name], *part);
        }
    }

    // Valid: aide's types are those of OpenAPI 3.1, each schema is one of draft 2020-12, and no
    // reference is dangling.
    let text = merged.to_string();
    let typed: aide::openapi::OpenApi = serde_json::from_str(&text).expect("OpenAPI 3.1");
    assert_eq!(typed.paths.expect("paths").paths.len(), 2);
    for schema in merged["components"]["schemas"].as_object().map(Map::values).expect("schemas") {
        jsonschema::meta::validate(schema).expect("a schema");
    }
    assert_resolved(&merged, &merged);
    assert!(merged["openapi"].as_str().expect("a version").starts_with("3.1."));
}

fn assert_resolved(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                assert!(document.pointer(&target[1..]).is_some(), "{target}");
            }
            members.values().for_each(|member| assert_resolved(document, member));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_resolved(document, item)),
        _ => {}
    }
}
