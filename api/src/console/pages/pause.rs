//! Fields of a form that pauses.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::platform::clock;

use crate::timestamp::Timestamp;

/// An end of a pause that can be chosen.
#[derive(Debug)]
pub(super) struct PauseEnd {
    pub(super) label: &'static str,
    pub(super) value: String,
}

/// The ends of a pause that starts now. They are times, so that a form that is sent twice asks for the same pause.
pub(super) fn pause_ends(now: DateTime) -> Vec<PauseEnd> {
    let ends = [("for 1 hour", 1), ("for 4 hours", 4), ("for 24 hours", 24)];
    let ends = ends.map(|(label, hours)| PauseEnd {
        label,
        value: Timestamp::from(clock::later(now, Duration::from_hours(hours))).to_string(),
    });
    ends.into()
}
