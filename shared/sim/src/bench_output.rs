//! Output of the benchmarks: each figure is a line of JSON on standard output, collected by `cargo dev bench`.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use dezky_shared::platform::config::boolean;
use serde::{Deserialize, Serialize};

/// Minimum time between two lines about what a benchmark is doing.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Variable by which benchmarks run at their full sizes: `true` or `false`. Default: false.
pub const FULL: &str = "DEZKY_BENCH_FULL";

/// A measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Name, unique among all benchmarks.
    pub name: String,
    /// Value.
    pub value: f64,
    /// Unit, such as `jobs/s`.
    pub unit: String,
}

/// Prints a figure as a line of JSON.
#[expect(
    clippy::print_stdout,
    reason = "`cargo dev bench` reads standard output"
)]
pub fn report(name: impl Into<String>, value: f64, unit: &str) {
    let figure = Figure {
        name: name.into(),
        value,
        unit: unit.to_owned(),
    };
    if let Ok(line) = serde_json::to_string(&figure) {
        println!("{line}");
    }
}

/// Prints a figure that must not exceed `limit`. Returns whether it does not.
#[expect(
    clippy::print_stdout,
    reason = "`cargo dev bench` reads standard output"
)]
pub fn within(name: impl Into<String>, value: f64, unit: &str, limit: f64) -> bool {
    let name = name.into();
    let holds = value <= limit;
    if !holds {
        println!("LIMIT EXCEEDED: {name} is {value:.2}, and may be {limit}");
    }
    report(name, value, unit);
    holds
}

/// Prints what a benchmark is doing, at most once in two seconds.
#[expect(
    clippy::print_stdout,
    reason = "`cargo dev bench` reads standard output"
)]
pub fn progress(text: impl Into<String>) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| last.elapsed() > PROGRESS_INTERVAL) {
        *last = Some(Instant::now());
        println!("  {}", text.into());
    }
}

/// Size of a benchmark: `full` with `cargo dev bench --full`, otherwise one with which it ends within two minutes.
///
/// # Panics
/// If [`FULL`] is neither `true` nor `false`.
pub fn size(default: usize, full: usize) -> usize {
    let is_full = boolean(FULL, false).expect("`cargo dev bench` sets the variable");
    if is_full { full } else { default }
}

/// An integer with thousands separators.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `total` per item.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn per(total: u64, items: usize) -> f64 {
    total as f64 / items as f64
}

/// `count` per second of `time`.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The percentile `part` (0 to 1) in milliseconds.
///
/// # Panics
/// If `spans` is empty.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into a list"
)]
pub fn percentile(spans: &mut [Duration], part: f64) -> f64 {
    spans.sort_unstable();
    let index = (spans.len() as f64 * part) as usize;
    spans[index.min(spans.len() - 1)].as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let numbers = [0, 999, 1_000, 83_779, 1_234_567];

        assert_eq!(
            numbers.map(grouped),
            ["0", "999", "1,000", "83,779", "1,234,567"]
        );
    }
}
