//! What a value of the contract must be: one rule for each kind of field.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};
use uuid::Uuid;

use super::{Members, Note, REFUSED};
use crate::{ReasonId, UnsubscribeEvent};

/// What a field's value must be, and the reader of such a value into a slot.
pub(super) trait Rule<'de, T>: Sized {
    fn expected(&self) -> &'static str;

    fn read<D: Deserializer<'de>>(seed: Seed<'_, Self, T>, from: D) -> Result<(), D::Error>;

    /// The value of a field that is absent, if it may be.
    fn absent(self) -> Option<T> {
        None
    }
}

/// A rule as serde takes it, with the slot.
pub(super) struct Seed<'a, R, T> {
    pub(super) rule: R,
    pub(super) slot: &'a mut Option<T>,
    pub(super) note: &'a Note,
}

impl<'de, T, R: Rule<'de, T>> DeserializeSeed<'de> for Seed<'_, R, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        R::read(self, from)
    }
}

// Functions, so that each rule has a type of its own and its `read` is called directly.

pub(super) fn string() -> Text<impl Fn(&str) -> Option<String>> {
    Text { expected: "Expected a string.", read: |text: &str| Some(text.to_owned()) }
}

pub(super) fn event_name() -> Text<impl Fn(&str) -> Option<()>> {
    let read = |text: &str| (text == UnsubscribeEvent::NAME).then_some(());
    Text { expected: "Expected phone.unsubscribe.", read }
}

/// The contract's pattern for `id`.
pub(super) fn event_id() -> Text<impl Fn(&str) -> Option<Uuid>> {
    Text { expected: "Expected a UUID in lower case.", read: lower_case_uuid }
}

pub(super) fn any_id() -> Text<impl Fn(&str) -> Option<Uuid>> {
    Text { expected: "Expected a UUID with hyphens.", read: uuid }
}

pub(super) fn integer() -> Integer<impl Fn(i64) -> Option<i64>> {
    Integer { expected: "Expected a 64-bit integer.", read: Some }
}

pub(super) fn number() -> Integer<impl Fn(i64) -> Option<i64>> {
    let read = |number| (number >= 1).then_some(number);
    Integer { expected: "Expected an integer of at least 1.", read }
}

pub(super) fn total() -> Integer<impl Fn(i64) -> Option<i64>> {
    let read = |total| (1..=UnsubscribeEvent::MAX_ATTEMPTS).contains(&total).then_some(total);
    Integer { expected: "Expected an integer from 1 to 4.", read }
}

pub(super) fn reason_id() -> Integer<impl Fn(i64) -> Option<ReasonId>> {
    let read = |id| ReasonId::try_from(id).ok();
    Integer { expected: "Expected an integer from 1 to 6.", read }
}

/// A JSON string that `read` accepts.
pub(super) struct Text<F> {
    expected: &'static str,
    read: F,
}

impl<'de, T, F: Fn(&str) -> Option<T>> Rule<'de, T> for Text<F> {
    fn expected(&self) -> &'static str {
        self.expected
    }

    fn read<D: Deserializer<'de>>(seed: Seed<'_, Self, T>, from: D) -> Result<(), D::Error> {
        *seed.slot = Some(from.deserialize_str(seed.rule)?);
        Ok(())
    }
}

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::custom(REFUSED))
    }
}

/// An integer that `read` accepts.
pub(super) struct Integer<F> {
    expected: &'static str,
    read: F,
}

impl<'de, T, F: Fn(i64) -> Option<T>> Rule<'de, T> for Integer<F> {
    fn expected(&self) -> &'static str {
        self.expected
    }

    fn read<D: Deserializer<'de>>(seed: Seed<'_, Self, T>, from: D) -> Result<(), D::Error> {
        // Not `deserialize_i64`: serde's buffer for untagged enums would refuse `2.0` then.
        *seed.slot = Some(from.deserialize_f64(seed.rule)?);
        Ok(())
    }
}

impl<T, F: Fn(i64) -> Option<T>> Visitor<'_> for Integer<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        (self.read)(number).ok_or_else(|| E::custom(REFUSED))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let number = number.try_into().map_err(|_| E::custom(REFUSED))?;
        self.visit_i64(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let number = exact_integer(number).ok_or_else(|| E::custom(REFUSED))?;
        self.visit_i64(number)
    }
}

/// A field that may be absent or `null`.
pub(super) struct Optional<R>(pub(super) R);

impl<'de, T, R: Rule<'de, T>> Rule<'de, Option<T>> for Optional<R> {
    fn expected(&self) -> &'static str {
        self.0.expected()
    }

    fn read<D: Deserializer<'de>>(
        seed: Seed<'_, Self, Option<T>>,
        from: D,
    ) -> Result<(), D::Error> {
        from.deserialize_option(seed)
    }

    fn absent(self) -> Option<Option<T>> {
        Some(None)
    }
}

impl<'de, T, R: Rule<'de, T>> Visitor<'de> for Seed<'_, Optional<R>, Option<T>> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        *self.slot = Some(None);
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        // Filled before the value is read, because an error abandons the whole event.
        let slot = self.slot.insert(None);
        R::read(Seed { rule: self.rule.0, slot, note: self.note }, from)
    }
}

/// An object of the contract. An array, which serde accepts as one, is refused.
pub(super) struct Object;

impl<'de, T: Members> Rule<'de, T> for Object {
    fn expected(&self) -> &'static str {
        "Expected an object."
    }

    fn read<D: Deserializer<'de>>(seed: Seed<'_, Self, T>, from: D) -> Result<(), D::Error> {
        from.deserialize_map(seed)
    }
}

impl<'de, T: Members> Visitor<'de> for Seed<'_, Object, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        T::read(map, self.slot, self.note)
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

fn lower_case_uuid(text: &str) -> Option<Uuid> {
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
        for (text, is_lower_case, is_uuid) in [
            ("ef58b437-1319-4b0c-961b-17214cf1cf32", true, true),
            ("EF58B437-1319-4B0C-961B-17214CF1CF32", false, true),
            ("ef58b43713194b0c961b17214cf1cf32", false, false),
            ("{ef58b437-1319-4b0c-961b-17214cf1cf32}", false, false),
            ("urn:uuid:ef58b437-1319-4b0c-961b-17214cf1cf32", false, false),
            ("ef58b4371-319-4b0c-961b-17214cf1cf32", false, false),
            ("", false, false),
        ] {
            assert_eq!(lower_case_uuid(text).is_some(), is_lower_case, "{text}");
            assert_eq!(uuid(text).is_some(), is_uuid, "{text}");
        }
    }
}
