//! The contract's fields, and where the contract departs from what the schema can say. All of it is
//! found in the tree that the generator made, so the decoder has no part in it.

use crate::spelling::{Exact, Json, Number, Text, Unheld};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Name,
    EventId,
    TaskId,
    Text,
    Integer { least: i64, most: i64 },
    Object,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) pointer: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
}

impl Field {
    /// The pointer of its object, and its name there.
    pub(crate) fn place(&self) -> (&'static str, &'static str) {
        self.pointer.rsplit_once('/').expect("a pointer has a slash")
    }
}

pub(crate) const NAME: &str = "phone.unsubscribe";
pub(crate) const OBJECTS: [&str; 4] =
    ["", "/data", "/data/additional_data", "/data/additional_data/reason"];

const INTEGER: Kind = Kind::Integer { least: i64::MIN, most: i64::MAX };
const TOTAL: Kind = Kind::Integer { least: 1, most: 4 };

/// The contract's table.
pub(crate) const FIELDS: [Field; 21] = [
    required("/id", Kind::EventId),
    required("/name", Kind::Name),
    optional("/api_version", Kind::Text),
    optional("/created_at", INTEGER),
    optional("/attempt_total", TOTAL),
    optional("/attempts_total", TOTAL),
    optional("/attempt_number", Kind::Integer { least: 1, most: i64::MAX }),
    optional("/notification_task_id", Kind::TaskId),
    required("/data", Kind::Object),
    required("/data/phone", Kind::Text),
    required("/data/user_id", INTEGER),
    required("/data/created_at", INTEGER),
    required("/data/campaign_code", Kind::Text),
    required("/data/additional_data", Kind::Object),
    required("/data/additional_data/reason", Kind::Object),
    required("/data/additional_data/reason/id", Kind::Integer { least: 1, most: 6 }),
    required("/data/additional_data/reason/label", Kind::Text),
    required("/data/additional_data/additional_text", Kind::Text),
    required("/data/short_link_code", Kind::Text),
    required("/data/unsubscribe_request_id", INTEGER),
    optional("/data/group_id", INTEGER),
];

const fn required(pointer: &'static str, kind: Kind) -> Field {
    Field { pointer, kind, required: true }
}

const fn optional(pointer: &'static str, kind: Kind) -> Field {
    Field { pointer, kind, required: false }
}

pub(crate) fn field(object: &str, name: &Text) -> Option<&'static Field> {
    let name = name.value.as_deref()?;
    FIELDS.iter().find(|field| field.place() == (object, name))
}

/// A way in which the contract departs from the schema, or from a validator of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Departure {
    /// Ours takes it as absent; the schema knows the field's type only.
    NullForOptional,
    /// Ours refuses it; a validator's reader keeps the last one.
    DoubledField,
    /// Ours refuses it; an integer of the schema has no end.
    OutsideI64,
    /// Ours refuses it; an integer of the schema is one in any spelling.
    BeyondExactDoubles,
    /// Ours refuses it, by its spelling; a validator sees the double, which has no fraction.
    FractionLostInDouble,
    /// Ours refuses it; the schema does not compare fields.
    TotalsDisagree,
    /// Ours refuses it and names the field; a validator's reader fails and names nothing.
    UnheldInField,
    /// Ours ignores it; a validator's reader fails.
    UnknownDeep,
    UnknownBeyondDoubles,
    UnknownLoneSurrogate,
}

impl Departure {
    pub(crate) const ALL: [Self; 10] = [
        Self::NullForOptional,
        Self::DoubledField,
        Self::OutsideI64,
        Self::BeyondExactDoubles,
        Self::FractionLostInDouble,
        Self::TotalsDisagree,
        Self::UnheldInField,
        Self::UnknownDeep,
        Self::UnknownBeyondDoubles,
        Self::UnknownLoneSurrogate,
    ];

    /// Whether the validator is the stricter one.
    pub(crate) fn validator_refuses(self) -> bool {
        match self {
            Self::NullForOptional
            | Self::UnheldInField
            | Self::UnknownDeep
            | Self::UnknownBeyondDoubles
            | Self::UnknownLoneSurrogate => true,
            Self::DoubledField
            | Self::OutsideI64
            | Self::BeyondExactDoubles
            | Self::FractionLostInDouble
            | Self::TotalsDisagree => false,
        }
    }
}

/// What departs in a body, and the body without it.
pub(crate) struct Survey {
    /// Each departure, and the field where it is, or the object that an unknown field is in.
    pub(crate) departures: Vec<(Departure, &'static str)>,
    /// The body in the schema's terms: what only ours takes is left out, and in the place of what
    /// only ours refuses stands a value that no field may have. Of a doubled field the last stays.
    pub(crate) in_schema_terms: Json,
    /// As above, but what only ours refuses is put right.
    pub(crate) mended: Json,
}

/// The body must be an object.
pub(crate) fn survey(body: &Json) -> Survey {
    let mut in_terms = Rewriter { replacement: |_| Json::Bool(false), found: Vec::new() };
    let mut mending = Rewriter { replacement: right_value, found: Vec::new() };
    let mut in_schema_terms = in_terms.object("", body);
    let mut mended = mending.object("", body);

    let totals = ["attempt_total", "attempts_total"].map(|name| total(&in_schema_terms, name));
    if let [Some(page), Some(example)] = totals {
        if page != example {
            in_terms.found.push((Departure::TotalsDisagree, "/attempts_total"));
            replace(&mut in_schema_terms, "attempts_total", Json::Bool(false));
            replace(&mut mended, "attempts_total", Json::integer(page.into()));
        }
    }
    Survey { departures: in_terms.found, in_schema_terms, mended }
}

struct Rewriter {
    replacement: fn(&Field) -> Json,
    found: Vec<(Departure, &'static str)>,
}

impl Rewriter {
    fn object(&mut self, pointer: &'static str, object: &Json) -> Json {
        let Json::Object(members) = object else { panic!("only an object has members") };
        let mut kept = Vec::new();
        for (index, (name, value)) in members.iter().enumerate() {
            let value = match field(pointer, name) {
                None => self.unknown(pointer, name, value),
                Some(field) if members[index + 1..].iter().any(|later| later.0.same(name)) => {
                    self.note(Departure::DoubledField, field.pointer);
                    None
                }
                Some(field) => self.value(field, value),
            };
            kept.extend(value.map(|value| (name.clone(), value)));
        }
        Json::Object(kept)
    }

    fn unknown(&mut self, object: &'static str, name: &Text, value: &Json) -> Option<Json> {
        let unheld =
            if name.value.is_none() { Some(Unheld::LoneSurrogate) } else { value.unheld() };
        let departure = match unheld {
            None => return Some(value.clone()),
            Some(Unheld::Deep) => Departure::UnknownDeep,
            Some(Unheld::BeyondDoubles) => Departure::UnknownBeyondDoubles,
            Some(Unheld::LoneSurrogate) => Departure::UnknownLoneSurrogate,
        };
        self.note(departure, object);
        None
    }

    fn value(&mut self, field: &'static Field, value: &Json) -> Option<Json> {
        let departure = match (field.kind, value) {
            (_, Json::Null) if !field.required => {
                self.note(Departure::NullForOptional, field.pointer);
                return None;
            }
            (Kind::Object, Json::Object(_)) => return Some(self.object(field.pointer, value)),
            (Kind::Object, Json::Nest { depth, objects: true }) => {
                let inner = Json::Nest { depth: depth - 1, objects: true };
                let outer = Json::Object(vec![(Text::plain("a"), inner)]);
                return Some(self.object(field.pointer, &outer));
            }
            (_, value) if value.unheld().is_some() => Some(Departure::UnheldInField),
            (Kind::Integer { least, most }, Json::Number(number)) => {
                departure_of_number(number, least, most)
            }
            _ => None,
        };
        let Some(departure) = departure else { return Some(value.clone()) };
        self.note(departure, field.pointer);
        Some((self.replacement)(field))
    }

    fn note(&mut self, departure: Departure, pointer: &'static str) {
        if !self.found.contains(&(departure, pointer)) {
            self.found.push((departure, pointer));
        }
    }
}

/// The integer of the contract that a number is.
pub(crate) fn integer(number: &Number, least: i64, most: i64) -> Option<i64> {
    let Exact::Integer(value) = number.value else { return None };
    let value = i64::try_from(value).ok()?;
    let exact = !number.is_spelled_as_double() || value.unsigned_abs() <= 1 << 53;
    (exact && (least..=most).contains(&value)).then_some(value)
}

/// Why a number is an integer to the schema, or to a validator of doubles, and none to ours.
fn departure_of_number(number: &Number, least: i64, most: i64) -> Option<Departure> {
    if integer(number, least, most).is_some() || !is_integer_of_schema(number, least, most) {
        return None;
    }
    Some(match number.value {
        Exact::Fraction => Departure::FractionLostInDouble,
        Exact::Integer(value) if i64::try_from(value).is_ok() => Departure::BeyondExactDoubles,
        Exact::Integer(_) | Exact::HugeInteger => Departure::OutsideI64,
    })
}

#[allow(clippy::cast_precision_loss, reason = "the schema's own limits are small")]
fn is_integer_of_schema(number: &Number, least: i64, most: i64) -> bool {
    let double = number.as_double();
    let in_range = (least == i64::MIN || double >= least as f64)
        && (most == i64::MAX || double <= most as f64);
    double.fract() == 0.0 && in_range
}

fn right_value(field: &Field) -> Json {
    match field.kind {
        Kind::Integer { .. } => Json::integer(1),
        // Ours is not alone in refusing these.
        _ => Json::Bool(false),
    }
}

/// The value of a total that holds to the contract.
fn total(body: &Json, name: &str) -> Option<i64> {
    let Json::Object(members) = body else { return None };
    match members.iter().find(|(given, _)| given.is(name))? {
        (_, Json::Number(number)) => integer(number, 1, 4),
        _ => None,
    }
}

fn replace(body: &mut Json, name: &str, value: Json) {
    let Json::Object(members) = body else { return };
    if let Some(member) = members.iter_mut().find(|(given, _)| given.is(name)) {
        member.1 = value;
    }
}
