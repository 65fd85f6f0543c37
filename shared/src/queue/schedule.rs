//! A schedule: what is to be done at which instants, and what becomes of instants that were missed.
//!
//! A schedule that is looked at late finds every instant since it was looked at last, and its policy says which of
//! them are still run.

use std::{collections::VecDeque, time::Duration};

use bson::DateTime;

use super::cron::CronSchedule;
use crate::{
    platform::clock,
    store::{StoreError, jobs::NewJob},
};

/// An instant that is found within this time was not missed.
const ON_TIME: Duration = Duration::from_mins(5);
/// How far back instants that were missed are looked for. Who was away for longer begins anew.
pub const MAX_CATCH_UP: Duration = Duration::from_hours(366 * 24);
/// The most jobs that a gap causes.
const MAX_INSTANTS: usize = 100;

/// Something that is done again and again.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name: stable, since the ledger knows it by that.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub purpose: &'static str,
    /// When.
    pub calendar: CronSchedule,
    /// What becomes of instants that were missed.
    pub missed: MisfirePolicy,
    /// Whether it can be run to only say what it would do.
    pub can_dry_run: bool,
    /// The job of one run.
    pub job: fn(Trigger, by: &str, now: DateTime) -> Result<NewJob, StoreError>,
}

/// Why a schedule is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Its time has come, perhaps a while ago.
    DueInstants {
        /// The instant.
        at: DateTime,
    },
    /// A person asked for it.
    Asked {
        /// Only to say what it would do.
        dry_run: bool,
    },
}

/// What becomes of instants that nobody saw come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MisfirePolicy {
    /// The last of them is made up for, and stands for all.
    Once,
    /// Each is made up for: the last hundred, if there are more.
    Each,
    /// None is made up for.
    Skip,
}

impl MisfirePolicy {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Each => "each",
            Self::Skip => "skip",
        }
    }
}

/// The instants that have come since a schedule was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueInstants {
    /// Those that are run, oldest first.
    pub run: Vec<DateTime>,
    /// How many others there were.
    pub missed: i64,
    /// The last of them all, from which the next look goes on.
    pub last: DateTime,
}

impl Schedule {
    /// The instants after `seen` until `now`; nothing if there are none.
    pub fn due(&self, seen: DateTime, now: DateTime) -> Option<DueInstants> {
        let from = seen.max(clock::earlier(now, MAX_CATCH_UP));
        let mut run = VecDeque::new();
        let mut found = 0;
        for instant in self.calendar.after(from).take_while(|at| *at <= now) {
            found += 1;
            run.push_back(instant);
            if run.len() > self.most_at_once() {
                run.pop_front();
            }
        }
        let last = *run.back()?;
        if self.missed == MisfirePolicy::Skip && clock::until(last, now) > ON_TIME {
            run.clear();
        }
        Some(DueInstants {
            missed: found - i64::try_from(run.len()).unwrap_or(found),
            run: run.into(),
            last,
        })
    }

    const fn most_at_once(&self) -> usize {
        match self.missed {
            MisfirePolicy::Each => MAX_INSTANTS,
            MisfirePolicy::Once | MisfirePolicy::Skip => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    fn schedule(expression: &'static str, missed: MisfirePolicy) -> Schedule {
        Schedule {
            name: "test",
            purpose: "",
            calendar: CronSchedule::new(expression, "UTC").unwrap(),
            missed,
            can_dry_run: false,
            job: |_, _, _| Err(StoreError::custom("not asked for")),
        }
    }

    #[test]
    fn of_what_was_missed_each_policy_makes_its_own() {
        let (seen, now) = (at("2026-11-19T01:00:00Z"), at("2026-11-22T09:00:00Z"));
        let due = |missed| schedule("0 1 * * *", missed).due(seen, now).unwrap();

        let (once, each, skip) = (
            due(MisfirePolicy::Once),
            due(MisfirePolicy::Each),
            due(MisfirePolicy::Skip),
        );

        assert_eq!(once.run, [at("2026-11-22T01:00:00Z")]);
        assert_eq!(each.run.len(), 3);
        assert_eq!(skip.run, []);
        assert_eq!((once.missed, each.missed, skip.missed), (2, 0, 3));
        assert_eq!(
            [once.last, each.last, skip.last],
            [at("2026-11-22T01:00:00Z"); 3]
        );
    }

    #[test]
    fn an_instant_that_is_found_soon_was_not_missed() {
        let nightly = schedule("0 1 * * *", MisfirePolicy::Skip);

        let soon = nightly.due(at("2026-11-21T01:00:00Z"), at("2026-11-22T01:00:09Z"));
        let again = nightly.due(at("2026-11-22T01:00:00Z"), at("2026-11-22T01:00:09Z"));

        assert_eq!(soon.unwrap().run, [at("2026-11-22T01:00:00Z")]);
        assert_eq!(again, None);
    }

    #[test]
    fn a_year_without_anybody_looking_causes_a_hundred_jobs_at_most() {
        let (seen, now) = (at("2020-01-01T00:00:00Z"), at("2026-11-22T09:00:00Z"));

        for (missed, most) in [
            (MisfirePolicy::Once, 1),
            (MisfirePolicy::Each, 100),
            (MisfirePolicy::Skip, 1),
        ] {
            let due = schedule("*/5 * * * *", missed).due(seen, now).unwrap();

            assert_eq!(due.run.len(), most);
            assert_eq!(due.last, now);
            // A year's, and not the six before it.
            let found = due.missed + i64::try_from(due.run.len()).unwrap();
            assert_eq!(found, 366 * 24 * 12);
        }
    }

    /// From 2025 to 2038.
    fn any_instant() -> impl Strategy<Value = DateTime> {
        (1_735_689_600_000_i64..2_145_916_800_000).prop_map(DateTime::from_millis)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn looking_often_finds_what_looking_once_finds(
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe"]),
            from in any_instant(),
            pauses in prop::collection::vec(1_i64..3_000, 1..10),
            expression in prop::sample::select(vec![
                "*/7 * * * *", "0,30 1-3 * * *", "15 2 * * 0", "0 0 31 * *", "59 23 28-31 * *", "0 0 * * *",
            ]),
        ) {
            let calendar = CronSchedule::new(expression, zone).unwrap();
            let mut each = schedule("* * * * *", MisfirePolicy::Each);
            each.calendar = calendar.clone();
            let mut now = from;
            let (mut seen, mut found, mut run) = (from, 0, Vec::new());

            for minutes in pauses {
                now = clock::later(now, Duration::from_secs(60 * minutes.unsigned_abs()));
                if let Some(due) = each.due(seen, now) {
                    found += due.missed + i64::try_from(due.run.len()).unwrap();
                    run.extend(due.run);
                    seen = due.last;
                }
            }

            let all: Vec<_> = calendar.after(from).take_while(|at| *at <= now).collect();
            prop_assert_eq!(found, i64::try_from(all.len()).unwrap());
            prop_assert!(run.iter().all(|at| all.binary_search(at).is_ok()));
            prop_assert!(run.is_sorted_by(|one, next| one < next));
        }
    }
}
