//! Monthly subscription snapshots of all tenants. The job that adds them up follows.
//!
//! A snapshot's id is derived from tenant and month, so a repeated write replaces it. The last tenant written is the cursor
//! in the job's progress, from which the next attempt continues.

use dezky_shared::{
    billing::month::Month,
    id::TenantId,
    queue::{
        args::{SnapshotSubscriptions, SummarizeMonths},
        job::Progress,
    },
    store::jobs::NewJob,
    subscription_snapshot::{SubscriptionSnapshot, TenantState},
    tenant::reason,
};
use tokio::time::Instant;

use crate::steps::{StepContext, StepFailure, StepSuccess, Steps};

/// Tenants held in memory and written per batch.
const BATCH: i64 = 1_000;

pub(super) fn steps() -> Steps {
    Steps::parallel().step("snapshots", each_tenant)
}

async fn each_tenant(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let SnapshotSubscriptions { month } = run.args()?;
    let ctx = &run.ctx;
    let total = i64::try_from(ctx.tenants.estimated_count().await?).unwrap_or(i64::MAX);
    let known = run.job.progress.as_ref();
    let mut done = known.map_or(0, |progress| progress.done);
    let mut after: Option<TenantId> =
        known.and_then(|progress| progress.cursor.as_ref()?.parse().ok());
    loop {
        let tenants = ctx
            .tenants
            .list_for_snapshot(month.end(), after, BATCH)
            .await?;
        let found = i64::try_from(tenants.len()).unwrap_or(i64::MAX);
        let is_last = found < BATCH;
        done += found;
        after = tenants.last().map(|tenant| tenant.id).or(after);
        write(&run, month, tenants).await?;
        let progress = Progress {
            done,
            total: if is_last { done } else { total.max(done) },
            note: "tenants".to_owned(),
            cursor: after.map(|id| id.to_string()),
        };
        run.save_progress(&progress).await?;
        if is_last {
            summarize(&run, month).await?;
            return Ok(StepSuccess::ok(reason::NO_TENANT, Vec::new()));
        }
        if Instant::now() >= run.yield_after {
            return Ok(StepSuccess::continue_at(ctx.store.now()));
        }
    }
}

/// Enqueues the job that adds the snapshots up for reports.
async fn summarize(run: &StepContext, month: Month) -> Result<(), StepFailure> {
    let ctx = &run.ctx;
    let args = SummarizeMonths { from: month };
    let job = NewJob::new(&args, &run.job.created_by, ctx.store.now())?;
    let job = job.child_of(&run.job, "summarize");
    ctx.jobs.enqueue_many(std::slice::from_ref(&job)).await?;
    ctx.ready.notify(std::slice::from_ref(job.job())).await;
    Ok(())
}

async fn write(
    run: &StepContext,
    month: Month,
    tenants: Vec<TenantState>,
) -> Result<(), StepFailure> {
    let ctx = &run.ctx;
    let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
    let now = ctx.store.now();
    let mut subscriptions = ctx.subscriptions.list_live(&ids).await?;
    let snapshots: Vec<SubscriptionSnapshot> = tenants
        .into_iter()
        .filter_map(|tenant| {
            let subscription = match subscriptions.remove(&tenant.id) {
                // Left to the newer build that can read it.
                Some(None) => return None,
                subscription => subscription.flatten(),
            };
            Some(SubscriptionSnapshot::new(month, tenant, subscription, now))
        })
        .collect();
    if month.is_past_grace(now) {
        // Late: today's state is better than none, but must not replace a snapshot written in time.
        ctx.snapshots.add_missing(&snapshots).await?;
    } else {
        ctx.snapshots.renew(&snapshots).await?;
    }
    Ok(())
}
