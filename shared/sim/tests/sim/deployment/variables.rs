//! Variables that the code reads, found in its source: each is read through a function of
//! `dezky_shared::platform::config`.

use std::{collections::BTreeSet, fs, path::Path};

use dezky_sim::workspace;

use super::read;

/// Prefix of the variables that `cargo dev test` sets for tests.
const FOR_TESTS: &str = "DEZKY_TEST_";
/// Prefix of the variables that `cargo dev bench` sets for benchmarks.
const FOR_BENCHMARKS: &str = "DEZKY_BENCH_";
/// Prefix of the variables that nextest sets for a test process.
const FOR_TEST_PROCESSES: &str = "NEXTEST_";
/// Prefix of the variables that cargo sets for the compiler.
const FOR_THE_COMPILER: &str = "CARGO_";

/// Variables read by the Rust files below a directory, their tests excluded.
pub(crate) fn read_below(directory: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let readers = readers();
    for source in sources(&workspace::root().join(directory)) {
        found.extend(variables(&source, &readers));
    }
    let prefixes = [
        FOR_TESTS,
        FOR_BENCHMARKS,
        FOR_TEST_PROCESSES,
        FOR_THE_COMPILER,
    ];
    found.retain(|name| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    found
}

/// Variables read by any of the binaries.
pub(super) fn read_anywhere() -> BTreeSet<String> {
    [
        "api/src",
        "worker/src",
        "shared/src",
        "shared/upstreams/src",
        "shared/sim/src",
    ]
    .into_iter()
    .flat_map(read_below)
    .collect()
}

/// Whether a text can be the name of a variable: two or more words of capitals and digits.
pub(super) fn is_name(text: &str) -> bool {
    let of_a_word = |character: char| character.is_ascii_uppercase() || character.is_ascii_digit();
    text.contains('_')
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text
            .split('_')
            .all(|word| !word.is_empty() && word.chars().all(of_a_word))
}

/// Functions that read the variable named by their first argument.
fn readers() -> Vec<String> {
    let config = read("shared/src/platform/config.rs");
    let names = config.lines().filter_map(|line| {
        let signature = line.strip_prefix("pub fn ")?;
        Some(signature.split(['<', '(']).next()?.to_owned())
    });
    names.collect()
}

fn sources(directory: &Path) -> Vec<String> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources.extend(self::sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(fs::read_to_string(&path).unwrap());
        }
    }
    sources
}

/// Variables read by one file. If the name is not a literal in the call, it comes from a constant or a table of the
/// same file: then every name in it counts.
fn variables(source: &str, readers: &[String]) -> BTreeSet<String> {
    let code = without_comments_and_tests(source);
    let mut found = BTreeSet::new();
    for argument in readers.iter().flat_map(|reader| calls(&code, reader)) {
        match argument.strip_prefix('"') {
            Some(literal) => found.extend(literal.split('"').next().map(str::to_owned)),
            None => found.extend(code.split('"').map(str::to_owned)),
        }
    }
    found.retain(|name| is_name(name));
    found
}

fn without_comments_and_tests(source: &str) -> String {
    source
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The code after the opening parenthesis of each call of a function.
fn calls<'code>(code: &'code str, function: &str) -> Vec<&'code str> {
    let calls = code.match_indices(function).filter_map(|(at, _)| {
        let before = &code[..at];
        let of_a_longer_name =
            |character: char| character.is_alphanumeric() || "_.".contains(character);
        if before.ends_with(of_a_longer_name) || before.ends_with("fn ") {
            return None;
        }
        let after = &code[at + function.len()..];
        let after = match after.strip_prefix("::<") {
            Some(generic) => generic.split_once(">(")?.1,
            None => after.strip_prefix('(')?,
        };
        Some(after.trim_start())
    });
    calls.collect()
}

#[test]
fn variables_are_found_in_calls_tables_and_constants() {
    let readers = ["optional".to_owned(), "list".to_owned()];
    let found = |source: &str| Vec::from_iter(variables(source, &readers));

    let in_calls = found(
        "optional::<Vec<u8>>(\n    \"ONE_NAME\")?; config::list(\"TWO_NAMES\")?; say(\"NO_NAME\")",
    );
    let in_a_table = found("const A: [&str; 2] = [\"A_1\", \"not one\"]; optional(A[0])");
    let in_none = found(
        "self.list(\"A_METHOD\"); my_list(\"ANOTHER_ONE\"); fn list(name: &str) {}\n// list(\"A_COMMENT\")\n#[cfg(test)]\nlist(\"A_TEST\")",
    );

    assert_eq!(in_calls, ["ONE_NAME", "TWO_NAMES"]);
    assert_eq!(in_a_table, ["A_1"]);
    assert!(in_none.is_empty(), "{in_none:?}");
}
