//! Timestamps in responses.

use std::fmt;

use bson::DateTime;
use serde::Serialize;
use utoipa::ToSchema;

/// RFC 3339 timestamp in UTC, with milliseconds.
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
        // Only a corrupt document has a time after the year 9999.
        let time = jiff::Timestamp::from_millisecond(time.timestamp_millis()).unwrap_or_default();
        Self(format!("{time:.3}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_always_written() {
        let format = |millis| Timestamp::from(DateTime::from_millis(millis)).0;

        assert_eq!(format(1_795_339_800_000), "2026-11-22T09:30:00.000Z");
        assert_eq!(format(1_795_339_800_120), "2026-11-22T09:30:00.120Z");
    }
}
