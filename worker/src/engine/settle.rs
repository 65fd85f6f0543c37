//! How attempts end: settlements are gathered, written in bulk, and only then is looked for what comes next.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    id::{JobId, TenantId},
    platform::{backoff::ReconnectBackoff, change_feed::DocumentChange, clock},
    queue::{
        error_code::ErrorCode,
        job::{Attempt, JobFailure, JobState, Queue, Step},
        ready_set::ReadyKey,
    },
    store::{StoreError, jobs::job_lock_key, to_bson},
};
use futures::TryStreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    Engine,
    bulk::{self, ItemError, Update},
    claim::{first_due, millis},
    lease::LeasedJob,
};

/// The most settlements in one bulk.
const BULK: usize = 100;
/// The most tries that a job's document lists.
const LISTED_ATTEMPTS: i32 = 20;

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Done.
    Complete,
    /// Later; the attempt is charged.
    Retry { at: DateTime, error: JobFailure },
    /// Later; the attempt is not charged.
    Snooze {
        at: DateTime,
        error: Option<JobFailure>,
    },
    /// Never again.
    Discard { error: JobFailure },
    /// A person said so.
    Cancel { error: JobFailure },
    /// Back, through no fault of the job: the worker stops or lost its trust.
    Release,
    /// At once, from the start: the intent changed while it was carried out.
    Restart,
}

impl Outcome {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Retry { .. } => "retry",
            Self::Snooze { .. } => "snooze",
            Self::Discard { .. } => "discard",
            Self::Cancel { .. } => "cancel",
            Self::Release => "release",
            Self::Restart => "restart",
        }
    }

    pub(crate) fn error(&self) -> Option<&JobFailure> {
        match self {
            Self::Retry { error, .. } | Self::Discard { error } | Self::Cancel { error } => {
                Some(error)
            }
            Self::Snooze { error, .. } => error.as_ref(),
            Self::Complete | Self::Release | Self::Restart => None,
        }
    }

    /// When it runs again, where that is known.
    fn runs_at(&self) -> Option<DateTime> {
        match self {
            Self::Retry { at, .. } | Self::Snooze { at, .. } => Some(*at),
            _ => None,
        }
    }
}

/// An attempt that has ended.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) id: JobId,
    /// Renewed until all is written.
    pub(crate) held: Arc<LeasedJob>,
    pub(crate) tenant_id: Option<TenantId>,
    pub(crate) queue: Queue,
    pub(crate) lock_key: String,
    pub(crate) unique_key: Option<String>,
    pub(crate) priority: i32,
    pub(crate) steps: Vec<Step>,
    pub(crate) attempt: Attempt,
    pub(crate) outcome: Outcome,
    /// Whether a step was begun.
    pub(crate) tried: bool,
    /// Frees the slot once all is written.
    pub(crate) permit: OwnedSemaphorePermit,
    /// Told once all is written.
    pub(crate) done: oneshot::Sender<()>,
    /// When it is tried again if it cannot be written.
    pub(crate) pace: ReconnectBackoff,
}

impl Settlement {
    fn ours(&self) -> Document {
        doc! { "_id": self.id, "lease.token": self.held.token }
    }

    fn update(&self) -> Result<Update, StoreError> {
        let less_one = doc! { "$max": [0, { "$subtract": ["$attempt", 1] }] };
        let mut set = doc! {
            "steps": { "$literal": to_bson(&self.steps)? },
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        };
        match &self.outcome {
            Outcome::Complete => end(&mut set, JobState::Completed),
            Outcome::Discard { .. } => end(&mut set, JobState::Discarded),
            Outcome::Cancel { .. } => end(&mut set, JobState::Cancelled),
            Outcome::Retry { at, .. } => {
                set.insert("state", JobState::Available.name());
                set.insert("runAt", unless_cancelled(*at));
                reset_crashes(&mut set);
            }
            Outcome::Snooze { at, .. } => {
                set.insert("state", JobState::Available.name());
                set.insert("runAt", unless_cancelled(*at));
                if self.tried {
                    reset_crashes(&mut set);
                }
                set.insert("attempt", less_one);
                set.insert("snoozes", doc! { "$add": ["$snoozes", 1] });
            }
            Outcome::Release => {
                set.insert("state", JobState::Available.name());
                set.insert(
                    "runAt",
                    next_run(&self.steps).map_or("$$NOW".into(), Bson::from),
                );
                set.insert("attempt", less_one);
            }
            Outcome::Restart => {
                set.insert("state", JobState::Available.name());
                set.insert("runAt", "$$NOW");
                set.insert("attempt", less_one);
                set.insert("steps", Bson::Array(Vec::new()));
            }
        }
        // A snooze is counted, not listed: an upstream that is away for a week would push out all else.
        if !matches!(self.outcome, Outcome::Snooze { .. } | Outcome::Restart) {
            set.insert("attempts", append_attempt(&self.attempt)?);
        }
        // Unset before set: in a pipeline `$set` merges into what is there.
        let mut unset = vec!["lease", "error"];
        if matches!(
            self.outcome,
            Outcome::Complete | Outcome::Discard { .. } | Outcome::Cancel { .. }
        ) {
            unset.push("sealed");
            unset.push("cancelRequested");
        }
        let mut pipeline = vec![doc! { "$unset": unset }, doc! { "$set": set }];
        if let Some(error) = self.outcome.error() {
            pipeline.push(doc! { "$set": { "error": { "$literal": to_bson(error)? } } });
        }
        Ok(Update::one(self.ours(), pipeline))
    }

    /// Another job with its unique key waits: that one does the work.
    fn superseded_update(&self, by: JobId) -> Result<Update, StoreError> {
        let error = JobFailure::permanent(
            ErrorCode::Superseded,
            "another job with the same unique key waits",
        );
        let mut set = doc! {
            "steps": { "$literal": to_bson(&self.steps)? },
            "error": { "$literal": to_bson(&error)? },
            "attempts": append_attempt(&self.attempt)?,
            "supersededBy": by,
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        };
        end(&mut set, JobState::Cancelled);
        let unset = vec!["lease", "error", "sealed", "cancelRequested"];
        Ok(Update::one(
            self.ours(),
            vec![doc! { "$unset": unset }, doc! { "$set": set }],
        ))
    }
}

fn end(set: &mut Document, state: JobState) {
    set.insert("state", state.name());
    set.insert("finishedAt", "$$NOW");
    if let Some(kept_for) = state.retention() {
        set.insert("expireAt", doc! { "$add": ["$$NOW", millis(kept_for)] });
    }
}

/// A person may have asked it to stop when nobody looked any more: then it ends at its next claim, which is now.
fn unless_cancelled(at: DateTime) -> Document {
    doc! { "$cond": ["$cancelRequested", "$$NOW", at] }
}

/// Its steps have ended: whoever dies of it next does not die of the same thing.
fn reset_crashes(set: &mut Document) {
    set.insert("crashes", 0);
    set.insert("rescued", false);
}

/// The list of tries with one more. Texts of others go in `$literal`: a `$` in them is no expression.
pub(crate) fn append_attempt(attempt: &Attempt) -> Result<Document, StoreError> {
    let all = doc! { "$concatArrays": [{ "$ifNull": ["$attempts", []] }, [{ "$literal": to_bson(attempt)? }]] };
    Ok(doc! { "$slice": [all, -LISTED_ATTEMPTS] })
}

/// When the first of these steps may be tried again; `None` is at once.
pub(crate) fn next_run(steps: &[Step]) -> Option<DateTime> {
    steps
        .iter()
        .filter(|step| !step.state.is_done() && !step.is_permanently_failed())
        .filter_map(|step| step.next_at)
        .min()
}

impl Engine {
    /// Writes settlements as they come, until there are no more.
    pub(crate) async fn keep_settling(
        self: Arc<Self>,
        mut settlements: mpsc::Receiver<Settlement>,
    ) {
        let mut batch = Vec::with_capacity(BULK);
        while let Some(first) = settlements.recv().await {
            batch.push(first);
            let gathering = tokio::time::sleep(self.times.batch_window);
            tokio::pin!(gathering);
            while batch.len() < BULK {
                tokio::select! {
                    () = &mut gathering => break,
                    next = settlements.recv() => match next {
                        Some(next) => batch.push(next),
                        None => break,
                    },
                }
            }
            self.settle(std::mem::take(&mut batch)).await;
        }
    }

    /// Writes these settlements. One that cannot be written is tried until it can, and holds up no other.
    async fn settle(self: &Arc<Self>, settlements: Vec<Settlement>) {
        let errors = self.write(&settlements).await;
        let mut settled = Vec::new();
        for (index, settlement) in settlements.into_iter().enumerate() {
            match errors.get(&index) {
                None => settled.push(settlement),
                Some(error) => {
                    tracing::warn!(job.id = %settlement.id, ?error, "A settlement was not written; trying again");
                    self.database_failed();
                    self.settle_later(settlement);
                }
            }
        }
        // The next ones are written meanwhile. Whoever ran these waits for it.
        let this = self.clone();
        tokio::spawn(async move { this.after_settling(settled).await });
    }

    fn settle_later(&self, mut settlement: Settlement) {
        let settlements = self.settlements.clone();
        tokio::spawn(async move {
            tokio::time::sleep(settlement.pace.next_delay()).await;
            // It fails only when the process ends; then the lease runs out and the job is rescued.
            let _ = settlements.send(settlement).await;
        });
    }

    async fn write(&self, settlements: &[Settlement]) -> BTreeMap<usize, ItemError> {
        let unwritten = |error: StoreError| ItemError::Unknown(error.to_string());
        let updates: Result<Vec<Update>, StoreError> =
            settlements.iter().map(Settlement::update).collect();
        let updates = match updates {
            Ok(updates) => updates,
            Err(error) => {
                return (0..settlements.len())
                    .map(|index| (index, unwritten(error.clone())))
                    .collect();
            }
        };
        let mut errors = bulk::update(&self.ctx.store, &updates, self.times.bulk_deadline).await;
        let superseded: Vec<usize> = errors
            .iter()
            .filter(|(_, error)| **error == ItemError::Superseded)
            .map(|(index, _)| *index)
            .collect();
        for index in superseded {
            match self.supersede(&settlements[index]).await {
                Ok(()) => errors.remove(&index),
                Err(error) => errors.insert(index, unwritten(error)),
            };
        }
        errors
    }

    async fn supersede(&self, settlement: &Settlement) -> Result<(), StoreError> {
        let waiting =
            doc! { "uniqueKey": &settlement.unique_key, "state": JobState::Available.name() };
        let Some(by) = self.jobs.find_one(waiting).await? else {
            // It was cancelled meanwhile, so this one may wait after all.
            return Err(StoreError::custom("the job that waited does so no more"));
        };
        let update = settlement.superseded_update(by.id)?;
        match bulk::update(&self.ctx.store, &[update], self.times.bulk_deadline)
            .await
            .into_values()
            .next()
        {
            None => Ok(()),
            Some(error) => Err(StoreError::custom(format!("{error:?}"))),
        }
    }

    /// Strictly after the settlements are acknowledged: a key looked for before, and dropped by another worker in
    /// between, would wait for the sweep.
    async fn after_settling(&self, settled: Vec<Settlement>) {
        if settled.is_empty() {
            return;
        }
        let keys: Vec<String> = settled
            .iter()
            // Behind a lock that is the job's own there can be no other.
            .filter(|settlement| {
                settlement.lock_key != job_lock_key(settlement.id)
                    || settlement.outcome == Outcome::Release
            })
            .map(|settlement| settlement.lock_key.clone())
            .collect();
        if let Err(error) = self.notify_ready(keys).await {
            tracing::warn!(%error, "Could not look for more work; the sweep will");
        }
        let mut changes = Vec::new();
        for settlement in settled {
            changes.push(DocumentChange::Job(settlement.id));
            changes.extend(settlement.tenant_id.map(DocumentChange::Tenant));
            if let Some(at) = settlement.outcome.runs_at() {
                let key = ReadyKey {
                    lock_key: settlement.lock_key.clone(),
                    priority: settlement.priority,
                };
                self.schedule_wakeup(settlement.queue, key, at);
            }
            tracing::info!(
                job.id = %settlement.id,
                outcome = settlement.outcome.name(),
                error = settlement.outcome.error().map(|error| error.detail.as_str()),
                "Settled"
            );
            drop(settlement.held);
            drop(settlement.permit);
            // Nobody may be listening any more.
            let _ = settlement.done.send(());
        }
        self.ctx.changes.publish(&changes).await;
    }

    /// Adds those of `keys` that have due work to the ready set of every queue that has it.
    pub(crate) async fn notify_ready(&self, keys: Vec<String>) -> Result<(), StoreError> {
        #[derive(serde::Deserialize)]
        struct Due {
            #[serde(rename = "_id")]
            lock_key: String,
            priority: i32,
            queue: Queue,
        }
        if keys.is_empty() {
            return Ok(());
        }
        let now = self.ctx.store.now();
        let branch = |queue: Queue| {
            let mut stages = first_due(queue, doc! { "$in": keys.clone() }.into(), now);
            stages.push(doc! { "$set": { "queue": queue.name() } });
            stages
        };
        let (first, others) = (Queue::ALL[0], &Queue::ALL[1..]);
        let mut pipeline = branch(first);
        pipeline.extend(
            others
                .iter()
                .map(|queue| doc! { "$unionWith": { "coll": "jobs", "pipeline": branch(*queue) } }),
        );
        let due: Vec<Due> = bulk::with_timeout(self.times.bulk_deadline, async {
            self.jobs
                .clone_with_type::<Document>()
                .aggregate(pipeline)
                .with_type()
                .await?
                .try_collect()
                .await
        })
        .await?;

        let mut by_queue: BTreeMap<Queue, Vec<ReadyKey>> = BTreeMap::new();
        for due in due {
            let key = ReadyKey {
                lock_key: due.lock_key,
                priority: due.priority,
            };
            by_queue.entry(due.queue).or_default().push(key);
        }
        // The queue that hears of a key first mostly gets its lock: no queue is always the first.
        let mut by_queue: Vec<_> = by_queue.into_iter().collect();
        let first = rand::random_range(0..by_queue.len().max(1));
        by_queue.rotate_left(first);
        for (queue, keys) in by_queue {
            // A hint: while Redis is away, the queues look for themselves.
            let _ = self.ctx.ready.add(queue, &keys).await;
        }
        Ok(())
    }

    /// Adds `key` on time, where that is soon. Later ones are the sweep's.
    fn schedule_wakeup(&self, queue: Queue, key: ReadyKey, at: DateTime) {
        let wait = clock::until(self.ctx.store.now(), at);
        if wait > self.times.wakeup_horizon {
            return;
        }
        let ready = self.ctx.ready.clone();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            // A little late rather than early: a key that is popped before its job is due is dropped.
            let on_time = tokio::time::sleep(wait + Duration::from_millis(2));
            if stop.run_until_cancelled(on_time).await.is_some() {
                let _ = ready.add(queue, &[key]).await;
            }
        });
    }
}
