//! Control state: pauses set by operators and refusals learned by other workers, read from MongoDB.
//!
//! Each change is announced on the change feed, so that idle workers read nothing every second. A slow poll beside it
//! covers a lost announcement, and a fast one the time without Redis.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    platform::backoff::ReconnectBackoff, queue::job::Queue, store::StoreError, upstream::Upstream,
};
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

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

/// Follows the control state, and wakes those who wait for a change of it.
pub(super) struct ControlWatch {
    ctx: Arc<Context>,
    /// The period of the poll without the change feed, and after a failure.
    poll_every: Duration,
    /// The period of the poll beside the change feed.
    fallback_every: Duration,
    timeout: Duration,
    state: watch::Sender<ControlState>,
}

impl ControlWatch {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            ctx: ctx.clone(),
            poll_every: times.sweep_every,
            fallback_every: times.control_every,
            timeout: times.bulk_deadline,
            state: watch::Sender::default(),
        }
    }

    /// Follows the change feed until the process ends, and polls while there is no subscription.
    pub(super) async fn refresh_loop(self: Arc<Self>) {
        let mut backoff = ReconnectBackoff::default();
        loop {
            let announcements = tokio::select! {
                announcements = self.subscribe(&mut backoff) => announcements,
                never = self.poll_loop() => match never {},
            };
            self.follow(announcements, &mut backoff).await;
        }
    }

    /// Subscribes to the announcements, as soon as Redis is available.
    async fn subscribe(
        &self,
        backoff: &mut ReconnectBackoff,
    ) -> impl Stream<Item = ()> + Send + use<> {
        loop {
            // Before the first attempt, too: the last connection may have ended at once.
            sleep(backoff.next_delay()).await;
            match timeout(self.timeout, self.ctx.changes.subscribe_to_control()).await {
                Ok(Ok(announcements)) => return announcements,
                Ok(Err(error)) => {
                    tracing::debug!(
                        error = error.category(),
                        "Cannot subscribe to the control state; polling"
                    );
                }
                Err(_) => tracing::debug!("Redis did not answer in time; polling"),
            }
        }
    }

    async fn poll_loop(&self) -> Infallible {
        loop {
            sleep(self.poll_every).await;
            self.try_refresh().await;
        }
    }

    /// Reads the state at each announcement, and periodically, until the connection ends.
    async fn follow(
        &self,
        announcements: impl Stream<Item = ()> + Send,
        backoff: &mut ReconnectBackoff,
    ) {
        let mut announcements = pin!(announcements.fuse());
        loop {
            // First of all: a change that preceded the subscription was not announced to it.
            let period = if self.try_refresh().await {
                self.fallback_every
            } else {
                self.poll_every
            };
            if let Ok(None) = timeout(period, announcements.next()).await {
                return;
            }
            backoff.reset();
            // One read covers all announcements that preceded it.
            while let Some(Some(())) = announcements.next().now_or_never() {}
        }
    }

    /// Reads the state. Returns whether MongoDB answered.
    async fn try_refresh(&self) -> bool {
        let read = self.refresh().await;
        if let Err(error) = &read {
            tracing::warn!(%error, "Could not read the control state; keeping the last one");
        }
        read.is_ok()
    }

    /// Reads the state once.
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

    /// Sets that time until the next read.
    pub(super) fn set_probe_at(&self, upstream: Upstream, probe_at: Option<DateTime>) {
        self.state.send_modify(|state| {
            match probe_at {
                Some(at) => state.refused.insert(upstream, at),
                None => state.refused.remove(&upstream),
            };
        });
    }
}
