//! What the contract says of a body, from `docs/event.schema.json` and a slow reader of JSON, and whether
//! the library says the same. The property test and the fuzz target `decode` share it.
//!
//! The fields, their types and what is required come from the schema, by the crate `jsonschema`. Where
//! the contract departs from the schema is a [`Departure`].

mod json;
pub mod mutate;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::{Map, Value};

use tower::{Layer, Service, service_fn};
use unsubscribe_webhook::{Code, OptOut, Rejection, UnsubscribeEvent, WebhookAuth};

use json::Member;

/// Where the contract departs from the schema, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Departure {
    /// An optional field that is `null` counts as absent: the usual way to write an absent value.
    NullIsAbsent,
    /// A field given twice is refused: a validator sees one of the two, and not every reader the same.
    Duplicate,
    /// An integer outside `i64`, and a double of ±2^53 or more, is refused: it is not exact.
    InexactInteger,
    /// Digits that a double rounds away do not count: that is all the reader hands over.
    RoundedNumber,
    /// `attempt_total` and `attempts_total` must agree: a schema cannot compare two fields.
    Totals,
    /// An unknown field may hold what a validator's reader cannot: 1e400, any depth, lone surrogates.
    UnknownValue,
    /// One byte order mark before the text is skipped, as RFC 8259 allows; a validator's reader refuses.
    ByteOrderMark,
}

/// A code, and the pointer that goes with it.
pub type Fault = (&'static str, Option<String>);

/// What the contract says of a body.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The faults, of which the library may report any one. None: the body is an event.
    pub faults: BTreeSet<Fault>,
    /// The departures at which the verdict may differ from the schema's.
    pub departures: BTreeSet<Departure>,
    /// Whether the schema alone judges otherwise.
    pub differs: bool,
    /// What the body says if it is refused.
    pub opt_out: Option<Said>,
    /// The event in canonical form, unless there are faults.
    event: Value,
}

/// An opt-out: the phone, and the account and the id if they can be read.
pub type Said = (String, Option<i64>, Option<String>);

/// The schema, and layers in front of the extractor.
#[derive(Debug)]
pub struct Oracle {
    schema: Value,
    validator: Validator,
    any_account: WebhookAuth,
    account_2: WebhookAuth,
}

const TOKEN: &str = "correct-horse-7";
const JSON: &str = "application/json";

impl Default for Oracle {
    fn default() -> Self {
        let schema: Value =
            serde_json::from_str(include_str!("../../../docs/event.schema.json")).expect("JSON");
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        Self {
            validator: options.build(&schema).expect("a schema of draft 2020-12"),
            schema,
            any_account: WebhookAuth::new(TOKEN),
            account_2: WebhookAuth::new(TOKEN).allow_accounts([2]),
        }
    }
}

/// What the library says of a body.
impl Oracle {
    /// Asserts that the library says what the contract says.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[allow(clippy::must_use_candidate, reason = "it asserts")]
    pub fn check(&self, body: &[u8]) -> Judgement {
        let expected = self.judge(body);
        let result = UnsubscribeEvent::from_slice(body);
        assert_verdict(&result, &expected);

        if let Ok(event) = &result {
            let canonical = serde_json::to_string(event).expect("an event is JSON");
            let again = UnsubscribeEvent::from_slice(canonical.as_bytes());
            assert_eq!(again.expect("the canonical form is an event"), *event);
        }
        // `Deserialize` is the same reader, but a byte order mark is not its to skip.
        if let Ok(text) = std::str::from_utf8(body) {
            let event = serde_json::from_str(text.strip_prefix(BOM).unwrap_or(text)).ok();
            assert_eq!(event, result.ok(), "by Deserialize");
        }
        self.check_requests(body, &expected);
        expected
    }

    fn check_requests(&self, body: &[u8], expected: &Judgement) {
        let result = deliver(&self.any_account, JSON, body);
        assert_verdict(&result, expected);
        if let Err(rejection) = &result {
            assert_eq!(rejection.body().map(|body| &body[..]), Some(body));
            assert_opt_out(rejection, expected.opt_out.as_ref());
        }

        let rejection = deliver(&self.any_account, "text/plain", body).expect_err("no JSON");
        assert_eq!(rejection.code(), Code::ContentType);
        assert_opt_out(&rejection, expected.opt_out.as_ref());

        let result = deliver(&self.account_2, JSON, body);
        let is_foreign = expected.faults.is_empty() && expected.event["data"]["user_id"] != 2;
        match &result {
            Err(rejection) if is_foreign => {
                assert_eq!((rejection.code(), rejection.opt_out()), (Code::ForeignAccount, None));
            }
            _ => assert_verdict(&result, expected),
        }
        if let Err(rejection) = &result {
            let is_of_account = |(_, user_id, _): &&Said| *user_id == Some(2);
            assert_opt_out(rejection, expected.opt_out.as_ref().filter(is_of_account));
        }
    }
}

fn assert_verdict(result: &Result<UnsubscribeEvent, Rejection>, expected: &Judgement) {
    match result {
        Ok(event) => {
            assert!(expected.faults.is_empty(), "accepted, but {:?}", expected.faults);
            assert_eq!(serde_json::to_value(event).expect("an event is JSON"), expected.event);
        }
        Err(rejection) => {
            let fault = (rejection.code().as_str(), rejection.pointer().map(str::to_owned));
            assert!(expected.faults.contains(&fault), "{rejection}, but {:?}", expected.faults);
        }
    }
}

fn assert_opt_out(rejection: &Rejection, expected: Option<&Said>) {
    let said = rejection.opt_out().map(|OptOut { phone, user_id, id, .. }| {
        (phone.clone(), *user_id, id.map(|id| id.to_string()))
    });
    if said.is_some() || !expected.is_some_and(|(phone, ..)| is_unclear(phone)) {
        assert_eq!(said.as_ref(), expected, "the opt-out of {rejection}");
    }
}

/// An authenticated request with this body, through the layer to `from_body`.
fn deliver(
    auth: &WebhookAuth,
    content_type: &str,
    body: &[u8],
) -> Result<UnsubscribeEvent, Rejection> {
    let request = Request::post("/")
        .header("x-lox24-token", TOKEN)
        .header("content-type", content_type)
        .body(Full::new(Bytes::copy_from_slice(body)))
        .expect("a request");
    let inner = service_fn(|request: Request<Full<Bytes>>| async {
        let (head, body) = request.into_parts();
        let mut response = Response::<Full<Bytes>>::default();
        response.extensions_mut().insert(UnsubscribeEvent::from_body(&head, body).await);
        Ok::<_, Infallible>(response)
    });
    // Nothing waits, so the first poll is the last.
    let response = pin!(auth.layer(inner).call(request));
    match response.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(mut response)) => response.extensions_mut().remove().expect("authenticated"),
        Poll::Pending => panic!("the extractor waits"),
    }
}

/// What the contract says of a body.
impl Oracle {
    /// The pointer of each field, and whether the field is required.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, bool)> {
        fn collect(schema: &Value, above: &str, fields: &mut Vec<(String, bool)>) {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let pointer = format!("{above}/{name}");
                collect(field, &pointer, fields);
                fields.push((pointer, is_required(schema, name)));
            }
        }
        let mut fields = Vec::new();
        collect(&self.schema, "", &mut fields);
        fields
    }

    fn judge(&self, body: &[u8]) -> Judgement {
        let lossy = String::from_utf8_lossy(body);
        let text = lossy.strip_prefix(BOM).unwrap_or(&lossy);
        let is_utf8 = std::str::from_utf8(body).is_ok();
        let document = json::document(text).filter(|_| is_utf8);

        let mut judgement = match document {
            None => Judgement::refused("not_json", None),
            Some(document) => self.judge_document(document),
        };
        if text.len() < lossy.len() {
            judgement.departures.insert(Departure::ByteOrderMark);
        }
        judgement.opt_out = opt_out(text.trim_start_matches([' ', '\t', '\r', '\n']), is_utf8);

        let by_validator =
            serde_json::from_slice(body).is_ok_and(|value| self.validator.is_valid(&value));
        judgement.differs = by_validator != judgement.faults.is_empty();
        assert!(!judgement.differs || !judgement.departures.is_empty(), "an unnamed departure");
        judgement
    }

    fn judge_document(&self, document: &str) -> Judgement {
        // "A pointer names only fields of the table; where several are at fault, any one of them."
        let Some(members) = json::members(document) else {
            return Judgement::refused("missing_field", Some("/name"));
        };
        let mut judgement = Judgement::default();
        if let [name] = named(&members, "name")[..] {
            match json::string(name.value) {
                Some(name) if is_unclear(&name) => {
                    judgement.faults.insert(("other_event", Some("/name".to_owned())));
                }
                Some(name) if name != UnsubscribeEvent::NAME => {
                    return Judgement::refused("other_event", Some("/name"));
                }
                _ => {}
            }
        }
        let terms = judgement.in_terms_of(&self.schema, "", document);
        for error in self.validator.iter_errors(&terms) {
            let at = error.instance_path();
            judgement.faults.insert(match error.kind() {
                ValidationErrorKind::Required { property } => {
                    ("missing_field", Some(format!("{at}/{}", property.as_str().expect("a name"))))
                }
                _ => ("invalid_field", Some(at.to_string())),
            });
        }
        let totals = [&terms["attempt_total"], &terms["attempts_total"]];
        if totals.iter().all(|total| total.is_i64()) && totals[0] != totals[1] {
            judgement.faults.insert(("invalid_field", Some("/attempts_total".to_owned())));
            judgement.departures.insert(Departure::Totals);
        }
        if serde_json::from_str::<Value>(document).is_err() {
            judgement.departures.insert(Departure::UnknownValue);
        }
        judgement.event = canonical(&self.schema, terms);
        judgement
    }
}

impl Judgement {
    fn refused(code: &'static str, pointer: Option<&str>) -> Self {
        let faults = BTreeSet::from([(code, pointer.map(str::to_owned))]);
        Self { faults, ..Self::default() }
    }

    /// A value with what the contract adds to the schema already applied: fields of the table only,
    /// the first of two, without `null` for an absent one, and numbers as the reader hands them over.
    fn in_terms_of(&mut self, schema: &Value, pointer: &str, text: &str) -> Value {
        match text.as_bytes()[0] {
            b'{' => self.object_in_terms_of(schema, pointer, text),
            b'[' => Value::Array(Vec::new()),
            b'"' => json::string(text).map_or(INVALID, Value::String),
            b't' | b'f' => INVALID,
            b'n' => Value::Null,
            _ => self.number(text),
        }
    }

    fn object_in_terms_of(&mut self, schema: &Value, pointer: &str, text: &str) -> Value {
        let mut object = Map::new();
        let Some(properties) = schema["properties"].as_object() else { return object.into() };
        let members = json::members(text).expect("an object");
        if members.iter().any(|member| member.name.is_none()) {
            self.faults.insert(("not_json", None));
        }
        for (name, schema_of_field) in properties {
            let at = format!("{pointer}/{name}");
            let found = named(&members, name);
            let Some(first) = found.first() else { continue };
            if found.len() > 1 {
                self.faults.insert(("duplicate_field", Some(at.clone())));
                self.departures.insert(Departure::Duplicate);
            }
            if first.value == "null" && !is_required(schema, name) {
                self.departures.insert(Departure::NullIsAbsent);
            } else {
                object.insert(name.clone(), self.in_terms_of(schema_of_field, &at, first.value));
            }
        }
        object.into()
    }

    fn number(&mut self, text: &str) -> Value {
        let number = Number::read(text);
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let digits = digits.trim_matches('0').len();
        match number {
            Number::Integer(integer) => {
                // A double is exact in its first 15 digits.
                if text.parse() != Ok(integer) && (digits > 15 || integer == 0 && digits > 0) {
                    self.departures.insert(Departure::RoundedNumber);
                }
                integer.into()
            }
            Number::Fraction(double) => double.into(),
            Number::Inexact => {
                self.departures.insert(Departure::InexactInteger);
                INVALID
            }
        }
    }
}

/// In the place of what no field of the table takes.
const INVALID: Value = Value::Bool(false);

const BOM: char = '\u{feff}';

/// A number as a reader hands it over.
enum Number {
    Integer(i64),
    Fraction(f64),
    Inexact,
}

impl Number {
    fn read(text: &str) -> Self {
        if let Ok(integer) = text.parse() {
            return Self::Integer(integer);
        }
        // The nearest double, as the feature `float_roundtrip` reads it, which `jsonschema` turns on.
        let double: f64 = text.parse().expect("a number");
        if double.abs() >= 9_007_199_254_740_992.0 {
            Self::Inexact
        } else if double.fract() == 0.0 {
            #[allow(clippy::cast_possible_truncation, reason = "below 2^53")]
            Self::Integer(double as i64)
        } else {
            Self::Fraction(double)
        }
    }
}

fn named<'a, 'b>(members: &'b [Member<'a>], name: &str) -> Vec<&'b Member<'a>> {
    members.iter().filter(|member| member.name.as_deref() == Some(name)).collect()
}

/// The library does not always tell a U+FFFD of the text from one that it has put there.
fn is_unclear(text: &str) -> bool {
    text.contains(char::REPLACEMENT_CHARACTER)
}

fn is_required(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|names| names.iter().any(|given| given == name))
}

fn canonical(schema: &Value, value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| {
                let value = canonical(&schema["properties"][&name], value);
                (if name == "attempt_total" { "attempts_total".to_owned() } else { name }, value)
            };
            members.into_iter().map(member).collect()
        }
        Value::String(text) if schema["format"] == "uuid" => text.to_lowercase().into(),
        value => value,
    }
}

/// What a refused body says, as far as it is JSON.
fn opt_out(text: &str, is_utf8: bool) -> Option<Said> {
    fn single<'a>(members: &[Member<'a>], name: &str) -> Option<&'a str> {
        let [member] = named(members, name)[..] else { return None };
        // Of an object that is cut off, what is there.
        (member.is_whole || member.value.starts_with('{')).then_some(member.value)
    }
    let event = json::members(text)?;
    let name = json::string(single(&event, "name")?)?;
    let data = json::members(single(&event, "data")?)?;
    let phone = json::string(single(&data, "phone")?)?;
    if name != UnsubscribeEvent::NAME || phone.is_empty() || !is_utf8 && is_unclear(&phone) {
        return None;
    }
    let is_number = |text: &&str| text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let user_id = single(&data, "user_id").filter(is_number).map(Number::read);
    let user_id = user_id.and_then(|number| match number {
        Number::Integer(integer) => Some(integer),
        _ => None,
    });
    let id = single(&event, "id").and_then(json::string).filter(|id| is_uuid(id));
    Some((phone, user_id, id.map(|id| id.to_lowercase())))
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().chars().all(|digit| digit.is_ascii_hexdigit())
}
