//! Billing periods: consecutive half-open intervals `[start, end)` in UTC, in whole seconds.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use super::Cycle;

/// Milliseconds of a second.
const SECOND: i64 = 1_000;

/// A billing period. The end is the start of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// First instant.
    pub start: DateTime,
    /// First instant after it.
    pub end: DateTime,
}

/// The series of periods of a subscription. Ends are counted from an anchor, so that a short month does not shorten the
/// months after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BillingPeriods {
    /// Instant from which the periods are counted. A period that starts earlier ends here.
    pub anchor: DateTime,
    /// Length of a period.
    pub cycle: Cycle,
}

impl BillingPeriods {
    /// The period that starts at `start`; `None` beyond the calendar.
    pub fn starting_at(self, start: DateTime) -> Option<Period> {
        let end = if start < self.anchor {
            self.anchor
        } else {
            self.cycle.renewal(self.anchor, start)?
        };
        Some(Period { start, end })
    }

    /// The periods from `start` on, without a gap.
    pub fn following(self, start: DateTime) -> impl Iterator<Item = Period> {
        let next = move |period: &Period| self.starting_at(period.end);
        std::iter::successors(self.starting_at(start), next)
    }

    /// The periods from `start` on that have begun at `now`.
    pub fn begun(self, start: DateTime, now: DateTime) -> impl Iterator<Item = Period> {
        self.following(start)
            .take_while(move |period| period.start <= now)
    }

    /// Start of the period that contains `now`; the anchor if it is later.
    pub fn start_of_current(self, now: DateTime) -> Option<DateTime> {
        if now < self.anchor {
            return Some(self.anchor);
        }
        let next = self.cycle.next_number(self.anchor, now)?;
        self.cycle.nth(self.anchor, next - 1)
    }

    /// Whether a period starts at `at`.
    pub fn has_boundary(self, at: DateTime) -> bool {
        at >= self.anchor && self.start_of_current(at) == Some(at)
    }
}

/// `time` without its fraction of a second: the unit of periods, which payment providers share.
pub fn whole_second(time: DateTime) -> DateTime {
    let millis = time.timestamp_millis();
    DateTime::from_millis(millis - millis.rem_euclid(SECOND))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    fn day(text: &str) -> DateTime {
        at(&format!("{text}T10:00:00Z"))
    }

    fn ends(cycle: Cycle, anchor: &str, start: &str) -> Vec<DateTime> {
        let anchor = day(anchor);
        let periods = BillingPeriods { anchor, cycle };
        periods
            .following(day(start))
            .map(|period| period.end)
            .take(4)
            .collect()
    }

    #[test]
    fn months_that_are_short_do_not_shorten_those_after_them() {
        for (cycle, start, expected) in [
            (
                Cycle::Monthly,
                "2024-01-30",
                ["2024-02-29", "2024-03-30", "2024-04-30", "2024-05-30"],
            ),
            (
                Cycle::Monthly,
                "2026-01-31",
                ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"],
            ),
            (
                Cycle::Quarterly,
                "2025-11-30",
                ["2026-02-28", "2026-05-30", "2026-08-30", "2026-11-30"],
            ),
            (
                Cycle::Yearly,
                "2024-02-29",
                ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"],
            ),
        ] {
            assert_eq!(ends(cycle, start, start), expected.map(day), "{start}");
        }
    }

    /// getlago/lago-api#1840, #879: a day ahead of UTC, and with a change to summer time between two periods.
    #[test]
    fn the_time_zone_of_the_process_changes_no_period() {
        const VECTORS: &str = "months_that_are_short_do_not_shorten_those_after_them";
        let (_, module) = module_path!().split_once("::").unwrap();
        let vectors = format!("{module}::{VECTORS}");
        for zone in ["AHEAD-14", "EST5EDT,M3.2.0,M11.1.0"] {
            let tests = std::env::current_exe().unwrap();
            let run = Command::new(tests)
                .args(["--exact", vectors.as_str()])
                .env("TZ", zone)
                .output()
                .unwrap();

            let report = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success(), "{zone}: {report}");
            assert!(report.contains("1 passed"), "{zone}: {report}");
        }
    }

    #[test]
    fn a_period_before_the_anchor_ends_at_the_anchor() {
        let found = ends(Cycle::Monthly, "2026-03-15", "2026-02-20");

        let expected = ["2026-03-15", "2026-04-15", "2026-05-15", "2026-06-15"];
        assert_eq!(found, expected.map(day));
    }

    #[test]
    fn periods_begin_at_their_start_and_not_before() {
        let anchor = day("2026-01-31");
        let periods = BillingPeriods {
            anchor,
            cycle: Cycle::Monthly,
        };
        let begun = |now| periods.begun(anchor, at(now)).count();

        assert_eq!(begun("2026-01-31T09:59:59.999Z"), 0);
        assert_eq!(begun("2026-01-31T10:00:00Z"), 1);
        assert_eq!(begun("2026-02-28T09:59:59.999Z"), 1);
        assert_eq!(begun("2026-02-28T10:00:00Z"), 2);
    }

    #[test]
    fn the_current_period_starts_at_the_last_boundary() {
        let periods = BillingPeriods {
            anchor: day("2026-01-31"),
            cycle: Cycle::Monthly,
        };
        for (now, start) in [
            ("2025-12-01", "2026-01-31"),
            ("2026-01-31", "2026-01-31"),
            ("2026-02-27", "2026-01-31"),
            ("2026-02-28", "2026-02-28"),
            ("2026-04-10", "2026-03-31"),
        ] {
            assert_eq!(
                periods.start_of_current(day(now)),
                Some(day(start)),
                "{now}"
            );
        }
        let boundaries = ["2026-01-31", "2026-02-28", "2026-04-30"];
        assert!(
            boundaries
                .iter()
                .all(|time| periods.has_boundary(day(time)))
        );
        let others = ["2025-12-31", "2026-02-27", "2026-04-29", "2026-03-30"];
        assert!(!others.iter().any(|time| periods.has_boundary(day(time))));
    }

    #[test]
    fn there_is_no_period_beyond_the_calendar() {
        let periods = BillingPeriods {
            anchor: day("9999-12-30"),
            cycle: Cycle::Monthly,
        };

        assert_eq!(periods.following(periods.anchor).count(), 0);
    }

    #[test]
    fn a_fraction_of_a_second_is_cut_off() {
        assert_eq!(
            whole_second(at("2026-01-31T10:00:00.250Z")),
            at("2026-01-31T10:00:00Z")
        );
        assert_eq!(
            whole_second(DateTime::from_millis(-1)),
            DateTime::from_millis(-1_000)
        );
    }

    proptest! {
        #[test]
        fn periods_follow_each_other_and_each_instant_is_in_one(
            anchor in 0_i64..2_000_000_000,
            cycle in prop::sample::select(Cycle::ALL.to_vec()),
            later in 0_i64..200_000_000,
        ) {
            let anchor = DateTime::from_millis(anchor * 1_000);
            let now = DateTime::from_millis(anchor.timestamp_millis() + later * 1_000);
            let periods = BillingPeriods { anchor, cycle };

            let begun: Vec<Period> = periods.begun(anchor, now).collect();

            prop_assert_eq!(begun[0].start, anchor);
            prop_assert!(begun.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(begun.iter().all(|period| periods.has_boundary(period.start)));
            let last = begun[begun.len() - 1];
            prop_assert!(last.start <= now && now < last.end);
            prop_assert_eq!(periods.start_of_current(now), Some(last.start));
        }
    }
}
