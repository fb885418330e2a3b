//! What the documents show is what the repository holds.

const README: &str = include_str!("../README.md");

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
