//! The documents show what the repository holds.

use std::{collections::BTreeSet, fs};

use unsubscribe_webhook::Code;

const README: &str = include_str!("../README.md");
const SECURITY: &str = include_str!("../docs/security.md");

#[test]
fn the_readme_shows_the_minimal_example() {
    let example = include_str!("../examples/minimal.rs");
    let (_, code) = example.split_once("\n\n").expect("a header, then the code");
    assert!(README.contains(&format!("```rust,no_run\n{code}```")));
}

#[test]
fn every_example_is_listed() {
    let list = include_str!("../examples/README.md");
    for name in files("examples") {
        let is_example = name.strip_suffix(".rs").is_some() || !name.contains('.');
        assert!(!is_example || list.contains(&format!("]({name})")), "{name}");
    }
}

#[test]
fn the_documents_are_short() {
    assert!(README.lines().count() <= 130);
    assert!(chapters().len() <= 10);
}

#[test]
fn each_threat_names_tests_that_exist() {
    for row in rows("| threat | defence | shown by |") {
        let programs = in_code(row.rsplit(" | ").next().expect("a last column"));
        assert!(!programs.is_empty(), "{row}");
        for program in programs.into_iter().filter(|program| *program != "timing") {
            assert!(fs::exists(format!("tests/{program}.rs")).expect("a folder"), "{row}");
        }
    }
}

#[test]
fn each_advisory_stands_beside_its_defence() {
    let mut found = BTreeSet::new();
    for program in ["api", "auth", "discard", "extract", "privacy"] {
        let source = fs::read_to_string(format!("tests/{program}.rs")).expect("a test program");
        let is_between_words = |character: char| !character.is_alphanumeric() && character != '-';
        let ids = source.split(is_between_words).filter(|word| {
            let digits = word.strip_prefix("CVE-").or(word.strip_prefix("RUSTSEC-"));
            digits.is_some_and(|digits| digits.starts_with(char::is_numeric))
        });
        found.extend(ids.map(str::to_owned));
    }
    assert!(found.len() >= 8, "{found:?}");
    assert!(found.iter().all(|id| SECURITY.contains(id)), "{found:?}");
}

#[test]
fn each_claim_names_a_command_that_exists() {
    for row in rows("| claim | command |") {
        let is_command = |command: &&str| {
            let program = command.split(' ').next().expect("a program");
            program == "cargo" || (command.contains('/') && fs::exists(program).unwrap_or(false))
        };
        assert!(in_code(row).iter().any(is_command), "{row}");
    }
}

/// What stands between backquotes.
fn in_code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn each_chapter_is_in_the_book_and_its_code_is_compiled() {
    let mut files: BTreeSet<String> =
        files("docs").filter_map(|name| Some(name.strip_suffix(".md")?.to_owned())).collect();
    assert!(files.remove("SUMMARY"));
    assert_eq!(chapters(), files);
    let compiled = all_between(include_str!("../src/lib.rs"), "include_str!(\"../docs/", ".md\")");
    assert_eq!(compiled, files);
    for file in files {
        let text = fs::read_to_string(format!("docs/{file}.md")).expect("a chapter");
        let fences = text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        for fence in fences.step_by(2) {
            assert!(!fence.contains("ignore"), "{file}: {fence}");
            assert!(!fence.is_empty(), "{file}: a block does not say what it is");
        }
    }
}

#[test]
fn each_code_is_in_the_contract_the_picture_and_the_table_of_responses() {
    let contract = include_str!("../docs/contract.md");
    let picture = include_str!("../docs/responses.svg");
    let (description, drawn) = picture.split_once("</desc>").expect("a description");
    let table = include_str!("../docs/deliveries.md");
    for code in Code::ALL {
        let row = format!("| `{code}` | {} |", code.status().as_u16());
        assert!(contract.contains(&row), "{code}");
        assert!(description.contains(code.as_str()) && drawn.contains(code.as_str()), "{code}");
        assert!(table.contains(&format!("`{code}`")), "{code}");
    }
}

/// The names of a folder's files and folders.
fn files(folder: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).expect("the folder");
    entries.map(|entry| entry.expect("a file").file_name().into_string().expect("UTF-8"))
}

fn chapters() -> BTreeSet<String> {
    all_between(include_str!("../docs/SUMMARY.md"), "](", ".md)")
}

/// What stands between two marks, wherever both are in a line.
fn all_between(text: &str, before: &str, after: &str) -> BTreeSet<String> {
    let marked = text.lines().filter_map(|line| line.split_once(before)?.1.split_once(after));
    marked.map(|(between, _)| between.to_owned()).collect()
}

/// The rows of the table with this head.
fn rows(head: &str) -> Vec<&'static str> {
    let (_, table) = SECURITY.split_once(head).expect("the table");
    let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(!rows.is_empty(), "{head}");
    rows
}
