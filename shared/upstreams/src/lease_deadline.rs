//! Lease deadline: how long an attempt may still begin writes.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dezky_shared::platform::clock;

/// Maximum number of upstream request ids kept for an attempt.
const REQUEST_IDS: usize = 8;

/// Lease deadline: the time until which the holder may assume that no other worker holds the lease.
///
/// It precedes the end of the lease, is measured on `CLOCK_BOOTTIME` from before the claim or renewal was sent, and is
/// shared by all calls of an attempt. Each step records its own calls.
#[derive(Debug, Clone)]
pub struct LeaseDeadline {
    /// Boot time in milliseconds; `u64::MAX` is unlimited.
    ends: Arc<AtomicU64>,
    margin: Duration,
    min_write_timeout: Duration,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    request_ids: Mutex<VecDeque<String>>,
    in_flight: AtomicUsize,
    in_flight_writes: AtomicUsize,
    answered: AtomicBool,
}

impl LeaseDeadline {
    /// A deadline at `ends` on the boot clock. A write may take the remaining time minus `margin`, and is not begun if
    /// that is less than `min_write_timeout`.
    pub fn until(ends: Duration, margin: Duration, min_write_timeout: Duration) -> Self {
        Self {
            ends: Arc::new(AtomicU64::new(millis(ends))),
            margin,
            min_write_timeout,
            calls: Arc::default(),
        }
    }

    /// No deadline, for callers without a lease.
    pub fn unlimited() -> Self {
        Self {
            ends: Arc::new(AtomicU64::new(u64::MAX)),
            margin: Duration::ZERO,
            min_write_timeout: Duration::ZERO,
            calls: Arc::default(),
        }
    }

    /// A copy with the same deadline and a separate record of calls.
    #[must_use]
    pub fn for_step(&self) -> Self {
        Self {
            calls: Arc::default(),
            ..self.clone()
        }
    }

    /// Extends the deadline to `ends` on the boot clock, after a renewal of the lease.
    pub fn extend(&self, ends: Duration) {
        self.ends.fetch_max(millis(ends), Ordering::Relaxed);
    }

    /// Remaining time.
    pub fn remaining(&self) -> Duration {
        match self.ends.load(Ordering::Relaxed) {
            u64::MAX => Duration::MAX,
            ends => Duration::from_millis(ends).saturating_sub(clock::boot_time()),
        }
    }

    /// Timeout of a write that requests `timeout`, or `None` if it must not begin.
    pub fn write_timeout(&self, timeout: Duration) -> Option<Duration> {
        let usable = self.remaining().saturating_sub(self.margin);
        (usable >= self.min_write_timeout).then(|| usable.min(timeout))
    }

    /// Marks a call as in flight. It remains so if its future is dropped.
    pub(super) fn begin_call(&self, is_write: bool) {
        self.calls.in_flight.fetch_add(1, Ordering::Relaxed);
        if is_write {
            self.calls.in_flight_writes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Marks a call as settled: its caller received the result, which is `answered` if the upstream responded.
    pub(super) fn end_call(&self, is_write: bool, answered: bool) {
        self.calls.in_flight.fetch_sub(1, Ordering::Relaxed);
        if is_write {
            self.calls.in_flight_writes.fetch_sub(1, Ordering::Relaxed);
        }
        self.calls.answered.fetch_or(answered, Ordering::Relaxed);
    }

    /// Whether the upstream responded to any call.
    pub fn has_answered_calls(&self) -> bool {
        self.calls.answered.load(Ordering::Relaxed)
    }

    /// Whether a call was cut off before its caller received the result.
    pub fn has_in_flight_calls(&self) -> bool {
        self.calls.in_flight.load(Ordering::Relaxed) > 0
    }

    /// Whether a write was cut off before its caller received the result.
    pub fn has_in_flight_writes(&self) -> bool {
        self.calls.in_flight_writes.load(Ordering::Relaxed) > 0
    }

    /// Records a request id assigned by an upstream.
    pub fn note_request_id(&self, id: &str) {
        let mut ids = self.request_ids_mut();
        if ids.len() == REQUEST_IDS {
            ids.pop_front();
        }
        ids.push_back(id.to_owned());
    }

    /// The last recorded request ids, oldest first.
    pub fn request_ids(&self) -> Vec<String> {
        self.request_ids_mut().iter().cloned().collect()
    }

    fn request_ids_mut(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.calls
            .request_ids
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadline_in(left: Duration) -> LeaseDeadline {
        LeaseDeadline::until(clock::boot_time() + left, 5 * SECOND, SECOND)
    }

    #[test]
    fn a_write_may_take_the_remaining_time_minus_the_margin() {
        let timeout = deadline_in(9 * SECOND).write_timeout(10 * SECOND).unwrap();

        assert!(timeout > 3 * SECOND && timeout <= 4 * SECOND, "{timeout:?}");
    }

    #[test]
    fn a_write_with_less_than_a_second_left_is_not_begun() {
        assert_eq!(
            deadline_in(SECOND * 11 / 2).write_timeout(10 * SECOND),
            None
        );
        assert_eq!(deadline_in(Duration::ZERO).write_timeout(10 * SECOND), None);
    }

    #[test]
    fn a_renewal_extends_all_copies_of_the_deadline() {
        let deadline = deadline_in(Duration::ZERO);
        let shared = deadline.clone();

        deadline.extend(clock::boot_time() + 60 * SECOND);

        assert_eq!(shared.write_timeout(10 * SECOND), Some(10 * SECOND));
    }

    #[test]
    fn only_the_last_eight_request_ids_are_kept() {
        let deadline = LeaseDeadline::unlimited();

        for n in 0..10 {
            deadline.note_request_id(&n.to_string());
        }

        assert_eq!(
            deadline.request_ids(),
            ["2", "3", "4", "5", "6", "7", "8", "9"]
        );
    }
}
