//! Schedule registry: the list of all schedules, and the job of each run.
//!
//! Documents with an `expireAt` need no schedule: MongoDB deletes them (TTL indexes).

use std::time::Duration;

use crate::{
    billing::month::Month,
    platform::clock,
    queue::{
        args::{
            CheckSpaces, ClosePayouts, FetchStripeEvents, MeasureAllStorage, RecheckDueDomains,
            ReconcileTenants, RunInvoices, SnapshotSubscriptions, SweepBilling, TrimAudit,
        },
        cron::{CronError, CronSchedule},
        new_job::NewJob,
        schedule::{MisfirePolicy, Schedule, Trigger},
    },
};

/// Period over which the tenants of a nightly reconcile are spread.
const NIGHT: Duration = Duration::from_hours(4);

/// Period over which the customers of a nightly sweep are spread.
const SWEEP: Duration = Duration::from_hours(3);

/// A day.
const DAY: Duration = Duration::from_hours(24);

/// Every schedule, or the first invalid one.
pub fn all() -> Result<Vec<Schedule>, CronError> {
    Ok(vec![
        Schedule {
            name: "nightly_reconcile",
            purpose: "Compares the upstreams with the desired state of every tenant and repairs drift, also for tenants \
                      whose last job was discarded or lost, and those whose removal is overdue.",
            cron: CronSchedule::new("0 1 * * *", "UTC")?,
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: true,
            job: |trigger, by, now| {
                let (dry_run, spread) = match trigger {
                    Trigger::Scheduled { .. } => (false, NIGHT),
                    // A manual run starts all tenants at once.
                    Trigger::Manual { dry_run } => (dry_run, Duration::ZERO),
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
            purpose: "Checks the public DNS of every domain that is due.",
            cron: CronSchedule::new("* * * * *", "UTC")?,
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: false,
            job: |_, by, now| NewJob::new(&RecheckDueDomains {}, by, now),
        },
        Schedule {
            name: "monthly_snapshots",
            purpose: "Writes down what every tenant has bought: each day anew for the month in progress, for the last \
                      time as the next month begins.",
            cron: CronSchedule::new("10 0 * * *", "UTC")?,
            // The missed instants may include the last day of a month.
            misfire_policy: MisfirePolicy::Each,
            can_dry_run: false,
            job: |trigger, by, now| {
                let as_of = match trigger {
                    // An instant at the start of a month belongs to the month before.
                    Trigger::Scheduled { at } => clock::earlier(at, DAY),
                    Trigger::Manual { .. } => now,
                };
                let month = Month::of(as_of);
                NewJob::new(&SnapshotSubscriptions { month }, by, now)
            },
        },
        Schedule {
            name: "invoice_run",
            purpose: "Invoices every subscription under the flag new_billing_engine whose next billing period has begun, \
                      and marks those with an overdue invoice as past due.",
            cron: CronSchedule::new("15 * * * *", "UTC")?,
            // One run invoices all periods that have begun.
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: true,
            job: |trigger, by, now| {
                let dry_run = matches!(trigger, Trigger::Manual { dry_run: true });
                let as_of = now;
                NewJob::new(&RunInvoices { as_of, dry_run }, by, now)
            },
        },
        Schedule {
            name: "payout_run",
            purpose: "Closes the month before: creates the payout of each partner and currency that is owed anything at its \
                      end. Moves no money.",
            cron: CronSchedule::new("0 6 5 * *", "UTC")?,
            misfire_policy: MisfirePolicy::Each,
            can_dry_run: true,
            job: |trigger, by, now| {
                let (at, dry_run) = match trigger {
                    Trigger::Scheduled { at } => (at, false),
                    Trigger::Manual { dry_run } => (now, dry_run),
                };
                let month = Month::of(at).previous();
                let args = ClosePayouts {
                    month,
                    dry_run,
                    only: None,
                };
                NewJob::new(&args, by, now)
            },
        },
        Schedule {
            name: "stripe_events",
            purpose: "Reads the list of Stripe's events and stores those that no webhook delivered, and enqueues again those \
                      that wait for a job.",
            cron: CronSchedule::new("*/5 * * * *", "UTC")?,
            // One pass reads all events since the last one.
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: false,
            job: |_, by, now| NewJob::new(&FetchStripeEvents {}, by, now),
        },
        Schedule {
            name: "billing_sync",
            purpose: "Compares the customer and the card subscription of every tenant with what they should be at Stripe and \
                      repairs differences, also those that no event told.",
            cron: CronSchedule::new("0 3 * * *", "UTC")?,
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: true,
            job: |trigger, by, now| {
                let (dry_run, spread) = match trigger {
                    Trigger::Scheduled { .. } => (false, SWEEP),
                    Trigger::Manual { dry_run } => (dry_run, Duration::ZERO),
                };
                let args = SweepBilling {
                    dry_run,
                    spread_seconds: spread.as_secs(),
                };
                NewJob::new(&args, by, now)
            },
        },
        Schedule {
            name: "trim_audit",
            purpose: "Deletes the audit events that need not be kept any more: those recorded more than \
                      AUDIT_KEEP_DAYS ago, the oldest of each tenant first.",
            cron: CronSchedule::new("30 0 * * *", "UTC")?,
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: false,
            job: |_, by, now| NewJob::new(&TrimAudit {}, by, now),
        },
        Schedule {
            name: "check_spaces",
            purpose: "Lists all spaces of the file server, and reports those that carry a tenant's marker but are not \
                      stored for it, and those that are stored for several tenants. Changes nothing.",
            cron: CronSchedule::new("30 5 * * *", "UTC")?,
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: false,
            job: |_, by, now| NewJob::new(&CheckSpaces {}, by, now),
        },
        Schedule {
            name: "measure_storage",
            purpose: "Measures the spaces and the mailboxes of all tenants, for the storage report and the health of each. \
                      Changes nothing.",
            cron: CronSchedule::new("30 4 * * *", "UTC")?,
            misfire_policy: MisfirePolicy::Once,
            can_dry_run: false,
            job: |_, by, now| NewJob::new(&MeasureAllStorage {}, by, now),
        },
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bson::DateTime;

    use super::*;

    #[test]
    fn every_schedule_is_valid_has_a_unique_name_and_has_instants() {
        let schedules = all().unwrap();

        let names: BTreeSet<&str> = schedules.iter().map(|schedule| schedule.name).collect();

        assert_eq!(names.len(), schedules.len());
        for schedule in schedules {
            let now = DateTime::from_millis(1_795_339_800_000);
            assert!(schedule.cron.next(now).is_some(), "{}", schedule.name);
            assert!((schedule.job)(Trigger::Scheduled { at: now }, "test", now).is_ok());
        }
    }

    #[test]
    fn a_snapshot_run_covers_the_month_that_ended_and_a_manual_run_the_current_one() {
        let schedules = all().unwrap();
        let mut schedules = schedules.into_iter();
        let snapshots = schedules
            .find(|schedule| schedule.name == "monthly_snapshots")
            .unwrap();
        let at = |text| DateTime::parse_rfc3339_str(text).unwrap();
        let month = |trigger, now| {
            let job = (snapshots.job)(trigger, "test", now).unwrap();
            let args: SnapshotSubscriptions = job.job().args().unwrap();
            args.month.to_string()
        };

        for (due, now, expected) in [
            ("2026-11-22T00:10:00Z", "2026-11-22T00:10:05Z", "2026-11"),
            ("2026-12-01T00:10:00Z", "2026-12-01T00:10:05Z", "2026-11"),
            ("2026-12-02T00:10:00Z", "2026-12-02T00:10:05Z", "2026-12"),
            // Several days missed.
            ("2026-12-01T00:10:00Z", "2026-12-04T08:00:00Z", "2026-11"),
        ] {
            let due = Trigger::Scheduled { at: at(due) };
            assert_eq!(month(due, at(now)), expected, "{now}");
        }
        let asked = Trigger::Manual { dry_run: false };
        assert_eq!(month(asked, at("2026-12-01T00:10:00Z")), "2026-12");
    }
}
