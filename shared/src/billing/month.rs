//! Calendar month in UTC, by which snapshots, reports and payouts are counted.

use std::{fmt, str::FromStr, time::Duration};

use bson::DateTime;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::platform::clock;

/// One day.
const DAY: Duration = Duration::from_hours(24);

/// Calendar month in UTC, written `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    first: Date,
}

impl Month {
    /// The month that contains `time`.
    pub fn of(time: DateTime) -> Self {
        // No clock returns a time beyond the calendar (the year 9999).
        let time = Timestamp::from_millisecond(time.timestamp_millis()).unwrap_or_default();
        Self {
            first: time.to_zoned(TimeZone::UTC).date().first_of_month(),
        }
    }

    /// The month before.
    #[must_use]
    pub fn previous(self) -> Self {
        Self {
            first: self.first.saturating_sub(1.month()),
        }
    }

    /// The month after.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            first: self.first.saturating_add(1.month()),
        }
    }

    /// Number of months from this one to `later`; negative if that is earlier.
    pub fn months_until(self, later: Self) -> i32 {
        let count = |date: Date| i32::from(date.year()) * 12 + i32::from(date.month());
        count(later.first) - count(self.first)
    }

    /// Start of the next month.
    pub fn end(self) -> DateTime {
        let next = self.first.saturating_add(1.month());
        let next = TimeZone::UTC.to_timestamp(next.into());
        let next = next.unwrap_or(Timestamp::MAX);
        DateTime::from_millis(next.as_millisecond())
    }

    /// Whether `now` is so long after the end of the month that current data no longer describes it.
    pub fn is_past_grace(self, now: DateTime) -> bool {
        now >= clock::later(self.end(), DAY)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.first.year(), self.first.month())
    }
}

impl FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let month = (|| {
            let (year, month) = text.split_once('-')?;
            let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            let is_written = year.len() == 4 && month.len() == 2;
            if !is_written || !is_number(year) || !is_number(month) {
                return None;
            }
            Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()
        })();
        month
            .map(|first| Self { first })
            .ok_or_else(|| "expected a month such as 2026-11".to_owned())
    }
}

impl TryFrom<String> for Month {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    #[test]
    fn every_time_is_in_exactly_one_month() {
        for (time, month) in [
            ("2026-11-22T00:10:00Z", "2026-11"),
            ("2026-11-30T23:59:59.999Z", "2026-11"),
            ("2026-12-01T00:00:00Z", "2026-12"),
            ("2028-02-29T12:00:00Z", "2028-02"),
        ] {
            assert_eq!(Month::of(at(time)).to_string(), month, "{time}");
        }
    }

    #[test]
    fn a_month_ends_at_the_start_of_the_next_and_its_grace_lasts_a_day() {
        let month: Month = "2026-12".parse().unwrap();

        assert_eq!(month.end(), at("2027-01-01T00:00:00Z"));
        assert!(!month.is_past_grace(at("2027-01-01T23:59:59Z")));
        assert!(month.is_past_grace(at("2027-01-02T00:00:00Z")));
    }

    #[test]
    fn the_month_before_january_is_december() {
        let month = |text: &str| text.parse::<Month>().unwrap();

        assert_eq!(month("2027-01").previous(), month("2026-12"));
        assert_eq!(month("2026-03").previous(), month("2026-02"));
    }

    #[test]
    fn a_month_has_one_spelling() {
        assert_eq!("0001-01".parse::<Month>().unwrap().to_string(), "0001-01");
        for bad in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "2026-1",
            "26-11",
            "2026-011",
            "+026-11",
            "2026-+1",
            "2026-11-01",
            " 2026-11",
            "２０２６-11",
        ] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_month_of_the_calendar_has_an_end() {
        let last: Month = "9999-12".parse().unwrap();

        assert!(last.end() > at("9999-12-01T00:00:00Z"));
    }
}
