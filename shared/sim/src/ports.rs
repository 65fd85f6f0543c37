//! Ports for programs that cannot be given a socket: chosen before they start, and nobody else's until they end.

use std::{
    env, fs,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use anyhow::Context as _;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::Uid,
};

/// Below the range from which Linux takes ports for outgoing connections, so that none of those is in the way.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port on loopback that was free, claimed against everyone else who asks here.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Locked for as long as the port is claimed, also by a process that was killed since.
    _claim: Flock<File>,
}

impl Port {
    /// Any free port.
    pub fn free() -> anyhow::Result<Self> {
        let first = rand::random_range(RANGE);
        for number in (first..RANGE.end).chain(RANGE.start..first) {
            if let Some(port) = Self::claim(number)? {
                return Ok(port);
            }
        }
        anyhow::bail!("no port between {} and {} is free", RANGE.start, RANGE.end)
    }

    /// This port if it is free, else any other.
    pub fn prefer(number: u16) -> anyhow::Result<Self> {
        match Self::claim(number)? {
            Some(port) => Ok(port),
            None => Self::free(),
        }
    }

    fn claim(number: u16) -> anyhow::Result<Option<Self>> {
        let directory = claims();
        fs::create_dir_all(&directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
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

/// One directory for each user of the machine, whose files others may not write.
fn claims() -> PathBuf {
    env::temp_dir().join(format!("dezky-ports-{}", Uid::effective()))
}
