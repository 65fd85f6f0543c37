//! A minimal scanner of Prometheus's query language that finds the metrics of a query.

use std::collections::BTreeSet;

/// Words that are neither metrics nor functions.
const KEYWORDS: [&str; 12] = [
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "inf",
];
/// Words that precede a list of labels.
const BEFORE_LABELS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// Metrics of `query`: all names outside of labels, ranges and strings that are not functions.
pub(crate) fn metrics(query: &str) -> BTreeSet<String> {
    let query = without(&without(&without(query, '"', '"'), '{', '}'), '[', ']');
    let mut found = BTreeSet::new();
    let mut rest = query.as_str();
    while let Some(start) = rest.find(|first: char| first.is_ascii_alphabetic() || first == '_') {
        let before = rest[..start].chars().next_back();
        let word = &rest[start..];
        let end = word
            .find(|of_it: char| !(of_it.is_ascii_alphanumeric() || of_it == '_' || of_it == ':'))
            .unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        rest = after;
        let next = after.trim_start();
        if BEFORE_LABELS.contains(&word) && next.starts_with('(') {
            rest = next.split_once(')').unwrap().1;
        } else if before.is_some_and(|before| before.is_ascii_digit()) {
            // A unit: the `m` of `5m`.
        } else if !KEYWORDS.contains(&word) && !is_function(next) {
            found.insert(word.to_owned());
        }
    }
    found
}

/// Whether the text after a word makes it a function: `rate(…)`, `sum by (queue) (…)`.
fn is_function(next: &str) -> bool {
    ["(", "by ", "by(", "without ", "without("]
        .iter()
        .any(|start| next.starts_with(start))
}

fn without(text: &str, open: char, close: char) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for character in text.chars() {
        if inside {
            inside = character != close;
        } else if character == open {
            inside = true;
        } else {
            kept.push(character);
        }
    }
    kept
}

#[test]
fn metrics_are_distinguished_from_functions_labels_and_units() {
    let found = |query: &str| Vec::from_iter(metrics(query));

    assert_eq!(
        found(
            r#"sum by (queue, kind) (rate(a_total{kind="x",outcome=~"b|c"}[5m])) / on (job) group_left b > 0.5"#
        ),
        ["a_total", "b"]
    );
    assert_eq!(
        found("histogram_quantile(0.99, sum by (le) (rate(c_seconds_bucket[$__rate_interval])))"),
        ["c_seconds_bucket"]
    );
    assert_eq!(found("max(d) > 300 and absent(e offset 5m)"), ["d", "e"]);
}
