//! Ports for programs that bind by number: reserved before the program starts, until it ends.

use std::{
    fs,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use anyhow::Context as _;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Uid,
};

/// Below Linux's ephemeral port range, so that outgoing connections do not occupy these ports.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A free loopback port, reserved against other users of this module.
#[derive(Debug)]
pub struct Port {
    /// Port number.
    pub number: u16,
    /// File lock for as long as the port is reserved; released by the kernel if the process is killed.
    _claim: Flock<File>,
}

impl Port {
    /// Reserves any free port.
    pub fn free() -> anyhow::Result<Self> {
        let first = rand::random_range(RANGE);
        for number in (first..RANGE.end).chain(RANGE.start..first) {
            if let Some(port) = Self::claim(number)? {
                return Ok(port);
            }
        }
        anyhow::bail!("no port between {} and {} is free", RANGE.start, RANGE.end)
    }

    /// Reserves this port if it is free, otherwise any other.
    pub fn prefer(number: u16) -> anyhow::Result<Self> {
        match Self::claim(number)? {
            Some(port) => Ok(port),
            None => Self::free(),
        }
    }

    fn claim(number: u16) -> anyhow::Result<Option<Self>> {
        let directory = claims();
        fs::create_dir_all(&directory)
            .with_context(|| format!("{} cannot be created", directory.display()))?;
        let file = File::create(directory.join(number.to_string()))?;
        let Ok(claim) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return Ok(None);
        };
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        Ok(free.then_some(Self {
            number,
            _claim: claim,
        }))
    }
}

/// One directory for each user of the machine, whose files others may not write. It does not depend on `TMPDIR`, which differs
/// between processes that compete for ports.
fn claims() -> PathBuf {
    PathBuf::from(format!("/tmp/dezky-ports-{}", Uid::effective()))
}
