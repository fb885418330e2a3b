//! From JSON to an event, under the contract's rules, in one pass.
//!
//! Each object of the contract reads its own members, and each field is read by [`Note::put`], which
//! notes what the value must be before it reads it. If reading fails there, the note is the fault.

mod rules;

use std::cell::Cell;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess},
};

use self::rules::{
    EVENT_ID, INTEGER, NAME, NUMBER, Object, Optional, REASON_ID, Rule, STRING, TOTAL, UUID,
};
pub(super) use self::rules::{exact_integer, uuid};
use crate::{AdditionalData, Code, Reason, Rejection, Unsubscribe, UnsubscribeEvent};

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
    event.and_then(|event| json.end().map(|()| event)).map_err(|_| note.fault())
}

/// One byte order mark before the text is skipped, as RFC 8259, section 8.1, allows.
pub(super) const BOM: char = '\u{feff}';

/// The rules of the contract, whatever the format. A format must be self-describing and keep the
/// names of fields. Its own error is not repeated, because it may quote content.
impl<'de> Deserialize<'de> for UnsubscribeEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let note = Note::default();
        Object::new(&note).deserialize(deserializer).map_err(|_| {
            let DecodeError { pointer, detail, .. } = note.fault();
            match pointer {
                Some(pointer) => Error::custom(format_args!("{pointer}: {detail}")),
                None => Error::custom(detail),
            }
        })
    }
}

/// The fault to report if reading fails here: the field that is being read, unless another fault is
/// found.
#[derive(Default)]
struct Note {
    pointer: Cell<&'static str>,
    expected: Cell<&'static str>,
    fault: Cell<Option<DecodeError>>,
}

impl Note {
    fn fault(&self) -> DecodeError {
        match (self.fault.get(), self.pointer.get()) {
            (Some(fault), _) => fault,
            // A body that is not an object has no `name`.
            (None, "") => DecodeError::missing("/name"),
            (None, pointer) => DecodeError::invalid(pointer, self.expected.get()),
        }
    }

    /// The next member's name. If there is no reading on here, the text is to blame and no field.
    fn next<'de, A: MapAccess<'de>>(&self, map: &mut A) -> Result<Option<Field>, A::Error> {
        map.next_key().inspect_err(|_| self.fault.set(Some(DecodeError::NOT_JSON)))
    }

    /// Reads a field's value, which must be the first of its name.
    #[inline]
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
        self.pointer.set(pointer);
        self.expected.set(rule.expected());
        *slot = Some(map.next_value_seed(rule)?);
        Ok(())
    }

    fn required<T, E: Error>(&self, slot: Option<T>, pointer: &'static str) -> Result<T, E> {
        slot.ok_or_else(|| self.refuse(DecodeError::missing(pointer)))
    }

    fn refuse<E: Error>(&self, error: DecodeError) -> E {
        self.fault.set(Some(error));
        E::custom("refused")
    }
}

/// An object of the contract.
trait Members: Sized {
    fn read<'de, A: MapAccess<'de>>(map: A, note: &Note) -> Result<Self, A::Error>;
}

/// The names of all four objects.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
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
        let (mut total_of_table, mut total_of_example) = (None, None);
        let mut notification_task_id = None;
        while let Some(field) = note.next(&mut map)? {
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
                    note.put(&mut total_of_table, &mut map, "/attempt_total", Optional(TOTAL))?;
                }
                Field::AttemptsTotal => {
                    note.put(&mut total_of_example, &mut map, "/attempts_total", Optional(TOTAL))?;
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
        let (total_of_table, total_of_example) =
            (total_of_table.flatten(), total_of_example.flatten());
        if total_of_table.is_some()
            && total_of_example.is_some()
            && total_of_table != total_of_example
        {
            let expected = "Expected the same total as in attempt_total.";
            return Err(note.refuse(DecodeError::invalid("/attempts_total", expected)));
        }
        Ok(Self {
            id: note.required(id, "/id")?,
            data: note.required(data, "/data")?,
            created_at: created_at.flatten(),
            api_version: api_version.flatten(),
            attempt_number: attempt_number.flatten(),
            attempts_total: total_of_example.or(total_of_table),
            notification_task_id: notification_task_id.flatten(),
        })
    }
}

impl Members for Unsubscribe {
    fn read<'de, A: MapAccess<'de>>(mut map: A, note: &Note) -> Result<Self, A::Error> {
        let (mut phone, mut user_id, mut created_at, mut campaign_code) = (None, None, None, None);
        let (mut additional_data, mut short_link_code) = (None, None);
        let (mut unsubscribe_request_id, mut group_id) = (None, None);
        while let Some(field) = note.next(&mut map)? {
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
        while let Some(field) = note.next(&mut map)? {
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
        while let Some(field) = note.next(&mut map)? {
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

#[cfg(test)]
mod tests {
    use super::*;

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
