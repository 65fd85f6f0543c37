//! How values are written in answers.

use std::fmt;

use bson::DateTime;
use serde::Serialize;
use utoipa::ToSchema;

/// A time: RFC 3339, UTC, with milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(format = DateTime, example = "2026-11-22T09:30:00.000Z")]
pub struct Timestamp(String);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<DateTime> for Timestamp {
    fn from(time: DateTime) -> Self {
        // Times beyond the calendar (the year 9999) come from nowhere but a broken document.
        let time = jiff::Timestamp::from_millisecond(time.timestamp_millis()).unwrap_or_default();
        Self(format!("{time:.3}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_milliseconds_also_where_they_are_zero() {
        let written = |millis| Timestamp::from(DateTime::from_millis(millis)).0;

        assert_eq!(written(1_795_339_800_000), "2026-11-22T09:30:00.000Z");
        assert_eq!(written(1_795_339_800_120), "2026-11-22T09:30:00.120Z");
    }
}
