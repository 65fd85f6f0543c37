//! Building the binaries, with cargo's own progress, and finding out where they are.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::steps::{cargo, line};

/// What a developer runs.
pub(crate) const DEBUG: [&str; 2] = ["--workspace", "--bins"];

/// What is measured. All in one go: built for themselves, the binaries would have other features, and everything would be
/// compiled once more.
pub(crate) const RELEASE: [&str; 5] = [
    "--release",
    "--workspace",
    "--bins",
    "--bench=engine",
    "--bench=service",
];

/// What cargo says about a thing it built.
#[derive(Debug, Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    target: Target,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// What was built.
#[derive(Debug)]
pub(crate) struct Built {
    /// The directory that the binaries are in.
    pub(crate) binaries: PathBuf,
    /// The benchmarks, by name.
    pub(crate) benchmarks: BTreeMap<String, PathBuf>,
}

/// Builds `what`, such as `--workspace --bins`: binaries, and maybe benchmarks.
pub(crate) async fn build(what: &[&str]) -> anyhow::Result<Built> {
    let mut command = cargo(&["build", "--message-format=json-render-diagnostics"]);
    command.args(what);
    println!("$ {}", line(&command));
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "the build failed");
    let messages = String::from_utf8(output.stdout)?;
    let mut binaries = None;
    let mut benchmarks = BTreeMap::new();
    for message in messages.lines() {
        let Ok(Artifact {
            executable: Some(executable),
            target,
        }) = serde_json::from_str(message)
        else {
            continue;
        };
        if target.kind == ["bench"] {
            benchmarks.insert(target.name, executable);
        } else {
            binaries = executable.parent().map(PathBuf::from);
        }
    }
    Ok(Built {
        binaries: binaries.context("cargo built no binary")?,
        benchmarks,
    })
}
