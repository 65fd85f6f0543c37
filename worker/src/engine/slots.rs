//! Slot pools: which priority lanes may take a queue's slots.
//!
//! Long jobs of one lane would otherwise hold every slot, and an urgent job would wait for one of them to end.

use std::sync::Arc;

use dezky_shared::queue::priority::Priority;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of this many slots one is reserved for security, from the minimum on.
const SECURITY_SHARE: usize = 16;
/// Of this many slots one is reserved for interactive jobs.
const INTERACTIVE_SHARE: usize = 4;
/// With fewer slots none is reserved for security.
const SECURITY_MINIMUM: usize = 4;
/// Limit on the unsettled jobs of a pool, in multiples of its slots.
const UNSETTLED_FACTOR: usize = 2;

/// A part of a queue's slots.
#[derive(Debug, Clone)]
pub(super) struct SlotPool {
    /// The least urgent lane that it serves.
    pub(super) lowest: Priority,
    /// The number of its slots.
    pub(super) size: usize,
    /// Its free slots.
    free: Arc<Semaphore>,
    /// Room for further jobs that run or wait for their settlement.
    unsettled: Arc<Semaphore>,
}

/// An occupied slot.
#[derive(Debug)]
pub(super) struct Slot {
    _running: OwnedSemaphorePermit,
    unsettled: OwnedSemaphorePermit,
}

impl Slot {
    /// Frees the slot for the next job, which is claimed while this one is settled. The rest counts among the pool's
    /// unsettled jobs until it is dropped, so that they cannot pile up while settlements fail.
    pub(super) fn free(self) -> OwnedSemaphorePermit {
        self.unsettled
    }
}

impl SlotPool {
    fn new(size: usize, lowest: Priority) -> Self {
        Self {
            lowest,
            size,
            free: Arc::new(Semaphore::new(size)),
            unsettled: Arc::new(Semaphore::new(UNSETTLED_FACTOR * size)),
        }
    }

    /// Waits for a free slot. `None` if the pool is closed.
    pub(super) async fn acquire(&self) -> Option<Slot> {
        let unsettled = self.unsettled.clone().acquire_owned().await.ok()?;
        let running = self.free.clone().acquire_owned().await.ok()?;
        Some(Slot {
            _running: running,
            unsettled,
        })
    }

    /// A slot, if one is free now.
    pub(super) fn try_acquire(&self) -> Option<Slot> {
        let unsettled = self.unsettled.clone().try_acquire_owned().ok()?;
        let running = self.free.clone().try_acquire_owned().ok()?;
        Some(Slot {
            _running: running,
            unsettled,
        })
    }
}

/// The pools of a queue with this many slots. One slot serves every lane.
pub(super) fn pools(slots: usize) -> Vec<SlotPool> {
    let [security, interactive] = reserved(slots);
    [security, interactive, slots - security - interactive]
        .into_iter()
        .zip(Priority::ALL)
        .filter(|(size, _)| *size > 0)
        .map(|(size, lowest)| SlotPool::new(size, lowest))
        .collect()
}

/// The slots reserved for security and for interactive jobs.
fn reserved(slots: usize) -> [usize; 2] {
    let security = if slots < SECURITY_MINIMUM {
        0
    } else {
        (slots / SECURITY_SHARE).max(1)
    };
    let interactive = if slots < 2 {
        0
    } else {
        (slots / INTERACTIVE_SHARE).max(1)
    };
    [security, interactive]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_with_two_slots_or_more_has_room_that_bulk_work_cannot_take() {
        let sizes = |slots| {
            let pools = pools(slots).into_iter();
            pools
                .map(|pool| (pool.lowest.number(), pool.free.available_permits()))
                .collect::<Vec<_>>()
        };

        assert_eq!(sizes(0), []);
        assert_eq!(sizes(1), [(2, 1)]);
        assert_eq!(sizes(2), [(1, 1), (2, 1)]);
        assert_eq!(sizes(4), [(0, 1), (1, 1), (2, 2)]);
        assert_eq!(sizes(16), [(0, 1), (1, 4), (2, 11)]);
        assert_eq!(sizes(64), [(0, 4), (1, 16), (2, 44)]);
    }

    #[test]
    fn a_slot_is_free_while_its_job_is_settled_and_unsettled_jobs_are_limited() {
        let pool = SlotPool::new(1, Priority::Bulk);

        let first = pool.try_acquire().expect("the slot is free");
        assert!(pool.try_acquire().is_none());
        let first = first.free();
        let second = pool.try_acquire().expect("the slot is free again");
        let second = second.free();
        assert!(pool.try_acquire().is_none(), "both are unsettled");
        drop(first);

        assert!(pool.try_acquire().is_some());
        drop(second);
    }
}
