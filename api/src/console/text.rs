//! Words and times of the API, as pages show them.

use std::fmt;

use serde::Deserialize;

/// A state. Shown as a word and an icon, so that its color is not needed to understand it.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct State(pub(super) String);

impl State {
    /// Class of the state in the stylesheet.
    pub(super) fn tone(&self) -> &'static str {
        match self.0.as_str() {
            "completed" | "ok" | "active" | "healthy" | "verified" | "done" | "true" | "alive"
            | "complete" | "running" | "paid" | "on" => "good",
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
    fn amounts_have_the_decimal_places_of_their_currency() {
        assert_eq!(amount(49_905, 2, "DKK"), "499.05 DKK");
        assert_eq!(amount(-5, 2, "EUR"), "-0.05 EUR");
        assert_eq!(amount(600, 0, "JPY"), "600 JPY");
        assert_eq!(amount(1_234, 3, "KWD"), "1.234 KWD");
    }
}
