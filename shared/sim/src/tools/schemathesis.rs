//! schemathesis, which generates requests from an OpenAPI document: from PyPI, with all dependencies at the versions
//! in `schemathesis.txt`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::{directory, installation_lock, run};

const VERSION: &str = "4.32.5";

/// A command that runs it.
pub fn schemathesis() -> anyhow::Result<Command> {
    let packages = installed()?;
    let mut command = Command::new("python3");
    command
        .args(["-m", "schemathesis.cli"])
        .env("PYTHONPATH", packages);
    Ok(command)
}

fn installed() -> anyhow::Result<PathBuf> {
    let target = directory().join(format!("schemathesis-{VERSION}"));
    if target.exists() {
        return Ok(target);
    }
    let _lock = installation_lock()?;
    if target.exists() {
        return Ok(target);
    }
    tracing::info!("Downloading schemathesis {VERSION} (20 MB, from PyPI)");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools/schemathesis.txt");
    let scratch = tempfile::tempdir_in(directory())?;
    let packages = scratch.path().join("packages");
    run(Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--target"])
        .arg(&packages)
        .arg("--requirement")
        .arg(requirements))
    .context("python3 with pip is needed: apt-get install -y python3-pip")?;
    fs::rename(packages, &target)?;
    Ok(target)
}
