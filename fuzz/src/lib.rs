//! What the targets share: the contract once more, and mutations that keep a structure.

pub mod contract;
pub mod mutate;
