//! Backlog metrics: how far the queues and the sealing of the audit trail lag behind, and which upstreams refuse our
//! credentials.

use std::{sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    platform::clock,
    queue::{
        job::{JobState, Queue},
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

/// Measures every queue, every upstream and the audit trail.
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
        }
        for upstream in self.ctx.upstreams.list().await? {
            metrics::credentials_refused(upstream.upstream, upstream.refused_at.is_some());
        }
        let unsealed = with_timeout(self.timeout, self.ctx.audit.backlog()).await?;
        let now = self.ctx.store.now();
        let oldest = unsealed.oldest.map(|oldest| clock::until(oldest, now));
        metrics::unsealed(unsealed.events, oldest.unwrap_or_default());
        Ok(())
    }

    /// Covered by the index of due jobs: what waits for later costs nothing.
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
