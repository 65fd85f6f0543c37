//! Clocks. The only module that reads the machine's clocks.
//!
//! Wall-clock time is for display and for documents. Leases are measured on `CLOCK_BOOTTIME`, which continues during
//! suspend and is never set back.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Wall-clock time, with the millisecond precision of documents.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the wall clock"
)]
pub fn now() -> bson::DateTime {
    bson::DateTime::now()
}

/// Time since boot, including suspend.
pub fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    Duration::from(time)
}

/// `time` plus `by`, saturating.
pub fn later(time: bson::DateTime, by: Duration) -> bson::DateTime {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    bson::DateTime::from_millis(time.timestamp_millis().saturating_add(millis))
}

/// `time` minus `by`, saturating.
pub fn earlier(time: bson::DateTime, by: Duration) -> bson::DateTime {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    bson::DateTime::from_millis(time.timestamp_millis().saturating_sub(millis))
}

/// Duration from `from` to `to`; zero if `to` is not later.
pub fn until(from: bson::DateTime, to: bson::DateTime) -> Duration {
    let millis = to
        .timestamp_millis()
        .saturating_sub(from.timestamp_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
