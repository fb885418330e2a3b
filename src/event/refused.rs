//! What a second, lenient pass reads from a refused body.
//!
//! It accepts any type for any field. It finds whether the body is JSON, whether it is an event of
//! another kind, the opt-out, and the envelope for the log.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use uuid::Uuid;

use super::{
    decode::{BOM, DecodeError, next_integer, uuid},
    is_last_attempt,
};
use crate::{Code, OptOut, UnsubscribeEvent, log::Envelope};

/// The outline of a refused body.
pub(super) struct RefusedBody {
    is_json: bool,
    /// Whether invalid UTF-8 or a lone surrogate had to be replaced to read on.
    is_altered: bool,
    outline: Outline,
}

impl RefusedBody {
    pub(super) fn read(text: Result<&str, &[u8]>) -> Self {
        let is_utf8 = text.is_ok();
        let lossy = text.map_or_else(String::from_utf8_lossy, Cow::Borrowed);
        let text = replace_lone_surrogates(lossy.strip_prefix(BOM).unwrap_or(&lossy));
        let (outline, is_whole) = Outline::read(&text);
        Self {
            // A lone number too large for a double (`1e999`) is JSON too.
            is_json: is_utf8 && (is_whole || serde_json::from_str::<IgnoredAny>(&text).is_ok()),
            is_altered: !is_utf8 || matches!(text, Cow::Owned(_)),
            outline,
        }
    }

    /// Why the body is refused, given `noted`, the fault that the decoder found.
    pub(super) fn fault(&self, noted: DecodeError) -> DecodeError {
        if !self.is_json {
            return Code::NotJson.into();
        }
        match self.intact_text(Field::Name) {
            Some(name) if name != UnsubscribeEvent::NAME => Code::OtherEvent.into(),
            None if matches!(self.outline.get(Field::Name), Member::Duplicate) => {
                DecodeError::at(Code::DuplicateField, "/name")
            }
            _ => noted,
        }
    }

    /// The string of a member, unless a character in it was replaced.
    fn intact_text(&self, field: Field) -> Option<&str> {
        let text = self.outline.get(field).text()?;
        let is_intact = !self.is_altered || !text.contains(char::REPLACEMENT_CHARACTER);
        is_intact.then_some(text)
    }

    /// The opt-out, if it can be read with certainty.
    pub(super) fn opt_out(&self) -> Option<OptOut> {
        let phone = self.intact_text(Field::Phone).filter(|phone| !phone.is_empty())?;
        let is_certain = self.intact_text(Field::Name) == Some(UnsubscribeEvent::NAME)
            && matches!(self.outline.get(Field::Data), Member::Single(_));
        is_certain.then(|| OptOut {
            phone: phone.to_owned(),
            user_id: self.outline.get(Field::UserId).integer(),
            id: self.id(),
        })
    }

    fn id(&self) -> Option<Uuid> {
        self.outline.get(Field::Id).text().and_then(uuid)
    }

    /// For the log, where digits in a string count too: a last attempt must be known as one.
    pub(super) fn envelope(&self) -> Envelope {
        let digits = |field| self.outline.get(field).digits();
        let attempt_number = digits(Field::AttemptNumber).filter(|number| *number >= 1);
        // Of two that disagree the lower one: a loss must not be missed.
        let total = [digits(Field::AttemptTotal), digits(Field::AttemptsTotal)]
            .into_iter()
            .flatten()
            .filter(|total| (1..=UnsubscribeEvent::MAX_ATTEMPTS).contains(total))
            .min();
        let is_last_attempt = is_last_attempt(attempt_number, total);
        Envelope { id: self.id(), attempt_number, is_last_attempt }
    }
}

/// The relevant members, up to where the JSON becomes invalid.
#[derive(Default)]
struct Outline([Member; 8]);

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    Name,
    AttemptNumber,
    AttemptTotal,
    AttemptsTotal,
    Data,
    Phone,
    UserId,
    #[serde(other)]
    Unknown,
}

impl Field {
    /// What its value may be, in the order in which it is tried.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Data => &[Kind::Object],
            Self::Id | Self::Name | Self::Phone => &[Kind::Text],
            Self::UserId => &[Kind::Integer],
            // For the log, where digits in a string count too.
            Self::AttemptNumber | Self::AttemptTotal | Self::AttemptsTotal => {
                &[Kind::Integer, Kind::Text]
            }
            Self::Unknown => &[],
        }
    }
}

enum Kind {
    Object,
    Text,
    Integer,
}

/// The value of a member, as far as it matters.
enum Value {
    Other,
    Text(String),
    Integer(i64),
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
            Self::Absent => Self::Single(Value::Other),
            Self::Single(_) | Self::Duplicate => Self::Duplicate,
        };
    }

    fn end(&mut self, value: Value) {
        if let Self::Single(slot) = self {
            *slot = value;
        }
    }

    fn text(&self) -> Option<&str> {
        if let Self::Single(Value::Text(text)) = self { Some(text) } else { None }
    }

    fn integer(&self) -> Option<i64> {
        if let Self::Single(Value::Integer(number)) = self { Some(*number) } else { None }
    }

    fn digits(&self) -> Option<i64> {
        self.integer().or_else(|| self.text()?.parse().ok())
    }
}

impl Outline {
    /// The outline, and whether the whole text could be read.
    fn read(text: &str) -> (Self, bool) {
        let mut progress = Progress::default();
        loop {
            let mut outline = Self::default();
            let mut json = serde_json::Deserializer::from_str(text);
            let object = Object { outline: &mut outline, is_data: false, progress: &progress };
            if object.deserialize(&mut json).and_then(|()| json.end()).is_ok() {
                return (outline, true);
            }
            // If `serde_json` stopped at a member's value, that member's next kind is tried, or it is
            // skipped. Elsewhere, the text is not JSON at that point. Not read as a `Value`, which takes
            // a hundred times the memory, and recurses without a limit through the private names of
            // serde_json's features.
            match progress.reading.take() {
                Some(member) => progress.failed.push(member),
                None => return (outline, false),
            }
        }
    }

    fn get(&self, field: Field) -> &Member {
        &self.0[field as usize]
    }
}

/// The member that is being read, and each member as often as a kind of it could not be read.
#[derive(Default)]
struct Progress {
    failed: Vec<Field>,
    reading: Cell<Option<Field>>,
}

/// Reads the members of the event, or of its `data`, into the outline.
struct Object<'a> {
    outline: &'a mut Outline,
    is_data: bool,
    progress: &'a Progress,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { outline, is_data, progress } = self;
        progress.reading.set(None);
        while let Some(field) = map.next_key()? {
            let is_in_data = matches!(field, Field::Phone | Field::UserId);
            let is_member = field != Field::Unknown && is_in_data == is_data;
            if is_member {
                outline.0[field as usize].begin();
            }
            let failures = progress.failed.iter().filter(|failed| **failed == field).count();
            let Some(kind) = field.kinds().get(failures).filter(|_| is_member) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            progress.reading.set(Some(field));
            let member = &mut outline.0[field as usize];
            match kind {
                Kind::Object => {
                    map.next_value_seed(Object { outline, is_data: true, progress })?;
                }
                Kind::Text => member.end(Value::Text(map.next_value()?)),
                Kind::Integer => member.end(Value::Integer(next_integer(&mut map)?)),
            }
            progress.reading.set(None);
        }
        Ok(())
    }
}

/// Puts U+FFFD for each lone `\uD800` to `\uDFFF`, which JSON allows but no `str` can hold.
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
            // Also `\\`, whose second `\` begins no escape of its own.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lone_surrogates_are_replaced() {
        for (text, expected) in [
            (r"a\ud83d\ude00b", r"a\ud83d\ude00b"),
            (r"a\ud83d\ude00b\ude00c", r"a\ud83d\ude00b\ufffdc"),
            (r"a\ud83db", r"a\ufffdb"),
            (r"a\udc00b", r"a\ufffdb"),
            (r"\uDBFF", r"\ufffd"),
            (r"\ud800\ud83d\ude00", r"\ufffd\ud83d\ude00"),
            (r"\ude00\ud83d", r"\ufffd\ufffd"),
            (r"\ud83dx\ude00", r"\ufffdx\ufffd"),
            (r"\\ud83d \\\ud83d", r"\\ud83d \\\ufffd"),
            (r"\u00e4 \ud7ff \ue000 \n", r"\u00e4 \ud7ff \ue000 \n"),
            (r"\u+d80 \ud8 \", r"\u+d80 \ud8 \"),
            ("\\ä\\", "\\ä\\"),
        ] {
            assert_eq!(replace_lone_surrogates(text), expected, "{text}");
        }
    }
}
