//! Doing to many jobs what an operator asked for, one after the other.
//!
//! Each item is one transaction: it makes sure of the lease, changes the job through the same code that changes a
//! single one, adds the audit event and writes the item's outcome, provided that it had none. So an item is done
//! once, wherever a worker died; the cursor in the job's progress only spares the next one the way.

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
    },
    store::{
        TransactionError,
        job_operations::ItemResult,
        jobs::{CancelError, RequeueError},
    },
    tenant::reason,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use crate::{
    context::Context,
    steps::{StepContext, StepFailure, StepSuccess, Steps, UpstreamRefs},
};

/// How many items are read, and reported, together.
const BATCH: i64 = 25;
/// How long an attempt goes on. Between attempts the operation can be cancelled, and others have their turn.
const SLICE: Duration = Duration::from_secs(5);
/// With a rate, each attempt does as much as is allowed in this time.
const PERIOD: Duration = Duration::from_secs(1);

/// The one step of an operation.
pub(super) fn steps() -> Steps {
    Steps::parallel().step("items", go_through_items)
}

/// Why an item's transaction was given up.
enum Stopped {
    /// The operation's job is somebody else's.
    LeaseLost,
    /// The item has its outcome.
    SettledBefore,
}

/// An item's job after it was changed, and the one that runs instead, where there is one.
struct Changed {
    job: Job,
    new_job_id: Option<JobId>,
}

async fn go_through_items(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: RunJobOperation = run
        .job
        .args()
        .map_err(|error| StepFailure::new(ErrorCode::Internal, error.to_string()))?;
    let operations = &run.ctx.job_operations;
    let Some(operation) = operations.find(args.operation_id).await? else {
        tracing::info!("The operation was deleted; there is nothing to do");
        return Ok(StepSuccess::skipped(reason::REMOVED));
    };
    let began = run.ctx.store.now();
    let mut done = done_before(&run.job);
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
        do_items(&run, &operation, &items).await?;
        run.save_progress(&Progress {
            done,
            total: operation.total,
            note: "items".to_owned(),
            cursor: Some(done.to_string()),
        })
        .await?;
    }
    operations.finish(operation.id, run.ctx.store.now()).await?;
    Ok(StepSuccess::ok(
        reason::PROVISIONED,
        Vec::new(),
        UpstreamRefs::default(),
    ))
}

/// Up to which item the work is done already.
fn done_before(job: &Job) -> i64 {
    let cursor = job.progress.as_ref().and_then(|done| done.cursor.as_ref());
    cursor.and_then(|n| n.parse().ok()).unwrap_or(0)
}

async fn do_items(
    run: &StepContext,
    operation: &JobOperation,
    items: &[JobOperationItem],
) -> Result<(), StepFailure> {
    let mut changed = Vec::new();
    for item in items {
        if item.outcome == ItemOutcome::Pending {
            changed.extend(do_item(run, operation, item).await?);
        }
    }
    if operation.action == JobAction::Requeue {
        run.ctx.ready.notify(&changed).await;
    }
    let tenants = changed.iter().filter_map(|job| job.tenant_id);
    let told = tenants.map(DocumentChange::Tenant);
    let told: Vec<DocumentChange> = told
        .chain(changed.iter().map(|job| DocumentChange::Job(job.id)))
        .collect();
    run.ctx.changes.publish(&told).await;
    Ok(())
}

/// Does one item. The job as it is then, if it was changed.
async fn do_item(
    run: &StepContext,
    operation: &JobOperation,
    item: &JobOperationItem,
) -> Result<Option<Job>, StepFailure> {
    let lost = || StepFailure::new(ErrorCode::Internal, "the lease was lost");
    let token = run.job.lease.as_ref().ok_or_else(lost)?.token;
    let attempt = Attempt {
        ctx: &run.ctx,
        by: run.job.id,
        token,
        operation,
        item,
    };
    let outcome = run
        .ctx
        .store
        .transaction(attempt, |session, attempt| {
            attempt.carry_out(session).boxed()
        })
        .await;
    match outcome {
        Ok(changed) => Ok(changed),
        Err(TransactionError::Aborted(Stopped::SettledBefore)) => Ok(None),
        Err(TransactionError::Aborted(Stopped::LeaseLost)) => Err(lost()),
        Err(TransactionError::Store(error)) => Err(error.into()),
    }
}

/// One item's transaction.
struct Attempt<'a> {
    ctx: &'a Context,
    by: JobId,
    token: LeaseToken,
    operation: &'a JobOperation,
    item: &'a JobOperationItem,
}

impl Attempt<'_> {
    async fn carry_out(
        &self,
        session: &mut ClientSession,
    ) -> Result<Option<Job>, TransactionError<Stopped>> {
        let (ctx, now) = (self.ctx, self.ctx.store.now());
        if !ctx.jobs.fence(session, self.by, self.token, now).await? {
            return Err(TransactionError::Aborted(Stopped::LeaseLost));
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
            Err(TransactionError::Aborted(Stopped::SettledBefore))
        }
    }

    /// Changes the job, unless it needs no change any more or cannot be changed.
    async fn change(
        &self,
        session: &mut ClientSession,
        now: DateTime,
    ) -> Result<ControlFlow<ItemReason, Changed>, TransactionError<Stopped>> {
        let (jobs, id) = (&self.ctx.jobs, self.item.job_id);
        let Some(job) = jobs.find_in(session, id).await? else {
            return Ok(ControlFlow::Break(ItemReason::JobGone));
        };
        let is_as_meant = match self.operation.action {
            JobAction::Requeue | JobAction::Discard => job.state == self.operation.filter.state,
            // It waits now, or runs now: it is to stop either way.
            JobAction::Cancel => !job.state.is_final(),
        };
        if !is_as_meant {
            return Ok(ControlFlow::Break(ItemReason::StateChanged));
        }
        match self.operation.action {
            JobAction::Requeue => {
                let by = &self.operation.actor.id;
                let requeued = jobs.requeue(session, id, by, now).await;
                unless_refused(requeued, not_requeued).map(|requeued| {
                    requeued.map_continue(|requeued| Changed {
                        new_job_id: requeued.is_new.then_some(requeued.job.id),
                        job: requeued.job,
                    })
                })
            }
            JobAction::Cancel => {
                let cancelled = jobs.cancel(session, id, now).await;
                Ok(match unless_refused(cancelled, not_cancelled)? {
                    ControlFlow::Continue(cancelled) if !cancelled.is_new => {
                        ControlFlow::Break(ItemReason::CancelRequested)
                    }
                    cancelled => cancelled.map_continue(|cancelled| cancelled.job.into()),
                })
            }
            JobAction::Discard => {
                let discarded = jobs.discard(session, id, now).await;
                unless_refused(discarded, not_cancelled)
                    .map(|discarded| discarded.map_continue(Changed::from))
            }
        }
    }

    async fn record(
        &self,
        session: &mut ClientSession,
        changed: &Job,
        now: DateTime,
    ) -> Result<(), TransactionError<Stopped>> {
        let action = match self.operation.action {
            JobAction::Requeue => Action::JobRequeue,
            JobAction::Cancel => Action::JobCancel,
            JobAction::Discard => Action::JobDiscard,
        };
        let target = Target {
            kind: "job".to_owned(),
            id: self.item.job_id.to_string(),
            name: changed.kind.clone(),
        };
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

/// A refusal is an item's outcome, and no failure.
fn unless_refused<T, E>(
    result: Result<T, TransactionError<E>>,
    reason: impl FnOnce(&E) -> ItemReason,
) -> Result<ControlFlow<ItemReason, T>, TransactionError<Stopped>> {
    match result {
        Ok(value) => Ok(ControlFlow::Continue(value)),
        Err(TransactionError::Aborted(error)) => Ok(ControlFlow::Break(reason(&error))),
        Err(TransactionError::Store(error)) => Err(TransactionError::Store(error)),
    }
}

fn not_requeued(error: &RequeueError) -> ItemReason {
    match error {
        RequeueError::NotFound => ItemReason::JobGone,
        RequeueError::Running => ItemReason::StateChanged,
        RequeueError::SecretsGone => ItemReason::SecretsGone,
        RequeueError::PurgeNotDue => ItemReason::PurgeScheduled,
    }
}

fn not_cancelled(error: &CancelError) -> ItemReason {
    match error {
        CancelError::NotFound => ItemReason::JobGone,
        CancelError::Final(_) | CancelError::Running => ItemReason::StateChanged,
        CancelError::Purge => ItemReason::PurgeScheduled,
    }
}
