//! Empty: the package exists for its tests, so that only they wait for the validator to be built.
