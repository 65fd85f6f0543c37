//! `promtool`, which tests alerting rules: the one on the PATH, otherwise the one inside Debian's package `prometheus`,
//! which is unpacked, not installed: it would start a server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use nix::unistd::Uid;

use super::{directory, installation_lock, on_path, run};

const PACKAGE: &str = "prometheus";
const INSIDE: &str = "usr/bin/promtool";

/// Path of a `promtool` that runs on this machine.
pub fn promtool() -> anyhow::Result<PathBuf> {
    if let Some(found) = on_path("promtool") {
        return Ok(found);
    }
    let target = directory().join("promtool");
    if target.exists() {
        return Ok(target);
    }
    let _lock = installation_lock()?;
    if target.exists() {
        return Ok(target);
    }
    tracing::info!("Downloading promtool (19 MB, Debian's {PACKAGE})");
    let scratch = tempfile::tempdir_in(directory())?;
    // Missing or outdated package lists are the usual cause of a failure.
    download(scratch.path()).or_else(|error| {
        if Uid::effective().is_root() {
            run(Command::new("apt-get").arg("update"))?;
            return download(scratch.path());
        }
        Err(error).context("Debian's package lists may be outdated; run: sudo apt-get update")
    })?;
    let package = fs::read_dir(scratch.path())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(package)
        .arg(scratch.path()))?;
    fs::rename(scratch.path().join(INSIDE), &target)?;
    Ok(target)
}

fn download(to: &Path) -> anyhow::Result<()> {
    run(Command::new("apt-get")
        .args(["download", PACKAGE])
        .current_dir(to))
}
