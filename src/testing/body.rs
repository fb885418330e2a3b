//! What probes send: JSON with raw values, in a body that records whether it was read.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde_json::Value;
use uuid::Uuid;

/// The contract's example with an id and a phone number of its own.
///
/// A value can be replaced by raw JSON, valid or not: `1,"id":2` makes a duplicate field.
#[derive(Clone)]
pub(super) struct EventJson {
    tree: Value,
    raw: Vec<String>,
    pub(super) phone: String,
}

impl EventJson {
    pub(super) fn new(account: i64) -> Self {
        let tree = serde_json::to_value(super::event()).expect("an event can be written as JSON");
        let event = Self { tree, raw: Vec::new(), phone: String::new() };
        event.with("/data/user_id", account.to_string()).with_phone(unassigned_number())
    }

    /// Without raw JSON, the field is removed.
    pub(super) fn with(mut self, pointer: &str, raw: impl Into<String>) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
        let object = self.tree.pointer_mut(parent).and_then(Value::as_object_mut);
        let object = object.expect("the example has this object");
        match raw.into() {
            raw if raw.is_empty() => drop(object.remove(name)),
            raw => {
                object.insert(name.to_owned(), placeholder(self.raw.len()));
                self.raw.push(raw);
            }
        }
        self
    }

    pub(super) fn with_phone(mut self, phone: impl Into<String>) -> Self {
        self.phone = phone.into();
        let raw = Value::from(&*self.phone).to_string();
        self.with("/data/phone", raw)
    }

    /// With the field twice.
    pub(super) fn duplicated(self, pointer: &str) -> Self {
        let value = self.tree.pointer(pointer).expect("the example has this field").to_string();
        let (_, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
        self.with(pointer, format!(r#"{value},"{name}":{value}"#))
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.tree.to_string();
        // A later text may hold an earlier placeholder.
        for (index, raw) in self.raw.iter().enumerate().rev() {
            text = text.replace(&placeholder(index).to_string(), raw);
        }
        text
    }
}

fn placeholder(index: usize) -> Value {
    format!("raw value {index}").into()
}

/// A number of this probe only, which nobody has: no German area code starts with 01.
fn unassigned_number() -> String {
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new(Uuid::new_v4().as_fields().0));
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 1_000_000_000;
    format!("+491111{number:09}")
}

/// A body that records whether it was read.
pub(super) struct RecordedBody {
    frames: VecDeque<io::Result<Bytes>>,
    /// Announced by `Content-Length`.
    pub(super) length: Option<usize>,
    pub(super) was_read: Arc<AtomicBool>,
}

impl RecordedBody {
    pub(super) fn sized(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::new(Some(body.len()), [Ok(body)].into())
    }

    /// In pieces, and of unknown length.
    pub(super) fn stream(text: &str) -> Self {
        let pieces = text.as_bytes().chunks(text.len().div_ceil(7).max(1));
        Self::new(None, pieces.map(|piece| Ok(Bytes::copy_from_slice(piece))).collect())
    }

    /// Interrupted by an error.
    pub(super) fn interrupted(text: &str) -> Self {
        let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
        let frames = [Ok(half), Err(io::ErrorKind::ConnectionReset.into())];
        Self::new(Some(text.len()), frames.into())
    }

    fn new(length: Option<usize>, frames: VecDeque<io::Result<Bytes>>) -> Self {
        Self { frames, length, was_read: Arc::default() }
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.was_read.store(true, Ordering::Relaxed);
        Poll::Ready(self.frames.pop_front().map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(|length| SizeHint::with_exact(length as u64)).unwrap_or_default()
    }
}
