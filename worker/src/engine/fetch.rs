//! Loops for each queue: from the ready set, or from MongoDB while Redis is away, to claimed jobs.

use std::sync::Arc;

use dezky_shared::{
    platform::{backoff::ReconnectBackoff, redis::RedisError},
    queue::{job::Queue, ready_set::ReadySetConsumer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Engine, apalis_backend::Claimed, sweep::Cursor};
use crate::metrics;

/// The loops for each queue. While one waits for its claims to be written, the other fills the slots that are freed.
pub(super) const FETCHERS: usize = 2;

impl Engine {
    /// Claims jobs of `queue` as long as there are `free` slots, until the worker stops. No error ends it.
    pub(crate) async fn keep_fetching(
        self: Arc<Self>,
        queue: Queue,
        free: Arc<Semaphore>,
        claimed: mpsc::Sender<Claimed>,
    ) {
        let mut popper: Option<ReadySetConsumer> = None;
        let mut cursor = Cursor::random();
        let mut pace = ReconnectBackoff::default();
        while !self.stop.is_cancelled() {
            let resumed = self.stop.run_until_cancelled(self.until_resumed(queue));
            if resumed.await.is_none() {
                return;
            }
            // A slot first: a key that is popped with nobody to run its job would be lost until the sweep.
            let permit = self.stop.run_until_cancelled(free.clone().acquire_owned());
            let Some(Ok(permit)) = permit.await else {
                return;
            };
            let mut permits = vec![permit];
            while let Ok(permit) = free.clone().try_acquire_owned() {
                permits.push(permit);
            }

            let keys = self.stop.run_until_cancelled(self.next_keys(
                queue,
                &mut popper,
                &mut cursor,
                permits.len(),
            ));
            let Some(keys) = keys.await else { return };
            // Of a queue that was paused meanwhile nothing is claimed; the sweep adds the keys again.
            if keys.is_empty() || self.is_paused(queue) {
                continue;
            }
            permits.truncate(keys.len());
            match self.claim(queue, keys).await {
                Ok(claims) => {
                    pace.reset();
                    for claim in claims {
                        let Some(permit) = permits.pop() else { break };
                        metrics::claimed(&claim.job, claim.claimed_at);
                        self.dispatch(claim, permit, &claimed).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%queue, %error, "Could not claim; trying again");
                    self.database_failed();
                    let pause = tokio::time::sleep(pace.next_delay());
                    let _ = self.stop.run_until_cancelled(pause).await;
                }
            }
        }
    }

    async fn dispatch(
        &self,
        claim: super::claim::Claim,
        permit: OwnedSemaphorePermit,
        claimed: &mpsc::Sender<Claimed>,
    ) {
        let held = self
            .held
            .add(claim.job.id, claim.token, claim.trust.clone());
        // The channel is as long as there are slots. If its worker is gone, the lease runs out and is rescued.
        let _ = claimed.send(Claimed::new(claim, held, permit)).await;
    }

    /// Lock keys that may have work; none after at most a second.
    async fn next_keys(
        &self,
        queue: Queue,
        popper: &mut Option<ReadySetConsumer>,
        cursor: &mut Cursor,
        slots: usize,
    ) -> Vec<String> {
        if let Some(keys) = self.pop(queue, popper, slots).await {
            return keys;
        }
        // Without Redis each queue looks for itself, from another place each time.
        tokio::time::sleep(self.times.sweep_every).await;
        match self.due_keys(queue, cursor, slots).await {
            Ok(keys) => keys.into_iter().map(|key| key.lock_key).collect(),
            Err(error) => {
                tracing::warn!(%queue, %error, "Could not look for work; trying again");
                self.database_failed();
                Vec::new()
            }
        }
    }

    /// `None` if Redis does not answer.
    async fn pop(
        &self,
        queue: Queue,
        popper: &mut Option<ReadySetConsumer>,
        slots: usize,
    ) -> Option<Vec<String>> {
        if popper.is_none() {
            match self.ctx.ready.popper(queue, self.times.pop_block).await {
                Ok(connected) => *popper = Some(connected),
                Err(error) => {
                    metrics::redis_connected(false);
                    tracing::warn!(%queue, error = error.category(), "Redis is away; claiming from MongoDB");
                    return None;
                }
            }
        }
        let connected = popper.as_mut()?;
        let taken = async {
            let Some(first) = connected.next().await? else {
                return Ok(Vec::new());
            };
            let mut keys = vec![first];
            keys.extend(connected.more(slots - 1).await?);
            Ok::<_, RedisError>(keys)
        };
        let taken = taken.await;
        metrics::redis_connected(taken.is_ok());
        match taken {
            Ok(keys) => Some(keys),
            Err(error) => {
                tracing::warn!(%queue, error = error.category(), "Redis is away; claiming from MongoDB");
                *popper = None;
                None
            }
        }
    }
}
