//! Builds the binaries with cargo, and locates them.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::steps::{cargo, line};

/// Targets of a development build.
pub(crate) const DEBUG: [&str; 2] = ["--workspace", "--bins"];

/// The same binaries, together with the tests: built for themselves, they would have other features, and most of the
/// workspace would be compiled once more.
pub(crate) const TESTS: [&str; 3] = ["--workspace", "--bins", "--tests"];

/// Binaries that the benchmarks measure. Built in one go: built for themselves, the binaries would have other features, and
/// everything would be compiled once more.
pub(crate) const RELEASE: [&str; 5] = [
    "--release",
    "--workspace",
    "--bins",
    "--bench=engine",
    "--bench=service",
];

/// Cargo's message about a built target.
#[derive(Debug, Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    target: Target,
    profile: Profile,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    /// Whether the artifact is a test, which has the name of the binary that it tests.
    test: bool,
}

/// Result of a build.
#[derive(Debug)]
pub(crate) struct Built {
    /// Directory of the binaries.
    pub(crate) binaries: PathBuf,
    /// Benchmarks by name.
    pub(crate) benchmarks: BTreeMap<String, PathBuf>,
}

/// Builds `targets`, such as `--workspace --bins`: binaries, and optionally benchmarks.
pub(crate) async fn build(targets: &[&str]) -> anyhow::Result<Built> {
    if let Some(estimate) = first_build_estimate(targets)? {
        println!("First build: {estimate} on 2 cores");
    }
    let mut command = cargo(&["build", "--message-format=json-render-diagnostics"]);
    command.args(targets);
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
            profile,
        }) = serde_json::from_str(message)
        else {
            continue;
        };
        if target.kind == ["bench"] {
            benchmarks.insert(target.name, executable);
        } else if target.kind == ["bin"] && !profile.test {
            binaries = executable.parent().map(PathBuf::from);
        }
    }
    Ok(Built {
        binaries: binaries.context("cargo built no binary")?,
        benchmarks,
    })
}

/// Approximate duration of the first build with a profile; `None` if there was one.
fn first_build_estimate(targets: &[&str]) -> anyhow::Result<Option<&'static str>> {
    let (profile, estimate) = if targets.contains(&"--release") {
        ("release", "about 15 minutes")
    } else {
        ("debug", "about 5 minutes")
    };
    // `target/debug/dev`
    let own = env::current_exe()?;
    let target = own.parent().and_then(Path::parent);
    let built = target.is_some_and(|target| target.join(profile).join("dezky-worker").exists());
    Ok((!built).then_some(estimate))
}
