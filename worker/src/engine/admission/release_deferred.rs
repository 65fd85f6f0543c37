//! The leader's part: writing down how the upstreams stand, for people, and letting go what one held that is well
//! again.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::JobId,
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{JobState, Queue},
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
use dezky_upstreams::circuit_breaker::BreakerSnapshot;
use futures::TryStreamExt as _;
use mongodb::options::Hint;

use super::super::Engine;

/// How many jobs are let go in one go: all of them at once would bring the upstream down again.
const RELEASE_BATCH: i64 = 200;
/// How many while the upstream may be away still: one of them tries, and the others may be behind a lock.
const PROBE_BATCH: i64 = 3;
/// How long what is known may lag behind what is, so that jobs still come to be held.
const LAG: u32 = 5;
/// How much what was written down for people may be behind, in sweeps.
const STALE: u32 = 5;

/// What an upstream that is away leaves behind in the steps that need it.
const HELD: [ErrorCode; 6] = [
    ErrorCode::UpstreamUnreachable,
    ErrorCode::UpstreamUnavailable,
    ErrorCode::UpstreamIdentityUnavailable,
    ErrorCode::UpstreamCircuitOpen,
    ErrorCode::UpstreamPaused,
    ErrorCode::UpstreamCredentialsRefused,
];

/// A job that waits because of an upstream.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeferredJob {
    #[serde(rename = "_id")]
    id: JobId,
    queue: Queue,
    lock_key: String,
    priority: i32,
}

impl Engine {
    /// Looks after every upstream. Run by the leader, with each sweep.
    pub(crate) async fn attend_to_upstreams(&self) -> Result<(), StoreError> {
        for health in self.ctx.upstreams.list().await? {
            self.publish_status(&health).await?;
            self.release(&health).await?;
        }
        Ok(())
    }

    async fn publish_status(&self, health: &UpstreamState) -> Result<(), StoreError> {
        let upstream = health.upstream;
        let budget = self.budget(upstream);
        let now = self.ctx.store.now();
        let seen = seen(self.ctx.circuits.snapshot(upstream, budget).await, now);
        let closed = seen.open_since.is_none() && health.open_since().is_some();
        let stale =
            |before: &BreakerStatus| clock::until(before.at, now) >= STALE * self.times.sweep_every;
        let news = health.seen.as_ref().is_none_or(|before| {
            stale(before)
                || before.open_since.is_some() != seen.open_since.is_some()
                || before.slow_until.is_some() != seen.slow_until.is_some()
        });
        if news {
            self.ctx
                .upstreams
                .save_breaker_status(upstream, &seen, closed)
                .await?;
        }
        Ok(())
    }

    /// Makes due again what an upstream holds, some jobs with each sweep.
    async fn release(&self, health: &UpstreamState) -> Result<(), StoreError> {
        let (upstream, Some(asked_at)) = (health.upstream, health.let_go_at) else {
            return Ok(());
        };
        if health.paused.is_some() {
            return self.ctx.upstreams.mark_released(upstream, asked_at).await;
        }
        if health.resumed_at == Some(asked_at) {
            self.ctx.circuits.resume(upstream, asked_at).await;
        }
        let away = health.refused_at.is_some() || health.open_since().is_some();
        let jobs = if away {
            self.held_by(upstream, PROBE_BATCH).await?
        } else {
            self.held_by(upstream, RELEASE_BATCH).await?
        };
        self.make_due(upstream, &jobs).await?;
        let lagged = clock::until(asked_at, self.ctx.store.now()) > self.lag();
        // Workers may not know yet that they may try: jobs go on being let go until all do.
        if lagged && (away || jobs.is_empty()) {
            self.ctx.upstreams.mark_released(upstream, asked_at).await?;
        }
        Ok(())
    }

    fn lag(&self) -> Duration {
        LAG * self.times.sweep_every
    }

    /// Some of the jobs that wait because of `upstream`, those that would wait longest not last.
    async fn held_by(
        &self,
        upstream: Upstream,
        limit: i64,
    ) -> Result<Vec<DeferredJob>, StoreError> {
        let step = doc! {
            "name": { "$in": self.registry.steps_using(upstream) },
            "error.code": { "$in": to_bson(&HELD)? },
            "nextAt": { "$gt": self.ctx.store.now() },
            // What waits for its turn was let go already: it would lose the turn and book a later one.
            "turnAt": { "$exists": false },
        };
        let held = doc! {
            "state": JobState::Available.name(),
            "error": { "$exists": true },
            "steps": { "$elemMatch": step },
        };
        self.jobs
            .clone_with_type::<DeferredJob>()
            .find(held)
            .hint(Hint::Name(HELD_INDEX.to_owned()))
            .projection(doc! { "queue": 1, "lockKey": 1, "priority": 1 })
            .limit(limit)
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
            "$set": { "runAt": now, "steps.$[held].nextAt": now, "updatedAt": now },
            "$inc": { "revision": 1_i64 },
        };
        let held = doc! {
            "held.name": { "$in": self.registry.steps_using(upstream) },
            "held.nextAt": { "$gt": now },
            "held.turnAt": { "$exists": false },
        };
        // What was claimed or ended meanwhile is left alone.
        let waiting = doc! { "_id": { "$in": ids }, "state": JobState::Available.name() };
        self.jobs
            .clone_with_type::<Document>()
            .update_many(waiting, due)
            .array_filters([held])
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
            // A hint: the sweep finds them too.
            let _ = self.ctx.ready.add(queue, &keys).await;
        }
        Ok(())
    }
}

fn seen(standing: BreakerSnapshot, now: bson::DateTime) -> BreakerStatus {
    let at = |wait: Option<Duration>| wait.map(|wait| clock::later(now, wait));
    BreakerStatus {
        at: now,
        failures: standing.failures,
        open_since: standing.open_for.map(|open| clock::earlier(now, open)),
        probe_at: at(standing.probe_in),
        slow_until: at(standing.retry_after),
        next_turn_at: at(standing.turn_in),
    }
}
