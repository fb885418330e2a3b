//! What a value of the contract must be: one rule for each kind of field.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};
use uuid::Uuid;

use super::{Members, Note};
use crate::{ReasonId, UnsubscribeEvent};

/// What a field's value must be, and the reader of such a value.
pub(super) trait Rule<'de>: DeserializeSeed<'de> {
    fn expected(&self) -> &'static str;
}

pub(super) const STRING: Text<String> =
    Text { expected: "Expected a string.", read: |text| Some(text.to_owned()) };
pub(super) const NAME: Text<()> = Text {
    expected: "Expected phone.unsubscribe.",
    read: |text| (text == UnsubscribeEvent::NAME).then_some(()),
};
pub(super) const EVENT_ID: Text<Uuid> =
    Text { expected: "Expected a UUID in lower case.", read: event_id };
pub(super) const UUID: Text<Uuid> = Text { expected: "Expected a UUID with hyphens.", read: uuid };
pub(super) const INTEGER: Integer<i64> =
    Integer { expected: "Expected a 64-bit integer.", read: Some };
pub(super) const NUMBER: Integer<i64> = Integer {
    expected: "Expected an integer of at least 1.",
    read: |number| (number >= 1).then_some(number),
};
pub(super) const TOTAL: Integer<i64> = Integer {
    expected: "Expected an integer from 1 to 4.",
    read: |number| (1..=UnsubscribeEvent::MAX_ATTEMPTS).contains(&number).then_some(number),
};
pub(super) const REASON_ID: Integer<ReasonId> = Integer {
    expected: "Expected an integer from 1 to 6.",
    read: |number| ReasonId::try_from(number).ok(),
};

/// A JSON string that `read` accepts.
pub(super) struct Text<T> {
    expected: &'static str,
    read: fn(&str) -> Option<T>,
}

impl<T> Rule<'_> for Text<T> {
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
pub(super) struct Integer<T> {
    expected: &'static str,
    read: fn(i64) -> Option<T>,
}

impl<T> Rule<'_> for Integer<T> {
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
pub(super) struct Optional<R>(pub(super) R);

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
pub(super) struct Object<'a, T>(&'a Note, PhantomData<T>);

impl<'a, T> Object<'a, T> {
    pub(super) fn new(note: &'a Note) -> Self {
        Self(note, PhantomData)
    }
}

impl<T: Members> Rule<'_> for Object<'_, T> {
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
        T::read(map, self.0)
    }
}

/// A double as an integer of JSON Schema 2020-12, for which `2.0` and `2e0` are the integer 2; up to
/// where a double is exact.
#[expect(clippy::cast_possible_truncation, reason = "it is a whole number within the limit")]
pub(in crate::event) fn exact_integer(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0; // 2^53
    (number.fract() == 0.0 && number.abs() < LIMIT).then_some(number as i64)
}

/// `format: uuid` of JSON Schema: with hyphens, in either case. `uuid`'s own parser takes other
/// formats too, all of another length.
pub(in crate::event) fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// The contract's pattern for `id`: a UUID in lower case.
fn event_id(text: &str) -> Option<Uuid> {
    // No early exit: the compiler then checks many bytes at once, which is 2 % of a decode.
    let has_upper = text.bytes().fold(false, |found, byte| found | byte.is_ascii_uppercase());
    if has_upper { None } else { uuid(text) }
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
}
