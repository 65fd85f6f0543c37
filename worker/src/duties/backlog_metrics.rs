//! Backlog metrics: how far the queues and the sealing of the audit trail lag behind, what is paused, which upstreams refuse
//! our credentials or are away, and how many apps are open.

use std::{sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    platform::clock,
    queue::{
        job::{JobState, Queue},
        pause::Pause,
        priority::Priority,
    },
    store::{StoreError, jobs::DUE_INDEX},
};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use mongodb::{Collection, options::Hint};

use crate::{
    context::Context,
    engine::{Duty, EngineTimings, with_timeout},
    metrics::{self, Backlog},
};

/// The most due jobs counted. A longer queue shows this many, and the oldest of them.
const COUNT_LIMIT: u32 = 100_000;

/// Measures every queue, every upstream, the audit trail and the apps.
pub(super) struct BacklogMetrics {
    ctx: Arc<Context>,
    jobs: Collection<Document>,
    every: Duration,
    timeout: Duration,
}

impl Duty for BacklogMetrics {
    fn name(&self) -> &'static str {
        "backlog_metrics"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.measure().boxed()
    }

    fn end_term(&self) {
        metrics::clear_backlogs();
    }
}

impl BacklogMetrics {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            jobs: ctx.store.collection("jobs"),
            ctx: ctx.clone(),
            every: times.measure_every,
            timeout: times.bulk_deadline,
        }
    }

    async fn measure(&self) -> Result<(), StoreError> {
        for queue in Queue::ALL {
            let backlog = with_timeout(self.timeout, self.backlog(queue)).await?;
            metrics::backlog(queue, backlog);
            let control = self.ctx.queues.find(queue).await?;
            metrics::pause_age(format!("queue:{queue}"), self.age(control.paused.as_ref()));
        }
        for state in self.ctx.upstreams.list().await? {
            let upstream = state.upstream;
            metrics::credentials_refused(upstream, state.refused_at.is_some());
            metrics::circuit_open(upstream, state.open_since().is_some());
            let age = self.age(state.paused.as_ref());
            metrics::pause_age(format!("upstream:{upstream}"), age);
        }
        let unsealed = with_timeout(self.timeout, self.ctx.audit.backlog()).await?;
        let now = self.ctx.store.now();
        let oldest = unsealed.oldest.map(|oldest| clock::until(oldest, now));
        metrics::unsealed(unsealed.events, oldest.unwrap_or_default());
        let open = with_timeout(self.timeout, self.ctx.apps.count_all_open()).await?;
        metrics::apps_open(open);
        Ok(())
    }

    fn age(&self, pause: Option<&Pause>) -> Duration {
        let age = |pause: &Pause| clock::until(pause.at, self.ctx.store.now());
        pause.map(age).unwrap_or_default()
    }

    /// Covered by the index of due jobs: jobs that wait for later cost nothing.
    async fn backlog(&self, queue: Queue) -> Result<Backlog, StoreError> {
        #[derive(serde::Deserialize)]
        struct Due {
            depth: u32,
            oldest: DateTime,
        }
        let now = self.ctx.store.now();
        let due = [
            doc! { "$match": {
                "queue": queue.name(),
                "state": JobState::Available.name(),
                // Every lane, so that the index bounds the times.
                "priority": { "$in": Priority::ALL.map(Bson::from).to_vec() },
                "runAt": { "$lte": now },
            } },
            doc! { "$limit": i64::from(COUNT_LIMIT) },
            doc! { "$group": { "_id": null, "depth": { "$sum": 1 }, "oldest": { "$min": "$runAt" } } },
        ];
        let due: Option<Due> = self
            .jobs
            .aggregate(due)
            .hint(Hint::Name(DUE_INDEX.to_owned()))
            .max_time(self.timeout)
            .with_type()
            .await?
            .try_next()
            .await?;
        Ok(Backlog {
            depth: due.as_ref().map_or(0, |due| due.depth),
            oldest: due.map_or_else(Default::default, |due| clock::until(due.oldest, now)),
        })
    }
}
