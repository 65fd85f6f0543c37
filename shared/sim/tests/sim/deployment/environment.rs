//! `.env.example`: every variable that is read, and no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use dezky_shared::queue::secret_box::EncryptionKeys;
use dezky_sim::workspace;

use super::{compose_file, read, variables};

/// Variable that docker compose itself reads.
const READ_BY_COMPOSE_ITSELF: &str = "COMPOSE_PROFILES";

/// A line of `.env.example` or `.env`, with the comment above it.
struct Example {
    name: String,
    value: String,
    comment: String,
}

/// All lines of `.env.example`.
fn examples() -> Vec<Example> {
    parse(&read(".env.example"))
}

/// All lines of the output of `.ops/create-env`.
fn created() -> BTreeMap<String, String> {
    let output = Command::new(workspace::root().join(".ops/create-env"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = parse(&String::from_utf8(output.stdout).unwrap());
    lines
        .into_iter()
        .map(|line| (line.name, line.value))
        .collect()
}

fn parse(text: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut comment = String::new();
    for line in text.lines() {
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
        [
            "_TOKEN",
            "_PASSWORD",
            "_SECRET",
            "_SECRETS",
            "_KEY",
            "_KEYS",
        ]
        .iter()
        .any(|end| name.ends_with(end))
    };
    let simulated = read("shared/upstreams/src/clients/simulated.rs");

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

#[test]
fn a_new_environment_has_a_new_secret_for_each_required_variable() {
    let [first, second] = [created(), created()];
    let unchanged: BTreeMap<_, _> = examples()
        .into_iter()
        .map(|example| (example.name, example.value))
        .collect();

    assert!(first.keys().eq(unchanged.keys()));
    let generated: BTreeSet<&str> = first
        .iter()
        .filter(|(name, value)| unchanged[*name] != **value)
        .map(|(name, _)| name.as_str())
        .collect();
    let empty: BTreeSet<String> = compose_file::required()
        .into_iter()
        .filter(|name| unchanged[name].is_empty())
        .collect();
    let mut expected: BTreeSet<&str> = empty.iter().map(String::as_str).collect();
    // Optional, but no installation should be without.
    expected.insert("SEALING_KEYS");
    assert_eq!(generated, expected);
    for name in generated {
        assert!(first[name].len() >= 32, "{name}");
        assert_ne!(first[name], second[name], "{name}");
    }
    assert!(EncryptionKeys::parse([first["SEALING_KEYS"].as_str()]).is_ok());
}

#[test]
fn a_variable_of_the_example_refers_to_earlier_ones_only() {
    let mut earlier = BTreeSet::new();
    for Example { name, value, .. } in examples() {
        for reference in value.split("${").skip(1) {
            let reference = reference.split('}').next().unwrap();
            assert!(earlier.contains(reference), "{name}: {reference}");
        }
        earlier.insert(name);
    }
}
