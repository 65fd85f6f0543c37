//! Bulk operations on jobs: applies an operator's action to each selected job, in order.
//!
//! Each item is one transaction: fence the lease, change the job through the code path of a single change, add the
//! audit event, and settle the item if it is pending. That makes an item exactly-once across worker crashes; the cursor
//! in the job's progress only saves the next attempt from reading settled items.

use std::{ops::ControlFlow, time::Duration};

use bson::{DateTime, doc};
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    id::{JobId, LeaseToken},
    platform::{change_feed::DocumentChange, clock},
    queue::{
        args::RunJobOperation,
        error_code::ErrorCode,
        job::{Job, Progress},
        job_operation::{ItemOutcome, ItemReason, JobAction, JobOperation, JobOperationItem},
        priority::Priority,
    },
    store::{
        TransactionError,
        job_operations::ItemResult,
        jobs::{CancelError, DismissError, RequeueError},
    },
    tenant::reason,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use crate::{
    context::Context,
    steps::{StepContext, StepFailure, StepSuccess, Steps},
};

/// Items read, and progress saved, per batch.
const BATCH: i64 = 25;
/// Time limit of an attempt. Between attempts the operation can be cancelled and other jobs can run.
const SLICE: Duration = Duration::from_secs(5);
/// Period of the rate limit: one attempt per period processes at most its allowance.
const PERIOD: Duration = Duration::from_secs(1);

/// The single step of an operation.
pub(super) fn steps() -> Steps {
    Steps::parallel().step("items", run_items)
}

/// Reason why an item's transaction was aborted.
enum AbortReason {
    /// Another worker holds the lease of the operation's job.
    LeaseLost,
    /// The item is settled already.
    AlreadySettled,
}

/// The changed job, and the new job that replaces it, if any.
struct Changed {
    job: Job,
    new_job_id: Option<JobId>,
}

async fn run_items(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: RunJobOperation = run.args()?;
    let operations = &run.ctx.job_operations;
    let Some(operation) = operations.find(args.operation_id).await? else {
        tracing::info!("The job operation was deleted: nothing to do");
        return Ok(StepSuccess::skipped(reason::REMOVED));
    };
    let began = run.ctx.store.now();
    let mut done = cursor(&run.job);
    let mut allowance = operation.rate.map_or(i64::MAX, i64::from);

    while done < operation.total {
        let (elapsed, size) = (
            clock::until(began, run.ctx.store.now()),
            allowance.min(BATCH),
        );
        if size == 0 {
            return Ok(StepSuccess::continue_at(clock::later(began, PERIOD)));
        }
        if elapsed >= SLICE {
            return Ok(StepSuccess::continue_at(run.ctx.store.now()));
        }
        let items = operations
            .list_items(operation.id, None, done, size)
            .await?;
        let Some(last) = items.last() else { break };
        done = last.n;
        allowance -= size;
        run_batch(&run, &operation, &items).await?;
        run.save_progress(&Progress {
            done,
            total: operation.total,
            note: "items".to_owned(),
            cursor: Some(done.to_string()),
        })
        .await?;
    }
    operations.finish(operation.id, run.ctx.store.now()).await?;
    Ok(StepSuccess::ok(reason::PROVISIONED, Vec::new()))
}

/// Number of the last processed item.
fn cursor(job: &Job) -> i64 {
    let saved = job.progress.as_ref().and_then(|done| done.cursor.as_ref());
    saved.and_then(|n| n.parse().ok()).unwrap_or(0)
}

async fn run_batch(
    run: &StepContext,
    operation: &JobOperation,
    items: &[JobOperationItem],
) -> Result<(), StepFailure> {
    let mut changed = Vec::new();
    for item in items {
        if item.outcome == ItemOutcome::Pending {
            changed.extend(run_item(run, operation, item).await?);
        }
    }
    if operation.action == JobAction::Requeue {
        run.ctx.ready.notify(&changed).await;
    }
    let tenants = changed.iter().filter_map(|job| job.tenant_id);
    let tenants = tenants.map(DocumentChange::Tenant);
    let hints: Vec<DocumentChange> = tenants
        .chain(changed.iter().map(|job| DocumentChange::Job(job.id)))
        .collect();
    run.ctx.changes.publish(&hints).await;
    Ok(())
}

/// Processes one item. Returns the job if it was changed.
async fn run_item(
    run: &StepContext,
    operation: &JobOperation,
    item: &JobOperationItem,
) -> Result<Option<Job>, StepFailure> {
    let lost = || StepFailure::new(ErrorCode::Internal, "the lease was lost");
    let token = run.job.lease.as_ref().ok_or_else(lost)?.token;
    let item = ItemTransaction {
        ctx: &run.ctx,
        by: run.job.id,
        token,
        operation,
        item,
    };
    let outcome = run
        .ctx
        .store
        .transaction(item, |session, item| item.run(session).boxed())
        .await;
    match outcome {
        Ok(changed) => Ok(changed),
        Err(TransactionError::Aborted(AbortReason::AlreadySettled)) => Ok(None),
        Err(TransactionError::Aborted(AbortReason::LeaseLost)) => Err(lost()),
        Err(TransactionError::Store(error)) => Err(error.into()),
    }
}

/// Transaction of one item.
struct ItemTransaction<'a> {
    ctx: &'a Context,
    by: JobId,
    token: LeaseToken,
    operation: &'a JobOperation,
    item: &'a JobOperationItem,
}

impl ItemTransaction<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
    ) -> Result<Option<Job>, TransactionError<AbortReason>> {
        let (ctx, now) = (self.ctx, self.ctx.store.now());
        if !ctx.jobs.fence(session, self.by, self.token, now).await? {
            return Err(TransactionError::Aborted(AbortReason::LeaseLost));
        }
        let (result, changed) = match self.change(session, now).await? {
            ControlFlow::Continue(changed) => {
                self.record(session, &changed.job, now).await?;
                (ItemResult::Done(changed.new_job_id), Some(changed.job))
            }
            ControlFlow::Break(reason) => (ItemResult::Left(reason), None),
        };
        let settled = ctx
            .job_operations
            .settle(session, self.item, result, self.by, now)
            .await?;
        if settled {
            Ok(changed)
        } else {
            Err(TransactionError::Aborted(AbortReason::AlreadySettled))
        }
    }

    /// Changes the job, or breaks with the reason why it is left unchanged.
    async fn change(
        &self,
        session: &mut ClientSession,
        now: DateTime,
    ) -> Result<ControlFlow<ItemReason, Changed>, TransactionError<AbortReason>> {
        let (jobs, id) = (&self.ctx.jobs, self.item.job_id);
        let Some(job) = jobs.find_in_transaction(session, id).await? else {
            return Ok(ControlFlow::Break(ItemReason::JobGone));
        };
        let is_applicable = match self.operation.action {
            JobAction::Requeue | JobAction::Discard | JobAction::Dismiss => {
                let is_open = job.requeued_to.is_none() && job.dismissed.is_none();
                job.state == self.operation.filter.state && is_open
            }
            // Available or running since the selection: cancelled either way.
            JobAction::Cancel => !job.state.is_final(),
        };
        if !is_applicable {
            return Ok(ControlFlow::Break(ItemReason::StateChanged));
        }
        match self.operation.action {
            JobAction::Requeue => {
                let by = &self.operation.actor.id;
                // No person waits for one of many jobs.
                let requeued = jobs.requeue(session, id, by, Priority::Bulk, now).await;
                rejection_to_reason(requeued, requeue_rejection).map(|requeued| {
                    requeued.map_continue(|requeued| Changed {
                        new_job_id: requeued.is_new.then_some(requeued.job.id),
                        job: requeued.job,
                    })
                })
            }
            JobAction::Cancel => {
                let cancelled = jobs.cancel(session, id, now).await;
                Ok(match rejection_to_reason(cancelled, cancel_rejection)? {
                    ControlFlow::Continue(cancelled) if !cancelled.is_new => {
                        ControlFlow::Break(ItemReason::CancelRequested)
                    }
                    cancelled => cancelled.map_continue(|cancelled| cancelled.job.into()),
                })
            }
            JobAction::Discard => {
                let discarded = jobs.discard(session, id, now).await;
                rejection_to_reason(discarded, cancel_rejection)
                    .map(|discarded| discarded.map_continue(Changed::from))
            }
            JobAction::Dismiss => {
                let by = &self.operation.actor.id;
                let dismissed = jobs.dismiss(session, id, by, now).await;
                rejection_to_reason(dismissed, dismiss_rejection)
                    .map(|dismissed| dismissed.map_continue(|(job, _)| Changed::from(job)))
            }
        }
    }

    async fn record(
        &self,
        session: &mut ClientSession,
        changed: &Job,
        now: DateTime,
    ) -> Result<(), TransactionError<AbortReason>> {
        let action = match self.operation.action {
            JobAction::Requeue => Action::JobRequeue,
            JobAction::Cancel => Action::JobCancel,
            JobAction::Discard => Action::JobDiscard,
            JobAction::Dismiss => Action::JobDismiss,
        };
        let target = Target::new("job", self.item.job_id, &changed.kind);
        let (actor, origin) = (self.operation.actor.clone(), self.operation.origin.clone());
        let mut event = AuditEvent::new(now, actor, action, target, origin);
        event.tenant_id = changed.tenant_id;
        event.job_id = Some(changed.id);
        event.after = doc! { "jobOperationId": self.operation.id };
        Ok(self.ctx.audit.record(session, &event).await?)
    }
}

impl From<Job> for Changed {
    fn from(job: Job) -> Self {
        Self {
            job,
            new_job_id: None,
        }
    }
}

/// Turns a rejected change into the reason why the item is left: not a failure of the operation.
fn rejection_to_reason<T, E>(
    result: Result<T, TransactionError<E>>,
    reason: impl FnOnce(&E) -> ItemReason,
) -> Result<ControlFlow<ItemReason, T>, TransactionError<AbortReason>> {
    match result {
        Ok(value) => Ok(ControlFlow::Continue(value)),
        Err(TransactionError::Aborted(error)) => Ok(ControlFlow::Break(reason(&error))),
        Err(TransactionError::Store(error)) => Err(TransactionError::Store(error)),
    }
}

fn requeue_rejection(error: &RequeueError) -> ItemReason {
    match error {
        RequeueError::NotFound => ItemReason::JobGone,
        RequeueError::Running => ItemReason::StateChanged,
        RequeueError::SecretsGone => ItemReason::SecretsGone,
        RequeueError::PurgeNotDue => ItemReason::PurgeScheduled,
    }
}

fn dismiss_rejection(error: &DismissError) -> ItemReason {
    match error {
        DismissError::NotFound => ItemReason::JobGone,
        DismissError::NotDiscarded => ItemReason::StateChanged,
    }
}

fn cancel_rejection(error: &CancelError) -> ItemReason {
    match error {
        CancelError::NotFound => ItemReason::JobGone,
        CancelError::Final(_) | CancelError::Running => ItemReason::StateChanged,
        CancelError::Purge => ItemReason::PurgeScheduled,
    }
}
