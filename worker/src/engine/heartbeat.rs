//! The worker's heartbeat: that it is alive, its slots, and the kinds of jobs that it can run.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    id::WorkerId,
    store::workers::{HEARTBEAT_INTERVAL, Worker, WorkerRepository},
};
use tokio_util::sync::CancellationToken;

use super::{EngineConfig, bulk};
use crate::{context::Context, host::hostname, steps::Registry};

/// Registers this process among the workers, for as long as it is alive.
pub(super) struct Heartbeat {
    workers: WorkerRepository,
    worker: Worker,
    timeout: Duration,
    stop: CancellationToken,
}

impl Heartbeat {
    pub(super) fn new(
        ctx: &Context,
        config: &EngineConfig,
        registry: &Registry,
        stop: &CancellationToken,
    ) -> Self {
        let now = ctx.store.now();
        let slots = config
            .slots
            .iter()
            .map(|(queue, slots)| (*queue, i64::try_from(*slots).unwrap_or(i64::MAX)));
        let worker = Worker {
            id: WorkerId::new(),
            name: config.worker.clone(),
            host: hostname(),
            slots: slots.collect(),
            kinds: registry.kinds().map(str::to_owned).collect(),
            started_at: now,
            seen_at: now,
            stopping: false,
        };
        Self {
            workers: ctx.workers.clone(),
            worker,
            timeout: config.times.bulk_deadline,
            stop: stop.clone(),
        }
    }

    /// Sends heartbeats until the process ends.
    pub(super) async fn heartbeat_loop(self: Arc<Self>) {
        let mut worker = self.worker.clone();
        loop {
            worker.stopping = self.stop.is_cancelled();
            let sent = self.workers.heartbeat(&worker);
            if let Err(error) = bulk::with_timeout(self.timeout, sent).await {
                tracing::debug!(%error, "Could not send a heartbeat");
            }
            let pause = tokio::time::sleep(HEARTBEAT_INTERVAL);
            if worker.stopping {
                pause.await;
            } else {
                // A stop is announced at once: no caller should wait for a worker that takes no more jobs.
                let _ = self.stop.run_until_cancelled(pause).await;
            }
        }
    }

    /// Removes this process from the workers, after an orderly end.
    pub(super) async fn deregister(&self) {
        let removed = self.workers.remove(self.worker.id);
        if let Err(error) = bulk::with_timeout(self.timeout, removed).await {
            tracing::debug!(%error, "Could not deregister this worker");
        }
    }
}
