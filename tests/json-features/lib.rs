//! Empty: the package exists for its tests, which are those of the crate.
