//! What is in the list of a small crate, and what changes it.

/// A crate with an item of each kind.
const SOURCE: &[(&str, &str)] = &[
    (
        "lib.rs",
        r#"
        mod event;
        mod layer;
        #[cfg(feature = "openapi")]
        mod openapi;
        #[cfg(test)]
        pub mod checks;
        #[cfg(feature = "testing")]
        #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
        pub mod testing;

        pub use crate::{event::{Event, Kind, LIMIT}, layer::{Layered as Layer, Read}};
        pub use bytes::Bytes;
        "#,
    ),
    (
        "event.rs",
        r#"
        use std::fmt;
        use serde::{Deserialize as De, Serialize};
        use crate::layer::Fault;

        /// An event.
        #[derive(Serialize, Clone)]
        pub struct Event { pub id: u64, pub name: String, secret: Secret }

        #[derive(Clone)]
        struct Secret(String);

        #[non_exhaustive]
        pub enum Kind { First = 1, #[cfg(feature = "more")] Second { at: u8 } }

        pub const LIMIT: usize = 4;

        impl Event {
            /// It reads.
            pub fn read(mut body: &[u8]) -> Result<Self, Fault> { body = &[]; hidden() }
            fn hidden(&self) {}
            pub(crate) fn near(&self) {}
            #[cfg(any(test, fuzzing))]
            pub fn probe(&self) {}
        }

        impl Event {
            pub async fn last<B: From<bytes::Bytes>>(self) -> Option<B> { None }
        }

        impl fmt::Debug for Event { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { Ok(()) } }
        impl fmt::Debug for Secret { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { Ok(()) } }
        impl From<Secret> for Event { fn from(secret: Secret) -> Self { todo() } }
        impl From<Event> for http::Response<()> { fn from(event: Event) -> Self { todo() } }
        impl<'de> De<'de> for Kind { fn deserialize<D>(d: D) -> Result<Self, D::Error> { todo() } }
        "#,
    ),
    (
        "layer.rs",
        r"
        use pin_project_lite::pin_project;

        pub struct Fault(pub u8, u16);

        pin_project! {
            #[derive(Debug)]
            pub struct Layered<F> where F: Send { #[pin] inner: F, pub count: u8 }
        }
        pin_project! {
            #[project = StateProj]
            enum State<F> { Waiting { #[pin] future: F }, Done }
        }

        impl<F: super::Read> std::future::Future for Layered<F> {
            type Output = <F as super::Read>::Item;
            fn poll(self) -> u8 { 0 }
        }

        pub trait Read {
            type Item;
            fn read(&self) -> Self::Item;
            fn again(&self) -> Option<Self::Item> { None }
        }
        impl<T: Clone> Read for T { type Item = u8; fn read(&self) -> u8 { 0 } }
        trait Inner {}
        impl<F> Inner for Layered<F> {}
        ",
    ),
    ("openapi.rs", "impl utoipa::ToSchema for crate::Event {}"),
    (
        "testing/mod.rs",
        "pub mod deep { pub fn event(at: super::super::Event) -> crate::Event { at } } fn near() {}",
    ),
    ("checks.rs", "pub fn only_for_tests() {}"),
];

const LIST: &str = r#"pub use bytes::Bytes;

#[derive(Clone, serde::Serialize)]
pub struct Event {
    pub id: u64,
    pub name: String,
    ..
}

impl Event {
    pub async fn last<B: From<bytes::Bytes>>(self) -> Option<B> {}
    pub fn read(body: &[u8]) -> Result<Self, crate::layer::Fault> {}
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Event {}

impl From<Event> for http::Response<()> {}

impl std::fmt::Debug for Event {}

#[non_exhaustive]
pub enum Kind {
    First = 1,
    #[cfg(feature = "more")]
    Second { at: u8 },
}

impl<'de> serde::Deserialize<'de> for Kind {}

pub const LIMIT: usize = 4;

#[derive(Debug)]
pub struct Layer<F>
where
    F: Send,
{
    pub count: u8,
    ..
}

impl<F: Read> std::future::Future for Layer<F> {
    type Output = <F as Read>::Item;
}

pub trait Read {
    type Item;
    fn read(&self) -> Self::Item;
    fn again(&self) -> Option<Self::Item> {}
}

impl<T: Clone> Read for T {
    type Item = u8;
}

#[cfg(feature = "testing")]
pub mod testing {
    pub mod deep {
        pub fn event(at: Event) -> Event {}
    }
}
"#;

fn listed(change: impl Fn(&str) -> String) -> (String, Vec<String>) {
    public_api::of_source(&|file| {
        let (_, text) = SOURCE.iter().find(|(name, _)| *name == file)?;
        Some(change(text))
    })
}

/// The list after one place of the source was changed.
fn after(old: &str, new: &str) -> String {
    let places: usize = SOURCE.iter().map(|(_, text)| text.matches(old).count()).sum();
    assert_eq!(places, 1, "{old}");
    listed(|text| text.replace(old, new)).0
}

#[test]
fn everything_that_can_be_reached_is_listed_and_nothing_else() {
    let (list, crates) = listed(str::to_owned);
    assert_eq!(list, LIST);
    assert_eq!(crates, ["bytes", "http", "serde", "std", "utoipa"]);
}

#[test]
fn what_a_user_sees_changes_the_list() {
    for (old, new) in [
        ("body: &[u8]", "body: &str"),
        ("Option<B> { None }", "Result<B, ()> { Err(()) }"),
        ("fn hidden(", "pub fn hidden("),
        ("pub id: u64", "id: u64"),
        ("pub id: u64", "pub id: i64"),
        ("(Serialize, Clone)", "(Serialize, Clone, Debug)"),
        ("#[non_exhaustive]", ""),
        ("First = 1", "First = 2"),
        ("usize = 4", "usize = 5"),
        ("type Output = <F as super::Read>::Item", "type Output = u8"),
        ("-> Option<Self::Item> { None }", "-> Option<Self::Item>;"),
        ("pub count: u8", "count: u8"),
        ("where F: Send", ""),
        ("struct Layered<F> where", "union Layered<F> where"),
        ("type Item = u8", "type Item = u16"),
        ("Layered as Layer", "Layered"),
        ("pub use bytes::Bytes;", ""),
        ("Kind, LIMIT", "Kind"),
        ("mod event;", "pub mod event;"),
        ("serde::{Deserialize as De", "other::{Deserialize as De"),
        ("#[cfg(feature = \"testing\")]", ""),
        ("#[cfg(feature = \"openapi\")]", "#[cfg(feature = \"other\")]"),
        ("impl utoipa::ToSchema for crate::Event {}", ""),
        ("impl From<Event> for http", "impl From<&Event> for http"),
        ("pub fn event(", "pub(crate) fn event("),
        ("#[cfg(any(test, fuzzing))]", "#[cfg(any(test, feature = \"testing\"))]"),
        ("/// It reads.", "#[doc(hidden)]"),
    ] {
        assert_ne!(after(old, new), LIST, "{old} -> {new}");
    }
}

#[test]
fn what_a_user_does_not_see_leaves_the_list_as_it_is() {
    for (old, new) in [
        ("/// An event.", "/// Another text."),
        ("/// It reads.", ""),
        ("{ body = &[]; hidden() }", "{ panic!() }"),
        ("mut body", "body"),
        ("fn hidden(&self)", "fn hidden_now(&mut self, more: u8)"),
        ("secret: Secret }", "secret: Secret, more: u8 }"),
        ("struct Secret(String)", "struct Secret(Vec<u8>)"),
        ("(Serialize, Clone)", "(Clone, Serialize)"),
        ("use std::fmt;", "use core::marker; use std::fmt::{self};"),
        ("impl<F> Inner for Layered<F> {}", ""),
        ("#[pin] inner: F", "inner: F, state: State<F>"),
        ("pub fn only_for_tests() {}", ""),
        ("fn near() {}", "struct Near;"),
    ] {
        assert_eq!(after(old, new), LIST, "{old} -> {new}");
    }
}

#[test]
#[should_panic(expected = "a macro that cannot be looked into")]
fn an_unknown_macro_is_no_silence() {
    after("pub const LIMIT: usize = 4;", "items! { pub const LIMIT: usize = 4; }");
}
