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
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    EngineTimings,
    bulk::with_timeout,
    claim::{Claim, Claimed, Claimer},
    control_state::ControlWatch,
    database_health::DatabaseHealth,
    due_keys::{Cursor, DueKeys},
    lease::LeaseTable,
    slots::SlotPool,
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
        };
        let mut backoff = ReconnectBackoff::default();
        // Only the search is cancelled: claimed jobs must be dispatched.
        while let Some(found) = self
            .stop
            .run_until_cancelled(self.find_work(&mut source, &pool))
            .await
        {
            let Some((keys, mut permits)) = found else {
                return;
            };
            // The queue may have been paused meanwhile; then the sweep adds the keys again.
            if keys.is_empty() || self.control.is_paused(queue) {
                continue;
            }
            permits.truncate(keys.len());
            match self.claimer.claim(queue, keys).await {
                Ok(claims) => {
                    backoff.reset();
                    for claim in claims {
                        let Some(permit) = permits.pop() else { break };
                        metrics::claimed(&claim.job, claim.claimed_at);
                        self.dispatch(claim, permit, &claimed).await;
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

    /// Permits for all free slots, at least one, and lock keys for them. `None` if the slots are closed.
    async fn find_work(
        &self,
        source: &mut KeySource,
        pool: &SlotPool,
    ) -> Option<(Vec<String>, Vec<OwnedSemaphorePermit>)> {
        self.control.until_resumed(source.queue).await;
        // Permits first: a key popped without a free slot would be lost until the sweep.
        let mut permits = vec![pool.free.clone().acquire_owned().await.ok()?];
        while let Ok(permit) = pool.free.clone().try_acquire_owned() {
            permits.push(permit);
        }
        let keys = self.next_keys(source, permits.len()).await;
        Some((keys, permits))
    }

    async fn dispatch(
        &self,
        claim: Claim,
        permit: OwnedSemaphorePermit,
        claimed: &mpsc::Sender<Claimed>,
    ) {
        let lease = self
            .leases
            .add(claim.job.id, claim.token, claim.deadline.clone());
        let job = Claimed {
            claim,
            lease,
            permit,
        };
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
        let Some(first) = consumer.next().await? else {
            source.consumer = Some(consumer);
            return Ok(Vec::new());
        };
        let mut keys = vec![first];
        keys.extend(consumer.more(slots - 1).await?);
        source.consumer = Some(consumer);
        Ok(keys)
    }
}
