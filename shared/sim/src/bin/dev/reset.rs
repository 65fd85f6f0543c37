//! `cargo dev reset`: forgets what `up` kept, except the tools.

use std::{fs, io::ErrorKind};

use anyhow::Context as _;
use dezky_sim::workspace;

use crate::instance::Claim;

/// All that `up` keeps in `.dev/`.
const KEPT: [&str; 4] = ["mongodb", "redis", "keys", "logs"];

pub(crate) fn reset() -> anyhow::Result<()> {
    // Held to the end, so that nothing starts in between.
    let _claim = Claim::take().context("stop `cargo dev up` first")?;
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
