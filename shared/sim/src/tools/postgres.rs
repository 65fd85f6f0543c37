//! PostgreSQL: the one on the PATH, otherwise one of Debian's packages, installed when root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{apt_install, installation_lock, on_path};

/// Directory of Debian's packages, one of each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Directory with the programs `initdb` and `postgres`.
pub fn postgres_programs() -> anyhow::Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let _lock = installation_lock()?;
    tracing::info!("Installing PostgreSQL (Debian's postgresql)");
    apt_install("postgresql")?;
    find().context("PostgreSQL is installed, but its programs are not found")
}

fn find() -> Option<PathBuf> {
    let on_path = on_path("initdb").and_then(|initdb| {
        // A link on the PATH leads to the directory of all programs.
        let initdb = fs::canonicalize(initdb).ok()?;
        initdb.parent().map(Path::to_owned)
    });
    let installed = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let installed = installed.map(|version| version.path().join("bin"));
    let mut candidates: Vec<PathBuf> = on_path.into_iter().chain(installed).collect();
    candidates.retain(|programs| {
        ["initdb", "postgres"]
            .iter()
            .all(|name| programs.join(name).exists())
    });
    candidates.into_iter().next()
}
