//! The webhook in a host's own OpenAPI document, by [`utoipa`] 5 (feature `utoipa`).
//!
//! The types of this crate are what utoipa's attributes ask for: a request body, answers, and, by
//! [`Credential::security_scheme`], the place of the secret. What they say is what the repository's
//! `docs/openapi.yaml` says.
//!
//! ```
//! use unsubscribe_webhook::{Credential, Received, Rejection, ServerError, UnsubscribeEvent};
//! use utoipa::OpenApi;
//! # mod suppression_list { pub async fn add(_: &str) -> std::io::Result<()> { Ok(()) } }
//!
//! /// Somebody has unsubscribed a phone number.
//! #[utoipa::path(
//!     post,
//!     path = "/webhooks/unsubscribe",
//!     request_body = UnsubscribeEvent,
//!     responses(Received, Rejection),
//!     security(("lox24" = [])),
//! )]
//! async fn unsubscribed(event: UnsubscribeEvent) -> Result<Received, ServerError> {
//!     suppression_list::add(&event.data.phone).await?;
//!     Ok(Received)
//! }
//!
//! #[derive(OpenApi)]
//! #[openapi(paths(unsubscribed))]
//! struct Api;
//!
//! # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
//! let credential = Credential::token("s3cr3t")?;
//! let mut api = Api::openapi();
//! let components = api.components.get_or_insert_default();
//! components.add_security_scheme("lox24", credential.security_scheme());
//!
//! let api = serde_json::to_value(&api).unwrap();
//! let webhook = &api["paths"]["/webhooks/unsubscribe"]["post"];
//! assert_eq!(webhook["responses"]["401"]["description"], "Webhook request unauthorized.");
//! assert_eq!(api["components"]["securitySchemes"]["lox24"]["name"], "x-lox24-token");
//! # Ok(())
//! # }
//! ```
//!
//! - A [`Rejection`] stands for all four refusals, 400, 401, 403 and 500, because the layer and the
//!   extractor answer them on the handler's behalf. A [`ServerError`] is its 500 alone. With utoipa's
//!   feature `auto_into_responses` the handler's return type describes 200 and 500, and
//!   `responses(Rejection)` the rest.
//! - For a handler that takes `Option<UnsubscribeEvent>` write `request_body = AnyEvent`
//!   ([`AnyEvent`]).
//! - A document gets the components `UnsubscribeEvent` and, where it is used, `AnyEvent`. Objects
//!   inside the event, and problem details, stand where they are used, so that none of them takes
//!   the place of a component of the host's that has the same name. utoipa's own `Schema` cannot
//!   hold all of JSON Schema. What it lacks, such as `const`, is among the `extensions` there, and
//!   in the JSON it is where it belongs.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, Object, ObjectBuilder, RefOr, Response, ResponseBuilder,
        Schema,
        schema::SchemaType,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    AdditionalData, Credential, Reason, ReasonId, Received, Rejection, ServerError, Unsubscribe,
    UnsubscribeEvent,
    credential::Place,
    decode::Fault,
    rejection::{Challenges, Kind, TYPE_BASE},
};

impl Credential {
    /// Where the secret travels, as a security scheme of OpenAPI (feature `utoipa`): `apiKey` in a
    /// header or in the query, or `http` with `bearer` or `basic`. The secret is not in it.
    ///
    /// Credentials that a layer accepts by [`or`](crate::WebhookAuth::or) are a scheme each, and
    /// alternatives of the operation: `security(("token" = []), ("basic" = []))`. Two secrets in
    /// one place, as while one is rotated, have the same scheme.
    ///
    /// ```
    /// use unsubscribe_webhook::Credential;
    ///
    /// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
    /// let scheme = Credential::query("token", "s3cr3t")?.security_scheme();
    /// let expected = serde_json::json!({"type": "apiKey", "in": "query", "name": "token"});
    /// assert_eq!(serde_json::to_value(scheme).unwrap(), expected);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn security_scheme(&self) -> SecurityScheme {
        let http = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
        match &self.place {
            Place::Header(name) => {
                SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name.as_str())))
            }
            Place::Bearer => http(HttpAuthScheme::Bearer),
            Place::Basic => http(HttpAuthScheme::Basic),
            Place::Query(parameter) => {
                SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new(parameter)))
            }
        }
    }
}

/// The body that comes to a handler of `Option<UnsubscribeEvent>`: an [`UnsubscribeEvent`], or an
/// event of another kind.
///
/// It is a schema and nothing else. utoipa takes an `Option` for a body that may be `null`, which
/// is not what arrives.
///
/// ```
/// use unsubscribe_webhook::{Received, Rejection, UnsubscribeEvent, openapi::AnyEvent};
///
/// #[utoipa::path(
///     post,
///     path = "/webhooks/lox24",
///     request_body = AnyEvent,
///     responses(Received, Rejection),
/// )]
/// async fn any_event(event: Option<UnsubscribeEvent>) -> Received {
///     // Put event.data.phone on the suppression list here.
///     Received
/// }
/// ```
#[derive(Debug)]
pub enum AnyEvent {}

impl PartialSchema for AnyEvent {
    fn schema() -> RefOr<Schema> {
        schema(json!({
            "oneOf": [
                { "$ref": "#/components/schemas/UnsubscribeEvent" },
                {
                    "title": "Event of another kind",
                    "description": "Any other event of the account. Nothing else of it is checked; \
                        its name must not be given twice.",
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": { "type": "string", "not": { "const": UnsubscribeEvent::NAME } },
                    },
                },
            ],
        }))
    }
}

impl ToSchema for AnyEvent {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((UnsubscribeEvent::name().into_owned(), UnsubscribeEvent::schema()));
    }
}

impl PartialSchema for UnsubscribeEvent {
    fn schema() -> RefOr<Schema> {
        part_of_the_event("")
    }
}

impl PartialSchema for Unsubscribe {
    fn schema() -> RefOr<Schema> {
        part_of_the_event("/properties/data")
    }
}

impl PartialSchema for AdditionalData {
    fn schema() -> RefOr<Schema> {
        part_of_the_event("/properties/data/properties/additional_data")
    }
}

impl PartialSchema for Reason {
    fn schema() -> RefOr<Schema> {
        part_of_the_event("/properties/data/properties/additional_data/properties/reason")
    }
}

impl PartialSchema for ReasonId {
    fn schema() -> RefOr<Schema> {
        part_of_the_event(
            "/properties/data/properties/additional_data/properties/reason/properties/id",
        )
    }
}

fn part_of_the_event(pointer: &str) -> RefOr<Schema> {
    let part = event().pointer(pointer).cloned();
    schema(part.expect("a part of docs/event.schema.json"))
}

impl ToSchema for UnsubscribeEvent {}
impl ToSchema for Unsubscribe {}
impl ToSchema for AdditionalData {}
impl ToSchema for Reason {}
impl ToSchema for ReasonId {}

impl IntoResponses for Received {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let body = json!({ "type": "string", "const": "Webhook received" });
        let received = "Webhook received. The provider does not send the event again.";
        [("200".to_owned(), answer(received, "text/plain", body, None).into())].into()
    }
}

impl IntoResponses for Rejection {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = ServerError::responses();
        let refused = [invalid_body(), unauthorized(), forbidden()];
        responses.extend(refused.map(|(status, answer)| (status, answer.into())));
        responses
    }
}

impl IntoResponses for ServerError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let code = json!({
            "description": "The route lacks the layer, or the handler failed.",
            "enum": ["missing_layer", "server_error"],
        });
        let problem = json!({ "properties": { "code": code, "pointer": false } });
        let (status, answer) = refusal(Kind::ServerError("".into()), problem);
        [(status, answer.into())].into()
    }
}

fn invalid_body() -> (String, ResponseBuilder) {
    let problem = json!({
        "oneOf": [
            {
                "title": "The body could not be read as JSON",
                "properties": {
                    "code": {
                        "enum": ["content_type", "body_too_large", "body_incomplete", "not_json"],
                    },
                    "pointer": false,
                },
            },
            {
                "title": "A field is missing",
                "required": ["pointer"],
                "properties": {
                    "code": { "const": "missing_field" },
                    "pointer": { "enum": pointers(Fields::Required) },
                },
            },
            {
                "title": "A field does not hold what the table says, or stands in its object twice",
                "required": ["pointer"],
                "properties": { "code": { "enum": ["invalid_field", "duplicate_field"] } },
            },
            {
                "title": "An event of another kind, which the handler does not take",
                "required": ["pointer"],
                "properties": {
                    "code": { "const": "other_event" },
                    "pointer": { "const": "/name" },
                },
            },
        ],
    });
    refusal(Fault::Missing { pointer: "/data/phone" }, problem)
}

fn unauthorized() -> (String, ResponseBuilder) {
    let code = json!({ "const": "unauthorized" });
    let problem = json!({ "properties": { "code": code, "pointer": false } });
    let (status, answer) = refusal(Kind::Unauthorized(Challenges::default()), problem);
    let challenge = schema(json!({
        "type": "string",
        "pattern": "^(Token realm=\"webhook\"|Bearer realm=\"webhook\"\
            |Basic realm=\"webhook\", charset=\"UTF-8\")",
    }));
    let header = HeaderBuilder::new()
        .description(Some("One line for each kind of credential that the host accepts."))
        .schema(challenge);
    (status, answer.header("WWW-Authenticate", header.build()))
}

fn forbidden() -> (String, ResponseBuilder) {
    let problem = json!({
        "oneOf": [
            {
                "title": "A check of the host's own said no",
                "properties": { "code": { "const": "forbidden" }, "pointer": false },
            },
            {
                "title": "The event belongs to an account that is not accepted",
                "required": ["pointer"],
                "properties": {
                    "code": { "const": "foreign_account" },
                    "pointer": { "const": "/data/user_id" },
                },
            },
        ],
    });
    refusal(Kind::Forbidden, problem)
}

/// The answer that one of its rejections shows, and what its problem details do not share with those
/// of other statuses.
fn refusal(example: impl Into<Rejection>, mut problem: Value) -> (String, ResponseBuilder) {
    let example = http::Response::<Bytes>::from(example.into()).into_body();
    let example: Value = serde_json::from_slice(&example).expect("problem details are JSON");
    problem["allOf"] = json!([problem_details()]);
    for shared in ["status", "title"] {
        problem["properties"][shared] = json!({ "const": example[shared] });
    }
    let description = format!("{}.", example["title"].as_str().unwrap_or_default());
    let status = example["status"].to_string();
    (status, answer(&description, "application/problem+json", problem, Some(example)))
}

/// What the problem details of all refusals have in common.
fn problem_details() -> Value {
    json!({
        "title": "Problem details (RFC 9457)",
        "description": "Why a request was refused. Nothing in it repeats what the request contained.",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {
                "description": "The address of the code's section in the documentation.",
                "type": "string",
                "format": "uri",
                "pattern": format!("^{}[a-z_]+$", TYPE_BASE.replace('.', r"\.")),
            },
            "title": {
                "description": "The contract's words for the status.",
                "type": "string",
            },
            "status": { "type": "integer" },
            "detail": {
                "description": "What is wrong, for a person to read.",
                "type": "string",
            },
            "code": {
                "description": "What is wrong, as one of a closed set of words.",
                "enum": Rejection::CODES,
            },
            "pointer": {
                "description":
                    "The field at fault (RFC 6901); where several are, any one of them.",
                "enum": pointers(Fields::All),
            },
        },
    })
}

fn answer(
    description: &str,
    content_type: &str,
    body: Value,
    example: Option<Value>,
) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(schema(body))).example(example);
    ResponseBuilder::new().description(description).content(content_type, content.build())
}

/// The event's schema, without what names it as a file.
fn event() -> Value {
    let text = include_str!("../docs/event.schema.json");
    let mut event: Value = serde_json::from_str(text).expect("docs/event.schema.json is JSON");
    if let Some(members) = event.as_object_mut() {
        members.remove("$schema");
        members.remove("$id");
    }
    event
}

#[derive(Clone, Copy, PartialEq)]
enum Fields {
    All,
    Required,
}

fn pointers(fields: Fields) -> Vec<String> {
    let mut pointers = Vec::new();
    collect_pointers(&event(), "", fields, &mut pointers);
    pointers
}

fn collect_pointers(object: &Value, above: &str, fields: Fields, pointers: &mut Vec<String>) {
    let required = object["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        if fields == Fields::All || required.iter().any(|required| required == name) {
            let pointer = format!("{above}/{name}");
            pointers.push(pointer.clone());
            collect_pointers(field, &pointer, fields, pointers);
        }
    }
}

/// A JSON Schema in utoipa's model, as far as that goes. Members that it would lose (`const`, what
/// stands beside an `allOf`) become extensions, which it writes out as they are.
fn schema(json: Value) -> RefOr<Schema> {
    let untyped = || ObjectBuilder::new().schema_type(SchemaType::AnyValue).build();
    let mut object: Object = serde_json::from_value(json.clone()).unwrap_or_else(|_| untyped());
    for (name, property) in &mut object.properties {
        *property = schema(json["properties"][name].clone());
    }
    let kept = serde_json::to_value(&object).unwrap_or_default();
    let Value::Object(members) = json else { return object.into() };
    let lost = members.into_iter().filter(|(name, _)| kept.get(name).is_none());
    object.extensions = Some(lost.collect());
    object.into()
}
