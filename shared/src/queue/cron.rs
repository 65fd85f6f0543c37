//! Wall-clock times: which instants a cron expression names on the clocks of a zone.
//!
//! Each time that it names is one instant: one that the clocks skip is the instant of the change, one that they show
//! twice is the first of the two. So none is lost and none comes twice. What is meant as an interval belongs in UTC.

use bson::DateTime;
use cronexpr::Crontab;
use jiff::{
    Timestamp,
    civil::DateTime as WallClock,
    tz::{AmbiguousOffset, TimeZone},
};

/// Wall-clock times in a zone.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    /// The cron expression: minute, hour, day of month, month, day of week.
    pub expression: &'static str,
    /// The zone's name in the IANA database.
    pub zone: &'static str,
    times: Crontab,
    clock: TimeZone,
}

/// An expression or a zone that means nothing.
#[derive(Debug, thiserror::Error)]
#[error("the schedule {expression:?} in {zone:?} cannot be read: {reason}")]
pub struct CalendarError {
    expression: &'static str,
    zone: &'static str,
    reason: String,
}

impl CronSchedule {
    /// The times that `expression` names on the clocks of `zone`. Of the usual extensions, `L` is not known.
    pub fn new(expression: &'static str, zone: &'static str) -> Result<Self, CalendarError> {
        let unreadable = |reason: String| CalendarError {
            expression,
            zone,
            reason,
        };
        // cronexpr 1.7 forgets the last day of every December, and the last of its weekdays.
        let days = expression.split_whitespace().skip(2).step_by(2);
        if days
            .flat_map(str::chars)
            .any(|sign| sign.eq_ignore_ascii_case(&'L'))
        {
            return Err(unreadable(
                "the last day of a month cannot be named".to_owned(),
            ));
        }
        Ok(Self {
            expression,
            zone,
            // In UTC, where each time of the clock comes once: what the zone makes of it is decided here.
            times: cronexpr::parse_crontab(&format!("{expression} UTC"))
                .map_err(|error| unreadable(error.to_string()))?,
            clock: TimeZone::get(zone).map_err(|error| unreadable(error.to_string()))?,
        })
    }

    /// The instants after `instant`, in order and without end. It does end where the expression names no time within
    /// four years, and with the calendar itself.
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

    /// When the zone's clocks first show `time`, or skip it.
    fn instant_of(&self, time: WallClock) -> Option<DateTime> {
        let ambiguous = self.clock.to_ambiguous_timestamp(time);
        let is_skipped = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        let instant = ambiguous.compatible().ok()?;
        let instant = if is_skipped {
            // The clocks were moved at most as long ago as they were moved far.
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

/// A stored time; one beyond the calendar (the year 9999) is its end.
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
        // Its clocks change at midnight.
        "Africa/Cairo",
        // By half an hour.
        "Australia/Lord_Howe",
        // Not on a full hour of UTC.
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
    fn a_time_that_the_clocks_skip_is_the_instant_of_the_change() {
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
    fn a_time_that_the_clocks_show_twice_is_the_first_of_the_two() {
        let berlin = CronSchedule::new("30 2 * * *", "Europe/Berlin").unwrap();

        let found = texts(berlin.after(at("2026-10-24T12:00:00Z")).take(2));
        let between_the_two = berlin.next(at("2026-10-25T00:45:00Z"));

        assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        assert_eq!(between_the_two, Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn a_calendar_that_means_nothing_is_refused_and_one_that_never_comes_ends() {
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
        fn a_daily_time_comes_once_on_every_date_at_the_time_asked_for(
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
                let asked = shown.date().at(hour, minute, 0, 0);
                let is_skipped = matches!(
                    clock.to_ambiguous_timestamp(asked).offset(), AmbiguousOffset::Gap { .. }
                );
                prop_assert_eq!(shown == asked, !is_skipped);
                prop_assert!(shown >= asked);
            }
            let before_the_first = clock.to_datetime(found[0]).date().yesterday().unwrap();
            let skipped_over = clock.to_timestamp(before_the_first.at(hour, minute, 0, 0)).unwrap();
            prop_assert!(skipped_over <= timestamp(from) + 1.hour());
        }

        #[test]
        fn a_day_of_the_month_comes_in_every_month_that_has_it(
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
            let wanted: Vec<_> = all.filter(|date| date.day() == day && date.year() < year + 2).collect();
            prop_assert_eq!(dates, wanted);
        }
    }
}
