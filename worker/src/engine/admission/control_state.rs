//! What people said and other workers learned, as last read.

use std::collections::{BTreeMap, BTreeSet};

use bson::DateTime;
use dezky_shared::{queue::job::Queue, store::StoreError, upstream::Upstream};
use tokio::sync::watch;

use super::super::{Engine, bulk};

/// What a worker follows in MongoDB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ControlState {
    /// The upstreams whose credentials are refused, and when each may be tried.
    pub(super) refused: BTreeMap<Upstream, DateTime>,
    /// The upstreams that a person paused.
    pub(super) paused_upstreams: BTreeSet<Upstream>,
    /// The queues that a person paused.
    paused_queues: BTreeSet<Queue>,
}

impl Engine {
    /// Follows it, once a second.
    pub(crate) async fn keep_following(&self) {
        loop {
            tokio::time::sleep(self.times.sweep_every).await;
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "Could not read what is paused");
            }
        }
    }

    /// Reads it.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let reading =
            async { futures::try_join!(self.ctx.upstreams.list(), self.ctx.queues.paused()) };
        let (upstreams, paused_queues) =
            bulk::with_timeout(self.times.bulk_deadline, reading).await?;
        let before = self.known().refused.clone();
        let refused = upstreams.iter().filter_map(|health| {
            let mine = health.fingerprint == self.fingerprint(health.upstream);
            // What others use says nothing of ours, which may be old: then what we learned stands.
            let ours = before.get(&health.upstream).copied();
            let probe_at = if mine { health.probe_at } else { ours };
            Some((health.upstream, probe_at?))
        });
        let paused = upstreams
            .iter()
            .filter(|health| health.paused.is_some())
            .map(|health| health.upstream);
        let read = ControlState {
            refused: refused.collect(),
            paused_upstreams: paused.collect(),
            paused_queues,
        };
        self.known.send_if_modified(|known| {
            let changed = *known != read;
            *known = read;
            changed
        });
        Ok(())
    }

    /// What is known now.
    pub(super) fn known(&self) -> watch::Ref<'_, ControlState> {
        self.known.borrow()
    }

    /// Whether a person paused this queue.
    pub(crate) fn is_paused(&self, queue: Queue) -> bool {
        self.known().paused_queues.contains(&queue)
    }

    /// Waits until nobody has this queue paused.
    pub(crate) async fn until_resumed(&self, queue: Queue) {
        let goes_on = |known: &ControlState| !known.paused_queues.contains(&queue);
        // It fails only when the engine is gone, and this with it.
        let _ = self.known.subscribe().wait_for(goes_on).await;
    }
}
