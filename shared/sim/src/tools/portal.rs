//! Packages that portals use, from npm at the versions in `portal/`: OIDC clients, an OIDC issuer, and the client of the API.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{
    directory, installation_lock,
    openapi::{OpenApiTools, openapi_tools},
};

/// Changes with any version in `portal/`.
const INSTALLATION: &str = "portal-1";

/// The installed packages, and Node.js with the generators of types.
#[derive(Debug)]
pub struct PortalTools {
    /// Node.js and the generators.
    pub openapi: OpenApiTools,
    root: PathBuf,
}

/// Installs the packages unless they are.
pub fn portal_tools() -> anyhow::Result<PortalTools> {
    let openapi = openapi_tools()?;
    let root = directory().join(INSTALLATION);
    if root.exists() {
        return Ok(PortalTools { openapi, root });
    }
    let _lock = installation_lock()?;
    if root.exists() {
        return Ok(PortalTools { openapi, root });
    }
    tracing::info!("Downloading OIDC clients and an issuer (5 MB, from npm)");
    let scratch = tempfile::tempdir_in(directory())?;
    let packages = scratch.path().join("packages");
    fs::create_dir(&packages)?;
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools/portal");
    for name in ["package.json", "package-lock.json"] {
        fs::copy(versions.join(name), packages.join(name))?;
    }
    openapi.npm_ci(&packages)?;
    fs::rename(&packages, &root)?;
    Ok(PortalTools { openapi, root })
}

impl PortalTools {
    /// Lets scripts in `directory` import the packages.
    pub fn link_packages(&self, directory: &Path) -> anyhow::Result<()> {
        symlink(
            self.root.join("node_modules"),
            directory.join("node_modules"),
        )?;
        Ok(())
    }
}
