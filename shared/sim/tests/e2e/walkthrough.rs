//! The walk-through of the documentation, run as it is written.

use std::{fmt::Write as _, process::Stdio};

use clap::Parser;
use dezky_sim::{callers, callers::Caller, demo, simulators::Addresses, workspace};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::stack::Stack;

/// Precedes the output of each command.
const MARK: &str = "@@ output of ";

/// Addresses that `cargo dev up` gives the simulators where the ports are free.
#[derive(Debug, Parser)]
struct Usual {
    #[command(flatten)]
    simulators: Addresses,
}

/// A command and its output.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
}

/// The steps in the `console` blocks of a document.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let blocks = text.split("```console\n").skip(1);
    for line in blocks.flat_map(|block| block.split("```").next().unwrap().lines()) {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                output: String::new(),
            });
        } else {
            let step = steps.last_mut().expect("an output follows a command");
            step.output.push_str(line);
            step.output.push('\n');
        }
    }
    steps
}

/// Whether `text` matches a pattern in which `…` is any text.
fn matches(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    if !pattern.contains('…') {
        return rest.is_empty();
    }
    let parts: Vec<&str> = parts.collect();
    for part in &parts[..parts.len() - 1] {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(parts[parts.len() - 1])
}

/// Runs the commands in one shell. Returns the output of each.
async fn run(script: &str, steps: &[Step]) -> Vec<String> {
    let mut commands = format!("{script}\n");
    for (n, step) in steps.iter().enumerate() {
        write!(commands, "printf '{MARK}{n}\\n'\n{}\n", step.command).unwrap();
    }
    let mut shell = Command::new("bash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(commands.as_bytes()).await.unwrap();
    drop(stdin);
    let output = shell.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let outputs = text.split(MARK).skip(1);
    let outputs = outputs.map(|output| output.split_once('\n').unwrap().1.to_owned());
    outputs.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_through_is_true() {
    let key = ("SEALING_KEYS", format!("test:{}=", "A".repeat(43)));
    let stack = Stack::start_with(&[key]).await;
    let control = stack.serve_control().await;
    demo::provision(&stack.url, &control, None, |line| tracing::info!(line))
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(workspace::root().join("shared/sim/walkthrough.md"));
    let mut text = text.unwrap();
    let usual = Usual::parse_from(["walkthrough"]).simulators;
    let at = |port| format!("http://{}", usual.at(port));
    for (variable, documented, actual) in [
        ("API", "http://127.0.0.1:3001".to_owned(), &*stack.url),
        ("SIMULATORS", at(usual.control_port), &*control),
        ("MAIL", at(usual.stalwart_port), &*stack.stalwart.server.url),
        ("FILES", at(usual.ocis_port), &*stack.ocis.server.url),
    ] {
        let assignment = format!("{variable}={documented}");
        assert!(text.contains(&assignment), "{assignment}");
        text = text.replace(&assignment, &format!("{variable}={actual}"));
    }
    let text = text.replace("/tmp/", &format!("{}/", directory.path().display()));
    let steps = steps(&text);
    // Stands in for `cargo dev token`, which needs a running `cargo dev up`.
    let mut script = "cargo() { eval echo \\$TOKEN_$3; }\n".to_owned();
    for caller in [Caller::Owner, Caller::Operator] {
        let token = callers::mint(&control, caller, 1).await.unwrap();
        writeln!(script, "TOKEN_{}={token}", caller.name()).unwrap();
    }

    let outputs = run(&script, &steps).await;

    assert_eq!(outputs.len(), steps.len());
    assert!(steps.len() > 50, "{}", steps.len());
    let wrong: Vec<String> = steps
        .iter()
        .zip(&outputs)
        .filter(|(step, output)| !matches(output.trim_end(), step.output.trim_end()))
        .map(|(step, output)| format!("$ {}\n{output}expected:\n{}", step.command, step.output))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(stack.authentik.openings(), []);
}

#[test]
fn an_ellipsis_is_any_text() {
    for (text, pattern, expected) in [
        ("a", "a", true),
        ("ab", "a", false),
        ("abc", "a…", true),
        ("abc", "…c", true),
        ("abc", "…b…", true),
        ("abc", "…d…", false),
        ("", "…", true),
    ] {
        assert_eq!(matches(text, pattern), expected, "{text} {pattern}");
    }
}
