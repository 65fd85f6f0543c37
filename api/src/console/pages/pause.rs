//! Fields of a form that pauses.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::platform::clock;

use super::super::form::Field;
use crate::timestamp::Timestamp;

/// The fields of a pause that starts now: its reason, and its end. The ends are times, so that a form that is sent twice
/// asks for the same pause.
pub(super) fn pause_fields(now: DateTime) -> Vec<Field> {
    let ends = [("for 1 hour", 1), ("for 4 hours", 4), ("for 24 hours", 24)];
    let ends = ends.map(|(label, hours)| {
        let end = clock::later(now, Duration::from_hours(hours));
        (Timestamp::from(end).to_string(), label)
    });
    let reason = Field::text("Reason", "reason", None);
    let until = Field::optional("End", "until", "when it is resumed", ends.into());
    vec![reason, until]
}
