//! Chromium: the one on the PATH, otherwise Debian's when root.

use std::path::PathBuf;

use anyhow::Context as _;

use super::{apt_install, installation_lock, on_path};

const PACKAGE: &str = "chromium";

/// Path of a Chromium that runs on this machine.
pub(super) fn chromium() -> anyhow::Result<PathBuf> {
    if let Some(found) = on_path(PACKAGE) {
        return Ok(found);
    }
    let _lock = installation_lock()?;
    if let Some(found) = on_path(PACKAGE) {
        return Ok(found);
    }
    tracing::info!("Installing Chromium (100 MB, Debian's {PACKAGE})");
    apt_install(PACKAGE)?;
    on_path(PACKAGE).context("Debian's package has no program of its name")
}
