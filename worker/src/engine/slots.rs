//! Slot pools: which priority lanes may take a queue's slots.
//!
//! Long jobs of one lane would otherwise hold every slot, and an urgent job would wait for one of them to end.

use std::sync::Arc;

use dezky_shared::queue::priority::Priority;
use tokio::sync::Semaphore;

/// Of this many slots one is reserved for security, from the minimum on.
const SECURITY_SHARE: usize = 16;
/// Of this many slots one is reserved for interactive jobs.
const INTERACTIVE_SHARE: usize = 4;
/// With fewer slots none is reserved for security.
const SECURITY_MINIMUM: usize = 4;

/// A part of a queue's slots.
#[derive(Debug, Clone)]
pub(super) struct SlotPool {
    /// The least urgent lane that it serves.
    pub(super) lowest: Priority,
    /// Its free slots.
    pub(super) free: Arc<Semaphore>,
}

/// The pools of a queue with this many slots. One slot serves every lane.
pub(super) fn pools(slots: usize) -> Vec<SlotPool> {
    let [security, interactive] = reserved(slots);
    [security, interactive, slots - security - interactive]
        .into_iter()
        .zip(Priority::ALL)
        .filter(|(size, _)| *size > 0)
        .map(|(size, lowest)| SlotPool {
            lowest,
            free: Arc::new(Semaphore::new(size)),
        })
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
}
