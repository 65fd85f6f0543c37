//! The leases that this process holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool, atomic::Ordering},
};

use dezky_shared::id::{JobId, LeaseToken};
use dezky_upstreams::clients::LeaseDeadline;
use tokio_util::sync::CancellationToken;

/// A job whose lease this process holds.
#[derive(Debug)]
pub(super) struct LeasedJob {
    /// The fencing token.
    pub(super) token: LeaseToken,
    pub(super) deadline: LeaseDeadline,
    /// Cancelled when another worker is found to hold the lease.
    pub(super) lost: CancellationToken,
    /// Whether the handler has started: from the next renewal on, the loss of this process counts as a crash.
    pub(super) started: AtomicBool,
    /// Whether the attempt timed out. Its lease is not renewed any more.
    pub(super) timed_out: AtomicBool,
    /// Whether cancellation of the job was requested.
    pub(super) cancel_requested: AtomicBool,
}

/// The leases of all jobs in progress. Weak references: a lease renewed for an attempt that is gone would never expire,
/// so its job would never be rescued.
#[derive(Debug, Default)]
pub(super) struct LeaseTable(Mutex<HashMap<JobId, Weak<LeasedJob>>>);

impl LeaseTable {
    pub(super) fn add(
        &self,
        id: JobId,
        token: LeaseToken,
        deadline: LeaseDeadline,
    ) -> Arc<LeasedJob> {
        let job = Arc::new(LeasedJob {
            token,
            deadline,
            lost: CancellationToken::new(),
            started: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            cancel_requested: AtomicBool::new(false),
        });
        self.lock().insert(id, Arc::downgrade(&job));
        job
    }

    /// The leases to renew.
    pub(super) fn renewable(&self) -> Vec<(JobId, Arc<LeasedJob>)> {
        let mut leases = self.lock();
        leases.retain(|_, job| job.strong_count() > 0);
        leases
            .iter()
            .filter_map(|(id, job)| Some((*id, job.upgrade()?)))
            .filter(|(_, job)| !job.timed_out.load(Ordering::Relaxed))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Weak<LeasedJob>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_of_a_timed_out_attempt_is_not_renewed() {
        let leases = LeaseTable::default();
        let job = leases.add(JobId::new(), LeaseToken::new(), LeaseDeadline::unlimited());

        let before = leases.renewable().len();
        job.timed_out.store(true, Ordering::Relaxed);

        assert_eq!((before, leases.renewable().len()), (1, 0));
    }

    #[test]
    fn the_lease_of_an_attempt_that_is_gone_is_not_renewed() {
        let leases = LeaseTable::default();
        let job = leases.add(JobId::new(), LeaseToken::new(), LeaseDeadline::unlimited());

        drop(job);

        assert!(leases.renewable().is_empty());
    }
}
