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

/// The lines that went and came, with the first line of their item.
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
    // An attribute stands before its item.
    let mut is_item_due = false;
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            if !old[i].is_empty() && !old[i].starts_with([' ', '}', '/', '#']) {
                item = Some(old[i]);
                if is_item_due {
                    lines.extend(item.take().into_iter().flat_map(|item| ["  ", item, "\n"]));
                    is_item_due = false;
                }
            }
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let is_gone = j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]);
        let (sign, line) = if is_gone { ("- ", old[i]) } else { ("+ ", new[j]) };
        if line.starts_with(' ') {
            lines.extend(item.take().into_iter().flat_map(|item| ["  ", item, "\n"]));
        }
        is_item_due |= line.starts_with('#');
        lines.extend([sign, line, "\n"]);
        if is_gone { i += 1 } else { j += 1 }
    }
    lines
}

#[test]
fn changes_stand_beside_their_item() {
    let old = "\
#[derive(Clone)]
struct A;

impl A {
    fn a();
    fn b();
}
";
    let new = "\
#[derive(Debug)]
struct A;

impl A {
    fn a();
    fn b(&self);
    fn c();
}
fn d();
";
    let expected = "\
- #[derive(Clone)]
+ #[derive(Debug)]
  struct A;
  impl A {
-     fn b();
+     fn b(&self);
+     fn c();
+ fn d();
";
    assert_eq!(changes(old, new), expected);
    assert_eq!(changes(old, old), "");
}
