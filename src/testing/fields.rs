//! The bodies of probes: an event's JSON in any spelling, good or bad.

use super::event;

/// A JSON object as a list of fields, each a pointer and the raw text of its value: so that a value
/// can be spelled in any way, doubled, or left out. Fields of one object stand together.
#[derive(Clone)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The contract's example, with an id of its own.
    pub(super) fn event() -> Self {
        let event = serde_json::to_value(event()).expect("an event can be written as JSON");
        let mut fields = Self(Vec::new());
        fields.read("", &event);
        fields
    }

    fn read(&mut self, at: &str, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    self.read(&format!("{at}/{name}"), value);
                }
            }
            value => self.0.push((at.to_owned(), value.to_string())),
        }
    }

    /// Without a field or an object.
    pub(super) fn without(mut self, pointer: &str) -> Self {
        let below = format!("{pointer}/");
        self.0.retain(|(at, _)| at != pointer && !at.starts_with(&below));
        self
    }

    /// With one more field, whether or not it is there already.
    pub(super) fn and(mut self, pointer: &str, text: impl Into<String>) -> Self {
        self.0.push((pointer.to_owned(), text.into()));
        self
    }

    /// With another value of a field.
    pub(super) fn with(self, pointer: &str, text: impl Into<String>) -> Self {
        self.without(pointer).and(pointer, text)
    }

    pub(super) fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    pub(super) fn text(&self) -> String {
        self.object("/")
    }

    /// The object whose fields' pointers begin like this.
    fn object(&self, prefix: &str) -> String {
        let mut members = Vec::new();
        let mut written: Vec<&str> = Vec::new();
        for (at, text) in &self.0 {
            let Some(path) = at.strip_prefix(prefix) else { continue };
            match path.split_once('/') {
                None => members.push(format!(r#""{path}":{text}"#)),
                Some((name, _)) if written.contains(&name) => {}
                Some((name, _)) => {
                    written.push(name);
                    let inner = self.object(&format!("{prefix}{name}/"));
                    members.push(format!(r#""{name}":{inner}"#));
                }
            }
        }
        format!("{{{}}}", members.join(","))
    }
}
