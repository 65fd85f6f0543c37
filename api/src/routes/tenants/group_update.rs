//! Group commit of the patches of one tenant: those that wait for the keyed mutex at the same time are one transaction.
//!
//! The holder of the mutex applies all waiting patches in order, each to the tenant as its predecessor left it, with the
//! `If-Match`, the response, the audit event and the revision of its own. The tenant is read and written once, and the
//! patches share a job. If the transaction is refused, for instance because of a used idempotency key, each patch runs in a
//! transaction of its own.

use std::{
    collections::HashMap,
    mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bson::DateTime;
use dezky_shared::{
    id::TenantId,
    platform::{change_feed::DocumentChange, clock},
    queue::job::Job,
    store::{
        StoreError, TransactionError, Versioned as _, VersionedRepository as _,
        group_commit::Inserts, jobs::NewJob,
    },
    tenant::Tenant,
};
use futures::{FutureExt as _, future::join_all};
use mongodb::{ClientSession, error::TRANSIENT_TRANSACTION_ERROR};
use tokio::sync::oneshot;

use super::{DEBOUNCE, TenantChange, actions::Decision, audited, patch::Patch, respond, target};
use crate::{
    error::ApiError,
    etag::ETag,
    state::{AppState, SharedState},
    write::{CommandOutput, CommandResult, CommandRunner, DetachedRequest},
};

/// Attempts of a group's transaction: a job may write the tenant at the same time.
const MAX_ATTEMPTS: usize = 3;

/// Patches that wait for the keyed mutex of their tenant.
#[derive(Debug, Default)]
pub(crate) struct PatchQueue(Mutex<HashMap<TenantId, Vec<QueuedPatch>>>);

/// The patches that wait in this process. An extension of the router.
pub(crate) type Patches = Arc<PatchQueue>;

#[derive(Debug)]
struct QueuedPatch {
    request: DetachedRequest,
    patch: Patch,
    /// Dropped if the patch needs a transaction of its own.
    reply: oneshot::Sender<Reply>,
}

/// Result of a patch.
type Reply = Result<CommandResult, ApiError>;

/// A place in the queue, which removes the patch of a dropped request.
struct Place<'a> {
    queue: &'a PatchQueue,
    tenant: TenantId,
}

/// The transaction of the group was refused.
struct Refused;

/// Applies `patch` to `tenant`, in one transaction with the patches that wait at the same time.
pub(super) async fn update(
    app: &SharedState,
    patches: &Patches,
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    patch: &Patch,
) -> Result<CommandResult, ApiError> {
    let _place = Place {
        queue: patches,
        tenant: tenant.id,
    };
    let mut lock = pin!(runner.serialized_on(&tenant.slug, Some(tenant)));
    // Before the patch is queued: one that is rejected because too many wait must not be committed by another request.
    let acquired = lock.as_mut().now_or_never().transpose()?;
    let (reply, mut replied) = oneshot::channel();
    patches.push(
        tenant.id,
        QueuedPatch {
            request: DetachedRequest::new(runner, tenant),
            patch: patch.clone(),
            reply,
        },
    );
    let locked = if let Some(locked) = acquired {
        locked
    } else {
        tokio::select! {
            biased;
            reply = &mut replied => return match reply {
                Ok(reply) => reply,
                Err(_) => update_alone(&lock.await?, tenant, patch).await,
            },
            locked = &mut lock => locked?,
        }
    };
    let group = patches.take(tenant.id);
    if group.len() > 1 {
        // A task of its own: a dropped request does not interrupt the commit of the others. A panic drops the replies.
        let commit = tokio::spawn(commit(app.clone(), tenant.id, group));
        let _ = commit.await;
    } else {
        drop(group);
    }
    match replied.await {
        Ok(reply) => reply,
        Err(_) => update_alone(&locked, tenant, patch).await,
    }
}

/// Applies a patch in a transaction of its own, by a request that holds the keyed mutex.
async fn update_alone(
    locked: &CommandRunner<'_>,
    tenant: &Tenant,
    patch: &Patch,
) -> Result<CommandResult, ApiError> {
    let decide = |tenant: &mut Tenant, by: &str, now: DateTime| patch.decide(tenant, by, now);
    let change = TenantChange {
        id: tenant.id,
        decide: &decide,
    };
    locked.run(&change).await
}

impl PatchQueue {
    fn push(&self, tenant: TenantId, patch: QueuedPatch) {
        self.queues().entry(tenant).or_default().push(patch);
    }

    /// Removes and returns the patches whose requests still wait.
    fn take(&self, tenant: TenantId) -> Vec<QueuedPatch> {
        let mut group = self.queues().remove(&tenant).unwrap_or_default();
        group.retain(QueuedPatch::is_awaited);
        group
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<TenantId, Vec<QueuedPatch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.queue.queues();
        if let Some(queue) = queues.get_mut(&self.tenant) {
            queue.retain(QueuedPatch::is_awaited);
            if queue.is_empty() {
                queues.remove(&self.tenant);
            }
        }
    }
}

impl QueuedPatch {
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn reply(self, reply: Reply) {
        // The request may have been dropped.
        let _ = self.reply.send(reply);
    }
}

/// Commits the patches of a group that are still permitted, and replies to each. If the group is refused, the replies are
/// dropped.
async fn commit(app: SharedState, tenant: TenantId, group: Vec<QueuedPatch>) {
    let group = permitted(&app, group).await;
    let context = (&*app, tenant, &group[..], 0_usize);
    let committed = app
        .store
        .transaction(context, |session, (app, tenant, group, attempts)| {
            async move {
                *attempts += 1;
                let applied = apply_all(session, app, *tenant, group).await;
                applied.map_err(|error| {
                    let is_transient = error.contains_label(TRANSIENT_TRANSACTION_ERROR);
                    if is_transient && *attempts < MAX_ATTEMPTS {
                        TransactionError::Store(error)
                    } else {
                        TransactionError::Aborted(Refused)
                    }
                })
            }
            .boxed()
        })
        .await;
    match committed {
        Ok(applied) => {
            app.hints.publish(applied.jobs, applied.changed);
            for (patch, reply) in group.into_iter().zip(applied.replies) {
                if let Some(reply) = reply {
                    patch.reply(reply);
                }
            }
        }
        Err(TransactionError::Aborted(Refused)) => {}
        // The commit may have been lost.
        Err(TransactionError::Store(error)) => {
            for patch in group {
                patch.reply(Err(ApiError::from_write(error.clone())));
            }
        }
    }
}

/// The patches whose callers still have the permissions with which they began to wait.
async fn permitted(app: &AppState, group: Vec<QueuedPatch>) -> Vec<QueuedPatch> {
    let checks: Vec<_> = group
        .iter()
        .map(|patch| patch.request.recheck_permissions(app))
        .collect();
    let checks = join_all(checks).await;
    let mut permitted = Vec::with_capacity(group.len());
    for (patch, check) in group.into_iter().zip(checks) {
        match check {
            Ok(()) => permitted.push(patch),
            Err(rejection) => patch.reply(Err(rejection)),
        }
    }
    permitted
}

/// Outcome of a group.
struct Applied {
    /// Result of each patch. `None` if it needs a transaction of its own.
    replies: Vec<Option<Reply>>,
    jobs: Vec<Job>,
    changed: Vec<DocumentChange>,
}

async fn apply_all(
    session: &mut ClientSession,
    app: &AppState,
    id: TenantId,
    patches: &[QueuedPatch],
) -> Result<Applied, StoreError> {
    let tenants = &app.db.tenants;
    let Some(before) = tenants.find_in_transaction(session, id).await? else {
        return Ok(Applied {
            replies: patches.iter().map(|_| None).collect(),
            jobs: Vec::new(),
            changed: Vec::new(),
        });
    };
    let revision = before.revision;
    let mut group = Group {
        app,
        now: app.store.now(),
        tenant: before,
        job: None,
        inserts: Inserts::default(),
    };
    let mut replies = Vec::with_capacity(patches.len());
    for patch in patches {
        replies.push(group.apply(session, patch).await?);
    }
    let mut changed = Vec::new();
    if group.tenant.revision != revision {
        tenants.save(session, &group.tenant).await?;
        changed.push(DocumentChange::Tenant(id));
    }
    group.inserts.write(session).await?;
    Ok(Applied {
        replies,
        jobs: group.job.into_iter().collect(),
        changed,
    })
}

/// State of a group's transaction.
struct Group<'a> {
    app: &'a AppState,
    now: DateTime,
    /// The tenant as the last patch left it.
    tenant: Tenant,
    /// The job that carries the patches out, once one of them needs it.
    job: Option<Job>,
    inserts: Inserts,
}

impl Group<'_> {
    async fn apply(
        &mut self,
        session: &mut ClientSession,
        queued: &QueuedPatch,
    ) -> Result<Option<Reply>, StoreError> {
        let runner = queued.request.runner(self.app);
        let mut after = self.tenant.clone();
        let checked = runner.if_match.check(ETag::from(&self.tenant));
        let decided = checked.and_then(|()| {
            let by = runner.actor_id();
            queued.patch.decide(&mut after, &by, self.now)
        });
        let decision = match decided {
            Ok(decision) => decision,
            // The response to an earlier request with the key takes precedence.
            Err(_) if queued.request.has_key() => return Ok(None),
            Err(rejection) => return Ok(Some(Err(rejection))),
        };
        let mut output = match decision {
            None => CommandOutput::unchanged(respond(runner.caller, &self.tenant, None)),
            Some(decision) => self.change(session, &runner, after, decision).await?,
        };
        runner.record_in_group(&mut self.inserts, &mut output)?;
        Ok(Some(Ok(CommandResult {
            response: output.response,
            job: output.jobs.into_iter().next(),
        })))
    }

    async fn change(
        &mut self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        mut after: Tenant,
        decision: Decision,
    ) -> Result<CommandOutput, StoreError> {
        let Decision { action, jobs } = decision;
        let mut enqueued = Vec::new();
        // A patch has one job at most, which provisions the tenant.
        for job in jobs {
            enqueued.push(self.enqueue(session, runner, job).await?);
        }
        after.touch(self.now);
        let before = mem::replace(&mut self.tenant, after);
        let tenant = &self.tenant;
        let event = runner
            .event(self.now, action, target(tenant), Some(tenant))
            .with_changes(&audited(&before)?, &audited(tenant)?);
        let response = respond(runner.caller, tenant, enqueued.first());
        Ok(CommandOutput::complete(response, event).with_jobs(enqueued))
    }

    /// Enqueues the first patch's job, debounced; the others join it.
    async fn enqueue(
        &mut self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        job: NewJob,
    ) -> Result<Job, StoreError> {
        if let Some(job) = &self.job {
            return Ok(job.clone());
        }
        let due = clock::later(self.now, DEBOUNCE);
        let job = runner.enqueue(session, job.not_before(due)).await?;
        self.job = Some(job.clone());
        Ok(job)
    }
}
