//! Control state: pauses set by operators and refusals learned by other workers, polled from MongoDB.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{queue::job::Queue, store::StoreError, upstream::Upstream};
use tokio::sync::watch;

use super::{EngineTimings, bulk};
use crate::context::Context;

/// The control state as last read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ControlState {
    /// The upstreams whose credentials are refused, with the time of the next probe.
    refused: BTreeMap<Upstream, DateTime>,
    /// The upstreams that an operator paused.
    pub(super) paused_upstreams: BTreeSet<Upstream>,
    /// The queues that an operator paused.
    paused_queues: BTreeSet<Queue>,
}

/// Polls the control state, and wakes those who wait for a change of it.
pub(super) struct ControlWatch {
    ctx: Arc<Context>,
    every: Duration,
    timeout: Duration,
    state: watch::Sender<ControlState>,
}

impl ControlWatch {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            ctx: ctx.clone(),
            every: times.sweep_every,
            timeout: times.bulk_deadline,
            state: watch::Sender::default(),
        }
    }

    /// Polls until the process ends.
    pub(super) async fn refresh_loop(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.every).await;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "Could not read the control state; keeping the last one");
            }
        }
    }

    /// Polls once.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        let reading =
            async { futures::try_join!(self.ctx.upstreams.list(), self.ctx.queues.paused()) };
        let (upstreams, paused_queues) = bulk::with_timeout(self.timeout, reading).await?;
        let before = self.state().refused.clone();
        let refused = upstreams.iter().filter_map(|stored| {
            let is_ours = stored.fingerprint == self.ctx.clients.fingerprint(stored.upstream);
            // The stored state is that of the newest credentials. A worker with older ones keeps what it learned itself.
            let known = before.get(&stored.upstream).copied();
            let probe_at = if is_ours { stored.probe_at } else { known };
            Some((stored.upstream, probe_at?))
        });
        let paused = upstreams
            .iter()
            .filter(|stored| stored.paused.is_some())
            .map(|stored| stored.upstream);
        let read = ControlState {
            refused: refused.collect(),
            paused_upstreams: paused.collect(),
            paused_queues,
        };
        self.state.send_if_modified(|state| {
            let changed = *state != read;
            *state = read;
            changed
        });
        Ok(())
    }

    /// The state as last read.
    pub(super) fn state(&self) -> watch::Ref<'_, ControlState> {
        self.state.borrow()
    }

    /// Whether an operator paused this queue.
    pub(super) fn is_paused(&self, queue: Queue) -> bool {
        self.state().paused_queues.contains(&queue)
    }

    /// Waits while this queue is paused.
    pub(super) async fn until_resumed(&self, queue: Queue) {
        let is_running = |state: &ControlState| !state.paused_queues.contains(&queue);
        // Fails only once the sender is dropped, which `self` owns.
        let _ = self.state.subscribe().wait_for(is_running).await;
    }

    /// Time of the next probe of the refused credentials for `upstream`. `None` if they are not refused.
    pub(super) fn probe_at(&self, upstream: Upstream) -> Option<DateTime> {
        self.state().refused.get(&upstream).copied()
    }

    /// Sets that time until the next poll.
    pub(super) fn set_probe_at(&self, upstream: Upstream, probe_at: Option<DateTime>) {
        self.state.send_modify(|state| {
            match probe_at {
                Some(at) => state.refused.insert(upstream, at),
                None => state.refused.remove(&upstream),
            };
        });
    }
}
