//! Settling: the ends of attempts are batched, written in bulk, and only then followed by the search for more due work.

mod completion;
mod settlement;

use std::{collections::BTreeMap, sync::Arc};

use bson::doc;
use dezky_shared::{
    id::{JobId, LeaseToken},
    platform::change_feed::{ChangeFeed, DocumentChange},
    queue::{
        job::{Job, JobState},
        ready_set::ReadyKey,
    },
    store::{Store, StoreError, TransactionError, jobs::job_lock_key},
};
use futures::FutureExt as _;
use mongodb::Collection;
use tokio::sync::mpsc;

pub(super) use self::settlement::{Outcome, Settlement, append_attempt, releases_in_a_row};
use super::{
    EngineTimings,
    bulk::{self, ItemError, Update},
    database_health::DatabaseHealth,
    ready_notifier::ReadyNotifier,
};

/// The most settlements in one bulk.
const MAX_BATCH: usize = 200;

/// A job found by its unique key; no other field is decoded.
#[derive(serde::Deserialize)]
struct JobOfKey {
    #[serde(rename = "_id")]
    id: JobId,
}

/// No available job has the unique key any more.
struct SupersederGone;

/// Writes settlements of all jobs of this process.
pub(super) struct Settler {
    store: Arc<Store>,
    jobs: Collection<Job>,
    changes: ChangeFeed,
    times: EngineTimings,
    health: Arc<DatabaseHealth>,
    notifier: Arc<ReadyNotifier>,
    settlements: mpsc::Sender<Settlement>,
}

impl Settler {
    /// A settler, and the queue that its [`settle_loop`](Self::settle_loop) serves.
    pub(super) fn new(
        store: &Arc<Store>,
        changes: &ChangeFeed,
        times: &EngineTimings,
        health: &Arc<DatabaseHealth>,
        notifier: Arc<ReadyNotifier>,
    ) -> (Arc<Self>, mpsc::Receiver<Settlement>) {
        let (settlements, queue) = mpsc::channel(1_024);
        let settler = Self {
            jobs: store.collection("jobs"),
            store: store.clone(),
            changes: changes.clone(),
            times: times.clone(),
            health: health.clone(),
            notifier,
            settlements,
        };
        (Arc::new(settler), queue)
    }

    /// Queues a settlement. False if the process is ending.
    pub(super) async fn submit(&self, settlement: Settlement) -> bool {
        self.settlements.send(settlement).await.is_ok()
    }

    /// Serves `settlements` until the channel closes.
    pub(super) async fn settle_loop(self: Arc<Self>, mut settlements: mpsc::Receiver<Settlement>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        let mut busy = false;
        while settlements.recv_many(&mut batch, MAX_BATCH).await > 0 {
            busy |= batch.len() > 1;
            if busy {
                // Waiting for more makes fewer and larger batches. One that comes alone is not held up.
                self.collect(&mut batch, &mut settlements).await;
            }
            busy = batch.len() > 1;
            self.settle(std::mem::take(&mut batch)).await;
        }
    }

    /// Adds further settlements to `batch` until it is full or the batch window is over.
    async fn collect(
        &self,
        batch: &mut Vec<Settlement>,
        settlements: &mut mpsc::Receiver<Settlement>,
    ) {
        let window = tokio::time::sleep(self.times.batch_window);
        tokio::pin!(window);
        while batch.len() < MAX_BATCH {
            tokio::select! {
                () = &mut window => return,
                next = settlements.recv() => match next {
                    Some(next) => batch.push(next),
                    None => return,
                },
            }
        }
    }

    /// Writes a batch. A settlement that fails is repeated until it is written, and delays no other.
    async fn settle(self: &Arc<Self>, settlements: Vec<Settlement>) {
        let errors = self.write(&settlements).await;
        let mut settled = Vec::new();
        for (index, settlement) in settlements.into_iter().enumerate() {
            match errors.get(&index) {
                None => settled.push(settlement),
                Some(error) => {
                    tracing::warn!(job.id = %settlement.id, ?error, "Could not write a settlement; retrying");
                    if matches!(error, ItemError::Unavailable(_)) {
                        self.health.record_failure();
                    }
                    self.submit_later(settlement);
                }
            }
        }
        // The next batch is written meanwhile.
        let this = self.clone();
        tokio::spawn(async move { this.after_settling(settled).await });
    }

    fn submit_later(&self, mut settlement: Settlement) {
        let settlements = self.settlements.clone();
        tokio::spawn(async move {
            tokio::time::sleep(settlement.backoff.next_delay()).await;
            // Fails only when the process ends; then the lease expires and the job is rescued.
            let _ = settlements.send(settlement).await;
        });
    }

    /// Writes these settlements. Returns the errors by index.
    async fn write(&self, settlements: &[Settlement]) -> BTreeMap<usize, ItemError> {
        let mut errors = self.write_groups(settlements, groups(settlements)).await;
        let superseded: Vec<usize> = errors
            .iter()
            .filter(|(_, error)| **error == ItemError::Superseded)
            .map(|(index, _)| *index)
            .collect();
        for index in superseded {
            match self.supersede(&settlements[index]).await {
                Ok(()) => errors.remove(&index),
                Err(error) => errors.insert(index, error.into()),
            };
        }
        errors
    }

    /// Writes each group by one update of a bulk. The first job that MongoDB refuses ends its group; then each job of the
    /// group is written by an update of its own, which passes over those that are written.
    async fn write_groups(
        &self,
        settlements: &[Settlement],
        groups: Vec<Vec<usize>>,
    ) -> BTreeMap<usize, ItemError> {
        let updates = groups.iter().map(|group| update(settlements, group));
        let updates = match updates.collect::<Result<Vec<Update>, StoreError>>() {
            Ok(updates) => updates,
            Err(error) => {
                let all = groups.into_iter().flatten();
                return all.map(|index| (index, error.clone().into())).collect();
            }
        };
        let failed = bulk::update(&self.store, &updates, self.times.bulk_deadline).await;
        let mut errors = BTreeMap::new();
        let mut apart = Vec::new();
        for (group, error) in failed {
            let group = &groups[group];
            if group.len() == 1 || matches!(error, ItemError::Unavailable(_)) {
                errors.extend(group.iter().map(|index| (*index, error.clone())));
            } else {
                apart.extend(group.iter().map(|index| vec![*index]));
            }
        }
        if !apart.is_empty() {
            errors.extend(Box::pin(self.write_groups(settlements, apart)).await);
        }
        errors
    }

    async fn supersede(&self, settlement: &Settlement) -> Result<(), StoreError> {
        let available =
            doc! { "uniqueKey": &settlement.unique_key, "state": JobState::Available.name() };
        let touch = doc! { "$set": { "updatedAt": self.store.now() } };
        let written = self.store.transaction(
            (self, settlement, available, touch),
            |session, (this, settlement, available, touch)| {
                async move {
                    let jobs = this.jobs.clone_with_type::<JobOfKey>();
                    // Written, so that its cancellation conflicts: it would rely on this job, and this one on it.
                    let by = jobs
                        .find_one_and_update(available.clone(), touch.clone())
                        .projection(doc! { "_id": 1 })
                        .session(&mut *session)
                        .await?
                        .ok_or(TransactionError::Aborted(SupersederGone))?;
                    let Update {
                        filter, pipeline, ..
                    } = settlement.superseded_update(by.id)?;
                    this.jobs
                        .update_one(filter, pipeline)
                        .session(session)
                        .await?;
                    Ok(())
                }
                .boxed()
            },
        );
        bulk::with_timeout(self.times.bulk_deadline, async {
            match written.await {
                Ok(()) => Ok(()),
                Err(TransactionError::Store(error)) => Err(error),
                // It was cancelled meanwhile, so this one may become available after all.
                Err(TransactionError::Aborted(SupersederGone)) => {
                    Err(StoreError::custom("the superseding job is gone".to_owned()))
                }
            }
        })
        .await
    }

    /// Strictly after the settlements are acknowledged. Searching for more work earlier would race with another worker
    /// that drops the key because the lock is still held: the key would wait for the sweep.
    async fn after_settling(&self, settled: Vec<Settlement>) {
        if settled.is_empty() {
            return;
        }
        self.publish_changes(&settled);
        self.notify_due(&settled).await;
        for settlement in settled {
            if let Some(at) = settlement.outcome.runs_at() {
                let key = ReadyKey {
                    lock_key: settlement.lock_key.clone(),
                    priority: settlement.priority,
                };
                self.notifier.schedule_wakeup(settlement.queue, key, at);
            }
            tracing::info!(
                job.id = %settlement.id,
                outcome = settlement.outcome.name(),
                error = settlement.outcome.error().map(|error| error.detail.as_str()),
                "Settled"
            );
            drop(settlement.lease);
            drop(settlement.permit);
            // The attempt's task may have been cancelled.
            let _ = settlement.done.send(());
        }
    }

    /// In a task of its own: a request that waits for a job need not wait for the search, too.
    fn publish_changes(&self, settled: &[Settlement]) {
        let mut changes = Vec::new();
        for settlement in settled {
            changes.push(DocumentChange::Job(settlement.id));
            changes.extend(settlement.tenant_id.map(DocumentChange::Tenant));
        }
        let feed = self.changes.clone();
        tokio::spawn(async move { feed.publish(&changes).await });
    }

    /// Adds the lock keys of these settlements that have more due work to the ready sets.
    async fn notify_due(&self, settled: &[Settlement]) {
        let keys: Vec<String> = settled
            .iter()
            // No other job shares a lock key derived from the job's own id.
            .filter(|settlement| {
                settlement.lock_key != job_lock_key(settlement.id)
                    || settlement.outcome == Outcome::Release
            })
            .map(|settlement| settlement.lock_key.clone())
            .collect();
        if let Err(error) = self.notifier.notify_due(keys).await {
            tracing::warn!(%error, "Could not search for more due work; leaving it to the sweep");
        }
    }
}

/// The settlements by index, in groups of one update each: completions by fencing token, every other for itself.
fn groups(settlements: &[Settlement]) -> Vec<Vec<usize>> {
    let mut completions: BTreeMap<LeaseToken, Vec<usize>> = BTreeMap::new();
    let mut groups = Vec::new();
    for (index, settlement) in settlements.iter().enumerate() {
        if settlement.outcome == Outcome::Complete {
            let group = completions.entry(settlement.lease.token).or_default();
            group.push(index);
        } else {
            groups.push(vec![index]);
        }
    }
    groups.extend(completions.into_values());
    groups
}

/// The update that writes a group.
fn update(settlements: &[Settlement], group: &[usize]) -> Result<Update, StoreError> {
    let members: Vec<&Settlement> = group.iter().map(|index| &settlements[*index]).collect();
    match members[..] {
        [settlement] if settlement.outcome != Outcome::Complete => settlement.update(),
        _ => completion::complete(members[0].lease.token, &members),
    }
}
