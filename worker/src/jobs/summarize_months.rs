//! Adding up of the monthly snapshots, for reports: a merge join of the snapshots of a month, those of the month before, and
//! the months in which tenants paid first, all ordered by tenant.
//!
//! A month's sums are replaced as a whole, so a repeated job changes nothing. A month depends on the one before it only by
//! the snapshots, which are final once it is over, and by the first payments; so months are added up in order, and a
//! change of an old month adds up all that follow.

mod merge;

use dezky_shared::{
    billing::month::Month,
    id::TenantId,
    queue::{args::SummarizeMonths, job::Progress},
    report::{MonthBuilder, TenantMonth},
    tenant::reason,
};
use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use self::merge::Ordered;
use crate::steps::{StepContext, StepFailure, StepSuccess, Steps};

/// First payments written in one command.
const BATCH: usize = 1_000;
/// Months without snapshots that are passed over to find the one before.
const MAX_GAP: usize = 12;
/// Months that are added up later than they should have been.
const MAX_BACKLOG: usize = 600;

pub(super) fn steps() -> Steps {
    Steps::parallel().step("months", summarize)
}

async fn summarize(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: SummarizeMonths = run.args()?;
    let ctx = &run.ctx;
    let known = run.job.progress.as_ref();
    let done = known.and_then(|progress| progress.cursor.as_ref()?.parse::<Month>().ok());
    let mut month = match done {
        Some(done) => done.next(),
        None => first_month(&run, args.from).await?,
    };
    let last = Month::of(ctx.store.now()).max(args.from);
    let mut count = known.map_or(0, |progress| progress.done);
    let mut changes = Vec::new();
    while month <= last {
        if ctx.snapshots.has_month(month).await? {
            let tenants = summarize_month(&run, month).await?;
            changes.push(format!("{month}: {tenants} tenants"));
        }
        count += 1;
        save_progress(&run, count, month, last).await?;
        month = month.next();
        if month <= last && Instant::now() >= run.yield_after {
            let mut part = StepSuccess::continue_at(ctx.store.now());
            part.changes = changes;
            return Ok(part);
        }
    }
    Ok(StepSuccess::ok(reason::NO_TENANT, changes))
}

async fn save_progress(
    run: &StepContext,
    count: i64,
    done: Month,
    last: Month,
) -> Result<(), StepFailure> {
    let progress = Progress {
        done: count,
        total: count + i64::from(done.months_until(last)),
        note: "months".to_owned(),
        cursor: Some(done.to_string()),
    };
    run.save_progress(&progress).await
}

/// The first of the months up to `from` that have snapshots and were never added up.
async fn first_month(run: &StepContext, from: Month) -> Result<Month, StepFailure> {
    let ctx = &run.ctx;
    let mut first = from;
    for _ in 0..MAX_BACKLOG {
        let before = first.previous();
        let is_open =
            ctx.snapshots.has_month(before).await? && !ctx.report_months.has_month(before).await?;
        if !is_open {
            break;
        }
        first = before;
    }
    Ok(first)
}

/// The month before, or the last one that has snapshots.
async fn month_before(run: &StepContext, month: Month) -> Result<Option<Month>, StepFailure> {
    let mut before = month.previous();
    for _ in 0..MAX_GAP {
        if run.ctx.snapshots.has_month(before).await? {
            return Ok(Some(before));
        }
        before = before.previous();
    }
    Ok(None)
}

/// Adds up a month. Returns the number of tenants.
async fn summarize_month(run: &StepContext, month: Month) -> Result<u64, StepFailure> {
    let ctx = &run.ctx;
    let now = ctx.store.now();
    let earlier = match month_before(run, month).await? {
        Some(before) => ctx.snapshots.of_month(before).await?.boxed(),
        None => stream::empty().boxed(),
    };
    let mut before = Ordered::new(earlier, |it| it.tenant_id).await?;
    let snapshots = ctx.snapshots.of_month(month).await?.boxed();
    let mut after = Ordered::new(snapshots, |it| it.tenant_id).await?;
    let payments = ctx.report_months.first_payments().await?.boxed();
    let mut first_paid = Ordered::new(payments, |it| it.tenant_id).await?;
    let mut builder = MonthBuilder::new(month, now);
    let mut first = FirstPayments {
        run,
        month,
        tenants: Vec::new(),
    };
    let mut count = 0;
    while let Some(tenant) = [before.tenant(), after.tenant()]
        .into_iter()
        .flatten()
        .min()
    {
        let (was, is) = (before.take(tenant).await?, after.take(tenant).await?);
        first_paid.skip_to(tenant).await?;
        let paid = first_paid.take(tenant).await?;
        let added = builder.add(TenantMonth {
            before: was.as_ref(),
            after: is.as_ref(),
            first_paid: paid.map(|paid| paid.month),
        });
        if added.is_some() && paid.is_none_or(|paid| paid.month > month) {
            first.add(tenant).await?;
        }
        count += 1;
    }
    first.write().await?;
    ctx.report_months.replace_month(&builder.finish()).await?;
    Ok(count)
}

/// Tenants that pay for the first time at the end of a month that is over.
struct FirstPayments<'a> {
    run: &'a StepContext,
    month: Month,
    tenants: Vec<TenantId>,
}

impl FirstPayments<'_> {
    async fn add(&mut self, tenant: TenantId) -> Result<(), StepFailure> {
        self.tenants.push(tenant);
        if self.tenants.len() < BATCH {
            return Ok(());
        }
        self.write().await
    }

    async fn write(&mut self) -> Result<(), StepFailure> {
        let ctx = &self.run.ctx;
        let now = ctx.store.now();
        // What a tenant pays in the middle of a month may be gone at its end.
        if self.month.end() <= now {
            let repository = &ctx.report_months;
            repository
                .add_first_payments(&self.tenants, self.month, now)
                .await?;
        }
        self.tenants.clear();
        Ok(())
    }
}
