//! Cargo subcommands for checks and tests, at pinned versions.

use std::process::Stdio;

use dezky_sim::tools;
use tokio::process::Command;

use crate::steps::{cargo, step};

/// A cargo subcommand.
pub(crate) struct Tool {
    package: &'static str,
    version: &'static str,
}

pub(crate) const NEXTEST: Tool = Tool {
    package: "cargo-nextest",
    version: "0.9.143",
};
pub(crate) const DENY: Tool = Tool {
    package: "cargo-deny",
    version: "0.20.2",
};
pub(crate) const MACHETE: Tool = Tool {
    package: "cargo-machete",
    version: "0.9.2",
};

impl Tool {
    /// Installs the subcommand in `.dev/tools`, unless the pinned version is there or on the PATH.
    pub(crate) async fn ensure(&self) -> anyhow::Result<()> {
        if self.is_installed().await {
            return Ok(());
        }
        let _lock = tools::installation_lock()?;
        if self.is_installed().await {
            return Ok(());
        }
        let root = tools::directory();
        let root = root.to_string_lossy();
        let package = format!("{}@{}", self.package, self.version);
        println!("Installing {package} in .dev/tools (once)");
        let mut install = cargo(&["install", "--locked", "--root", &root, &package]);
        // Not optimised: to build the tool takes minutes, and it runs for seconds.
        install
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        step(install).await
    }

    async fn is_installed(&self) -> bool {
        let ours = tools::directory().join("bin").join(self.package);
        let theirs = tools::on_path(self.package);
        for file in std::iter::once(ours).chain(theirs) {
            let output = Command::new(file)
                .arg("--version")
                .stdin(Stdio::null())
                .output();
            if let Ok(output) = output.await
                && String::from_utf8_lossy(&output.stdout).contains(self.version)
            {
                return true;
            }
        }
        false
    }
}
