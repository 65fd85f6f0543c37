//! Upstream clients: the parts shared by all clients.
//!
//! [`UpstreamHttp::send`] is the single place with the timeout, the span and the lease deadline; a client classifies
//! the [`UpstreamResponse`] for its upstream. **A write without a response is not an ordinary failure**: it becomes
//! [`ClientError::AnswerLost`], and the next attempt reads before it creates again.

pub mod authentik;
mod connect_failure;
mod error;
pub mod ocis;
mod response;
pub mod setup;
pub mod simulated;
pub mod stalwart;
pub mod stripe;
mod transport;

use std::{ops::RangeInclusive, time::Duration};

use self::connect_failure::connect_failure;
pub use self::{
    error::{ClientError, FailedCall},
    response::UpstreamResponse,
    transport::{BodySink, Operation, OperationKind, UpstreamHttp},
};
pub use crate::lease_deadline::LeaseDeadline;

/// Default timeout of a whole call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepted timeouts of a call in seconds: an attempt takes five minutes at most.
const CALL_TIMEOUTS: RangeInclusive<f64> = 0.1..=300.0;

/// Mode of an `ensure_…` operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Apply the changes.
    Apply,
    /// Report the changes only.
    DryRun,
}

/// Result of an `ensure_…` operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured<T> {
    /// The object; `None` only if a dry run found none.
    pub value: Option<T>,
    /// Changes made, or planned in a dry run: short phrases for operators, such as `group created`. Empty if in sync.
    pub changes: Vec<String>,
}

impl Ensured<()> {
    /// The result of an operation that returns no object.
    pub const fn with(changes: Vec<String>) -> Self {
        let value = Some(());
        Self { value, changes }
    }
}

/// Fingerprint of credentials: detects a change without revealing them.
pub(crate) fn fingerprint(credentials: &[&str]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in credentials {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let short = u64::from_be_bytes(
        digest[..8]
            .try_into()
            .expect("a SHA-256 digest has 32 bytes"),
    );
    format!("{short:016x}")
}
