//! Backlog of the last day: the peaks of each quarter of an hour, as the leading worker samples them.

use std::{collections::BTreeMap, time::Duration};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::queue::job::Queue;

/// Length of an interval.
pub const INTERVAL: Duration = Duration::from_mins(15);
/// Time from the start of an interval until its peaks are deleted: a day, and the interval in which it began.
pub const RETENTION: Duration = Duration::from_hours(25);

/// Peaks of an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BacklogPeak {
    /// Start of the interval.
    #[serde(rename = "_id")]
    pub start: DateTime,
    /// Due jobs by the name of their queue. Names, because a newer build may have more queues.
    #[serde(default)]
    pub due: BTreeMap<String, i64>,
    /// Discarded jobs, counted up to a limit.
    #[serde(default)]
    pub discarded: i64,
}

impl BacklogPeak {
    /// A sample of the numbers at `now`.
    pub fn sample(due: &BTreeMap<Queue, u64>, discarded: u64, now: DateTime) -> Self {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let due = due.iter();
        Self {
            start: interval_start(now),
            due: due
                .map(|(queue, jobs)| (queue.name().to_owned(), number(*jobs)))
                .collect(),
            discarded: number(discarded),
        }
    }
}

/// Start of the interval that contains `time`.
pub fn interval_start(time: DateTime) -> DateTime {
    let millis = time.timestamp_millis();
    let length = i64::try_from(INTERVAL.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(millis - millis.rem_euclid(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    #[test]
    fn an_interval_starts_at_a_quarter_of_an_hour() {
        let start = DateTime::parse_rfc3339_str("2026-11-22T09:30:00Z").unwrap();
        let within = DateTime::from_millis(clock::later(start, INTERVAL).timestamp_millis() - 1);

        assert_eq!(interval_start(start), start);
        assert_eq!(interval_start(within), start);
        assert_eq!(
            interval_start(clock::later(start, INTERVAL)),
            clock::later(start, INTERVAL)
        );
    }
}
