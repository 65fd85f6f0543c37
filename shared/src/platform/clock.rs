//! The only place that reads the machine's clocks.
//!
//! Wall-clock time is for people and for documents. Whether a lease may still be trusted is measured on
//! `CLOCK_BOOTTIME`, which goes on while the machine sleeps and is never set back.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The wall clock, to the millisecond that documents keep.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one door to the wall clock"
)]
pub fn now() -> bson::DateTime {
    bson::DateTime::now()
}

/// Time since the machine started, sleep included.
pub fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    Duration::from(time)
}

/// `time` moved into the future by `by`.
pub fn later(time: bson::DateTime, by: Duration) -> bson::DateTime {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    bson::DateTime::from_millis(time.timestamp_millis().saturating_add(millis))
}

/// `time` moved into the past by `by`.
pub fn earlier(time: bson::DateTime, by: Duration) -> bson::DateTime {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    bson::DateTime::from_millis(time.timestamp_millis().saturating_sub(millis))
}

/// How long from `from` until `to`; zero when `to` is not later.
pub fn until(from: bson::DateTime, to: bson::DateTime) -> Duration {
    let millis = to
        .timestamp_millis()
        .saturating_sub(from.timestamp_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
