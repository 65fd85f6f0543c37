//! Schedule: a recurring job, its instants, and the misfire policy for missed instants.
//!
//! A late evaluation finds every instant since the last one; the misfire policy selects those that still run.

use std::{collections::VecDeque, time::Duration};

use bson::DateTime;
use mongodb::error::Error;
use serde::Serialize;
use utoipa::ToSchema;

use super::{cron::CronSchedule, new_job::NewJob};
use crate::platform::clock;

/// An instant found within this time is not missed.
const ON_TIME: Duration = Duration::from_mins(5);
/// Catch-up window: older missed instants are ignored.
pub const MAX_CATCH_UP: Duration = Duration::from_hours(366 * 24);
/// Maximum number of jobs for one gap.
const MAX_INSTANTS: usize = 100;

/// Recurring job.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Stable name, which the ledger stores.
    pub name: &'static str,
    /// Purpose, in one sentence.
    pub purpose: &'static str,
    /// Cron schedule.
    pub cron: CronSchedule,
    /// Misfire policy.
    pub misfire_policy: MisfirePolicy,
    /// Whether it supports a dry run.
    pub can_dry_run: bool,
    /// Builds the job of one run.
    pub job: fn(Trigger, by: &str, now: DateTime) -> Result<NewJob, Error>,
}

/// Reason for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A due instant, possibly in the past.
    Scheduled {
        /// The instant.
        at: DateTime,
    },
    /// A manual run.
    Manual {
        /// Whether it is a dry run.
        dry_run: bool,
    },
}

/// Misfire policy: the treatment of missed instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MisfirePolicy {
    /// Runs the last missed instant, for all.
    Once,
    /// Runs each missed instant, at most the last hundred.
    Each,
    /// Runs no missed instant.
    Skip,
}

/// Due instants since the last evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueInstants {
    /// Instants to run, oldest first.
    pub run: Vec<DateTime>,
    /// Number of skipped instants.
    pub missed: i64,
    /// The last due instant, from which the next evaluation continues.
    pub last: DateTime,
}

impl Schedule {
    /// Instants after `seen` until `now`; `None` if there are none.
    pub fn due(&self, seen: DateTime, now: DateTime) -> Option<DueInstants> {
        let from = seen.max(clock::earlier(now, MAX_CATCH_UP));
        let mut run = VecDeque::new();
        let mut found = 0;
        for instant in self.cron.after(from).take_while(|at| *at <= now) {
            found += 1;
            run.push_back(instant);
            if run.len() > self.most_at_once() {
                run.pop_front();
            }
        }
        let last = *run.back()?;
        if self.misfire_policy == MisfirePolicy::Skip && clock::until(last, now) > ON_TIME {
            run.clear();
        }
        Some(DueInstants {
            missed: found - i64::try_from(run.len()).unwrap_or(found),
            run: run.into(),
            last,
        })
    }

    const fn most_at_once(&self) -> usize {
        match self.misfire_policy {
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

    fn schedule(expression: &'static str, misfire_policy: MisfirePolicy) -> Schedule {
        Schedule {
            name: "test",
            purpose: "",
            cron: CronSchedule::new(expression, "UTC").unwrap(),
            misfire_policy,
            can_dry_run: false,
            job: |_, _, _| Err(Error::custom("manual runs are not tested here")),
        }
    }

    #[test]
    fn each_misfire_policy_selects_its_instants() {
        let (seen, now) = (at("2026-11-19T01:00:00Z"), at("2026-11-22T09:00:00Z"));
        let due = |policy| schedule("0 1 * * *", policy).due(seen, now).unwrap();

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
    fn an_instant_found_on_time_is_not_missed() {
        let nightly = schedule("0 1 * * *", MisfirePolicy::Skip);

        let soon = nightly.due(at("2026-11-21T01:00:00Z"), at("2026-11-22T01:00:09Z"));
        let again = nightly.due(at("2026-11-22T01:00:00Z"), at("2026-11-22T01:00:09Z"));

        assert_eq!(soon.unwrap().run, [at("2026-11-22T01:00:00Z")]);
        assert_eq!(again, None);
    }

    #[test]
    fn a_gap_of_a_year_causes_at_most_a_hundred_jobs() {
        let (seen, now) = (at("2020-01-01T00:00:00Z"), at("2026-11-22T09:00:00Z"));

        for (policy, most) in [
            (MisfirePolicy::Once, 1),
            (MisfirePolicy::Each, 100),
            (MisfirePolicy::Skip, 1),
        ] {
            let due = schedule("*/5 * * * *", policy).due(seen, now).unwrap();

            assert_eq!(due.run.len(), most);
            assert_eq!(due.last, now);
            // Those of one year, not of the preceding six.
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
        fn frequent_evaluations_find_the_same_instants_as_one(
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe"]),
            from in any_instant(),
            pauses in prop::collection::vec(1_i64..3_000, 1..10),
            expression in prop::sample::select(vec![
                "*/7 * * * *", "0,30 1-3 * * *", "15 2 * * 0", "0 0 31 * *", "59 23 28-31 * *", "0 0 * * *",
            ]),
        ) {
            let cron = CronSchedule::new(expression, zone).unwrap();
            let mut each = schedule("* * * * *", MisfirePolicy::Each);
            each.cron = cron.clone();
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

            let all: Vec<_> = cron.after(from).take_while(|at| *at <= now).collect();
            prop_assert_eq!(found, i64::try_from(all.len()).unwrap());
            prop_assert!(run.iter().all(|at| all.binary_search(at).is_ok()));
            prop_assert!(run.is_sorted_by(|one, next| one < next));
        }
    }
}
