//! `cargo dev reset`: deletes the data of `cargo dev up`, but not the tools.

use std::{fs, io::ErrorKind};

use anyhow::Context as _;
use dezky_sim::workspace;

use crate::instance::Claim;

/// Directories of `cargo dev up` in `.dev/`.
const DATA: [&str; 5] = ["mongodb", "redis", "keys", "stripe", "logs"];

pub(crate) fn reset() -> anyhow::Result<()> {
    // Held until the end, so that no instance starts in between.
    let _claim = Claim::take().context("stop `cargo dev up` first")?;
    for name in DATA {
        let directory = workspace::dev().join(name);
        match fs::remove_dir_all(&directory) {
            Ok(()) => println!("Removed .dev/{name}"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("The next `cargo dev up` starts without data");
    Ok(())
}
