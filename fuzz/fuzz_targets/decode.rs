//! Any body: the library says what the contract says (`tests/oracle`).
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use oracle::{
    Oracle,
    mutate::{self, Choices},
};

static ORACLE: LazyLock<Oracle> = LazyLock::new(Oracle::default);

fuzz_target!(|body: &[u8]| {
    ORACLE.check(body);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut choices = Choices::new(seed.into());
    if choices.below(3) > 0 {
        let body = mutate::json(&data[..size], &mut choices);
        if body.len() <= max_size {
            data[..body.len()].copy_from_slice(&body);
            return body.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
});
