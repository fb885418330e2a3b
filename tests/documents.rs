//! What the documents show is what the repository holds.

const README: &str = include_str!("../README.md");
const SECURITY: &str = include_str!("../docs/security.md");

#[test]
fn the_readme_shows_the_minimal_example() {
    let example = include_str!("../examples/minimal.rs");
    let (_, code) = example.split_once("\n\n").expect("a header, then the code");
    assert!(README.contains(&format!("```rust,no_run\n{code}```")));
}

#[test]
fn the_readme_lists_every_example() {
    for entry in std::fs::read_dir("examples").expect("the folder") {
        let file = entry.expect("a file").path();
        if file.extension().is_some_and(|extension| extension == "rs") {
            let name = file.file_name().expect("a name").to_string_lossy();
            assert!(README.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}

#[test]
fn each_defence_names_a_test_that_exists() {
    for row in rows_of(TABLE_HEAD) {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().expect("a last column");
        let names: Vec<&str> = shown.split('`').filter(|word| word.contains("::")).collect();
        assert!(!names.is_empty() || shown.starts_with("measured"), "{row}");
        for name in names {
            let (program, test) = name.split_once("::").expect("a program and a test");
            assert!(tests_of(program).iter().any(|existing| existing == test), "{name}");
        }
    }
}

#[test]
fn each_advisory_stands_beside_its_defence() {
    for test in tests_of("advisories") {
        assert!(SECURITY.contains(&format!("`advisories::{test}`")), "{test}");
    }
}

#[test]
fn each_claim_names_a_command_that_exists() {
    for row in rows_of("| claim | command |") {
        for script in row.split('`').filter(|word| word.starts_with("scripts/")) {
            let path = script.split(' ').next().expect("a path");
            assert!(std::fs::exists(path).expect("a folder"), "{script}");
        }
        let is_cargo = row.contains("`cargo test ") || row.contains("`cargo run ");
        assert!(is_cargo || row.contains("`scripts/"), "{row}");
    }
}

const TABLE_HEAD: &str = "| threat | defence | shown by |";

/// The rows of all tables with one head.
fn rows_of(head: &str) -> Vec<&'static str> {
    let tables = SECURITY.split(head).skip(1);
    let rows =
        tables.flat_map(|table| table.lines().skip(2).take_while(|line| line.starts_with('|')));
    let rows: Vec<_> = rows.collect();
    assert!(!rows.is_empty(), "{head}");
    rows
}

/// The names of the tests of one program.
fn tests_of(program: &str) -> Vec<String> {
    let source = std::fs::read_to_string(format!("tests/{program}.rs")).expect("a test program");
    let named = |test: &str| {
        let (head, _) = test.split_once('(')?;
        Some(head.rsplit("fn ").next()?.to_owned())
    };
    let marked = source.split("\n#[test]\n").flat_map(|part| part.split("\n#[tokio::test]\n"));
    marked.skip(1).filter_map(named).collect()
}
