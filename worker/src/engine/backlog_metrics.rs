//! What one worker measures for all: how far the queues and the sealing of the audit trail are behind, and which
//! upstreams refuse our credentials.

use bson::{DateTime, Document, doc};
use dezky_shared::{
    platform::clock,
    queue::job::{JobState, Queue},
    store::{StoreError, jobs::DUE_INDEX},
};
use futures::TryStreamExt as _;
use mongodb::options::Hint;

use super::{Engine, bulk};
use crate::metrics::{self, Backlog};

/// How many due jobs are looked at. A queue that is further behind than this shows this many, and the oldest of them.
const LOOK_AT: u32 = 100_000;

impl Engine {
    /// Looks at every queue, every upstream and the audit trail. Run by the leader.
    pub(crate) async fn measure(&self) -> Result<(), StoreError> {
        for queue in Queue::ALL {
            let backlog = bulk::with_timeout(self.times.bulk_deadline, self.backlog(queue)).await?;
            metrics::backlog(queue, backlog);
        }
        for health in self.ctx.upstreams.list().await? {
            metrics::credentials_refused(health.upstream, health.refused_at.is_some());
        }
        let backlog = self.ctx.audit.backlog();
        let waiting = bulk::with_timeout(self.times.bulk_deadline, backlog).await?;
        let now = self.ctx.store.now();
        let oldest = waiting.oldest.map(|oldest| clock::until(oldest, now));
        metrics::unsealed(waiting.events, oldest.unwrap_or_default());
        Ok(())
    }

    /// Answered by the index of what is due: what waits for later costs nothing.
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
                "runAt": { "$lte": now },
            } },
            doc! { "$limit": i64::from(LOOK_AT) },
            doc! { "$group": { "_id": null, "depth": { "$sum": 1 }, "oldest": { "$min": "$runAt" } } },
        ];
        let due: Option<Due> = self
            .jobs
            .clone_with_type::<Document>()
            .aggregate(due)
            .hint(Hint::Name(DUE_INDEX.to_owned()))
            .max_time(self.times.bulk_deadline)
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
