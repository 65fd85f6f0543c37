//! What benchmarks measure: each figure a line of JSON on standard output, which `cargo dev bench` gathers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what, such as `jobs/s`.
    pub unit: String,
}

/// Tells a figure to whoever runs the benchmark.
#[expect(clippy::print_stdout, reason = "figures are read from there")]
pub fn tell(name: impl Into<String>, value: f64, unit: &str) {
    let figure = Figure {
        name: name.into(),
        value,
        unit: unit.to_owned(),
    };
    if let Ok(line) = serde_json::to_string(&figure) {
        println!("{line}");
    }
}

/// `count` in `time`, for each second.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// The value below which this part of them lies, in milliseconds.
///
/// # Panics
/// If there are none.
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
