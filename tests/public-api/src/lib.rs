//! What a crate offers in public, read from its source: the items that can be reached from its root, with
//! whole signatures and every impl, without bodies and comments. The list is Rust, but for `..`: private
//! fields are there.
//!
//! What it cannot read (macros that it does not know, `#[path]`) is a panic, so that nothing is left out in
//! silence.

mod listing;
mod manifest;
mod modules;
mod tidy;

use std::{fs, path::Path};

/// The list of `unsubscribe-webhook`, as it is on disk.
///
/// # Panics
///
/// If the library cannot be read.
#[must_use]
pub fn of_the_library() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| fs::read_to_string(root.join("src").join(file)).ok();
    let (items, crates) = of_source(&read);
    let facts = manifest::facts(&root.join("Cargo.toml"), &crates);
    format!("{HEADER}\n{facts}\n{items}")
}

const HEADER: &str = "\
// What unsubscribe-webhook offers in public. A test compares it with the source; after a wanted change:
// cargo run --quiet -p public-api > target/public-api.txt && mv target/public-api.txt docs/public-api.txt
";

/// The items of a crate, and the names of the crates whose items they name. `read` is given a file's path
/// below `src`.
///
/// # Panics
///
/// If a file is missing, or holds what cannot be read.
#[must_use]
pub fn of_source(read: &dyn Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    listing::list(&modules::Crate::read(read))
}
