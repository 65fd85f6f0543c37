//! The single instance of `cargo dev up` in this checkout, identified by a file that it keeps locked.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, Write as _},
};

use anyhow::{Context as _, bail};
use dezky_sim::workspace;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Published data of the running instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Process id.
    pub(crate) pid: u32,
    /// Address of the API, once it is ready.
    pub(crate) api: Option<String>,
    /// Address of the simulators' control API, once it is ready.
    pub(crate) control: Option<String>,
    /// Variables of the worker, without those that it inherits.
    #[serde(default)]
    pub(crate) worker: Vec<(String, String)>,
}

/// Exclusive lock of the running instance, released when dropped.
#[derive(Debug)]
pub(crate) struct Claim(Flock<File>);

impl Claim {
    /// Acquires the lock. Fails if another instance holds it.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut claim = match lock(FlockArg::LockExclusiveNonblock)? {
            Ok(file) => Self(file),
            Err(file) => {
                let Running { pid, api, .. } =
                    read(file).context("another `cargo dev up` is starting")?;
                let at = api.map(|api| format!(", its API is at {api}"));
                bail!("already running: process {pid}{}", at.unwrap_or_default());
            }
        };
        claim.publish(&Running {
            pid: std::process::id(),
            api: None,
            control: None,
            worker: Vec::new(),
        })?;
        Ok(claim)
    }

    /// Publishes the data of this instance.
    pub(crate) fn publish(&mut self, running: &Running) -> anyhow::Result<()> {
        let text = serde_json::to_vec(running)?;
        self.0.rewind()?;
        self.0.set_len(0)?;
        self.0.write_all(&text)?;
        Ok(())
    }
}

/// Data of the running instance, if there is one.
pub(crate) fn running() -> anyhow::Result<Option<Running>> {
    // A shared lock does not conflict with other readers, and only briefly with an instance that starts.
    match lock(FlockArg::LockSharedNonblock)? {
        Ok(_unlocked) => Ok(None),
        Err(file) => read(file).map(Some),
    }
}

/// The locked file, or the plain file if another process holds the lock.
fn lock(how: FlockArg) -> anyhow::Result<Result<Flock<File>, File>> {
    fs::create_dir_all(workspace::dev())?;
    let path = workspace::dev().join("up.json");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    Ok(Flock::lock(file, how).map_err(|(file, _)| file))
}

fn read(mut file: File) -> anyhow::Result<Running> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}
