//! A browser for scripts: Chromium, with Playwright, which drives it, and axe-core, which finds barriers in pages; both at the
//! versions in `browser/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    chromium::chromium,
    npm::{NpmPackages, PackageSet},
};

const PACKAGES: PackageSet = PackageSet {
    versions: "browser",
    installation: "browser-1",
    contents: "Playwright and axe-core (5 MB)",
};
/// Modules that scripts import: an operator's browser, and the service behind the console.
const MODULES: [(&str, &str); 2] = [
    ("operator.mjs", include_str!("browser/operator.mjs")),
    ("service.mjs", include_str!("browser/service.mjs")),
];

/// The installed browser and packages.
#[derive(Debug)]
pub struct BrowserTools {
    chromium: PathBuf,
    packages: NpmPackages,
}

/// Installs the browser and the packages unless they are.
pub fn browser_tools() -> anyhow::Result<BrowserTools> {
    Ok(BrowserTools {
        chromium: chromium()?,
        packages: PACKAGES.ensure()?,
    })
}

impl BrowserTools {
    /// Writes `scripts`, names and texts, to an empty directory. Returns the command that runs the first one.
    pub fn command(&self, directory: &Path, scripts: &[(&str, &str)]) -> anyhow::Result<Command> {
        self.packages.link_packages(directory)?;
        for (name, text) in scripts.iter().chain(&MODULES) {
            fs::write(directory.join(name), text)?;
        }
        let mut command = self.packages.openapi.node();
        command.env("CHROMIUM", &self.chromium);
        if let Some((first, _)) = scripts.first() {
            command.arg(directory.join(first));
        }
        Ok(command)
    }
}
