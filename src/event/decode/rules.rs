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
pub(in crate::event) trait Rule<'de>: Sized {
    type Value;

    fn expected(&self) -> &'static str;

    fn read<D: Deserializer<'de>>(self, from: D, note: &Note) -> Result<Self::Value, D::Error>;

    /// The value of a field that is absent, if it may be.
    fn absent(self) -> Option<Self::Value> {
        None
    }
}

/// A rule as serde takes it.
pub(in crate::event) struct Seed<'a, R>(pub(in crate::event) R, pub(in crate::event) &'a Note);

impl<'de, R: Rule<'de>> DeserializeSeed<'de> for Seed<'_, R> {
    type Value = R::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<R::Value, D::Error> {
        self.0.read(from, self.1)
    }
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
pub(in crate::event) const INTEGER: Integer<i64> =
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

impl<'de, T> Rule<'de> for Text<T> {
    type Value = T;

    fn expected(&self) -> &'static str {
        self.expected
    }

    fn read<D: Deserializer<'de>>(self, from: D, _: &Note) -> Result<T, D::Error> {
        from.deserialize_str(self)
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
pub(in crate::event) struct Integer<T> {
    expected: &'static str,
    read: fn(i64) -> Option<T>,
}

impl<'de, T> Rule<'de> for Integer<T> {
    type Value = T;

    fn expected(&self) -> &'static str {
        self.expected
    }

    fn read<D: Deserializer<'de>>(self, from: D, _: &Note) -> Result<T, D::Error> {
        // Not `deserialize_i64`: serde's buffer for untagged enums would refuse `2.0` then.
        from.deserialize_f64(self)
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

/// A field that may be absent or `null`.
pub(super) struct Optional<R>(pub(super) R);

impl<'de, R: Rule<'de>> Rule<'de> for Optional<R> {
    type Value = Option<R::Value>;

    fn expected(&self) -> &'static str {
        self.0.expected()
    }

    fn read<D: Deserializer<'de>>(self, from: D, note: &Note) -> Result<Self::Value, D::Error> {
        from.deserialize_option(Seed(self, note))
    }

    fn absent(self) -> Option<Self::Value> {
        Some(None)
    }
}

impl<'de, R: Rule<'de>> Visitor<'de> for Seed<'_, Optional<R>> {
    type Value = Option<R::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.expected())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.0.read(from, self.1).map(Some)
    }
}

/// An object of the contract. An array, which serde takes for a struct, is refused.
pub(super) struct Object<T>(pub(super) PhantomData<T>);

impl<'de, T: Members> Rule<'de> for Object<T> {
    type Value = T;

    fn expected(&self) -> &'static str {
        "Expected an object."
    }

    fn read<D: Deserializer<'de>>(self, from: D, note: &Note) -> Result<T, D::Error> {
        from.deserialize_map(Seed(self, note))
    }
}

impl<'de, T: Members> Visitor<'de> for Seed<'_, Object<T>> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.expected())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::read(map, self.1)
    }
}

/// A double as an integer of JSON Schema 2020-12, for which `2.0` and `2e0` are the integer 2. From
/// 2^53 on, doubles are not exact.
#[expect(clippy::cast_possible_truncation, reason = "it is a whole number within the limit")]
fn exact_integer(number: f64) -> Option<i64> {
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
    // No early exit, so that the compiler can check many bytes at once.
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
            (f64::INFINITY, None),
            (f64::NAN, None),
        ] {
            assert_eq!(exact_integer(number), expected, "{number}");
        }
    }

    #[test]
    fn a_uuid_has_one_format() {
        for (text, is_event_id, is_uuid) in [
            ("ef58b437-1319-4b0c-961b-17214cf1cf32", true, true),
            ("EF58B437-1319-4B0C-961B-17214CF1CF32", false, true),
            ("ef58b43713194b0c961b17214cf1cf32", false, false),
            ("{ef58b437-1319-4b0c-961b-17214cf1cf32}", false, false),
            ("urn:uuid:ef58b437-1319-4b0c-961b-17214cf1cf32", false, false),
            ("ef58b4371-319-4b0c-961b-17214cf1cf32", false, false),
            ("", false, false),
        ] {
            assert_eq!(event_id(text).is_some(), is_event_id, "{text}");
            assert_eq!(uuid(text).is_some(), is_uuid, "{text}");
        }
    }
}
