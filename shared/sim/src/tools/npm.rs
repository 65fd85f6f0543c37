//! Packages from npm at the versions of a lock file, with the Node.js that runs them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{
    directory, installation_lock,
    openapi::{OpenApiTools, openapi_tools},
};

/// Packages that are installed together.
pub(super) struct PackageSet {
    /// Folder of `package.json` and `package-lock.json`, below `src/tools`.
    pub(super) versions: &'static str,
    /// Folder of the installation, below `.dev/tools`. Changes with any version.
    pub(super) installation: &'static str,
    /// Contents of the download, for the log.
    pub(super) contents: &'static str,
}

/// Installed packages, and Node.js with the generators of types.
#[derive(Debug)]
pub struct NpmPackages {
    /// Node.js and the generators.
    pub openapi: OpenApiTools,
    root: PathBuf,
}

impl PackageSet {
    /// Installs the packages unless they are.
    pub(super) fn ensure(&self) -> anyhow::Result<NpmPackages> {
        let openapi = openapi_tools()?;
        let root = directory().join(self.installation);
        if root.exists() {
            return Ok(NpmPackages { openapi, root });
        }
        let _lock = installation_lock()?;
        if root.exists() {
            return Ok(NpmPackages { openapi, root });
        }
        tracing::info!("Downloading {} from npm", self.contents);
        let scratch = tempfile::tempdir_in(directory())?;
        let packages = scratch.path().join("packages");
        fs::create_dir(&packages)?;
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools");
        let versions = tools.join(self.versions);
        for name in ["package.json", "package-lock.json"] {
            fs::copy(versions.join(name), packages.join(name))?;
        }
        openapi.npm_ci(&packages)?;
        fs::rename(&packages, &root)?;
        Ok(NpmPackages { openapi, root })
    }
}

impl NpmPackages {
    /// Lets scripts in `directory` import the packages.
    pub fn link_packages(&self, directory: &Path) -> anyhow::Result<()> {
        symlink(
            self.root.join("node_modules"),
            directory.join("node_modules"),
        )?;
        Ok(())
    }
}
