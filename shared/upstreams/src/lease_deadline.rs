//! How long an attempt may still begin writes.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dezky_shared::platform::clock;

/// The most upstream request ids kept for an attempt.
const REQUEST_IDS: usize = 8;

/// The time during which the holder of a lease may believe that nobody else has it.
///
/// It ends before the lease does, is counted on `CLOCK_BOOTTIME` from before the claim or renewal was sent,
/// and is shared by all calls of one attempt. Each step keeps a record of its own calls.
#[derive(Debug, Clone)]
pub struct LeaseDeadline {
    /// Boot time in milliseconds; `u64::MAX` means for ever.
    ends: Arc<AtomicU64>,
    margin: Duration,
    least: Duration,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    request_ids: Mutex<VecDeque<String>>,
    unanswered_writes: AtomicUsize,
}

impl LeaseDeadline {
    /// Trust that lasts until `ends` on the boot clock. A write gets at most what is left less `margin`, and is
    /// not begun when that is under `least`.
    pub fn until(ends: Duration, margin: Duration, least: Duration) -> Self {
        Self {
            ends: Arc::new(AtomicU64::new(millis(ends))),
            margin,
            least,
            calls: Arc::default(),
        }
    }

    /// Trust without an end, for callers that hold no lease.
    pub fn unlimited() -> Self {
        Self {
            ends: Arc::new(AtomicU64::new(u64::MAX)),
            margin: Duration::ZERO,
            least: Duration::ZERO,
            calls: Arc::default(),
        }
    }

    /// The same trust, with a record of calls of its own.
    #[must_use]
    pub fn for_step(&self) -> Self {
        Self {
            calls: Arc::default(),
            ..self.clone()
        }
    }

    /// Moves the end to `ends` on the boot clock: the lease was renewed.
    pub fn extend(&self, ends: Duration) {
        self.ends.fetch_max(millis(ends), Ordering::Relaxed);
    }

    /// What is left of it.
    pub fn remaining(&self) -> Duration {
        match self.ends.load(Ordering::Relaxed) {
            u64::MAX => Duration::MAX,
            ends => Duration::from_millis(ends).saturating_sub(clock::boot_time()),
        }
    }

    /// How long a write that wants `timeout` may take, or `None` if it must not begin.
    pub fn write_timeout(&self, timeout: Duration) -> Option<Duration> {
        let usable = self.remaining().saturating_sub(self.margin);
        (usable >= self.least).then(|| usable.min(timeout))
    }

    /// A write is about to be sent.
    pub(super) fn begin_write(&self) {
        self.calls.unanswered_writes.fetch_add(1, Ordering::Relaxed);
    }

    /// The caller of a write was told how it went.
    pub(super) fn end_write(&self) {
        self.calls.unanswered_writes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a write was cut off before its caller learned how it went.
    pub fn has_in_flight_writes(&self) -> bool {
        self.calls.unanswered_writes.load(Ordering::Relaxed) > 0
    }

    /// Remembers the id an upstream knows a request by.
    pub fn note_request_id(&self, id: &str) {
        let mut ids = self.request_ids_mut();
        if ids.len() == REQUEST_IDS {
            ids.pop_front();
        }
        ids.push_back(id.to_owned());
    }

    /// The last request ids noted, oldest first.
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

    fn trust_for(left: Duration) -> LeaseDeadline {
        LeaseDeadline::until(clock::boot_time() + left, 5 * SECOND, SECOND)
    }

    #[test]
    fn a_write_gets_what_is_left_of_the_trust_less_the_margin() {
        let timeout = trust_for(9 * SECOND).write_timeout(10 * SECOND).unwrap();

        assert!(timeout > 3 * SECOND && timeout <= 4 * SECOND, "{timeout:?}");
    }

    #[test]
    fn a_write_with_under_a_second_left_is_not_begun() {
        assert_eq!(trust_for(SECOND * 11 / 2).write_timeout(10 * SECOND), None);
        assert_eq!(trust_for(Duration::ZERO).write_timeout(10 * SECOND), None);
    }

    #[test]
    fn a_renewal_extends_the_trust_for_everyone_who_shares_it() {
        let trust = trust_for(Duration::ZERO);
        let shared = trust.clone();

        trust.extend(clock::boot_time() + 60 * SECOND);

        assert_eq!(shared.write_timeout(10 * SECOND), Some(10 * SECOND));
    }

    #[test]
    fn only_the_last_eight_request_ids_are_kept() {
        let trust = LeaseDeadline::unlimited();

        for n in 0..10 {
            trust.note_request_id(&n.to_string());
        }

        assert_eq!(
            trust.request_ids(),
            ["2", "3", "4", "5", "6", "7", "8", "9"]
        );
    }
}
