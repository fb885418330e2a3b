//! From bytes to an event, under the contract's field rules.
//!
//! A body is read by [`fast`] first, in one pass, which accepts nothing that breaks the contract
//! but does not say what is wrong, and gives up on rare spellings (`2e0` for 2). What it does not
//! accept is read again by [`exact`], which has the last word.

pub(crate) mod exact;
mod fast;

use std::{fmt, ops::RangeInclusive};

use serde::{Deserializer, de};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::UnsubscribeEvent;

/// Why a body is no `phone.unsubscribe` event. Its texts are constants: they repeat no content.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    NotJson,
    Missing { pointer: &'static str },
    Invalid { pointer: &'static str, expected: &'static str },
    Duplicate { pointer: &'static str },
    OtherEvent,
}

impl Fault {
    pub(crate) fn pointer(self) -> Option<&'static str> {
        match self {
            Self::NotJson => None,
            Self::Missing { pointer }
            | Self::Invalid { pointer, .. }
            | Self::Duplicate { pointer } => Some(pointer),
            Self::OtherEvent => Some("/name"),
        }
    }

    pub(crate) fn detail(self) -> &'static str {
        match self {
            Self::NotJson => "The body is not JSON text in UTF-8.",
            Self::Missing { .. } => "The field is missing.",
            Self::Invalid { expected, .. } => expected,
            Self::Duplicate { .. } => "The field is given twice.",
            Self::OtherEvent => "The event is not a phone.unsubscribe event.",
        }
    }
}

/// The text of a [`Deserialize`](de::Deserialize) error.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer() {
            Some(pointer) => write!(f, "{pointer}: {}", self.detail()),
            None => f.write_str(self.detail()),
        }
    }
}

/// JSON is UTF-8 throughout (RFC 8259, section 8.1): one check of the whole body also spares the
/// reader one for each string.
pub(crate) fn from_slice(body: &[u8]) -> Result<UnsubscribeEvent, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::NotJson)?;
    from_text(text)
}

pub(crate) fn from_text(text: &str) -> Result<UnsubscribeEvent, Fault> {
    match fast::event(text) {
        Some(event) => Ok(event),
        None => exact::event(text),
    }
}

/// Reads the JSON text below the deserializer, so that the rules are those of `from_slice`: a
/// number's own spelling decides, and a deserializer hands over a rounded one.
pub(crate) fn from_deserializer<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: fn(&str) -> Result<T, Fault>,
) -> Result<T, D::Error> {
    let text: Box<RawValue> = de::Deserialize::deserialize(OrTree(deserializer))?;
    read(text.get()).map_err(de::Error::custom)
}

/// A deserializer that hands a [`RawValue`] the text of a tree where there is no text: only
/// `serde_json` keeps one, while every other deserializer sees a newtype.
struct OrTree<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OrTree<D> {
    type Error = D::Error;

    fn deserialize_newtype_struct<V>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error>
    where
        V: de::Visitor<'de>,
    {
        self.0.deserialize_newtype_struct(name, RawVisitor { name, visitor })
    }

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct RawVisitor<V> {
    /// The key under which a `RawValue` takes its text.
    name: &'static str,
    visitor: V,
}

impl<'de, V: de::Visitor<'de>> de::Visitor<'de> for RawVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a phone.unsubscribe event")
    }

    /// Either the one entry in which `serde_json` keeps a text, or the members of a tree whose
    /// deserializer does not show newtypes.
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<V::Value, A::Error> {
        let mut members = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>().map_err(no_tree_of_json)? {
            if key == self.name && members.is_empty() {
                let text = map.next_value()?;
                return self.visit_text(text);
            }
            members.insert(key, map.next_value().map_err(no_tree_of_json)?);
        }
        self.visit_text(serde_json::Value::Object(members).to_string())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, tree: D) -> Result<V::Value, D::Error> {
        let tree: serde_json::Value =
            de::Deserialize::deserialize(tree).map_err(no_tree_of_json)?;
        self.visit_text(tree.to_string())
    }
}

impl<'de, V: de::Visitor<'de>> RawVisitor<V> {
    fn visit_text<E: de::Error>(self, text: String) -> Result<V::Value, E> {
        let entry = std::iter::once((self.name, text));
        self.visitor.visit_map(de::value::MapDeserializer::new(entry))
    }
}

/// Instead of the deserializer's own error, which may quote what the tree holds.
fn no_tree_of_json<E: de::Error>(_: E) -> E {
    E::custom(Fault::NotJson)
}

// The rules for single values, which both readers keep.

const ATTEMPT_NUMBER: RangeInclusive<i64> = 1..=i64::MAX;
const ATTEMPTS_TOTAL: RangeInclusive<i64> = 1..=4;

/// `format: uuid` of JSON Schema: with hyphens, in either case. `uuid`'s own parser takes other
/// spellings too, all of another length.
fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// The contract's pattern for `id`: a UUID in lower case.
fn event_id(text: &str) -> Option<Uuid> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { None } else { uuid(text) }
}

/// Whether the total's two spellings, the page's and that of its example, say the same.
fn totals_agree(page: Option<i64>, example: Option<i64>) -> bool {
    page.is_none() || example.is_none() || page == example
}
