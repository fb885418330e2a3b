//! What the documents show is what the repository holds.

use std::{collections::BTreeSet, fs};

const README: &str = include_str!("../README.md");
const SECURITY: &str = include_str!("../docs/security.md");

#[test]
fn the_readme_shows_the_minimal_example() {
    let example = include_str!("../examples/minimal.rs");
    let (_, code) = example.split_once("\n\n").expect("a header, then the code");
    assert!(README.contains(&format!("```rust,no_run\n{code}```")));
}

#[test]
fn the_readme_shows_a_test_that_is_run() {
    let test = include_str!("readme.rs");
    let (_, code) = test.split_once("\n\n").expect("a header, then the code");
    assert!(README.contains(&format!("```rust\n{code}```")));
}

#[test]
fn the_readme_lists_every_example() {
    for entry in fs::read_dir("examples").expect("the folder") {
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
            assert!(fs::exists(path).expect("a folder"), "{script}");
        }
        let is_cargo = row.contains("`cargo test ") || row.contains("`cargo run ");
        assert!(is_cargo || row.contains("`scripts/"), "{row}");
    }
}

#[test]
fn each_chapter_is_in_the_book_and_its_code_is_run() {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir("docs").expect("the folder") {
        let file = entry.expect("a file").path();
        if file.extension().is_some_and(|extension| extension == "md") {
            files.insert(file.file_name().expect("a name").to_string_lossy().into_owned());
        }
    }
    assert!(files.remove("SUMMARY.md"));
    assert_eq!(all_between(include_str!("../docs/SUMMARY.md"), "](", ")"), files);
    let compiled = all_between(include_str!("../src/lib.rs"), "include_str!(\"../docs/", "\")");
    assert_eq!(compiled, files);

    for file in files {
        let text = fs::read_to_string(format!("docs/{file}")).expect("a chapter");
        let fences = text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        for fence in fences.step_by(2) {
            assert!(!fence.contains("ignore"), "{file}: {fence}");
            assert!(!fence.is_empty(), "{file}: a block does not say what it is");
        }
    }
}

#[test]
fn each_code_is_in_the_picture_and_in_the_table_of_answers() {
    let contract = include_str!("../docs/contract.md");
    let (_, table) = contract.split_once("| code | status | pointer |").expect("the codes");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let codes: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(codes.len(), 13);

    let picture = include_str!("../docs/answers.svg");
    let (words, drawn) = picture.split_once("</desc>").expect("a description");
    let table = include_str!("../docs/answers.md");
    for code in codes {
        assert!(words.contains(code) && drawn.contains(code), "{code}");
        assert!(table.contains(&format!("`{code}`")), "{code}");
    }
}

/// What stands between two marks, wherever both stand in a line.
fn all_between(text: &str, before: &str, after: &str) -> BTreeSet<String> {
    let marked = text.lines().filter_map(|line| line.split_once(before)?.1.split_once(after));
    marked.map(|(between, _)| between.to_owned()).collect()
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
    let source = fs::read_to_string(format!("tests/{program}.rs")).expect("a test program");
    let named = |test: &str| {
        let (head, _) = test.split_once('(')?;
        Some(head.rsplit("fn ").next()?.to_owned())
    };
    let marked = source.split("\n#[test]\n").flat_map(|part| part.split("\n#[tokio::test]\n"));
    marked.skip(1).filter_map(named).collect()
}
