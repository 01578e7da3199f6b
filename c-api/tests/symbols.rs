//! `c-api/symbols.txt` is what a program may link to. The header declares exactly that here; that the libraries export it is
//! seen where they are built for installing, by `ci/install-test.sh`. Whoever adds a function adds its line; whoever
//! takes one away breaks programs that are out there.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn listed() -> Vec<String> {
    read("symbols.txt").lines().map(str::to_owned).collect()
}

/// The functions of the header: names before the first parenthesis of what stands at the beginning of a line, outside
/// comments, after the types.
fn declared() -> BTreeSet<String> {
    let header = read("../include/stokehold.h");
    let (_, functions) = header.split_once("extern \"C\" {").expect("the part of the functions");
    let mut names = BTreeSet::new();
    for line in functions
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()) && *line != "STK_MUST_USE")
    {
        let (before, _) = line.split_once('(').unwrap_or_else(|| panic!("what is this declaration? {line}"));
        let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        assert!(names.insert(name.to_owned()), "{name} is declared twice");
    }
    names
}

#[test]
fn the_list_is_sorted_and_has_each_once() {
    let listed = listed();
    assert!(listed.len() > 100, "{} lines", listed.len());
    for pair in listed.windows(2) {
        assert!(pair[0] < pair[1], "{} stands before {}", pair[0], pair[1]);
    }
    for name in &listed {
        assert!(name.starts_with("stk_") && !name.starts_with("stk_test_"), "{name}");
    }
}

#[test]
fn the_header_declares_what_is_listed() {
    let (listed, declared) = (BTreeSet::from_iter(listed()), declared());
    let missing: Vec<_> = listed.difference(&declared).collect();
    let more: Vec<_> = declared.difference(&listed).collect();
    assert!(missing.is_empty(), "in c-api/symbols.txt and not in the header: {missing:?}");
    assert!(more.is_empty(), "in the header and not in c-api/symbols.txt: {more:?}");
}
