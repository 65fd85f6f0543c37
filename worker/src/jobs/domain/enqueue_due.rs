//! Fan-out of DNS rechecks to all due domains.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::{
        args::RecheckDomain,
        job::{Progress, SCHEDULE},
        priority::Priority,
    },
    store::{StoreError, domains::DueDomain, jobs::NewJob},
};
use tokio::time::Instant;

use super::{next_check::spread, reason};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Domains held in memory and enqueued per batch.
const BATCH: i64 = 1_000;
/// Rechecks per minute. A backlog, such as after an outage, is spread over several minutes.
const MAX_PER_MINUTE: u32 = 5_000;
/// Look-ahead of a run: up to the next run, so that a recheck is not up to a minute late.
const LOOK_AHEAD: Duration = Duration::from_mins(1);
/// Delay until a recheck that never ran is enqueued again.
const RETRY_AFTER: Duration = Duration::from_hours(1);

/// Enqueues a recheck for each domain that is due before the next run, unless one is waiting already.
///
/// Jobs are inserted before the domains are rescheduled. After a crash in between the domains are still due, and the
/// unique key of the waiting jobs prevents duplicates. An attempt that runs out of time leaves the rest due for the next.
pub(super) async fn enqueue_due(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let ctx = &run.ctx;
    let now = ctx.store.now();
    // Includes earlier attempts, so that the limit per minute holds across attempts.
    let before = run.job.progress.as_ref().map_or(0, |before| before.done);
    let mut handled = u32::try_from(before).unwrap_or(u32::MAX);
    let mut enqueued = 0;
    let until = clock::later(now, LOOK_AHEAD);
    loop {
        let due = ctx.domains.list_due(until, BATCH).await?;
        if due.is_empty() {
            break;
        }
        let minutes = Duration::from_mins(u64::from(handled / MAX_PER_MINUTE));
        let from = clock::later(now, minutes);
        enqueued += ctx.jobs.enqueue_many(&rechecks(&due, from, now)?).await?;
        let again = clock::later(from, RETRY_AFTER);
        ctx.domains.reschedule(&due, again).await?;
        handled += u32::try_from(due.len()).unwrap_or(u32::MAX);
        let progress = Progress {
            done: handled.into(),
            total: handled.into(),
            note: "DNS checks enqueued".to_owned(),
            cursor: None,
        };
        run.save_progress(&progress).await?;
        if Instant::now() >= run.yield_after {
            return Ok(StepSuccess::continue_at(ctx.store.now()));
        }
    }
    let changes = vec![format!("{enqueued} DNS checks enqueued")];
    Ok(StepSuccess::ok(reason::ENQUEUED, changes))
}

/// Recheck jobs at the due times; overdue ones are spread over the minute from `from`.
fn rechecks(due: &[DueDomain], from: DateTime, now: DateTime) -> Result<Vec<NewJob>, StoreError> {
    due.iter()
        .map(|domain| {
            let recheck = RecheckDomain {
                tenant_id: domain.tenant_id,
                domain_id: domain.id,
            };
            let at = if domain.next_check_at > now {
                domain.next_check_at
            } else {
                clock::later(from, spread(domain.id, Duration::from_mins(1)))
            };
            let new = NewJob::new(&recheck, SCHEDULE, now)?;
            Ok(new.with_priority(Priority::Bulk).run_at(at))
        })
        .collect()
}
