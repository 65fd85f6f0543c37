//! Peers of the job engine and of the service, for comparison: the usual queues and frameworks of Node.js, at the versions
//! in `peers/`.

use std::{fs, path::Path, process::Command};

use super::npm::{NpmPackages, PackageSet};

const PACKAGES: PackageSet = PackageSet {
    versions: "peers",
    installation: "peers-1",
    contents: "BullMQ, graphile-worker, pg-boss and NestJS (15 MB)",
};
/// The programs, and the modules that they import.
const SCRIPTS: [(&str, &str); 7] = [
    ("measure.mjs", include_str!("peers/measure.mjs")),
    (
        "bullmq_mongodb.mjs",
        include_str!("peers/bullmq_mongodb.mjs"),
    ),
    (
        "graphile_worker.mjs",
        include_str!("peers/graphile_worker.mjs"),
    ),
    ("pg_boss.mjs", include_str!("peers/pg_boss.mjs")),
    ("pipeline.mjs", include_str!("peers/pipeline.mjs")),
    ("pipeline_app.mjs", include_str!("peers/pipeline_app.mjs")),
    (
        "pipeline_upstream.mjs",
        include_str!("peers/pipeline_upstream.mjs"),
    ),
];

/// The installed packages.
#[derive(Debug)]
pub struct PeerTools(NpmPackages);

/// Installs the packages unless they are.
pub fn peer_tools() -> anyhow::Result<PeerTools> {
    PACKAGES.ensure().map(PeerTools)
}

impl PeerTools {
    /// The command that runs the program `script`, from an empty directory.
    pub fn command(&self, directory: &Path, script: &str) -> anyhow::Result<Command> {
        self.0.link_packages(directory)?;
        for (name, text) in SCRIPTS {
            fs::write(directory.join(name), text)?;
        }
        let mut command = self.0.openapi.node();
        command.arg(directory.join(script));
        Ok(command)
    }
}
