//! Queue for the upstreams' rate budgets: once a second the leader hands out reservations to the steps that wait for one.
//!
//! A step that finds all reservations taken is deferred for long and does not ask again by itself: thousands of waiting
//! jobs cost one query a second, and one claim each when their turn has come. Reservations go to the most urgent priority
//! first, and in it to the oldest job; a share is left to bulk work.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    id::JobId,
    platform::clock,
    queue::{
        job::{JobState, Queue},
        priority::Priority,
        ready_set::ReadyKey,
    },
    store::{StoreError, jobs::WAITING_INDEX},
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::{RESERVATION_HORIZON, RateBudget};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use mongodb::{Collection, options::Hint};

use super::{
    EngineConfig,
    bulk::{self, Update},
    leader::Duty,
    ready_notifier::ReadyNotifier,
};
use crate::{context::Context, steps::Registry};

/// The most reservations handed out for an upstream in one run.
const MAX_BATCH: usize = 500;
/// Of this many reservations that are handed out while bulk work waits, one is for bulk work.
const BULK_SHARE: usize = 10;

/// Hands out reservations in the upstreams' rate budgets.
pub(super) struct RateQueue {
    ctx: Arc<Context>,
    jobs: Collection<Document>,
    registry: Registry,
    budgets: BTreeMap<Upstream, RateBudget>,
    notifier: Arc<ReadyNotifier>,
    every: Duration,
    timeout: Duration,
    /// For each upstream, the reservations of more urgent steps since the last one of bulk work.
    urgent_in_a_row: BTreeMap<Upstream, usize>,
}

/// A job with a step that waits.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WaitingJob {
    #[serde(rename = "_id")]
    id: JobId,
    queue: Queue,
    lock_key: String,
    priority: Priority,
}

impl Duty for RateQueue {
    fn name(&self) -> &'static str {
        "rate_queue"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.serve_all().boxed()
    }
}

impl RateQueue {
    pub(super) fn new(
        ctx: &Arc<Context>,
        registry: &Registry,
        config: &EngineConfig,
        notifier: &Arc<ReadyNotifier>,
    ) -> Self {
        Self {
            jobs: ctx.store.collection("jobs"),
            ctx: ctx.clone(),
            registry: registry.clone(),
            budgets: config.budgets.clone(),
            notifier: notifier.clone(),
            every: config.times.sweep_every,
            timeout: config.times.bulk_deadline,
            urgent_in_a_row: BTreeMap::new(),
        }
    }

    async fn serve_all(&mut self) -> Result<(), StoreError> {
        let states = self.ctx.upstreams.list().await?;
        for upstream in Upstream::ALL {
            let is_closed = states.iter().any(|state| {
                state.upstream == upstream && (state.paused.is_some() || state.refused_at.is_some())
            });
            if !is_closed {
                self.serve(upstream).await?;
            }
        }
        Ok(())
    }

    async fn serve(&mut self, upstream: Upstream) -> Result<(), StoreError> {
        let all = doc! { "$in": Priority::ALL.map(Bson::from).to_vec() };
        let limit = self.capacity(upstream);
        let mut waiting = self.waiting(upstream, all.into(), limit).await?;
        if self.is_bulk_due(upstream) {
            let bulk = self
                .waiting(upstream, Priority::Bulk.number().into(), 1)
                .await?;
            self.urgent_in_a_row.insert(upstream, 0);
            waiting.retain(|job| bulk.first().is_none_or(|bulk| bulk.id != job.id));
            self.hand_out(upstream, Priority::Interactive, &bulk)
                .await?;
        }
        for lane in waiting.chunk_by(|one, next| one.priority == next.priority) {
            let priority = lane[0].priority;
            let handed_out = self.hand_out(upstream, priority, lane).await?;
            let urgent = self.urgent_in_a_row.entry(upstream).or_default();
            *urgent = if priority == Priority::Bulk {
                0
            } else {
                *urgent + handed_out
            };
        }
        Ok(())
    }

    /// The number of reservations that can be free at once.
    fn capacity(&self, upstream: Upstream) -> usize {
        let budget = self.budget(upstream);
        let until_horizon = budget.per_second * RESERVATION_HORIZON.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and the rate is positive"
        )]
        let until_horizon = until_horizon.ceil() as usize;
        let burst = usize::try_from(budget.burst).unwrap_or(MAX_BATCH);
        until_horizon.saturating_add(burst).min(MAX_BATCH)
    }

    fn budget(&self, upstream: Upstream) -> RateBudget {
        self.budgets.get(&upstream).copied().unwrap_or_default()
    }

    fn is_bulk_due(&self, upstream: Upstream) -> bool {
        let urgent = self.urgent_in_a_row.get(&upstream);
        urgent.is_some_and(|urgent| *urgent + 1 >= BULK_SHARE)
    }

    /// At most `limit` jobs of these priorities with a step that waits for `upstream`, in the order of their turns.
    async fn waiting(
        &self,
        upstream: Upstream,
        priorities: Bson,
        limit: usize,
    ) -> Result<Vec<WaitingJob>, StoreError> {
        let step =
            doc! { "asksAgain": true, "name": { "$in": self.registry.steps_using(upstream) } };
        let waiting = doc! {
            "state": JobState::Available.name(),
            // As in the filter of the index.
            "steps.asksAgain": true,
            "steps": { "$elemMatch": step },
            "priority": priorities,
        };
        self.jobs
            .clone_with_type()
            .find(waiting)
            .sort(doc! { "priority": 1, "_id": 1 })
            .projection(doc! { "queue": 1, "lockKey": 1, "priority": 1 })
            .hint(Hint::Name(WAITING_INDEX.to_owned()))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .await?
            .try_collect()
            .await
    }

    /// Reserves for the first of these jobs as many slots as `priority` has free. Returns their number.
    async fn hand_out(
        &self,
        upstream: Upstream,
        priority: Priority,
        jobs: &[WaitingJob],
    ) -> Result<usize, StoreError> {
        if jobs.is_empty() {
            return Ok(0);
        }
        let budget = self.budget(upstream);
        let waits = self
            .ctx
            .circuits
            .reserve(upstream, budget, priority, jobs.len())
            .await;
        let now = self.ctx.store.now();
        let reserved: Vec<(&WaitingJob, DateTime)> = jobs
            .iter()
            .zip(waits.iter().map(|wait| clock::later(now, *wait)))
            .collect();
        let steps = self.registry.steps_using(upstream);
        let updates = reserved
            .iter()
            .map(|(job, at)| reservation(job.id, &steps, *at));
        let updates: Vec<Update> = updates.collect();
        let errors = bulk::update(&self.ctx.store, &updates, self.timeout).await;
        // A lost reservation leaves its job in the queue.
        if let Some(error) = errors.values().next() {
            tracing::warn!(%upstream, ?error, "Could not hand out all reservations; retrying at the next run");
        }
        for (job, at) in reserved {
            let key = ReadyKey {
                lock_key: job.lock_key.clone(),
                priority: job.priority,
            };
            self.notifier.schedule_wakeup(job.queue, key, at);
        }
        Ok(waits.len())
    }
}

/// Takes the waiting steps of a job out of the queue, with a reservation at `at`. Unless it was claimed or ended meanwhile.
fn reservation(id: JobId, steps: &[&str], at: DateTime) -> Update {
    let is_waiting = doc! { "$and": [
        { "$in": ["$$step.name", steps] },
        { "$eq": ["$$step.asksAgain", true] },
    ] };
    let reserved = doc! { "nextAt": at, "turnAt": at, "asksAgain": false };
    let step = doc! { "$cond": [is_waiting, { "$mergeObjects": ["$$step", reserved] }, "$$step"] };
    let waiting = doc! {
        "_id": id,
        "state": JobState::Available.name(),
        "steps": { "$elemMatch": { "name": { "$in": steps }, "asksAgain": true } },
    };
    Update::one(
        waiting,
        vec![doc! { "$set": {
            "steps": { "$map": { "input": "$steps", "as": "step", "in": step } },
            "runAt": { "$min": ["$runAt", at] },
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        } }],
    )
}
