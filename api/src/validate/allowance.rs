//! Sizes and counts of allowances.

use super::Violation;

/// Maximum size: a petabyte.
const MAX_BYTES: i64 = 1_000_000_000_000_000;
/// Maximum count.
const MAX_COUNT: i32 = 100_000;

/// A size in bytes; 0 is unlimited. Never negative: the file server would hide the space.
pub fn bytes(bytes: i64) -> Result<i64, Violation> {
    if (0..=MAX_BYTES).contains(&bytes) {
        Ok(bytes)
    } else {
        let message = format!("Must be 0–{MAX_BYTES}, in bytes. 0 is unlimited.");
        Err(("out_of_range", message))
    }
}

/// A maximum count.
pub fn count(count: i64) -> Result<i32, Violation> {
    i32::try_from(count)
        .ok()
        .filter(|count| (1..=MAX_COUNT).contains(count))
        .ok_or_else(|| ("out_of_range", format!("Must be 1–{MAX_COUNT}.")))
}
