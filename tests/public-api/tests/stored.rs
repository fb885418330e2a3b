//! The library's public API is what `docs/public-api.txt` says.

#[test]
fn the_public_api_is_the_stored_one() {
    let stored = include_str!("../../../docs/public-api.txt");
    let current = public_api::of_the_library();
    assert!(
        stored == current,
        "the public API has changed:\n{}\nIf that is wanted, write the list anew and commit it:\n    \
         cargo run --quiet -p public-api > target/public-api.txt && mv target/public-api.txt \
         docs/public-api.txt",
        changes(stored, &current)
    );
}

/// The lines that went and came, each part below the last line before it that begins an item.
fn changes(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // Of each pair of ends, the lines in common.
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut item, mut lines) = (0, 0, None, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            let begins = !old[i].starts_with([' ', '}', '/', '#']) && !old[i].is_empty();
            item = if begins { Some(old[i]) } else { item };
            (i, j) = (i + 1, j + 1);
            continue;
        }
        if let Some(item) = item.take() {
            lines.extend(["  ", item, "\n"]);
        }
        let is_gone = j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]);
        if is_gone {
            lines.extend(["- ", old[i], "\n"]);
            i += 1;
        } else {
            lines.extend(["+ ", new[j], "\n"]);
            j += 1;
        }
    }
    lines
}

#[test]
fn changes_stand_below_their_item() {
    let old = "struct A;\n\nimpl A {\n    fn a();\n    fn b();\n}\n";
    let new = "struct A;\n\nimpl A {\n    fn a();\n    fn b(&self);\n    fn c();\n}\nstruct C;\n";
    let expected = "  impl A {\n-     fn b();\n+     fn b(&self);\n+     fn c();\n+ struct C;\n";
    assert_eq!(changes(old, new), expected);
    assert_eq!(changes(old, old), "");
}
