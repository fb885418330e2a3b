//! Mutated bodies: the library says of each what the schema, and the contract where it departs, say.
//!
//! A failure prints the seed of its body; with `ORACLE_SEED` set to it, that body comes first. `cargo test
//! -p oracle --test oracle -- --nocapture` shows the counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs, thread,
};

use oracle::{
    Oracle,
    mutate::{self, Choices},
};
use unsubscribe_webhook::Code;

const BASES: [&[u8]; 2] = [
    include_bytes!("../../../fuzz/seeds/decode/every-field.json"),
    include_bytes!("../../../fuzz/seeds/decode/only-required.json"),
];

#[test]
fn the_seeds_of_fuzzing() {
    let oracle = Oracle::default();
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/decode");
    for seed in fs::read_dir(seeds).expect("the seeds") {
        let body = fs::read(seed.expect("a seed").path()).expect("a file");
        let shown = OnPanic { seed: 0, body: &body };
        oracle.check(shown.body);
    }
}

#[test]
fn ten_thousand_bodies() {
    compare(10_000);
}

#[test]
#[ignore = "a million takes minutes without --release"]
fn a_million_bodies() {
    compare(1_000_000);
}

fn compare(bodies: u64) {
    let first = env::var("ORACLE_SEED").map_or(20_220_525, |seed| seed.parse().expect("a number"));
    let oracle = Oracle::default();
    let (mut faults, mut differences) = (BTreeSet::new(), BTreeMap::new());
    for seed in first..first + bodies {
        let choices = &mut Choices::new(seed);
        let body = mutate::json(choices.of(&BASES), choices);
        let shown = OnPanic { seed, body: &body };
        let judgement = oracle.check(shown.body);
        faults.extend(judgement.faults);
        for departure in judgement.departures.into_iter().filter(|_| judgement.differs) {
            *differences.entry(departure).or_insert(0_u64) += 1;
        }
    }
    println!(
        "of {bodies} bodies, these have another verdict by the schema alone: {differences:#?}"
    );

    // Every departure, and every fault of every field, has occurred.
    assert_eq!(differences.len(), 7);
    let mut expected = BTreeSet::from([("not_json", None), ("other_event", Some("/name".into()))]);
    for (pointer, is_required) in oracle.fields() {
        expected.insert((Code::InvalidField.as_str(), Some(pointer.clone())));
        expected.insert((Code::DuplicateField.as_str(), Some(pointer.clone())));
        if is_required {
            expected.insert((Code::MissingField.as_str(), Some(pointer)));
        }
    }
    assert_eq!(faults, expected);
}

struct OnPanic<'a> {
    seed: u64,
    body: &'a [u8],
}

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("ORACLE_SEED={}: {}", self.seed, String::from_utf8_lossy(self.body));
        }
    }
}
