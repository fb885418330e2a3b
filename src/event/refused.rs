//! What a body that is not an event still says.
//!
//! A second reading, in one pass, that takes every type for every field: whether the body is JSON and
//! an event of another kind, the opt-out, and the envelope for the log.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    decode::{BOM, DecodeError, Field, exact_integer, ignore, uuid},
    is_last_attempt,
};
use crate::{OptOut, UnsubscribeEvent, log::Envelope};

/// The outline of a refused body.
pub(super) struct RefusedBody {
    is_json: bool,
    /// Whether invalid UTF-8 or a lone surrogate had to be replaced to read on.
    is_altered: bool,
    outline: Outline,
}

impl RefusedBody {
    pub(super) fn read(body: &[u8]) -> Self {
        let lossy = String::from_utf8_lossy(body);
        let is_utf8 = matches!(lossy, Cow::Borrowed(_));
        let text = replace_lone_surrogates(lossy.strip_prefix(BOM).unwrap_or(&lossy));
        let (outline, is_whole) = Outline::read(&text);
        Self {
            // A number that no double holds stops the outline, although it is JSON.
            is_json: is_utf8 && (is_whole || serde_json::from_str::<IgnoredAny>(&text).is_ok()),
            is_altered: !is_utf8 || matches!(text, Cow::Owned(_)),
            outline,
        }
    }

    /// Why the body is refused, if `noted` is the fault that the decoder found.
    pub(super) fn fault(&self, noted: DecodeError) -> DecodeError {
        if !self.is_json {
            return DecodeError::NOT_JSON;
        }
        match self.certain(&self.outline.name) {
            Some(UnsubscribeEvent::NAME) => noted,
            Some(_) => DecodeError::OTHER_EVENT,
            None if matches!(self.outline.name, Member::Duplicate) => {
                DecodeError::duplicate("/name")
            }
            None => noted,
        }
    }

    /// The text of a member, if nothing in it had to be replaced.
    fn certain<'a>(&self, member: &'a Member) -> Option<&'a str> {
        let is_intact = |text: &&str| !text.contains(char::REPLACEMENT_CHARACTER);
        member.text().filter(|text| !self.is_altered || is_intact(text))
    }

    /// The opt-out, if it can be read with certainty.
    pub(super) fn opt_out(&self) -> Option<OptOut> {
        let Outline { id, name, data, phone, user_id, .. } = &self.outline;
        let phone = self.certain(phone).filter(|phone| !phone.is_empty())?;
        let is_certain =
            name.text() == Some(UnsubscribeEvent::NAME) && matches!(data, Member::Single(_));
        is_certain.then(|| OptOut {
            phone: phone.to_owned(),
            user_id: user_id.integer(),
            id: id.text().and_then(uuid),
        })
    }

    /// For the log, where digits in a string count too: a last attempt must be known as one.
    pub(super) fn envelope(&self) -> Envelope {
        let Outline { id, attempt_number, attempt_total, attempts_total, .. } = &self.outline;
        let attempt_number = attempt_number.digits().filter(|number| *number >= 1);
        // Of two that disagree the lower one: a loss must not be missed.
        let total = [attempt_total.digits(), attempts_total.digits()]
            .into_iter()
            .flatten()
            .filter(|total| (1..=UnsubscribeEvent::MAX_ATTEMPTS).contains(total))
            .min();
        Envelope {
            id: id.text().and_then(uuid),
            attempt_number,
            is_last_attempt: is_last_attempt(attempt_number, total),
        }
    }
}

/// The members that matter, as far as the text is JSON.
#[derive(Default)]
struct Outline {
    id: Member,
    name: Member,
    attempt_number: Member,
    attempt_total: Member,
    attempts_total: Member,
    data: Member,
    phone: Member,
    user_id: Member,
}

/// A member of an object, which may be there more than once.
#[derive(Default)]
enum Member {
    #[default]
    Absent,
    Single(Value),
    Duplicate,
}

impl Member {
    /// Counts the member before its value is read, which may fail.
    fn begin(&mut self) {
        *self = match self {
            Self::Absent => Self::Single(Value::Null),
            Self::Single(_) | Self::Duplicate => Self::Duplicate,
        };
    }

    fn end(&mut self, value: Value) {
        if let Self::Single(slot) = self {
            *slot = value;
        }
    }

    fn value(&self) -> Option<&Value> {
        if let Self::Single(value) = self { Some(value) } else { None }
    }

    fn text(&self) -> Option<&str> {
        self.value()?.as_str()
    }

    fn integer(&self) -> Option<i64> {
        let value = self.value()?;
        value.as_i64().or_else(|| exact_integer(value.as_f64()?))
    }

    fn digits(&self) -> Option<i64> {
        self.integer().or_else(|| self.text()?.parse().ok())
    }
}

impl Outline {
    /// The outline, and whether the whole text could be read.
    fn read(text: &str) -> (Self, bool) {
        let mut outline = Self::default();
        let Err(stop) = outline.scan(text, Members::All) else { return (outline, true) };
        // `serde_json` stops at JSON that no `Value` holds (1e999, 128 arrays in one another): what
        // the opt-out does not need is then skipped.
        let mut rest = Self::default();
        let is_there = |error: serde_json::Error| {
            (error.line(), error.column()) == (stop.line(), stop.column())
        };
        if !rest.scan(text, Members::OptOut).is_err_and(is_there) {
            let Self { name, data, phone, .. } = rest;
            outline =
                Self { name, data, phone, user_id: Member::Absent, id: Member::Absent, ..outline };
        }
        (outline, false)
    }

    fn scan(&mut self, text: &str, members: Members) -> Result<(), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(text);
        Object { outline: self, parent: Parent::Event, members }.deserialize(&mut json)?;
        json.end()
    }

    fn member(&mut self, parent: Parent, members: Members, field: Field) -> Option<&mut Member> {
        Some(match (parent, members, field) {
            (Parent::Event, _, Field::Name) => &mut self.name,
            (Parent::Data, _, Field::Phone) => &mut self.phone,
            (_, Members::OptOut, _) => return None,
            (Parent::Event, _, Field::Id) => &mut self.id,
            (Parent::Event, _, Field::AttemptNumber) => &mut self.attempt_number,
            (Parent::Event, _, Field::AttemptTotal) => &mut self.attempt_total,
            (Parent::Event, _, Field::AttemptsTotal) => &mut self.attempts_total,
            (Parent::Data, _, Field::UserId) => &mut self.user_id,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy)]
enum Parent {
    Event,
    Data,
}

/// Which members are read; the others are skipped, whatever they hold.
#[derive(Clone, Copy)]
enum Members {
    All,
    OptOut,
}

/// Reads the members of one of the two objects into the outline, and takes any other value in its place.
struct Object<'a> {
    outline: &'a mut Outline,
    parent: Parent,
    members: Members,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { outline, parent, members } = self;
        while let Some(field) = map.next_key()? {
            if let (Parent::Event, Field::Data) = (parent, field) {
                outline.data.begin();
                map.next_value_seed(Object { outline, parent: Parent::Data, members })?;
            } else if let Some(member) = outline.member(parent, members, field) {
                member.begin();
                member.end(map.next_value()?);
            } else {
                ignore(&mut map)?;
            }
        }
        Ok(())
    }
}

/// With U+FFFD in the place of each `\uD800` to `\uDFFF` without its other half, which JSON allows
/// but no `str` can hold.
fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    let mut replaced = String::new();
    let (mut copied, mut position) = (0, 0);
    while let Some(offset) = text[position..].find('\\') {
        position += offset;
        match surrogate(&text[position..]) {
            Some(Surrogate::High)
                if matches!(surrogate(&text[position + 6..]), Some(Surrogate::Low)) =>
            {
                position += 12;
            }
            Some(_) => {
                replaced.push_str(&text[copied..position]);
                replaced.push_str("\\ufffd");
                position += 6;
                copied = position;
            }
            // An escape of a `\` too: what follows it begins no other one.
            None => {
                position += 1;
                position += text[position..].chars().next().map_or(0, char::len_utf8);
            }
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    replaced.push_str(&text[copied..]);
    Cow::Owned(replaced)
}

enum Surrogate {
    High,
    Low,
}

/// The surrogate that the text begins with, escaped.
fn surrogate(text: &str) -> Option<Surrogate> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    // `from_str_radix` takes a sign, too.
    let unit = u16::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    match unit {
        0xd800..=0xdbff => Some(Surrogate::High),
        0xdc00..=0xdfff => Some(Surrogate::Low),
        _ => None,
    }
}
