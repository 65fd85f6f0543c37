//! Isolation of suspects: jobs that were running when their worker crashed.
//!
//! Most suspects are innocent: one poisonous job makes a suspect of every job beside it. So they run one at a time, in a
//! slot of their own beside all other jobs: the next crash names one of them. From its second crash on, a job runs alone
//! in its process, so that it takes no other job with it. A suspect whose turn has not come is released: otherwise it
//! would hold its lock meanwhile, and a job that withdraws access could wait for the attempts of all suspects.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The crashes from which on a job runs alone.
const ALONE_FROM: i32 = 2;

/// The turns of the suspects of this process, over all queues.
#[derive(Default)]
pub(super) struct Isolation {
    suspects: Arc<Mutex<()>>,
    /// Held exclusively by a job that runs alone, shared by all others.
    process: Arc<RwLock<()>>,
}

/// The permission to run a job, until it is dropped.
pub(super) enum IsolationGuard {
    Innocent {
        _beside: OwnedRwLockReadGuard<()>,
    },
    Suspect {
        _turn: OwnedMutexGuard<()>,
        _beside: OwnedRwLockReadGuard<()>,
    },
    Alone {
        _turn: OwnedMutexGuard<()>,
        _alone: OwnedRwLockWriteGuard<()>,
    },
}

impl Isolation {
    /// Waits until a job with this number of crashes may run beside the jobs that run now, or without them. `None` if
    /// another suspect has its turn.
    pub(super) async fn admit(&self, crashes: i32) -> Option<IsolationGuard> {
        let process = self.process.clone();
        if crashes == 0 {
            return Some(IsolationGuard::Innocent {
                _beside: process.read_owned().await,
            });
        }
        let turn = self.suspects.clone().try_lock_owned().ok()?;
        Some(if crashes < ALONE_FROM {
            IsolationGuard::Suspect {
                _turn: turn,
                _beside: process.read_owned().await,
            }
        } else {
            IsolationGuard::Alone {
                _turn: turn,
                _alone: process.write_owned().await,
            }
        })
    }
}

impl IsolationGuard {
    /// The guard of a suspect, which is held until its settlement is written: were it dropped before, the crash of the
    /// next suspect could be counted against this one, too. The guard of any other job ends here.
    pub(super) fn of_suspect(self) -> Option<Self> {
        match self {
            Self::Innocent { .. } => None,
            Self::Suspect { .. } | Self::Alone { .. } => Some(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn suspects_run_one_at_a_time_and_nothing_else_waits_for_them() {
        let isolation = Isolation::default();

        let first = isolation.admit(1).await;
        let second = isolation.admit(1).await;
        let innocent = isolation.admit(0).now_or_never();

        assert!(first.is_some() && second.is_none() && innocent.is_some());
        drop(first);
        assert!(isolation.admit(1).await.is_some());
    }

    #[tokio::test]
    async fn a_job_that_crashed_two_workers_runs_alone() {
        let isolation = Isolation::default();

        let innocent = isolation.admit(0).await;
        assert!(isolation.admit(2).now_or_never().is_none());
        drop(innocent);
        let alone = isolation.admit(2).await;

        assert!(alone.is_some());
        assert!(isolation.admit(0).now_or_never().is_none());
        assert!(isolation.admit(1).await.is_none());
    }
}
