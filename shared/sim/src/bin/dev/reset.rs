//! `cargo dev reset`: forgets what `up` kept, except the tools.

use std::{fs, io::ErrorKind};

use anyhow::bail;
use dezky_sim::workspace;

use crate::instance;

/// All that `up` keeps in `.dev/`.
const KEPT: [&str; 4] = ["mongodb", "redis", "keys", "logs"];

pub(crate) fn reset() -> anyhow::Result<()> {
    if let Some(running) = instance::running()? {
        bail!(
            "`cargo dev up` is running, process {}: stop it first",
            running.pid
        );
    }
    for name in KEPT {
        let directory = workspace::dev().join(name);
        match fs::remove_dir_all(&directory) {
            Ok(()) => println!("Removed .dev/{name}"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("`cargo dev up` starts afresh");
    Ok(())
}
