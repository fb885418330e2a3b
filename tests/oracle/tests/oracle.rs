//! The decoder beside a validator of JSON Schema, on generated bodies: both have the same verdict,
//! name the same fields, and what is read is what was sent.
//!
//! The validator (the crate `jsonschema`) knows `docs/event.schema.json` and nothing of the decoder.
//! But it reads JSON with `serde_json`, as the decoder does, so what is JSON at all, what a number's
//! spelling says and what a string holds is known from the generator instead. Where the contract
//! departs from the schema, or from what such a reader can hold, the departure has a name
//! ([`Departure`]), is found in what was generated, and is asserted on its side.
//!
//! Each body has a seed of its own, which a failure prints; with `ORACLE_SEED` set to it, that body
//! comes first. `cargo test --test oracle -- --nocapture` shows the counts of what was generated.

#[path = "oracle/bodies.rs"]
mod bodies;
#[path = "oracle/departures.rs"]
mod departures;
#[path = "oracle/spelling.rs"]
mod spelling;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use bodies::{Body, UNCHANGED, all_changes};
use departures::{Departure, FIELDS, Field, Kind, NAME, Survey, field, integer, survey};
use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::Value;
use spelling::{Json, Text};
use unsubscribe_webhook::UnsubscribeEvent;

const FIRST_SEED: u64 = 20_220_525;

#[test]
fn twenty_thousand_bodies_get_the_verdict_of_the_schema() {
    compare(20_000);
}

#[test]
#[ignore = "a million takes minutes without --release"]
fn a_million_bodies_get_the_verdict_of_the_schema() {
    compare(1_000_000);
}

fn compare(bodies: usize) {
    let first = match env::var("ORACLE_SEED") {
        Ok(seed) => seed.parse().expect("ORACLE_SEED is a number"),
        Err(_) => FIRST_SEED,
    };
    let oracle = Oracle::new();
    let mut tally = Tally::default();
    for seed in (first..).take(bodies) {
        let body = bodies::body(seed);
        match oracle.judge(&body) {
            Ok(verdict) => tally.count(&body, &verdict),
            Err(fault) => panic!(
                "{fault}\nORACLE_SEED={seed}, after: {}\n{}",
                body.changes.join(", "),
                String::from_utf8_lossy(&body.text)
            ),
        }
    }
    tally.print();
    tally.assert_complete();
}

/// The code and the pointer of a refusal.
type Reason = (&'static str, Option<&'static str>);

/// What came out of a body on which nothing is wrong.
struct Verdict {
    refused: Option<Reason>,
    /// The departures that made the validator judge otherwise.
    departed: Vec<Departure>,
}

struct Oracle {
    schema: Validator,
}

impl Oracle {
    fn new() -> Self {
        let schema = json(include_str!("../../../docs/event.schema.json"));
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        Self { schema: options.build(&schema).expect("a schema of draft 2020-12") }
    }

    /// # Errors
    ///
    /// What is wrong with the decoder's verdict.
    fn judge(&self, body: &Body) -> Result<Verdict, String> {
        let ours = UnsubscribeEvent::from_slice(&body.text);
        let refused = ours.as_ref().err().map(|rejection| (rejection.code(), rejection.pointer()));
        // None where its reader fails.
        let by_validator =
            serde_json::from_slice(&body.text).ok().map(|value| self.schema.is_valid(&value));

        if let Some(reason) = reason_before_the_fields(body) {
            ensure(by_validator != Some(true), || "the validator takes it".to_owned())?;
            ensure(refused == Some(reason), || format!("{refused:?}, but {reason:?} is due"))?;
            return Ok(Verdict { refused, departed: Vec::new() });
        }
        ensure(by_validator.is_none() == body.tree.unheld().is_some(), || {
            "the validator's reader fails where it should not, or does not where it should"
                .to_owned()
        })?;

        let survey = survey(&body.tree);
        let named = self.named(&survey);
        match (&ours, refused) {
            (Ok(event), _) => {
                ensure(named.is_empty(), || {
                    format!("accepted, but these are at fault: {named:?}")
                })?;
                let event = serde_json::to_value(event).expect("JSON");
                let sent = canonical("", &survey.in_schema_terms);
                ensure(event == sent, || format!("{event} was read, but {sent} was sent"))?;
            }
            (Err(_), Some((code, Some(pointer)))) => {
                let reason = (code, pointer.to_owned());
                ensure(named.contains(&reason), || {
                    format!("{reason:?}, but of {named:?} one is due")
                })?;
            }
            (Err(_), reason) => return Err(format!("{reason:?}, but of {named:?} one is due")),
        }
        let departed = self.departed(&survey, refused, by_validator)?;
        Ok(Verdict { refused, departed })
    }

    /// What the validator names in the schema's terms, and what the schema cannot say. A missing
    /// field the validator names by its object.
    fn named(&self, survey: &Survey) -> BTreeSet<(&'static str, String)> {
        let body = json(&survey.in_schema_terms.compact());
        let errors = self.schema.iter_errors(&body).map(|error| {
            let at = error.instance_path();
            match error.kind() {
                ValidationErrorKind::Required { property } => {
                    ("missing_field", format!("{at}/{}", property.as_str().expect("a name")))
                }
                _ => ("invalid_field", at.to_string()),
            }
        });
        let doubled = survey
            .departures
            .iter()
            .filter(|(departure, _)| *departure == Departure::DoubledField)
            .map(|(_, pointer)| ("duplicate_field", (*pointer).to_owned()));
        errors.chain(doubled).collect()
    }

    /// Asserts that the validator's own verdict differs by the departures, and by nothing else.
    fn departed(
        &self,
        survey: &Survey,
        refused: Option<Reason>,
        by_validator: Option<bool>,
    ) -> Result<Vec<Departure>, String> {
        let departures: BTreeSet<_> = survey.departures.iter().map(|found| found.0).collect();
        let is_stricter = by_validator.is_none()
            || departures.iter().any(|departure| departure.validator_refuses());
        let expected = if is_stricter {
            false
        } else if departures.is_empty() {
            refused.is_none()
        } else {
            self.schema.is_valid(&json(&survey.mended.compact()))
        };
        let accepted = by_validator == Some(true);
        ensure(accepted == expected, || {
            format!("{refused:?}, and {by_validator:?} by the validator, with {departures:?}")
        })?;

        // Both refuse, but only one can say why.
        let unnamed = match survey.departures[..] {
            [(Departure::UnheldInField, pointer)] => {
                refused == Some(("invalid_field", Some(pointer)))
            }
            _ => false,
        };
        let differ = accepted != refused.is_none() || unnamed;
        Ok(if differ { departures.into_iter().collect() } else { Vec::new() })
    }
}

/// What the contract says before it comes to the fields.
fn reason_before_the_fields(body: &Body) -> Option<Reason> {
    if body.is_damaged || body.tree.is_broken() {
        return Some(("not_json", None));
    }
    let Json::Object(members) = &body.tree else {
        return Some(("missing_field", Some("/name")));
    };
    let mut names = members.iter().filter(|(name, _)| name.is("name"));
    match (names.next(), names.next()) {
        (Some((_, Json::String(Text { value: Some(value), .. }))), None) if value != NAME => {
            Some(("other_event", Some("/name")))
        }
        _ => None,
    }
}

/// The canonical form of what is valid.
fn canonical(pointer: &str, object: &Json) -> Value {
    let Json::Object(members) = object else { panic!("only an object has members") };
    let fields = members.iter().filter_map(|(name, value)| Some((field(pointer, name)?, value)));
    let canonical = |(field, value): (&Field, &Json)| {
        let value = match (field.kind, value) {
            (Kind::Object, value) => canonical(field.pointer, value),
            (Kind::Integer { least, most }, Json::Number(number)) => {
                integer(number, least, most).expect("a valid integer").into()
            }
            (Kind::TaskId, Json::String(text)) => text.value.clone()?.to_lowercase().into(),
            (_, Json::String(text)) => text.value.clone()?.into(),
            (_, other) => panic!("{} is not valid: {other:?}", field.pointer),
        };
        let (_, name) = field.place();
        let name = if name == "attempt_total" { "attempts_total" } else { name };
        Some((name.to_owned(), value))
    };
    Value::Object(fields.filter_map(canonical).collect())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON that a tree can hold")
}

fn ensure(holds: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault()) }
}

/// What was generated, and what became of it.
#[derive(Default)]
struct Tally {
    changes: BTreeMap<&'static str, Count>,
    departures: BTreeMap<Departure, u64>,
    reasons: BTreeMap<Reason, u64>,
}

#[derive(Default)]
struct Count {
    accepted: u64,
    refused: u64,
}

impl Tally {
    fn count(&mut self, body: &Body, verdict: &Verdict) {
        for change in BTreeSet::from_iter(&body.changes) {
            let count = self.changes.entry(change).or_default();
            *if verdict.refused.is_some() { &mut count.refused } else { &mut count.accepted } += 1;
        }
        for departure in &verdict.departed {
            *self.departures.entry(*departure).or_default() += 1;
        }
        if let Some(reason) = verdict.refused {
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    fn print(&self) {
        println!("{:<34}{:>10}{:>10}", "done to the event", "accepted", "refused");
        for (change, count) in &self.changes {
            println!("{change:<34}{:>10}{:>10}", count.accepted, count.refused);
        }
        println!("\n{:<34}{:>10}", "departure from the schema", "differ");
        for (departure, count) in &self.departures {
            println!("{:<34}{count:>10}", format!("{departure:?}"));
        }
        println!("\n{:<54}{:>10}", "refused as", "bodies");
        for ((code, pointer), count) in &self.reasons {
            println!("{code:<17}{:<37}{count:>10}", pointer.unwrap_or_default());
        }
    }

    /// Every change, every departure, and every reason of every field must have occurred.
    fn assert_complete(&self) {
        let changes: BTreeSet<_> = self.changes.keys().copied().collect();
        assert_eq!(changes, all_changes().collect());
        assert_eq!(self.changes[UNCHANGED].refused, 0, "an event of the contract was refused");
        let departures: Vec<_> = self.departures.keys().copied().collect();
        assert_eq!(departures, Departure::ALL);

        let required = FIELDS.iter().filter(|field| field.required);
        let missing = required.map(|field| ("missing_field", Some(field.pointer)));
        let invalid = FIELDS.iter().map(|field| ("invalid_field", Some(field.pointer)));
        let doubled = FIELDS.iter().map(|field| ("duplicate_field", Some(field.pointer)));
        let before = [("not_json", None), ("other_event", Some("/name"))];
        let due: BTreeSet<_> = missing.chain(invalid).chain(doubled).chain(before).collect();
        assert_eq!(self.reasons.keys().copied().collect::<BTreeSet<_>>(), due);
    }
}
