//! The schedules: the one list of what is done again and again, and the job that each run is.
//!
//! What only has to be forgotten needs none: documents with an `expireAt` are deleted by MongoDB itself.

use std::time::Duration;

use crate::{
    platform::clock,
    queue::{
        args::{RecheckDueDomains, ReconcileTenants, SnapshotSubscriptions, TrimAudit},
        cron::{CalendarError, CronSchedule},
        schedule::{MisfirePolicy, Schedule, Trigger},
    },
    store::jobs::NewJob,
    subscription_snapshot::Month,
};

/// Over how long the tenants of a nightly reconcile are spread.
const NIGHT: Duration = Duration::from_hours(4);

/// A day.
const DAY: Duration = Duration::from_hours(24);

/// Every schedule, or what cannot be read in one of them.
pub fn all() -> Result<Vec<Schedule>, CalendarError> {
    Ok(vec![
        Schedule {
            name: "nightly_reconcile",
            purpose: "Looks whether the upstreams hold what they should for every tenant, and repairs what they do \
                      not: also for tenants whose last job was given up or lost, and those whose removal is overdue.",
            calendar: CronSchedule::new("0 1 * * *", "UTC")?,
            missed: MisfirePolicy::Once,
            can_dry_run: true,
            job: |occasion, by, now| {
                let (dry_run, spread) = match occasion {
                    Trigger::DueInstants { .. } => (false, NIGHT),
                    // Whoever asks wants to see it done.
                    Trigger::Asked { dry_run } => (dry_run, Duration::ZERO),
                };
                let args = ReconcileTenants {
                    dry_run,
                    spread_seconds: spread.as_secs(),
                };
                NewJob::new(&args, by, now)
            },
        },
        Schedule {
            name: "recheck_domains",
            purpose: "Looks at the public DNS of every domain whose time has come.",
            calendar: CronSchedule::new("* * * * *", "UTC")?,
            missed: MisfirePolicy::Once,
            can_dry_run: false,
            job: |_, by, now| NewJob::new(&RecheckDueDomains {}, by, now),
        },
        Schedule {
            name: "monthly_snapshots",
            purpose: "Writes down what every tenant has bought: each day anew for the month in progress, for the last \
                      time as the next month begins.",
            calendar: CronSchedule::new("10 0 * * *", "UTC")?,
            // The last day of a month may be among them.
            missed: MisfirePolicy::Each,
            can_dry_run: false,
            job: |occasion, by, now| {
                let as_of = match occasion {
                    // What is done as a month begins is done for the one that is over.
                    Trigger::DueInstants { at } => clock::earlier(at, DAY),
                    Trigger::Asked { .. } => now,
                };
                let month = Month::of(as_of);
                NewJob::new(&SnapshotSubscriptions { month }, by, now)
            },
        },
        Schedule {
            name: "trim_audit",
            purpose: "Deletes the audit events that need not be kept any more: those recorded more than \
                      AUDIT_KEEP_DAYS ago, the oldest of each tenant first.",
            calendar: CronSchedule::new("30 0 * * *", "UTC")?,
            missed: MisfirePolicy::Once,
            can_dry_run: false,
            job: |_, by, now| NewJob::new(&TrimAudit {}, by, now),
        },
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bson::DateTime;

    use super::*;

    #[test]
    fn every_schedule_can_be_read_has_a_name_of_its_own_and_comes() {
        let schedules = all().unwrap();

        let names: BTreeSet<&str> = schedules.iter().map(|schedule| schedule.name).collect();

        assert_eq!(names.len(), schedules.len());
        for schedule in schedules {
            let now = DateTime::from_millis(1_795_339_800_000);
            assert!(schedule.calendar.next(now).is_some(), "{}", schedule.name);
            assert!((schedule.job)(Trigger::DueInstants { at: now }, "test", now).is_ok());
        }
    }

    #[test]
    fn a_month_is_written_down_until_the_next_has_begun_and_at_once_when_asked_for() {
        let schedules = all().unwrap();
        let mut schedules = schedules.into_iter();
        let snapshots = schedules
            .find(|schedule| schedule.name == "monthly_snapshots")
            .unwrap();
        let at = |text| DateTime::parse_rfc3339_str(text).unwrap();
        let month = |occasion, now| {
            let job = (snapshots.job)(occasion, "test", now).unwrap();
            let args: SnapshotSubscriptions = job.job().args().unwrap();
            args.month.to_string()
        };

        for (due, now, expected) in [
            ("2026-11-22T00:10:00Z", "2026-11-22T00:10:05Z", "2026-11"),
            ("2026-12-01T00:10:00Z", "2026-12-01T00:10:05Z", "2026-11"),
            ("2026-12-02T00:10:00Z", "2026-12-02T00:10:05Z", "2026-12"),
            // Nobody was there in the meantime.
            ("2026-12-01T00:10:00Z", "2026-12-04T08:00:00Z", "2026-11"),
        ] {
            let due = Trigger::DueInstants { at: at(due) };
            assert_eq!(month(due, at(now)), expected, "{now}");
        }
        let asked = Trigger::Asked { dry_run: false };
        assert_eq!(month(asked, at("2026-12-01T00:10:00Z")), "2026-12");
    }
}
