//! `.env.example`: every variable that is read, and no other.

use std::collections::{BTreeMap, BTreeSet};

use super::{compose_file, read, variables};

/// Variable that docker compose itself reads.
const READ_BY_COMPOSE_ITSELF: &str = "COMPOSE_PROFILES";

/// A line of `.env.example`, with the comment above it.
struct Example {
    name: String,
    value: String,
    comment: String,
}

/// All lines of `.env.example`.
fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut comment = String::new();
    for line in read(".env.example").lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else if let Some((name, value)) = line.split_once('=') {
            examples.push(Example {
                name: name.to_owned(),
                value: value.trim_matches('"').to_owned(),
                comment: std::mem::take(&mut comment),
            });
        } else {
            assert!(
                line.is_empty(),
                "neither a comment nor a variable: {line:?}"
            );
            comment.clear();
        }
    }
    examples
}

/// Names that `.env.example` sets.
pub(super) fn names() -> BTreeSet<String> {
    examples().into_iter().map(|example| example.name).collect()
}

#[test]
fn every_variable_that_is_read_is_in_the_example() {
    let read = variables::read_anywhere();

    let missing: Vec<_> = read.difference(&names()).cloned().collect();

    assert!(
        missing.is_empty(),
        "the code reads these, and .env.example does not explain them: {missing:?}"
    );
    // Guards against an empty result.
    assert!(read.contains("MONGODB_URI"), "{read:?}");
    assert!(read.contains("WORKER_SLOTS_DNS"), "{read:?}");
}

#[test]
fn every_variable_in_the_example_is_read() {
    let mut read = variables::read_anywhere();
    read.extend(compose_file::interpolated());
    read.insert(READ_BY_COMPOSE_ITSELF.to_owned());

    let unread: Vec<_> = names().difference(&read).cloned().collect();

    assert!(
        unread.is_empty(),
        ".env.example explains these, and neither the code nor docker-compose.yml reads them: {unread:?}"
    );
}

#[test]
fn every_variable_in_the_example_is_unique_and_documented() {
    let mut times = BTreeMap::<String, usize>::new();
    for example in examples() {
        let name = example.name;
        assert!(variables::is_name(&name), "{name:?} is not a valid name");
        assert!(
            example.comment.trim().len() > 10,
            "{name} has no comment right above it"
        );
        *times.entry(name).or_default() += 1;
    }

    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();

    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn secrets_in_the_example_are_valid_only_for_simulators() {
    let is_secret = |name: &str| {
        ["_TOKEN", "_PASSWORD", "_SECRET", "_KEY", "_KEYS"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let simulated = read("shared/sim/src/bin/dev/up/upstreams.rs");

    for Example {
        name,
        value,
        comment,
    } in examples()
    {
        let said_to_be = comment.contains("secret.") || comment.contains("secret,");
        if is_secret(&name) {
            assert!(
                value.is_empty() || simulated.contains(&format!("\"{value}\"")),
                "{name} is set to what no simulator asks for"
            );
            assert!(
                said_to_be || comment.contains("Its secret"),
                "{name} is not said to be secret"
            );
        } else {
            assert!(
                !said_to_be,
                "{name} is said to be secret, which its name does not show"
            );
        }
    }
}
