//! Asking for a look at every domain whose time has come.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::{args::RecheckDomain, job::Progress},
    store::{StoreError, domains::DueDomain, jobs::NewJob},
};
use tokio::time::Instant;

use super::{next_check::spread, reason};
use crate::steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs};

/// How many are asked for at a time: what is held in memory.
const BATCH: i64 = 1_000;
/// How many a minute takes. A backlog, such as after an outage, is spread over as many minutes as it needs.
const A_MINUTE: u32 = 5_000;
/// How far a run looks ahead: until the next one, so that a look comes when it is due and not up to a minute later.
const AHEAD: Duration = Duration::from_mins(1);
/// When a look that was asked for and came to nothing is asked for again.
const IF_LOST: Duration = Duration::from_hours(1);

/// Enqueues a recheck for each domain that is due until the next run. One for which a recheck waits already is left to that.
///
/// The jobs come first, then the domains' next time: whoever dies in between leaves domains that are due still, and
/// the jobs that wait for them are met by their unique key. An attempt that runs out of time leaves the rest, which is
/// due still, to the next.
pub(super) async fn enqueue_due(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let ctx = &run.ctx;
    let now = ctx.store.now();
    // What earlier attempts asked for counts too, so that no minute gets more than its share.
    let before = run.job.progress.as_ref().map_or(0, |before| before.done);
    let mut seen = u32::try_from(before).unwrap_or(u32::MAX);
    let mut enqueued = 0;
    let until = clock::later(now, AHEAD);
    loop {
        let due = ctx.domains.list_due(until, BATCH).await?;
        if due.is_empty() {
            break;
        }
        let minutes = Duration::from_mins(u64::from(seen / A_MINUTE));
        let from = clock::later(now, minutes);
        enqueued += ctx.jobs.enqueue_many(&looks(&due, from, now)?).await?;
        let again = clock::later(from, IF_LOST);
        ctx.domains.reschedule(&due, again).await?;
        seen += u32::try_from(due.len()).unwrap_or(u32::MAX);
        let progress = Progress {
            done: seen.into(),
            total: seen.into(),
            note: "asking for looks at the DNS".to_owned(),
            cursor: None,
        };
        run.save_progress(&progress).await?;
        if Instant::now() >= run.yield_after {
            return Ok(StepSuccess::continue_at(ctx.store.now()));
        }
    }
    let changes = vec![format!("{enqueued} looks asked for")];
    Ok(StepSuccess::ok(
        reason::ENQUEUED,
        changes,
        UpstreamRefs::default(),
    ))
}

/// A recheck for each: at its own time, or spread over the minute that begins at `from` where that is over.
fn looks(due: &[DueDomain], from: DateTime, now: DateTime) -> Result<Vec<NewJob>, StoreError> {
    due.iter()
        .map(|domain| {
            let look = RecheckDomain {
                tenant_id: domain.tenant_id,
                domain_id: domain.id,
            };
            let at = if domain.next_check_at > now {
                domain.next_check_at
            } else {
                clock::later(from, spread(domain.id, Duration::from_mins(1)))
            };
            Ok(NewJob::new(&look, "schedule", now)?.run_at(at))
        })
        .collect()
}
