//! Fetch loops of a queue: from the ready set, or from MongoDB while Redis is unavailable, to claimed jobs.

use std::{collections::BTreeMap, sync::Arc};

use dezky_shared::{
    platform::{backoff::ReconnectBackoff, redis::RedisError},
    queue::{
        job::Queue,
        priority::Priority,
        ready_set::{ReadySet, ReadySetConsumer},
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    EngineTimings,
    bulk::with_timeout,
    claim::{Claim, Claimed, Claimer},
    control_state::ControlWatch,
    database_health::DatabaseHealth,
    due_keys::{Cursor, DueKeys},
    lease::LeaseTable,
    slots::{Slot, SlotPool},
};
use crate::metrics;

/// The fetch loops of each pool that serves every lane. While one waits for its claims to be written, the other fills the
/// slots that become free. The reserved pools have one each.
const FETCH_LOOPS: usize = 2;

/// Fetches jobs for the slots of this process.
pub(super) struct Fetcher {
    pub(super) claimer: Claimer,
    pub(super) due_keys: DueKeys,
    pub(super) ready: ReadySet,
    pub(super) leases: Arc<LeaseTable>,
    pub(super) control: Arc<ControlWatch>,
    pub(super) health: Arc<DatabaseHealth>,
    pub(super) times: EngineTimings,
    /// Ends the loops.
    pub(super) stop: CancellationToken,
}

/// Source of the lock keys of one loop.
struct KeySource {
    queue: Queue,
    /// The least urgent lane.
    lowest: Priority,
    /// Cursor of the search in MongoDB, for each lane.
    cursors: BTreeMap<Priority, Cursor>,
    /// The connection to the ready set, unless Redis is unavailable.
    consumer: Option<ReadySetConsumer>,
    /// Whether there was a key for every free slot, so that there may be more.
    has_backlog: bool,
}

/// The number of fetch loops of a pool.
pub(super) const fn loops(pool: &SlotPool) -> usize {
    match pool.lowest {
        Priority::Bulk => FETCH_LOOPS,
        Priority::Security | Priority::Interactive => 1,
    }
}

impl Fetcher {
    /// Claims jobs of `queue` while slots of `pool` are free, until the worker stops.
    pub(super) async fn fetch_loop(
        self: Arc<Self>,
        queue: Queue,
        pool: SlotPool,
        claimed: mpsc::Sender<Claimed>,
    ) {
        let mut source = KeySource {
            queue,
            lowest: pool.lowest,
            cursors: BTreeMap::new(),
            consumer: None,
            has_backlog: false,
        };
        let mut backoff = ReconnectBackoff::default();
        // Only the search is cancelled: claimed jobs must be dispatched.
        while let Some(found) = self
            .stop
            .run_until_cancelled(self.find_work(&mut source, &pool))
            .await
        {
            let Some((keys, mut slots)) = found else {
                return;
            };
            // The queue may have been paused meanwhile; then the sweep adds the keys again.
            if keys.is_empty() || self.control.is_paused(queue) {
                continue;
            }
            slots.truncate(keys.len());
            match self.claimer.claim(queue, &keys).await {
                Ok(claims) => {
                    backoff.reset();
                    for claim in claims {
                        let Some(slot) = slots.pop() else { break };
                        metrics::claimed(&claim.job, claim.claimed_at);
                        self.dispatch(claim, slot, &claimed).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%queue, %error, "Could not claim jobs; retrying");
                    self.health.record_error(&error);
                    let pause = tokio::time::sleep(backoff.next_delay());
                    let _ = self.stop.run_until_cancelled(pause).await;
                }
            }
        }
    }

    /// All free slots, at least one, and lock keys for them. `None` if the slots are closed.
    async fn find_work(
        &self,
        source: &mut KeySource,
        pool: &SlotPool,
    ) -> Option<(Vec<String>, Vec<Slot>)> {
        self.control.until_resumed(source.queue).await;
        // Slots first: a key popped without a free slot would be lost until the sweep.
        let mut slots = vec![pool.acquire().await?];
        slots.extend(std::iter::from_fn(|| pool.try_acquire()));
        if source.has_backlog {
            self.collect_slots(&mut slots, pool).await;
        }
        let keys = self.next_keys(source, slots.len()).await;
        source.has_backlog = keys.len() == slots.len();
        Some((keys, slots))
    }

    /// Adds further slots of the pool until it has no more, or the batch window is over. In a backlog a job waits longer
    /// than that anyway, and each job of a claim of 128 costs MongoDB half as much as one of a claim of 16.
    async fn collect_slots(&self, slots: &mut Vec<Slot>, pool: &SlotPool) {
        let window = tokio::time::sleep(self.times.batch_window);
        tokio::pin!(window);
        while slots.len() < pool.size {
            tokio::select! {
                () = &mut window => return,
                next = pool.acquire() => match next {
                    Some(next) => slots.push(next),
                    None => return,
                },
            }
        }
    }

    async fn dispatch(&self, claim: Claim, slot: Slot, claimed: &mpsc::Sender<Claimed>) {
        let lease = self
            .leases
            .add(claim.job.id, claim.token, claim.deadline.clone());
        let job = Claimed { claim, lease, slot };
        // The channel has room for every slot. If its worker is gone, the lease expires and the job is rescued.
        let _ = claimed.send(job).await;
    }

    /// Lock keys that may have due work; none after a second at most.
    async fn next_keys(&self, source: &mut KeySource, slots: usize) -> Vec<String> {
        let queue = source.queue;
        if let Some(keys) = self.pop(source, slots).await {
            return keys;
        }
        tokio::time::sleep(self.times.sweep_every).await;
        let sampling = self
            .due_keys
            .sample(queue, source.lowest, &mut source.cursors, slots);
        match with_timeout(self.times.bulk_deadline, sampling).await {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!(%queue, %error, "Could not search for due work; retrying");
                self.health.record_error(&error);
                Vec::new()
            }
        }
    }

    /// Pops from the ready set. `None` if Redis is unavailable.
    async fn pop(&self, source: &mut KeySource, slots: usize) -> Option<Vec<String>> {
        let popped = self.try_pop(source, slots).await;
        metrics::redis_connected(popped.is_ok());
        popped
            .inspect_err(|error| {
                let queue = source.queue;
                tracing::warn!(%queue, error = error.category(), "Redis is unavailable; claiming from MongoDB");
            })
            .ok()
    }

    async fn try_pop(
        &self,
        source: &mut KeySource,
        slots: usize,
    ) -> Result<Vec<String>, RedisError> {
        let mut consumer = match source.consumer.take() {
            Some(consumer) => consumer,
            None => {
                self.ready
                    .consumer(source.queue, source.lowest, self.times.pop_block)
                    .await?
            }
        };
        let keys = consumer.pop(slots).await?;
        source.consumer = Some(consumer);
        Ok(keys)
    }
}
