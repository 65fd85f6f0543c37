//! Building the binaries, with cargo's own progress, and finding out where they are.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::steps::{cargo, line};

/// What cargo says about a thing it built.
#[derive(Debug, Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// Builds `what`, such as `--workspace --bins`, and returns the directory that the binaries are in.
pub(crate) async fn build(what: &[&str]) -> anyhow::Result<PathBuf> {
    let mut command = cargo(&["build", "--message-format=json-render-diagnostics"]);
    command.args(what);
    println!("$ {}", line(&command));
    command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let output = command.output().await?;
    ensure!(output.status.success(), "the build failed");
    let messages = String::from_utf8(output.stdout)?;
    let executable = messages
        .lines()
        .filter_map(|message| serde_json::from_str::<Artifact>(message).ok())
        .find_map(|artifact| artifact.executable)
        .context("cargo built no binary")?;
    let directory = executable
        .parent()
        .context("a binary lies in a directory")?;
    Ok(directory.to_owned())
}
