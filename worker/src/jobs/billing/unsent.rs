//! Invoices whose job was skipped or discarded before Stripe had sent them: each gets another job, so that an invoice does
//! not stay a draft after an outage or a refusal. A refused one is tried again ever later.

use std::time::Duration;

use dezky_shared::{platform::clock, queue::args::IssueInvoice, store::jobs::NewJob};
use futures::FutureExt as _;

use crate::steps::{StepContext, StepFailure};

/// Time without a change after which an invoice is taken up again.
const STALE: Duration = Duration::from_hours(1);
/// Maximum number of such invoices in a run.
const MAX_STALE: i64 = 1_000;

/// Enqueues their jobs. Returns their number.
pub(super) async fn enqueue_unsent(run: &StepContext) -> Result<usize, StepFailure> {
    let ctx = &run.ctx;
    let now = ctx.store.now();
    let before = clock::earlier(now, STALE);
    let mut enqueued = Vec::new();
    let unsent = ctx.invoices.list_unsent(before, now, MAX_STALE).await?;
    for unsent in unsent {
        let args = IssueInvoice {
            tenant_id: unsent.tenant_id,
            invoice_id: unsent.id,
        };
        let job = NewJob::new(&args, &run.job.created_by, now)?;
        let enqueueing = (&ctx.jobs, &job);
        let job = run.fenced_transaction(enqueueing, |session, (jobs, job)| {
            jobs.enqueue(session, job).boxed()
        });
        enqueued.push(job.await?);
    }
    ctx.ready.notify(&enqueued).await;
    Ok(enqueued.len())
}
