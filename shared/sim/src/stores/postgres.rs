//! A PostgreSQL server with its default settings: each commit waits for the disk.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use nix::unistd::Uid;
use tempfile::TempDir;
use tokio::process::Command;

use super::until_ready;
use crate::{
    ports::Port,
    process::{Process, Program},
    tools,
};

/// Name of the superuser.
const USER: &str = "dezky";
/// Id of the system's unprivileged user, and of its group: PostgreSQL refuses to run as root.
const UNPRIVILEGED: u32 = 65_534;
/// Line of the log once connections are accepted.
const READY: &str = "ready to accept connections";

/// A running PostgreSQL. Dropping it stops the server and removes its data.
#[derive(Debug)]
pub struct Postgres {
    /// Connection string.
    pub uri: String,
    /// The server process.
    pub process: Process,
    _port: Port,
    _data: TempDir,
}

impl Postgres {
    /// Starts an empty server that logs to `log`, on any free port.
    pub async fn start(log: &Path) -> anyhow::Result<Self> {
        let programs = tools::postgres_programs()?;
        let port = Port::free()?;
        // Not in the checkout: the unprivileged user may not enter the directories above it.
        let parent = tempfile::tempdir()?;
        if Uid::effective().is_root() {
            chown(parent.path(), Some(UNPRIVILEGED), Some(UNPRIVILEGED))?;
        }
        let data = parent.path().join("data");
        initialize(&programs, &data).await?;
        let process = Process::start(Program {
            name: "postgres".to_owned(),
            path: PathBuf::from("setpriv"),
            arguments: serve(&programs, &data, &port),
            environment: vec![("LC_ALL", "C".to_owned())],
            log: log.to_owned(),
        })?;
        let mut postgres = Self {
            uri: format!("postgres://{USER}@127.0.0.1:{}/postgres", port.number),
            process,
            _port: port,
            _data: parent,
        };
        until_ready(&mut postgres.process, async || {
            fs::read_to_string(log).is_ok_and(|text| text.contains(READY))
        })
        .await?;
        Ok(postgres)
    }
}

/// Creates the files of an empty database.
async fn initialize(programs: &Path, data: &Path) -> anyhow::Result<()> {
    let output = Command::new("setpriv")
        .args(unprivileged())
        .arg(programs.join("initdb"))
        .args(["--username", USER, "--auth", "trust", "--encoding", "UTF8"])
        .args(["--locale", "C", "--pgdata"])
        .arg(data)
        .output()
        .await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "initdb failed ({}): {errors}",
        output.status
    );
    Ok(())
}

/// Arguments of `setpriv` that run the server.
fn serve(programs: &Path, data: &Path, port: &Port) -> Vec<String> {
    let mut arguments = unprivileged();
    arguments.push(programs.join("postgres").display().to_string());
    let port = port.number.to_string();
    let data = data.display().to_string();
    let own = ["-D", &data, "-h", "127.0.0.1", "-p", &port];
    arguments.extend(own.map(str::to_owned));
    // The sockets of two servers would share a directory.
    arguments.extend(["-c", "unix_socket_directories="].map(str::to_owned));
    arguments
}

/// Arguments of `setpriv` for a program that must not be root. A change of the user resets the signal for the death of the
/// parent.
fn unprivileged() -> Vec<String> {
    let mut arguments = vec!["--pdeathsig".to_owned(), "KILL".to_owned()];
    if Uid::effective().is_root() {
        arguments.extend([
            format!("--reuid={UNPRIVILEGED}"),
            format!("--regid={UNPRIVILEGED}"),
        ]);
        arguments.push("--clear-groups".to_owned());
    }
    arguments.push("--".to_owned());
    arguments
}
