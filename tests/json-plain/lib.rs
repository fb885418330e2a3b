//! Empty: the package exists for its test, which is the contract test of the crate beside it.
