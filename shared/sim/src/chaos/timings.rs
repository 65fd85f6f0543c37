//! Timings of the workers under test.

use std::time::Duration;

/// Lease of the workers. Their other timings are proportional to it.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// Time from the end of a lease until the last write of its holder has landed.
pub(super) const LANDING_TIME: Duration = Duration::from_secs(1);
