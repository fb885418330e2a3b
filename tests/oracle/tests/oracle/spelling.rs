//! JSON as it is spelled: the text of each string and number, and what it says, known because the
//! generator wrote it. No JSON reader has a part in this.

use fastrand::Rng;

/// Where `serde_json` stops reading values into a tree.
const READER_DEPTH: usize = 128;

#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(Text),
    Array(Vec<Json>),
    Object(Vec<(Text, Json)>),
    /// So many arrays, or objects, in each other.
    Nest {
        depth: usize,
        objects: bool,
    },
    /// Text that JSON's grammar does not allow.
    Broken(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) spelled: String,
    /// None for a text with a lone surrogate: no string of characters.
    pub(crate) value: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub(crate) spelled: String,
    pub(crate) value: Exact,
}

/// What a number's spelling says, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exact {
    Integer(i128),
    /// An integer of more than 128 bits.
    HugeInteger,
    Fraction,
}

/// What a validator's reader cannot hold in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheld {
    Deep,
    BeyondDoubles,
    LoneSurrogate,
}

impl Text {
    pub(crate) fn plain(value: &str) -> Self {
        let mut spelled = String::from('"');
        for unit in value.chars() {
            match unit {
                '"' | '\\' => spelled.extend(['\\', unit]),
                '\0'..='\x1f' => spelled.push_str(&escaped(unit, false)),
                _ => spelled.push(unit),
            }
        }
        spelled.push('"');
        Self { spelled, value: Some(value.to_owned()) }
    }

    /// With some characters escaped, in all the ways there are.
    pub(crate) fn odd(value: &str, rng: &mut Rng) -> Self {
        let mut spelled = String::from('"');
        for unit in value.chars() {
            let short = match unit {
                '"' => Some(r#"\""#),
                '\\' => Some(r"\\"),
                '/' => Some(r"\/"),
                '\x08' => Some(r"\b"),
                '\x0c' => Some(r"\f"),
                '\n' => Some(r"\n"),
                '\r' => Some(r"\r"),
                '\t' => Some(r"\t"),
                _ => None,
            };
            let must = matches!(unit, '"' | '\\' | '\0'..='\x1f');
            match short {
                Some(short) if rng.bool() => spelled.push_str(short),
                _ if must || rng.u8(..4) == 0 => spelled.push_str(&escaped(unit, rng.bool())),
                _ => spelled.push(unit),
            }
        }
        spelled.push('"');
        Self { spelled, value: Some(value.to_owned()) }
    }

    pub(crate) fn lone_surrogate(spelled: &str) -> Self {
        Self { spelled: spelled.to_owned(), value: None }
    }

    /// Whether both say the same, in whatever spelling.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.value.is_some() && self.value == other.value
    }

    pub(crate) fn is(&self, value: &str) -> bool {
        self.value.as_deref() == Some(value)
    }
}

/// As UTF-16 code units, each `\uXXXX`.
fn escaped(unit: char, upper: bool) -> String {
    let hex = |unit: &u16| if upper { format!(r"\u{unit:04X}") } else { format!(r"\u{unit:04x}") };
    unit.encode_utf16(&mut [0; 2]).iter().map(hex).collect()
}

impl Number {
    pub(crate) fn plain(value: i128) -> Self {
        Self { spelled: value.to_string(), value: Exact::Integer(value) }
    }

    /// With a fraction or an exponent.
    pub(crate) fn is_spelled_as_double(&self) -> bool {
        self.spelled.contains(['.', 'e', 'E'])
    }

    /// The double nearest to it, infinite where there is none.
    pub(crate) fn as_double(&self) -> f64 {
        self.spelled.parse().expect("Rust reads every number of JSON")
    }
}

impl Json {
    pub(crate) fn string(value: &str) -> Self {
        Self::String(Text::plain(value))
    }

    pub(crate) fn integer(value: i128) -> Self {
        Self::Number(Number::plain(value))
    }

    /// What of it a validator's reader cannot hold.
    pub(crate) fn unheld(&self) -> Option<Unheld> {
        match self {
            Self::Number(number) if number.as_double().is_infinite() => Some(Unheld::BeyondDoubles),
            Self::String(text) if text.value.is_none() => Some(Unheld::LoneSurrogate),
            Self::Nest { depth, .. } if *depth >= READER_DEPTH => Some(Unheld::Deep),
            Self::Array(items) => items.iter().find_map(Self::unheld),
            Self::Object(members) => members.iter().find_map(|(name, value)| {
                if name.value.is_none() { Some(Unheld::LoneSurrogate) } else { value.unheld() }
            }),
            _ => None,
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Array(items) => items.iter().any(Self::is_broken),
            Self::Object(members) => members.iter().any(|(_, value)| value.is_broken()),
            _ => false,
        }
    }

    pub(crate) fn compact(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, &mut || "");
        text
    }

    /// Writes it with the blanks that `blank` gives, one between any two tokens.
    pub(crate) fn write(&self, text: &mut String, blank: &mut dyn FnMut() -> &'static str) {
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(&number.spelled),
            Self::String(string) => text.push_str(&string.spelled),
            Self::Broken(token) => text.push_str(token),
            Self::Nest { depth, objects } => {
                let (open, inner, close) =
                    if *objects { (r#"{"a":"#, "1", "}") } else { ("[", "", "]") };
                text.push_str(&open.repeat(*depth));
                text.push_str(inner);
                text.push_str(&close.repeat(*depth));
            }
            Self::Array(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(blank());
                    item.write(text, blank);
                    text.push_str(blank());
                }
                text.push(']');
            }
            Self::Object(members) => {
                text.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    text.push_str(blank());
                    text.push_str(&name.spelled);
                    text.push_str(blank());
                    text.push(':');
                    text.push_str(blank());
                    value.write(text, blank);
                    text.push_str(blank());
                }
                text.push('}');
            }
        }
    }
}
