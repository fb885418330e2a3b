//! From JSON to an event, under the contract's rules, in one pass.
//!
//! Each object of the contract reads its own members, and each field is read by [`Note::put`], which
//! notes what must come, then reads the value. If reading fails there, the note is the fault.

mod rules;

use std::cell::Cell;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess},
};

pub(super) use self::rules::uuid;
use self::rules::{
    Object, Optional, Rule, Seed, any_id, event_id, event_name, integer, number, reason_id, string,
    total,
};
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

/// The event, or the fault that stopped reading, which may not be the one to report
/// ([`RefusedBody::fault`](super::refused::RefusedBody::fault)).
pub(super) fn event(text: Result<&str, &[u8]>) -> Result<UnsubscribeEvent, DecodeError> {
    let text = text.map_err(|_| Code::NotJson)?;
    let note = Note::default();
    let mut json = serde_json::Deserializer::from_str(text.strip_prefix(BOM).unwrap_or(text));
    let mut event = None;
    let read = Seed { rule: Object, slot: &mut event, note: &note }
        .deserialize(&mut json)
        .and_then(|()| json.end());
    read.ok().and(event).ok_or_else(|| note.fault())
}

/// One leading byte order mark is skipped, as RFC 8259, section 8.1, allows.
pub(super) const BOM: char = '\u{feff}';

/// The rules of the contract, whatever the format. A format must be self-describing and keep the
/// names of fields. Its own error is not repeated, because it may quote content.
impl<'de> Deserialize<'de> for UnsubscribeEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let note = Note::default();
        let mut event = None;
        let read = Seed { rule: Object, slot: &mut event, note: &note }.deserialize(deserializer);
        read.ok().and(event).ok_or_else(|| {
            let fault = Rejection::from(note.fault());
            let pointer = fault.pointer().unwrap_or("/");
            Error::custom(format_args!("{pointer}: {}", fault.detail()))
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

    /// Reads a field's value, which must be the first of its name, into its slot.
    #[inline]
    fn put<'de, T, R: Rule<'de, T>, A: MapAccess<'de>>(
        &self,
        slot: &mut Option<T>,
        map: &mut A,
        pointer: &'static str,
        rule: R,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(self.refuse(DecodeError::at(Code::DuplicateField, pointer)));
        }
        self.pointer.set(pointer);
        self.expected.set(rule.expected());
        map.next_value_seed(Seed { rule, slot, note: self })
    }

    fn required<T, E: Error>(&self, slot: Option<T>, pointer: &'static str) -> Result<T, E> {
        slot.ok_or_else(|| self.refuse(DecodeError::at(Code::MissingField, pointer)))
    }

    /// The total, of which the contract has two names.
    fn same_total<E: Error>(&self, one: Option<i64>, other: Option<i64>) -> Result<Option<i64>, E> {
        if one.is_some() && other.is_some() && one != other {
            let expected = "Expected the same total as in attempt_total.";
            return Err(self.refuse(DecodeError::invalid("/attempts_total", expected)));
        }
        Ok(one.or(other))
    }

    fn refuse<E: Error>(&self, error: DecodeError) -> E {
        self.fault.set(Some(error));
        E::custom(REFUSED)
    }
}

/// The value of a member that must be an integer, by the contract's rule for one.
pub(super) fn next_integer<'de, A: MapAccess<'de>>(map: &mut A) -> Result<i64, A::Error> {
    let (mut slot, note) = (None, Note::default());
    map.next_value_seed(Seed { rule: integer(), slot: &mut slot, note: &note })?;
    slot.ok_or_else(|| A::Error::custom(REFUSED))
}

/// The text of an error that nobody reads. Short: `serde_json` scans it for a line.
const REFUSED: &str = "refused";

/// An object of the contract.
trait Members: Sized {
    /// Fills `slot`, because each function that returned the object would copy it.
    fn read<'de, A: MapAccess<'de>>(
        map: A,
        slot: &mut Option<Self>,
        note: &Note,
    ) -> Result<(), A::Error>;
}

/// Implements [`Members`] for a struct with the contract's field names, given the object's pointer
/// and the rule of each field. A field that may be absent is an [`Optional`].
macro_rules! members {
    ($object:ident at $at:literal { $($field:ident: $rule:expr,)* }) => {
        members!($object at $at { $($field: $rule,)* } note => $object { $($field,)* });
    };
    ($object:ident at $at:literal { $($field:ident: $rule:expr,)* } $note:ident => $made:expr) => {
        impl Members for $object {
            fn read<'de, A: MapAccess<'de>>(
                mut map: A,
                slot: &mut Option<Self>,
                $note: &Note,
            ) -> Result<(), A::Error> {
                #[derive(Deserialize)]
                #[serde(field_identifier)]
                #[allow(non_camel_case_types)]
                enum Field {
                    $($field,)*
                    #[serde(other)]
                    unknown,
                }

                $(let mut $field = None;)*
                while let Some(field) = $note.next(&mut map)? {
                    match field {
                        $(Field::$field => {
                            let pointer = concat!($at, "/", stringify!($field));
                            $note.put(&mut $field, &mut map, pointer, $rule)?;
                        })*
                        Field::unknown => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                $(let $field = {
                    let value = $field.or_else(|| $rule.absent());
                    $note.required(value, concat!($at, "/", stringify!($field)))?
                };)*
                *slot = Some($made);
                Ok(())
            }
        }
    };
}

members!(UnsubscribeEvent at "" {
    name: event_name(),
    id: event_id(),
    data: Object,
    created_at: Optional(integer()),
    api_version: Optional(string()),
    attempt_number: Optional(number()),
    attempt_total: Optional(total()),
    attempts_total: Optional(total()),
    notification_task_id: Optional(any_id()),
} note => {
    let () = name;
    let attempts_total = note.same_total(attempts_total, attempt_total)?;
    UnsubscribeEvent {
        id, data, created_at, api_version, attempt_number, attempts_total, notification_task_id,
    }
});

members!(Unsubscribe at "/data" {
    phone: string(),
    user_id: integer(),
    created_at: integer(),
    campaign_code: string(),
    additional_data: Object,
    short_link_code: string(),
    unsubscribe_request_id: integer(),
    group_id: Optional(integer()),
});

members!(AdditionalData at "/data/additional_data" {
    reason: Object,
    additional_text: string(),
});

members!(Reason at "/data/additional_data/reason" {
    id: reason_id(),
    label: string(),
});

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
            assert_eq!(event(Ok(text)), Err(expected), "{text}");
        }
    }
}
