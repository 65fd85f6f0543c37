//! Release of deferred jobs: publishes the state of each circuit breaker, and makes the jobs due that an upstream deferred
//! before it recovered or was resumed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::JobId,
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{JobState, Queue},
        priority::Priority,
        ready_set::ReadyKey,
    },
    store::{
        StoreError,
        jobs::HELD_INDEX,
        to_bson,
        upstreams::{BreakerStatus, UpstreamState},
    },
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::{BreakerSnapshot, RateBudget};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use mongodb::{Collection, options::Hint};

use crate::{
    context::Context,
    engine::{Duty, EngineConfig},
    steps::Registry,
};

/// Jobs released in one run at least. Those beyond the upstream's rate budget queue for it, the most urgent first.
const MIN_RELEASE_BATCH: usize = 200;
/// The most jobs released in one run, so that its update stays short.
const MAX_RELEASE_BATCH: usize = 5_000;
/// The most jobs released while the upstream may still be unavailable: one is the probe, and others may wait for a lock.
const PROBE_BATCH: usize = 3;
/// Maximum age of the published status, in sweeps.
const STALE: u32 = 5;

/// The errors of steps that an upstream deferred.
const DEFERRED: [ErrorCode; 6] = [
    ErrorCode::UpstreamUnreachable,
    ErrorCode::UpstreamUnavailable,
    ErrorCode::UpstreamIdentityUnavailable,
    ErrorCode::UpstreamCircuitOpen,
    ErrorCode::UpstreamPaused,
    ErrorCode::UpstreamCredentialsRefused,
];

/// The errors of steps that an upstream refused, and that wait until an operator has acted: only a resume releases them,
/// since nothing else says that the permission was granted.
pub(super) const REFUSED: [ErrorCode; 2] = [
    ErrorCode::UpstreamPermissionMissing,
    ErrorCode::RecoveryFlowMissing,
];

/// A job deferred because of an upstream.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeferredJob {
    #[serde(rename = "_id")]
    id: JobId,
    queue: Queue,
    lock_key: String,
    priority: Priority,
}

/// Publishes the state of every upstream, and releases its deferred jobs.
pub(super) struct ReleaseDeferred {
    ctx: Arc<Context>,
    jobs: Collection<Document>,
    registry: Registry,
    budgets: BTreeMap<Upstream, RateBudget>,
    every: Duration,
    /// Time by which a worker's view may lag behind, so that it still defers jobs.
    lag: Duration,
}

impl Duty for ReleaseDeferred {
    fn name(&self) -> &'static str {
        "release_deferred"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.release_all().boxed()
    }
}

impl ReleaseDeferred {
    pub(super) fn new(ctx: &Arc<Context>, registry: &Registry, config: &EngineConfig) -> Self {
        Self {
            jobs: ctx.store.collection("jobs"),
            ctx: ctx.clone(),
            registry: registry.clone(),
            budgets: config.budgets.clone(),
            every: config.times.sweep_every,
            lag: config.times.control_lag(),
        }
    }

    async fn release_all(&self) -> Result<(), StoreError> {
        for state in self.ctx.upstreams.list().await? {
            self.publish_status(&state).await?;
            self.release(&state).await?;
        }
        Ok(())
    }

    /// Copies the state of the circuit breaker from Redis to the upstream's document, for people.
    async fn publish_status(&self, state: &UpstreamState) -> Result<(), StoreError> {
        let upstream = state.upstream;
        let now = self.ctx.store.now();
        let snapshot = self
            .ctx
            .circuits
            .snapshot(upstream, self.budget(upstream))
            .await;
        let status = status(snapshot, now);
        let closed = status.open_since.is_none() && state.open_since().is_some();
        let is_stale = |before: &BreakerStatus| clock::until(before.at, now) >= STALE * self.every;
        let is_news = state.seen.as_ref().is_none_or(|before| {
            is_stale(before)
                || before.open_since.is_some() != status.open_since.is_some()
                || before.slow_until.is_some() != status.slow_until.is_some()
        });
        if is_news {
            self.ctx
                .upstreams
                .save_breaker_status(upstream, &status, closed)
                .await?;
        }
        Ok(())
    }

    fn budget(&self, upstream: Upstream) -> RateBudget {
        self.budgets.get(&upstream).copied().unwrap_or_default()
    }

    /// Makes a batch of the deferred jobs due, if a release of the upstream was requested.
    async fn release(&self, state: &UpstreamState) -> Result<(), StoreError> {
        let (upstream, Some(requested_at)) = (state.upstream, state.let_go_at) else {
            return Ok(());
        };
        if state.paused.is_some() {
            return self
                .ctx
                .upstreams
                .mark_released(upstream, requested_at)
                .await;
        }
        if state.resumed_at == Some(requested_at) {
            self.ctx.circuits.resume(upstream, requested_at).await;
        }
        let is_unavailable = state.refused_at.is_some() || state.open_since().is_some();
        let batch = if is_unavailable {
            PROBE_BATCH
        } else {
            release_batch(self.budget(upstream), self.every)
        };
        let jobs = self.deferred_by(state, requested_at, batch).await?;
        self.make_due(upstream, &jobs).await?;
        let all_informed = clock::until(requested_at, self.ctx.store.now()) > self.lag;
        // Until then a worker may defer a job again, which would have to be released again.
        if all_informed && (is_unavailable || jobs.is_empty()) {
            self.ctx
                .upstreams
                .mark_released(upstream, requested_at)
                .await?;
        }
        Ok(())
    }

    /// At most `limit` jobs that the upstream deferred, the most urgent first; after a resume, also those that it refused
    /// before.
    async fn deferred_by(
        &self,
        state: &UpstreamState,
        requested_at: DateTime,
        limit: usize,
    ) -> Result<Vec<DeferredJob>, StoreError> {
        let mut codes = DEFERRED.to_vec();
        if state.resumed_at == Some(requested_at) {
            codes.extend(REFUSED);
        }
        // A step that is refused again would otherwise be released again at once.
        let is_older = doc! { "finishedAt": { "$not": { "$gte": requested_at } } };
        let is_deferred = doc! { "error.code": { "$in": to_bson(&DEFERRED)? } };
        let step = doc! {
            "name": { "$in": self.registry.steps_using(state.upstream) },
            "error.code": { "$in": to_bson(&codes)? },
            "$or": [is_deferred, is_older],
            "nextAt": { "$gt": self.ctx.store.now() },
            // A step with a reservation was released already. Another release would cost it the reservation.
            "turnAt": { "$exists": false },
        };
        let deferred = doc! {
            "state": JobState::Available.name(),
            "error": { "$exists": true },
            "steps": { "$elemMatch": step },
            // A newer build releases the jobs of a queue or a priority that it added.
            "queue": { "$in": Queue::ALL.map(Queue::name).to_vec() },
            "lockKey": { "$type": "string" },
        };
        let mut jobs = Vec::new();
        for priority in Priority::ALL {
            let left = limit - jobs.len();
            if left > 0 {
                jobs.extend(self.deferred_in(priority, &deferred, left).await?);
            }
        }
        Ok(jobs)
    }

    /// At most `limit` jobs of a lane that match.
    async fn deferred_in(
        &self,
        priority: Priority,
        deferred: &Document,
        limit: usize,
    ) -> Result<Vec<DeferredJob>, StoreError> {
        let mut deferred = deferred.clone();
        deferred.insert("priority", priority);
        self.jobs
            .clone_with_type::<DeferredJob>()
            .find(deferred)
            .hint(Hint::Name(HELD_INDEX.to_owned()))
            .projection(doc! { "queue": 1, "lockKey": 1, "priority": 1 })
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .await?
            .try_collect()
            .await
    }

    async fn make_due(&self, upstream: Upstream, jobs: &[DeferredJob]) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let now = self.ctx.store.now();
        let due = doc! {
            "$set": { "runAt": now, "steps.$[deferred].nextAt": now, "updatedAt": now },
            "$inc": { "revision": 1_i64 },
        };
        let deferred = doc! {
            "deferred.name": { "$in": self.registry.steps_using(upstream) },
            "deferred.nextAt": { "$gt": now },
            "deferred.turnAt": { "$exists": false },
        };
        // Unless claimed or ended meanwhile.
        let waiting = doc! { "_id": { "$in": ids }, "state": JobState::Available.name() };
        self.jobs
            .update_many(waiting, due)
            .array_filters([deferred])
            .await?;
        for queue in Queue::ALL {
            let keys: Vec<ReadyKey> = jobs
                .iter()
                .filter(|job| job.queue == queue)
                .map(|job| ReadyKey {
                    lock_key: job.lock_key.clone(),
                    priority: job.priority,
                })
                .collect();
            // A hint: the sweep finds them, too.
            let _ = self.ctx.ready.add(queue, &keys).await;
        }
        Ok(())
    }
}

/// The jobs released in one run: as many as the upstream's rate budget admits until the next one, so that it is used up
/// however many jobs wait.
fn release_batch(budget: RateBudget, every: Duration) -> usize {
    let admitted = budget.steps_in(every);
    admitted.clamp(MIN_RELEASE_BATCH, MAX_RELEASE_BATCH)
}

fn status(snapshot: BreakerSnapshot, now: DateTime) -> BreakerStatus {
    let at = |wait: Option<Duration>| wait.map(|wait| clock::later(now, wait));
    BreakerStatus {
        at: now,
        failures: snapshot.failures,
        open_since: snapshot.open_for.map(|open| clock::earlier(now, open)),
        probe_at: at(snapshot.probe_in),
        slow_until: at(snapshot.retry_after),
        next_turn_at: at(snapshot.turn_in),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_released_as_fast_as_the_upstream_admits_them() {
        let batch = |per_second| {
            let budget = RateBudget {
                per_second,
                burst: 1,
            };
            release_batch(budget, Duration::from_secs(1))
        };

        assert_eq!(batch(2.0), 200);
        assert_eq!(batch(1_000.0), 1_000);
        assert_eq!(batch(100_000.0), 5_000);
    }
}
