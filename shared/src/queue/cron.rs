//! Cron schedule: the instants that a cron expression denotes in a time zone.
//!
//! Each wall-clock time maps to exactly one instant: a skipped time to the instant of the clock change, a repeated time
//! to its first occurrence. No occurrence is lost or duplicated. Intervals belong in UTC.

use bson::DateTime;
use cronexpr::Crontab;
use jiff::{
    Timestamp,
    civil::DateTime as WallClock,
    tz::{AmbiguousOffset, TimeZone},
};

/// Cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    /// Cron expression: minute, hour, day of month, month, day of week.
    pub expression: &'static str,
    /// Zone name in the IANA database.
    pub zone: &'static str,
    times: Crontab,
    clock: TimeZone,
}

/// Error: the expression or the zone is invalid.
#[derive(Debug, thiserror::Error)]
#[error("the schedule {expression:?} in {zone:?} is invalid: {reason}")]
pub struct CronError {
    expression: &'static str,
    zone: &'static str,
    reason: String,
}

impl CronSchedule {
    /// Parses `expression` in `zone`. Of the usual extensions, `L` is not supported.
    pub fn new(expression: &'static str, zone: &'static str) -> Result<Self, CronError> {
        let unreadable = |reason: String| CronError {
            expression,
            zone,
            reason,
        };
        // cronexpr 1.7 skips the last day of every December, and the last of its weekdays.
        let days = expression.split_whitespace().skip(2).step_by(2);
        if days
            .flat_map(str::chars)
            .any(|sign| sign.eq_ignore_ascii_case(&'L'))
        {
            return Err(unreadable(
                "the last day of a month (L) is not supported".to_owned(),
            ));
        }
        Ok(Self {
            expression,
            zone,
            // Evaluated in UTC, where every wall-clock time occurs once; this module maps the times to the zone.
            times: cronexpr::parse_crontab(&format!("{expression} UTC"))
                .map_err(|error| unreadable(error.to_string()))?,
            clock: TimeZone::get(zone).map_err(|error| unreadable(error.to_string()))?,
        })
    }

    /// Instants after `instant`, in order. Ends only if the expression matches no time within four years, or at the end
    /// of the calendar.
    pub fn after(&self, instant: DateTime) -> impl Iterator<Item = DateTime> + '_ {
        let shown = self.clock.to_datetime(timestamp(instant));
        let mut last = instant;
        std::iter::successors(self.time_after(shown), |time| self.time_after(*time))
            .map_while(|time| self.instant_of(time))
            .filter(move |instant| {
                let is_new = *instant > last;
                last = last.max(*instant);
                is_new
            })
    }

    /// The first instant after `instant`.
    pub fn next(&self, instant: DateTime) -> Option<DateTime> {
        self.after(instant).next()
    }

    fn time_after(&self, time: WallClock) -> Option<WallClock> {
        let as_utc = TimeZone::UTC.to_timestamp(time).ok()?;
        Some(self.times.find_next(as_utc).ok()?.datetime())
    }

    /// First instant at which the zone's clocks show `time`, or skip it.
    fn instant_of(&self, time: WallClock) -> Option<DateTime> {
        let ambiguous = self.clock.to_ambiguous_timestamp(time);
        let is_skipped = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        let instant = ambiguous.compatible().ok()?;
        let instant = if is_skipped {
            // A clock change of some length happened at most that long ago.
            self.clock
                .preceding(instant.checked_add(jiff::Span::new().seconds(1)).ok()?)
                .next()?
                .timestamp()
        } else {
            instant
        };
        Some(DateTime::from_millis(instant.as_millisecond()))
    }
}

/// Converts a stored time, saturating at the end of the calendar (the year 9999).
fn timestamp(time: DateTime) -> Timestamp {
    Timestamp::from_millisecond(time.timestamp_millis()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan as _, civil::date};
    use proptest::prelude::*;

    use super::*;

    const ZONES: [&str; 8] = [
        "UTC",
        "Europe/Berlin",
        "Europe/Dublin",
        "America/New_York",
        // Changes at midnight.
        "Africa/Cairo",
        // Changes by half an hour.
        "Australia/Lord_Howe",
        // An offset that is not a full hour.
        "Asia/Kathmandu",
        "America/St_Johns",
    ];

    fn at(text: &str) -> DateTime {
        DateTime::from_millis(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn texts(instants: impl IntoIterator<Item = DateTime>) -> Vec<String> {
        instants
            .into_iter()
            .map(|instant| timestamp(instant).to_string())
            .collect()
    }

    #[test]
    fn a_skipped_time_maps_to_the_instant_of_the_clock_change() {
        let berlin = CronSchedule::new("30 2 * * *", "Europe/Berlin").unwrap();

        let found = texts(berlin.after(at("2026-03-28T00:00:00Z")).take(3));

        assert_eq!(
            found,
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
    }

    #[test]
    fn a_repeated_time_maps_to_its_first_occurrence() {
        let berlin = CronSchedule::new("30 2 * * *", "Europe/Berlin").unwrap();

        let found = texts(berlin.after(at("2026-10-24T12:00:00Z")).take(2));
        let between_the_two = berlin.next(at("2026-10-25T00:45:00Z"));

        assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        assert_eq!(between_the_two, Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn an_invalid_schedule_is_rejected_and_one_without_instants_ends() {
        let no_zone = CronSchedule::new("0 1 * * *", "Europe/Atlantis").unwrap_err();
        let no_time = CronSchedule::new("0 25 * * *", "UTC").unwrap_err();
        let last_days = ["0 6 L * *", "0 6 15,l * *", "0 6 * * 5L"];
        let never = CronSchedule::new("0 1 30 2 *", "UTC").unwrap();

        assert!(no_zone.to_string().contains("Atlantis"), "{no_zone}");
        assert!(no_time.to_string().contains("0 25"), "{no_time}");
        for expression in last_days {
            assert!(
                CronSchedule::new(expression, "UTC").is_err(),
                "{expression}"
            );
        }
        assert!(CronSchedule::new("0 6 1 JUL *", "UTC").is_ok());
        assert_eq!(never.next(at("2026-11-22T00:00:00Z")), None);
    }

    fn any_zone() -> impl Strategy<Value = &'static str> {
        prop::sample::select(ZONES.to_vec())
    }

    /// From 2025 to 2038.
    fn any_instant() -> impl Strategy<Value = DateTime> {
        (1_735_689_600_000_i64..2_145_916_800_000).prop_map(DateTime::from_millis)
    }

    fn leaked(text: String) -> &'static str {
        Box::leak(text.into_boxed_str())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_daily_schedule_has_one_instant_per_date(
            zone in any_zone(), from in any_instant(), minute in 0_i8..60, hour in 0_i8..24,
        ) {
            let daily = CronSchedule::new(leaked(format!("{minute} {hour} * * *")), zone).unwrap();
            let clock = TimeZone::get(zone).unwrap();

            let found: Vec<Timestamp> = daily.after(from).take(380).map(timestamp).collect();

            prop_assert!(found[0] > timestamp(from));
            prop_assert!(found.is_sorted_by(|one, next| one < next));
            let shown: Vec<_> = found.iter().map(|instant| clock.to_datetime(*instant)).collect();
            for (one, next) in shown.iter().zip(&shown[1..]) {
                prop_assert_eq!(one.date().tomorrow().unwrap(), next.date());
            }
            for shown in shown {
                let expected = shown.date().at(hour, minute, 0, 0);
                let is_skipped = matches!(
                    clock.to_ambiguous_timestamp(expected).offset(), AmbiguousOffset::Gap { .. }
                );
                prop_assert_eq!(shown == expected, !is_skipped);
                prop_assert!(shown >= expected);
            }
            let before_the_first = clock.to_datetime(found[0]).date().yesterday().unwrap();
            let skipped_over = clock.to_timestamp(before_the_first.at(hour, minute, 0, 0)).unwrap();
            prop_assert!(skipped_over <= timestamp(from) + 1.hour());
        }

        #[test]
        fn a_monthly_schedule_has_one_instant_in_every_month_with_that_day(
            zone in any_zone(), year in 2025_i16..2037, day in 1_i8..=31, hour in 0_i8..24,
        ) {
            let monthly = CronSchedule::new(leaked(format!("0 {hour} {day} * *")), zone).unwrap();
            let clock = TimeZone::get(zone).unwrap();
            let new_year = |year| {
                let midnight = clock.to_timestamp(date(year, 1, 1).at(0, 0, 0, 0)).unwrap();
                DateTime::from_millis(midnight.as_millisecond() - 1)
            };

            let until = new_year(year + 2);
            let found = monthly.after(new_year(year)).take_while(|at| *at <= until);
            let dates: Vec<_> = found.map(|at| clock.to_datetime(timestamp(at)).date()).collect();

            let first = date(year, 1, 1);
            let all = (0..731).map(|days| first.checked_add(days.days()).unwrap());
            let expected: Vec<_> = all.filter(|date| date.day() == day && date.year() < year + 2).collect();
            prop_assert_eq!(dates, expected);
        }
    }
}
