//! Words and times of the API, as pages show them.

use std::fmt;

use bson::DateTime;
use serde::Deserialize;

use crate::timestamp::Timestamp;

/// A state. Shown as a word and an icon, so that its color is not needed to understand it.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct State(pub(super) String);

impl State {
    /// Class of the state in the stylesheet.
    pub(super) fn tone(&self) -> &'static str {
        match self.0.as_str() {
            "completed" | "ok" | "active" | "healthy" | "verified" | "done" | "true" | "alive"
            | "complete" | "running" | "paid" | "on" | "normal" => "good",
            "discarded"
            | "error"
            | "failed"
            | "critical"
            | "credentials_refused"
            | "permission_missing"
            | "away"
            | "false"
            | "lost"
            | "discard"
            | "timeout"
            | "rescue"
            | "refused"
            | "exceeded"
            | "uncollectible" => "bad",
            "cancelled" | "skipped" | "terminated" | "disabled" | "cancel" | "off" | "void" => {
                "idle"
            }
            _ => "wait",
        }
    }

    /// Icon of the state.
    pub(super) fn icon(&self) -> &'static str {
        match self.tone() {
            "good" => "✓",
            "bad" => "✗",
            "idle" => "–",
            _ => "…",
        }
    }

    /// A state that the API has no word for.
    pub(super) fn new(word: &str) -> Self {
        Self(word.to_owned())
    }

    pub(super) fn is(&self, state: &str) -> bool {
        self.0 == state
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace('_', " "))
    }
}

/// A time (RFC 3339, UTC).
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Time(String);

impl Time {
    /// The time as machines read it.
    pub(super) fn iso(&self) -> &str {
        &self.0
    }

    /// Milliseconds since 1970. `None` if the text is no time.
    pub(super) fn millis(&self) -> Option<i64> {
        let time: jiff::Timestamp = self.0.parse().ok()?;
        Some(time.as_millisecond())
    }
}

impl From<DateTime> for Time {
    fn from(time: DateTime) -> Self {
        Self(Timestamp::from(time).to_string())
    }
}

/// To the second: `2026-11-22 09:30:00 UTC`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.get(..10), self.0.get(11..19)) {
            (Some(date), Some(time)) => write!(f, "{date} {time} UTC"),
            _ => f.write_str(&self.0),
        }
    }
}

/// An amount in minor units: `499.00 DKK`.
pub(super) fn amount(minor: i64, exponent: u8, currency: &str) -> String {
    let unit = 10_u64.pow(exponent.into());
    let sign = if minor < 0 { "-" } else { "" };
    let (whole, rest) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    if exponent == 0 {
        format!("{sign}{whole} {currency}")
    } else {
        let width = usize::from(exponent);
        format!("{sign}{whole}.{rest:0width$} {currency}")
    }
}

/// A number of bytes in decimal units: `1.5 GB`.
pub(super) fn bytes(number: i64) -> String {
    const UNITS: [(i64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    let unit = UNITS.iter().find(|(size, _)| number >= *size);
    let Some((size, name)) = unit else {
        return format!("{number} B");
    };
    format!("{}.{} {name}", number / size, number % size * 10 / size)
}

/// A duration in its two largest units: `2 min 5 s`.
pub(super) fn duration(millis: i64) -> String {
    const UNITS: [(i64, &str); 5] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
        (1, "ms"),
    ];
    let largest = UNITS.iter().position(|(size, _)| millis >= *size);
    let Some(largest) = largest else {
        return "0 ms".to_owned();
    };
    let mut rest = millis;
    let mut parts = Vec::new();
    for (size, name) in UNITS.iter().skip(largest).take(2) {
        if rest >= *size {
            parts.push(format!("{} {name}", rest / size));
        }
        rest %= size;
    }
    parts.join(" ")
}

/// A number of things: `1 job`, `2 jobs`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration(0), "0 ms");
        assert_eq!(duration(1_250), "1 s 250 ms");
        assert_eq!(duration(120_000), "2 min");
        assert_eq!(duration(90_061_001), "1 d 1 h");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_550_000_000), "1.5 GB");
        assert_eq!(bytes(-5), "-5 B");
    }

    #[test]
    fn amounts_have_the_decimal_places_of_their_currency() {
        assert_eq!(amount(49_905, 2, "DKK"), "499.05 DKK");
        assert_eq!(amount(-5, 2, "EUR"), "-0.05 EUR");
        assert_eq!(amount(600, 0, "JPY"), "600 JPY");
        assert_eq!(amount(1_234, 3, "KWD"), "1.234 KWD");
    }
}
