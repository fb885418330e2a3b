//! From JSON to an event, under the contract's rules, in one pass.
//!
//! Each object of the contract reads its own members, and each field is read by [`Note::put`], which
//! notes what the value must be before it reads it. If reading fails there, the note is the fault.

use std::{cell::Cell, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};
use uuid::Uuid;

use crate::{AdditionalData, Code, Reason, ReasonId, Rejection, Unsubscribe, UnsubscribeEvent};

/// Why a body is not an event. The texts are constants: they repeat no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecodeError {
    code: Code,
    pointer: Option<&'static str>,
    detail: &'static str,
}

impl DecodeError {
    pub(super) const NOT_JSON: Self =
        Self { code: Code::NotJson, pointer: None, detail: "The body is not JSON in UTF-8." };
    pub(super) const OTHER_EVENT: Self = Self {
        code: Code::OtherEvent,
        pointer: Some("/name"),
        detail: "The event is not a phone.unsubscribe event.",
    };

    fn missing(pointer: &'static str) -> Self {
        Self { code: Code::MissingField, pointer: Some(pointer), detail: "Missing field." }
    }

    fn invalid(pointer: &'static str, expected: &'static str) -> Self {
        Self { code: Code::InvalidField, pointer: Some(pointer), detail: expected }
    }

    pub(super) fn duplicate(pointer: &'static str) -> Self {
        Self { code: Code::DuplicateField, pointer: Some(pointer), detail: "Duplicate field." }
    }
}

impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        Self::new(error.code, error.pointer, error.detail)
    }
}

/// The event, or the fault where reading stopped: to be judged by
/// [`RefusedBody::fault`](super::refused::RefusedBody::fault), which sees the whole body.
pub(super) fn from_slice(body: &[u8]) -> Result<UnsubscribeEvent, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| DecodeError::NOT_JSON)?;
    let note = Note::default();
    let mut json = serde_json::Deserializer::from_str(text.strip_prefix(BOM).unwrap_or(text));
    let event = Object::new(&note).deserialize(&mut json);
    event.and_then(|event| json.end().map(|()| event)).map_err(|_| note.0.get())
}

/// One byte order mark before the text is skipped, as RFC 8259, section 8.1, allows.
pub(super) const BOM: char = '\u{feff}';

/// The rules of the contract, whatever the format. A format must be self-describing and keep the
/// names of fields. Its own error is not repeated, because it may quote content.
impl<'de> Deserialize<'de> for UnsubscribeEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let note = Note::default();
        Object::new(&note).deserialize(deserializer).map_err(|_| {
            let DecodeError { pointer, detail, .. } = note.0.get();
            match pointer {
                Some(pointer) => Error::custom(format_args!("{pointer}: {detail}")),
                None => Error::custom(detail),
            }
        })
    }
}

/// The fault to report if reading fails here.
struct Note(Cell<DecodeError>);

/// A body that is not an object has no `name`.
impl Default for Note {
    fn default() -> Self {
        Self(Cell::new(DecodeError::missing("/name")))
    }
}

impl Note {
    /// Reads a field's value, which must be the first of its name.
    fn put<'de, R: Rule<'de>, A: MapAccess<'de>>(
        &self,
        slot: &mut Option<R::Value>,
        map: &mut A,
        pointer: &'static str,
        rule: R,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(self.refuse(DecodeError::duplicate(pointer)));
        }
        self.0.set(DecodeError::invalid(pointer, rule.expected()));
        *slot = Some(map.next_value_seed(rule)?);
        self.0.set(DecodeError::NOT_JSON);
        Ok(())
    }

    fn required<T, E: Error>(&self, slot: Option<T>, pointer: &'static str) -> Result<T, E> {
        slot.ok_or_else(|| self.refuse(DecodeError::missing(pointer)))
    }

    fn refuse<E: Error>(&self, error: DecodeError) -> E {
        self.0.set(error);
        E::custom("refused")
    }
}

/// An object of the contract.
trait Members: Sized {
    fn read<'de, A: MapAccess<'de>>(map: A, note: &Note) -> Result<Self, A::Error>;
}

/// The names of all four objects.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
pub(super) enum Field {
    Id,
    Name,
    ApiVersion,
    CreatedAt,
    AttemptTotal,
    AttemptsTotal,
    AttemptNumber,
    NotificationTaskId,
    Data,
    Phone,
    UserId,
    CampaignCode,
    AdditionalData,
    Reason,
    Label,
    AdditionalText,
    ShortLinkCode,
    UnsubscribeRequestId,
    GroupId,
    #[serde(other)]
    Unknown,
}

impl Members for UnsubscribeEvent {
    fn read<'de, A: MapAccess<'de>>(mut map: A, note: &Note) -> Result<Self, A::Error> {
        let (mut id, mut name, mut data) = (None, None, None);
        let (mut api_version, mut created_at, mut attempt_number) = (None, None, None);
        let (mut attempt_total, mut attempts_total) = (None, None);
        let mut notification_task_id = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => note.put(&mut id, &mut map, "/id", EVENT_ID)?,
                Field::Name => note.put(&mut name, &mut map, "/name", NAME)?,
                Field::ApiVersion => {
                    note.put(&mut api_version, &mut map, "/api_version", Optional(STRING))?;
                }
                Field::CreatedAt => {
                    note.put(&mut created_at, &mut map, "/created_at", Optional(INTEGER))?;
                }
                Field::AttemptTotal => {
                    note.put(&mut attempt_total, &mut map, "/attempt_total", Optional(TOTAL))?;
                }
                Field::AttemptsTotal => {
                    note.put(&mut attempts_total, &mut map, "/attempts_total", Optional(TOTAL))?;
                }
                Field::AttemptNumber => {
                    note.put(&mut attempt_number, &mut map, "/attempt_number", Optional(NUMBER))?;
                }
                Field::NotificationTaskId => {
                    let pointer = "/notification_task_id";
                    note.put(&mut notification_task_id, &mut map, pointer, Optional(UUID))?;
                }
                Field::Data => note.put(&mut data, &mut map, "/data", Object::new(note))?,
                _ => ignore(&mut map)?,
            }
        }
        note.required(name, "/name")?;
        let (attempt_total, attempts_total) = (attempt_total.flatten(), attempts_total.flatten());
        if let (Some(one), Some(other)) = (attempt_total, attempts_total) {
            if one != other {
                let expected = "Expected the same total as in attempt_total.";
                return Err(note.refuse(DecodeError::invalid("/attempts_total", expected)));
            }
        }
        Ok(Self {
            id: note.required(id, "/id")?,
            data: note.required(data, "/data")?,
            created_at: created_at.flatten(),
            api_version: api_version.flatten(),
            attempt_number: attempt_number.flatten(),
            attempts_total: attempts_total.or(attempt_total),
            notification_task_id: notification_task_id.flatten(),
        })
    }
}

impl Members for Unsubscribe {
    fn read<'de, A: MapAccess<'de>>(mut map: A, note: &Note) -> Result<Self, A::Error> {
        let (mut phone, mut user_id, mut created_at, mut campaign_code) = (None, None, None, None);
        let (mut additional_data, mut short_link_code) = (None, None);
        let (mut unsubscribe_request_id, mut group_id) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Phone => note.put(&mut phone, &mut map, "/data/phone", STRING)?,
                Field::UserId => note.put(&mut user_id, &mut map, "/data/user_id", INTEGER)?,
                Field::CreatedAt => {
                    note.put(&mut created_at, &mut map, "/data/created_at", INTEGER)?;
                }
                Field::CampaignCode => {
                    note.put(&mut campaign_code, &mut map, "/data/campaign_code", STRING)?;
                }
                Field::AdditionalData => {
                    let pointer = "/data/additional_data";
                    note.put(&mut additional_data, &mut map, pointer, Object::new(note))?;
                }
                Field::ShortLinkCode => {
                    note.put(&mut short_link_code, &mut map, "/data/short_link_code", STRING)?;
                }
                Field::UnsubscribeRequestId => {
                    let pointer = "/data/unsubscribe_request_id";
                    note.put(&mut unsubscribe_request_id, &mut map, pointer, INTEGER)?;
                }
                Field::GroupId => {
                    note.put(&mut group_id, &mut map, "/data/group_id", Optional(INTEGER))?;
                }
                _ => ignore(&mut map)?,
            }
        }
        Ok(Self {
            phone: note.required(phone, "/data/phone")?,
            user_id: note.required(user_id, "/data/user_id")?,
            created_at: note.required(created_at, "/data/created_at")?,
            campaign_code: note.required(campaign_code, "/data/campaign_code")?,
            additional_data: note.required(additional_data, "/data/additional_data")?,
            short_link_code: note.required(short_link_code, "/data/short_link_code")?,
            unsubscribe_request_id: note
                .required(unsubscribe_request_id, "/data/unsubscribe_request_id")?,
            group_id: group_id.flatten(),
        })
    }
}

impl Members for AdditionalData {
    fn read<'de, A: MapAccess<'de>>(mut map: A, note: &Note) -> Result<Self, A::Error> {
        const REASON: &str = "/data/additional_data/reason";
        const TEXT: &str = "/data/additional_data/additional_text";
        let (mut reason, mut additional_text) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Reason => note.put(&mut reason, &mut map, REASON, Object::new(note))?,
                Field::AdditionalText => note.put(&mut additional_text, &mut map, TEXT, STRING)?,
                _ => ignore(&mut map)?,
            }
        }
        Ok(Self {
            reason: note.required(reason, REASON)?,
            additional_text: note.required(additional_text, TEXT)?,
        })
    }
}

impl Members for Reason {
    fn read<'de, A: MapAccess<'de>>(mut map: A, note: &Note) -> Result<Self, A::Error> {
        const ID: &str = "/data/additional_data/reason/id";
        const LABEL: &str = "/data/additional_data/reason/label";
        let (mut id, mut label) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => note.put(&mut id, &mut map, ID, REASON_ID)?,
                Field::Label => note.put(&mut label, &mut map, LABEL, STRING)?,
                _ => ignore(&mut map)?,
            }
        }
        Ok(Self { id: note.required(id, ID)?, label: note.required(label, LABEL)? })
    }
}

pub(super) fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// What a field's value must be, and the reader of such a value.
trait Rule<'de>: DeserializeSeed<'de> {
    fn expected(&self) -> &'static str;
}

const STRING: Text<String> =
    Text { expected: "Expected a string.", read: |text| Some(text.to_owned()) };
const NAME: Text<()> = Text {
    expected: "Expected phone.unsubscribe.",
    read: |text| (text == UnsubscribeEvent::NAME).then_some(()),
};
const EVENT_ID: Text<Uuid> = Text { expected: "Expected a UUID in lower case.", read: event_id };
const UUID: Text<Uuid> = Text { expected: "Expected a UUID with hyphens.", read: uuid };
const INTEGER: Integer<i64> = Integer { expected: "Expected a 64-bit integer.", read: Some };
const NUMBER: Integer<i64> = Integer {
    expected: "Expected an integer of at least 1.",
    read: |number| (number >= 1).then_some(number),
};
const TOTAL: Integer<i64> = Integer {
    expected: "Expected an integer from 1 to 4.",
    read: |number| (1..=UnsubscribeEvent::MAX_ATTEMPTS).contains(&number).then_some(number),
};
const REASON_ID: Integer<ReasonId> = Integer {
    expected: "Expected an integer from 1 to 6.",
    read: |number| ReasonId::try_from(number).ok(),
};

/// A JSON string that `read` accepts.
struct Text<T> {
    expected: &'static str,
    read: fn(&str) -> Option<T>,
}

impl<'de, T> Rule<'de> for Text<T> {
    fn expected(&self) -> &'static str {
        self.expected
    }
}

impl<'de, T> DeserializeSeed<'de> for Text<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::custom(self.expected))
    }
}

/// An integer that `read` accepts.
struct Integer<T> {
    expected: &'static str,
    read: fn(i64) -> Option<T>,
}

impl<'de, T> Rule<'de> for Integer<T> {
    fn expected(&self) -> &'static str {
        self.expected
    }
}

impl<'de, T> DeserializeSeed<'de> for Integer<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        // Not `deserialize_i64`: serde's buffer for untagged enums would refuse `2.0` then.
        deserializer.deserialize_f64(self)
    }
}

impl<T> Visitor<'_> for Integer<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        (self.read)(number).ok_or_else(|| E::custom(self.expected))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let number = number.try_into().map_err(|_| E::custom(self.expected))?;
        self.visit_i64(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let number = exact_integer(number).ok_or_else(|| E::custom(self.expected))?;
        self.visit_i64(number)
    }
}

/// A field that may be `null`.
struct Optional<R>(R);

impl<'de, R: Rule<'de>> Rule<'de> for Optional<R> {
    fn expected(&self) -> &'static str {
        self.0.expected()
    }
}

impl<'de, R: Rule<'de>> DeserializeSeed<'de> for Optional<R> {
    type Value = Option<R::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, R: Rule<'de>> Visitor<'de> for Optional<R> {
    type Value = Option<R::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

/// An object of the contract, which an array cannot stand for.
struct Object<'a, T>(&'a Note, PhantomData<T>);

impl<'a, T> Object<'a, T> {
    fn new(note: &'a Note) -> Self {
        Self(note, PhantomData)
    }
}

impl<'de, T: Members> Rule<'de> for Object<'_, T> {
    fn expected(&self) -> &'static str {
        "Expected an object."
    }
}

impl<'de, T: Members> DeserializeSeed<'de> for Object<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Members> Visitor<'de> for Object<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        self.0.0.set(DecodeError::NOT_JSON);
        T::read(map, self.0)
    }
}

/// A double as an integer of JSON Schema 2020-12, for which `2.0` and `2e0` are the integer 2; up to
/// where a double is exact.
pub(super) fn exact_integer(number: f64) -> Option<i64> {
    const LIMIT: f64 = (1_i64 << f64::MANTISSA_DIGITS) as f64;
    (number.fract() == 0.0 && number.abs() < LIMIT).then_some(number as i64)
}

/// `format: uuid` of JSON Schema: with hyphens, in either case. `uuid`'s own parser takes other
/// formats too, all of another length.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// The contract's pattern for `id`: a UUID in lower case.
fn event_id(text: &str) -> Option<Uuid> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { None } else { uuid(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_is_an_integer_while_it_is_exact() {
        for (number, expected) in [
            (2.0, Some(2)),
            (-0.0, Some(0)),
            (2.5, None),
            (9_007_199_254_740_991.0, Some(9_007_199_254_740_991)),
            (9_007_199_254_740_992.0, None),
            (-9_007_199_254_740_991.0, Some(-9_007_199_254_740_991)),
            (-9_007_199_254_740_992.0, None),
            (-9_223_372_036_854_775_809.0, None),
            (f64::INFINITY, None),
            (f64::NAN, None),
        ] {
            assert_eq!(exact_integer(number), expected, "{number}");
        }
    }

    #[test]
    fn a_uuid_has_one_format() {
        const LOWER: &str = "ef58b437-1319-4b0c-961b-17214cf1cf32";
        for (text, is_event_id, is_uuid) in [
            (LOWER, true, true),
            ("EF58B437-1319-4B0C-961B-17214CF1CF32", false, true),
            ("ef58b43713194b0c961b17214cf1cf32", false, false),
            ("{ef58b437-1319-4b0c-961b-17214cf1cf32}", false, false),
            ("urn:uuid:ef58b437-1319-4b0c-961b-17214cf1cf32", false, false),
            ("ef58b437-1319-4b0c-961b-17214cf1cf3g", false, false),
            ("ef58b4371-319-4b0c-961b-17214cf1cf32", false, false),
            ("", false, false),
        ] {
            assert_eq!(event_id(text).is_some(), is_event_id, "{text}");
            assert_eq!(uuid(text).is_some(), is_uuid, "{text}");
        }
    }

    #[test]
    fn the_first_fault_is_noted() {
        for (text, expected) in [
            ("[]", DecodeError::missing("/name")),
            ("{}", DecodeError::missing("/name")),
            (r#"{"\ud800":1}"#, DecodeError::NOT_JSON),
            (r#"{"data":[]}"#, DecodeError::invalid("/data", "Expected an object.")),
            (
                r#"{"data":{"user_id":"2"}}"#,
                DecodeError::invalid("/data/user_id", "Expected a 64-bit integer."),
            ),
            (r#"{"data":{"phone":"1","phone":"1"}}"#, DecodeError::duplicate("/data/phone")),
            (
                r#"{"name":"phone.unsubscribe","attempt_total":3,"attempts_total":4}"#,
                DecodeError::invalid(
                    "/attempts_total",
                    "Expected the same total as in attempt_total.",
                ),
            ),
        ] {
            assert_eq!(from_slice(text.as_bytes()), Err(expected), "{text}");
        }
    }
}
