//! From JSON to an event, under the contract's rules, in one pass.
//!
//! Each object of the contract reads its own members, and each field is read by [`Note::put`], which
//! notes what the value must be before it reads it. If reading fails there, the note is the fault.

mod rules;

use std::{cell::Cell, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess},
};
use uuid::Uuid;

use self::rules::{EVENT_ID, NAME, NUMBER, Object, Optional, REASON_ID, Rule, STRING, TOTAL, UUID};
pub(super) use self::rules::{INTEGER, Seed, uuid};
use crate::{AdditionalData, Code, Reason, Rejection, Unsubscribe, UnsubscribeEvent};

/// Why a body is not an event. The texts are constants: they repeat no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecodeError {
    code: Code,
    pointer: Option<&'static str>,
    expected: Option<&'static str>,
}

impl DecodeError {
    pub(super) fn at(code: Code, pointer: &'static str) -> Self {
        Self { pointer: Some(pointer), ..Self::from(code) }
    }

    fn invalid(pointer: &'static str, expected: &'static str) -> Self {
        Self { expected: Some(expected), ..Self::at(Code::InvalidField, pointer) }
    }
}

impl From<Code> for DecodeError {
    fn from(code: Code) -> Self {
        Self { code, pointer: None, expected: None }
    }
}

impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        Self::at(error.code, error.pointer, error.expected)
    }
}

/// The event, or the fault where reading stopped: the whole body decides whether it is reported
/// ([`RefusedBody::fault`](super::refused::RefusedBody::fault)).
pub(super) fn from_slice(body: &[u8]) -> Result<UnsubscribeEvent, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| Code::NotJson)?;
    let note = Note::default();
    let mut json = serde_json::Deserializer::from_str(text.strip_prefix(BOM).unwrap_or(text));
    let event = Object(PhantomData).read(&mut json, &note);
    event.and_then(|event| json.end().map(|()| event)).map_err(|_| note.fault())
}

/// One leading byte order mark is skipped, as RFC 8259, section 8.1, allows.
pub(super) const BOM: char = '\u{feff}';

/// The rules of the contract, whatever the format. A format must be self-describing and keep the
/// names of fields. Its own error is not repeated, because it may quote content.
impl<'de> Deserialize<'de> for UnsubscribeEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let note = Note::default();
        Object(PhantomData).read(deserializer, &note).map_err(|_| {
            let fault = Rejection::from(note.fault());
            let pointer = fault.pointer().unwrap_or("/");
            Error::custom(format_args!("{pointer}: {}", fault.detail()))
        })
    }
}

/// The fault to report if reading fails here: the field that is being read, unless another fault is
/// found.
#[derive(Default)]
pub(super) struct Note {
    pointer: Cell<&'static str>,
    expected: Cell<&'static str>,
    fault: Cell<Option<DecodeError>>,
}

impl Note {
    fn fault(&self) -> DecodeError {
        match (self.fault.get(), self.pointer.get()) {
            (Some(fault), _) => fault,
            // A body that is not an object has no `name`.
            (None, "") => DecodeError::at(Code::MissingField, "/name"),
            (None, pointer) => DecodeError::invalid(pointer, self.expected.get()),
        }
    }

    /// The next member's name. If it cannot be read, the JSON is at fault, not a field.
    fn next<'de, K: Deserialize<'de>, A: MapAccess<'de>>(
        &self,
        map: &mut A,
    ) -> Result<Option<K>, A::Error> {
        map.next_key().inspect_err(|_| self.fault.set(Some(Code::NotJson.into())))
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
            return Err(self.refuse(DecodeError::at(Code::DuplicateField, pointer)));
        }
        self.pointer.set(pointer);
        self.expected.set(rule.expected());
        *slot = Some(map.next_value_seed(Seed(rule, self))?);
        Ok(())
    }

    fn required<T, E: Error>(&self, slot: Option<T>, pointer: &'static str) -> Result<T, E> {
        slot.ok_or_else(|| self.refuse(DecodeError::at(Code::MissingField, pointer)))
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

/// Implements [`Members`] for a struct whose fields are named as in the contract's table: where the
/// object is, and the rule of each field. A field that may be absent is an [`Optional`].
macro_rules! members {
    ($object:ident at $at:literal { $($field:ident: $rule:expr,)* }) => {
        impl Members for $object {
            fn read<'de, A: MapAccess<'de>>(mut map: A, note: &Note) -> Result<Self, A::Error> {
                #[derive(Deserialize)]
                #[serde(field_identifier)]
                #[allow(non_camel_case_types)]
                enum Field {
                    $($field,)*
                    #[serde(other)]
                    unknown,
                }

                $(let mut $field = None;)*
                while let Some(field) = note.next(&mut map)? {
                    match field {
                        $(Field::$field => {
                            let pointer = concat!($at, "/", stringify!($field));
                            note.put(&mut $field, &mut map, pointer, $rule)?;
                        })*
                        Field::unknown => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Self {
                    $($field: {
                        let value = $field.or_else(|| $rule.absent());
                        note.required(value, concat!($at, "/", stringify!($field)))?
                    },)*
                })
            }
        }
    };
}

/// The event as it is written: with its name, and two names for the total.
struct Written {
    name: (),
    id: Uuid,
    data: Unsubscribe,
    created_at: Option<i64>,
    api_version: Option<String>,
    attempt_number: Option<i64>,
    attempt_total: Option<i64>,
    attempts_total: Option<i64>,
    notification_task_id: Option<Uuid>,
}

members!(Written at "" {
    name: NAME,
    id: EVENT_ID,
    data: Object(PhantomData),
    created_at: Optional(INTEGER),
    api_version: Optional(STRING),
    attempt_number: Optional(NUMBER),
    attempt_total: Optional(TOTAL),
    attempts_total: Optional(TOTAL),
    notification_task_id: Optional(UUID),
});

members!(Unsubscribe at "/data" {
    phone: STRING,
    user_id: INTEGER,
    created_at: INTEGER,
    campaign_code: STRING,
    additional_data: Object(PhantomData),
    short_link_code: STRING,
    unsubscribe_request_id: INTEGER,
    group_id: Optional(INTEGER),
});

members!(AdditionalData at "/data/additional_data" {
    reason: Object(PhantomData),
    additional_text: STRING,
});

members!(Reason at "/data/additional_data/reason" {
    id: REASON_ID,
    label: STRING,
});

impl Members for UnsubscribeEvent {
    fn read<'de, A: MapAccess<'de>>(map: A, note: &Note) -> Result<Self, A::Error> {
        let event = Written::read(map, note)?;
        let (total, other) = (event.attempts_total, event.attempt_total);
        if total.is_some() && other.is_some() && total != other {
            let expected = "Expected the same total as in attempt_total.";
            return Err(note.refuse(DecodeError::invalid("/attempts_total", expected)));
        }
        let () = event.name;
        Ok(Self {
            id: event.id,
            data: event.data,
            created_at: event.created_at,
            api_version: event.api_version,
            attempt_number: event.attempt_number,
            attempts_total: total.or(other),
            notification_task_id: event.notification_task_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fault_is_noted() {
        let invalid = DecodeError::invalid;
        for (text, expected) in [
            ("[]", DecodeError::at(Code::MissingField, "/name")),
            ("{}", DecodeError::at(Code::MissingField, "/name")),
            (r#"{"\ud800":1}"#, Code::NotJson.into()),
            (r#"{"data":[]}"#, invalid("/data", "Expected an object.")),
            (r#"{"data":{"user_id":"2"}}"#, invalid("/data/user_id", "Expected a 64-bit integer.")),
            (
                r#"{"data":{"phone":"1","phone":"1"}}"#,
                DecodeError::at(Code::DuplicateField, "/data/phone"),
            ),
        ] {
            assert_eq!(from_slice(text.as_bytes()), Err(expected), "{text}");
        }
    }
}
