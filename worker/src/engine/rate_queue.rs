//! Queue for the upstreams' rate budgets: once a second the leader hands out reservations to the steps that wait for one.
//!
//! A step that finds all reservations taken is deferred for long and does not ask again by itself: thousands of waiting
//! jobs cost one query a second, and one claim each when their turn has come. Reservations go to the most urgent priority
//! first, and in it to the oldest job: while steps wait, new ones join the queue. A tenth of the budget is left
//! to bulk work.

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
    store::{StoreError, jobs::WAITING_INDEX, skip_undecodable},
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::{RESERVATION_HORIZON, RateBudget};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use mongodb::{Collection, options::Hint};
use tokio::time::Instant;

use super::{
    EngineConfig,
    bulk::{self, Update},
    leader::Duty,
    ready_notifier::ReadyNotifier,
};
use crate::{context::Context, steps::Registry};

/// The most reservations handed out for an upstream in one run.
const MAX_BATCH: usize = 500;
/// The share of the budget that bulk work receives while it waits.
const BULK_SHARE: f64 = 0.1;

/// Hands out reservations in the upstreams' rate budgets.
pub(super) struct RateQueue {
    ctx: Arc<Context>,
    jobs: Collection<Document>,
    registry: Registry,
    budgets: BTreeMap<Upstream, RateBudget>,
    notifier: Arc<ReadyNotifier>,
    every: Duration,
    timeout: Duration,
    /// Share of bulk work, for each upstream.
    bulk_shares: BTreeMap<Upstream, BulkShare>,
}

/// The reservations that are due to the bulk work of an upstream.
struct BulkShare {
    /// With the fraction of the next one.
    due: f64,
    counted_at: Instant,
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
            bulk_shares: BTreeMap::new(),
        }
    }

    async fn serve_all(&mut self) -> Result<(), StoreError> {
        let states = self.ctx.upstreams.list().await?;
        for upstream in Upstream::CALLED {
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
        if let Some(most_urgent) = waiting.first().map(|job| job.priority) {
            let bulk = self.serve_bulk(upstream, most_urgent).await?;
            waiting.retain(|job| !bulk.contains(&job.id));
        }
        let mut queue = None;
        for lane in waiting.chunk_by(|one, next| one.priority == next.priority) {
            let priority = lane[0].priority;
            let handed_out = self.hand_out(upstream, priority, lane).await;
            if handed_out < lane.len() {
                queue = Some(priority);
                break;
            }
        }
        self.ctx.circuits.mark_queue(upstream, queue).await;
        Ok(())
    }

    /// Hands out the share of bulk work, up to the horizon of the most urgent step that waits: that of bulk work ends
    /// before the slots that more urgent steps leave. Returns the served jobs.
    async fn serve_bulk(
        &mut self,
        upstream: Upstream,
        most_urgent: Priority,
    ) -> Result<Vec<JobId>, StoreError> {
        let due = self.bulk_due(upstream);
        if due == 0 {
            return Ok(Vec::new());
        }
        let bulk = Priority::Bulk.number().into();
        let waiting = self.waiting(upstream, bulk, due).await?;
        let handed_out = self.hand_out(upstream, most_urgent, &waiting).await;
        if let Some(share) = self.bulk_shares.get_mut(&upstream) {
            // Bulk work that does not wait collects no share.
            share.due = if waiting.is_empty() {
                0.0
            } else {
                share.due - f64::from(u32::try_from(handed_out).unwrap_or(u32::MAX))
            };
        }
        let served = waiting.iter().take(handed_out);
        Ok(served.map(|job| job.id).collect())
    }

    /// The reservations that are due to bulk work: its share of the budget since they were last counted.
    fn bulk_due(&mut self, upstream: Upstream) -> usize {
        let rate = self.budget(upstream).per_second * BULK_SHARE;
        let now = Instant::now();
        let share = self.bulk_shares.entry(upstream).or_insert(BulkShare {
            due: 0.0,
            counted_at: now,
        });
        let most = (rate * RESERVATION_HORIZON.as_secs_f64()).max(1.0);
        let earned = rate * now.duration_since(share.counted_at).as_secs_f64();
        share.due = (share.due + earned).min(most);
        share.counted_at = now;
        whole(share.due.floor()).min(MAX_BATCH)
    }

    /// The number of reservations that can be free at once.
    fn capacity(&self, upstream: Upstream) -> usize {
        let budget = self.budget(upstream);
        let until_horizon = whole((budget.per_second * RESERVATION_HORIZON.as_secs_f64()).ceil());
        let burst = usize::try_from(budget.burst).unwrap_or(MAX_BATCH);
        until_horizon.saturating_add(burst).min(MAX_BATCH)
    }

    fn budget(&self, upstream: Upstream) -> RateBudget {
        self.budgets.get(&upstream).copied().unwrap_or_default()
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
            // Others are left to a newer build, and take no place in the queue.
            "queue": { "$in": Queue::ALL.map(Queue::name).to_vec() },
            "lockKey": { "$type": "string" },
        };
        let found = self
            .jobs
            .find(waiting)
            .sort(doc! { "priority": 1, "_id": 1 })
            .projection(doc! { "queue": 1, "lockKey": 1, "priority": 1 })
            .hint(Hint::Name(WAITING_INDEX.to_owned()))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .await?;
        skip_undecodable(found).try_collect().await
    }

    /// Reserves for the first of these jobs as many slots as `priority` has free. Returns their number.
    async fn hand_out(&self, upstream: Upstream, priority: Priority, jobs: &[WaitingJob]) -> usize {
        if jobs.is_empty() {
            return 0;
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
        waits.len()
    }
}

/// A count, which is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates"
)]
fn whole(count: f64) -> usize {
    count as usize
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
