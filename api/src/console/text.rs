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
            | "complete" | "running" => "good",
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
            | "rescue" => "bad",
            "cancelled" | "skipped" | "terminated" | "disabled" | "cancel" => "idle",
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

/// A number of things: `1 job`, `2 jobs`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}
