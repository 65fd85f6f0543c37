//! Limit on open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The usual soft limit.
const DEFAULT: u64 = 1_024;

/// Raises the soft limit on open files to the hard limit, and returns the limit. Each connection is a file, and the usual
/// soft limit of 1,024 is low for a server.
pub fn raise_limit() -> usize {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "Cannot raise the limit on open files");
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(DEFAULT, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
