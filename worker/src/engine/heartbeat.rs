//! Saying that this worker lives, what it does and what it knows.

use std::{collections::BTreeMap, sync::Arc};

use dezky_shared::{
    queue::job::Queue,
    store::workers::{HEARTBEAT_INTERVAL, Worker},
};

use super::Engine;
use crate::config::hostname;

impl Engine {
    /// Says so until it is told to end.
    pub(crate) async fn heartbeat_loop(self: Arc<Self>, slots: BTreeMap<Queue, usize>) {
        let now = self.ctx.store.now();
        let slots = slots
            .into_iter()
            .map(|(queue, slots)| (queue, i64::try_from(slots).unwrap_or(i64::MAX)));
        let mut worker = Worker {
            id: self.id,
            name: self.worker.clone(),
            host: hostname(),
            slots: slots.collect(),
            kinds: self.registry.kinds().map(str::to_owned).collect(),
            started_at: now,
            seen_at: now,
            stopping: false,
        };
        loop {
            worker.stopping = self.stop.is_cancelled();
            if let Err(error) = self.ctx.workers.heartbeat(&worker).await {
                tracing::debug!(%error, "Could not say that this worker lives");
            }
            let pause = tokio::time::sleep(HEARTBEAT_INTERVAL);
            if worker.stopping {
                pause.await;
            } else {
                // Said at once: nobody should wait for a worker that takes no more jobs.
                let _ = self.stop.run_until_cancelled(pause).await;
            }
        }
    }

    /// Says that it ended as it should.
    pub(crate) async fn deregister(&self) {
        if let Err(error) = self.ctx.workers.remove(self.id).await {
            tracing::debug!(%error, "Could not say that this worker ended");
        }
    }
}
