//! The reader with the last word: it names the field at fault, and takes every spelling that JSON
//! allows.
//!
//! It works on the raw text of each value. `serde_json` still does all the JSON: it cuts a text
//! into the texts of its members, at any depth without recursion, and reads the strings.

use std::{fmt, ops::RangeInclusive};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ATTEMPT_NUMBER, ATTEMPTS_TOTAL, Fault, event_id, totals_agree, uuid};
use crate::{AdditionalData, Reason, ReasonId, Unsubscribe, UnsubscribeEvent};

pub(super) fn event(text: &str) -> Result<UnsubscribeEvent, Fault> {
    let text: &RawValue = serde_json::from_str(text).map_err(|_| Fault::NotJson)?;
    // A body that is no object has none of the fields.
    let event: Object<'_> = serde_json::from_str(text.get()).unwrap_or_default();

    // An event of another kind is one whatever else it holds.
    if event.required("/name", &STRING)? != UnsubscribeEvent::NAME {
        return Err(Fault::OtherEvent);
    }
    let total_of_page = event.optional("/attempt_total", &TOTAL)?;
    let total_of_example = event.optional("/attempts_total", &TOTAL)?;
    if !totals_agree(total_of_page, total_of_example) {
        let expected = "The same total is expected as in attempt_total.";
        return Err(Fault::Invalid { pointer: "/attempts_total", expected });
    }
    Ok(UnsubscribeEvent {
        id: event.required("/id", &EVENT_ID)?,
        data: data(event.text("/data")?)?,
        created_at: event.optional("/created_at", &INTEGER)?,
        api_version: event.optional("/api_version", &STRING)?,
        attempt_number: event.optional("/attempt_number", &NUMBER)?,
        attempts_total: total_of_page.or(total_of_example),
        notification_task_id: event.optional("/notification_task_id", &UUID)?,
    })
}

/// What a body says of its own delivery.
#[cfg(feature = "tracing")]
#[derive(Debug, Default)]
pub(crate) struct Envelope {
    pub(crate) id: Option<uuid::Uuid>,
    pub(crate) attempt_number: Option<i64>,
    pub(crate) attempts_total: Option<i64>,
}

#[cfg(feature = "tracing")]
impl Envelope {
    /// As far as a refused body can be read: to where it stops being JSON.
    pub(crate) fn of(body: &[u8]) -> Self {
        let text = body.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let mut event = Object::default();
        let _ = serde_json::Deserializer::from_str(text).deserialize_map(&mut event);
        let integer = |pointer, rule| event.optional(pointer, rule).ok().flatten();
        Self {
            id: event.optional("/id", &UUID).ok().flatten(),
            attempt_number: integer("/attempt_number", &NUMBER),
            attempts_total: integer("/attempts_total", &TOTAL)
                .or_else(|| integer("/attempt_total", &TOTAL)),
        }
    }

    /// For the log, where a phone number that came in the wrong field must not go.
    pub(crate) fn plausible_attempt(&self) -> Option<i64> {
        self.attempt_number.filter(|number| *number < 1_000)
    }

    /// Whether the provider gives up after it; of four attempts in all where the body has no total.
    pub(crate) fn is_last_attempt(&self) -> Option<bool> {
        let total = self.attempts_total.unwrap_or(*ATTEMPTS_TOTAL.end());
        Some(self.attempt_number? >= total)
    }
}

pub(crate) fn data(text: &str) -> Result<Unsubscribe, Fault> {
    let data = object(text, "/data")?;
    Ok(Unsubscribe {
        phone: data.required("/data/phone", &STRING)?,
        user_id: data.required("/data/user_id", &INTEGER)?,
        created_at: data.required("/data/created_at", &INTEGER)?,
        campaign_code: data.required("/data/campaign_code", &STRING)?,
        additional_data: additional_data(data.text("/data/additional_data")?)?,
        short_link_code: data.required("/data/short_link_code", &STRING)?,
        unsubscribe_request_id: data.required("/data/unsubscribe_request_id", &INTEGER)?,
        group_id: data.optional("/data/group_id", &INTEGER)?,
    })
}

pub(crate) fn additional_data(text: &str) -> Result<AdditionalData, Fault> {
    let data = object(text, "/data/additional_data")?;
    Ok(AdditionalData {
        reason: reason(data.text("/data/additional_data/reason")?)?,
        additional_text: data.required("/data/additional_data/additional_text", &STRING)?,
    })
}

pub(crate) fn reason(text: &str) -> Result<Reason, Fault> {
    let reason = object(text, "/data/additional_data/reason")?;
    Ok(Reason {
        id: reason.required("/data/additional_data/reason/id", &REASON_ID)?,
        label: reason.required("/data/additional_data/reason/label", &STRING)?,
    })
}

pub(crate) fn reason_id(text: &str) -> Result<ReasonId, Fault> {
    let pointer = "/data/additional_data/reason/id";
    (REASON_ID.read)(text).ok_or(Fault::Invalid { pointer, expected: REASON_ID.expected })
}

/// A rule of the contract: what it expects, and the value of a text that holds to it.
struct Rule<T> {
    expected: &'static str,
    read: fn(&str) -> Option<T>,
}

const STRING: Rule<String> = Rule { expected: "A string is expected.", read: string };
const INTEGER: Rule<i64> = Rule {
    expected: "An integer of 64 bits is expected, exact in a double if spelled as one.",
    read: integer,
};
const NUMBER: Rule<i64> = Rule {
    expected: "An integer from 1 is expected.",
    read: |text| integer_within(text, ATTEMPT_NUMBER),
};
const TOTAL: Rule<i64> = Rule {
    expected: "An integer from 1 to 4 is expected.",
    read: |text| integer_within(text, ATTEMPTS_TOTAL),
};
const REASON_ID: Rule<ReasonId> = Rule {
    expected: "An integer from 1 to 6 is expected.",
    read: |text| integer(text).and_then(ReasonId::from_i64),
};
const EVENT_ID: Rule<uuid::Uuid> = Rule {
    expected: "A UUID in lower case, with hyphens, is expected.",
    read: |text| event_id(&string(text)?),
};
const UUID: Rule<uuid::Uuid> =
    Rule { expected: "A UUID with hyphens is expected.", read: |text| uuid(&string(text)?) };

/// The members of a JSON object: their names, and their texts.
#[derive(Default)]
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    fn required<T>(&self, pointer: &'static str, rule: &Rule<T>) -> Result<T, Fault> {
        (rule.read)(self.text(pointer)?).ok_or(Fault::Invalid { pointer, expected: rule.expected })
    }

    /// The text of a field that must be there.
    fn text(&self, pointer: &'static str) -> Result<&'a str, Fault> {
        self.member(pointer)?.ok_or(Fault::Missing { pointer })
    }

    /// As `required`, for a field that may be absent or null.
    fn optional<T>(&self, pointer: &'static str, rule: &Rule<T>) -> Result<Option<T>, Fault> {
        match self.member(pointer)? {
            None | Some("null") => Ok(None),
            Some(_) => self.required(pointer, rule).map(Some),
        }
    }

    /// The text of the field that the pointer ends in.
    fn member(&self, pointer: &'static str) -> Result<Option<&'a str>, Fault> {
        let name = pointer.rsplit('/').next().unwrap_or_default();
        let mut members = self.0.iter().filter(|(key, _)| key == name);
        let first = members.next().map(|(_, text)| text.get());
        match members.next() {
            Some(_) => Err(Fault::Duplicate { pointer }),
            None => Ok(first),
        }
    }
}

impl<'a> Deserialize<'a> for Object<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Self::default();
        deserializer.deserialize_map(&mut object)?;
        Ok(object)
    }
}

/// Adds the members as they come, so that those before a fault are not lost with it.
impl<'a> Visitor<'a> for &mut Object<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, text)) = map.next_entry::<&RawValue, &RawValue>()? {
            // A name that is no string of characters (a lone surrogate) is none of the contract's.
            self.0.extend(string(key.get()).map(|key| (key, text)));
        }
        Ok(())
    }
}

fn object<'a>(text: &'a str, pointer: &'static str) -> Result<Object<'a>, Fault> {
    let fault = Fault::Invalid { pointer, expected: "An object is expected." };
    serde_json::from_str(text).map_err(|_| fault)
}

fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

fn integer_within(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    integer(text).filter(|number| range.contains(number))
}

/// An integer of JSON Schema 2020-12, read from its decimal spelling: a double may have lost a
/// fraction (`9007199254740992.5`) or have left the range of 64 bits and come back.
fn integer(text: &str) -> Option<i64> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    if text.contains(['.', 'e', 'E']) { spelled_as_double(text) } else { text.parse().ok() }
}

/// An integer with a fraction or an exponent in its spelling, up to where a double is exact.
fn spelled_as_double(text: &str) -> Option<i64> {
    const EXACT: i64 = 1 << 53;

    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_end_matches('0');
    if significant.trim_start_matches(['-', '0']).is_empty() {
        return Some(0);
    }
    // The value is `significant` with this many zeros behind it: fewer than none is a fraction.
    let zeros = exponent
        .parse::<i64>()
        .ok()?
        .checked_sub_unsigned(fraction.len() as u64)?
        .checked_add_unsigned((digits.len() - significant.len()) as u64)?;
    let scale = 10_i64.checked_pow(u32::try_from(zeros).ok()?)?;
    let value = significant.parse::<i64>().ok()?.checked_mul(scale)?;
    (-EXACT..=EXACT).contains(&value).then_some(value)
}
