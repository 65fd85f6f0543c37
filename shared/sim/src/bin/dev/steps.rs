//! Child commands, printed with their duration.

use std::{
    ffi::OsString,
    process::{ExitStatus, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail};
use dezky_sim::{tools, workspace};
use tokio::process::Command;

use crate::interrupted;

/// `cargo` in this workspace, with the tools in `.dev/tools` first on the PATH.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace::root());
    // Variables that `cargo run` sets for this package would be wrong for others.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    if let Some(path) = path() {
        command.env("PATH", path);
    }
    command
}

fn path() -> Option<OsString> {
    let ours = tools::directory().join("bin");
    let theirs = std::env::var_os("PATH")?;
    std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&theirs))).ok()
}

/// Runs a command, and fails if the command does.
pub(crate) async fn step(mut command: Command) -> anyhow::Result<()> {
    let line = line(&command);
    println!("$ {line}");
    let start = Instant::now();
    let status = status(&mut command).await?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    println!("  ok in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command. On Ctrl-C, which the command receives too, waits for its exit.
pub(crate) async fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    let mut child = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("`{}` cannot be started", line(command)))?;
    tokio::select! {
        status = child.wait() => Ok(status?),
        () = interrupted() => {
            child.wait().await?;
            bail!("interrupted");
        }
    }
}

/// The command line of a command.
pub(crate) fn line(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
