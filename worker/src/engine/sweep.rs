//! The sweep, the guarantee beneath the hints: due keys that no ready set holds are found in MongoDB and added.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    queue::{job::Queue, priority::Priority, ready_set::ReadySet},
    store::StoreError,
};
use futures::{FutureExt as _, future::BoxFuture};

use super::{
    EngineTimings,
    control_state::ControlWatch,
    due_keys::{Cursor, DueKeys},
    leader::Duty,
};
use crate::metrics;

/// Number of keys that the sweep keeps in each lane of a ready set.
const TOP_UP_TO: u64 = 5_000;

/// Tops up the lanes of each queue that is not paused.
pub(super) struct Sweep {
    due_keys: DueKeys,
    ready: ReadySet,
    control: Arc<ControlWatch>,
    every: Duration,
    cursors: Vec<(Queue, Priority, Cursor)>,
}

impl Sweep {
    pub(super) fn new(
        due_keys: DueKeys,
        ready: &ReadySet,
        control: Arc<ControlWatch>,
        times: &EngineTimings,
    ) -> Self {
        Self {
            due_keys,
            ready: ready.clone(),
            control,
            every: times.sweep_every,
            // The urgent lanes of all queues first.
            cursors: Priority::ALL
                .into_iter()
                .flat_map(|priority| Queue::ALL.map(|queue| (queue, priority, Cursor::default())))
                .collect(),
        }
    }

    async fn sweep(&mut self) -> Result<(), StoreError> {
        for (queue, priority, cursor) in &mut self.cursors {
            if self.control.is_paused(*queue) {
                continue;
            }
            // Without Redis the fetch loops query MongoDB.
            let Ok(length) = self.ready.len(*queue, *priority).await else {
                return Ok(());
            };
            let room = usize::try_from(TOP_UP_TO.saturating_sub(length)).unwrap_or(0);
            if room > 0 {
                let keys = self.due_keys.list(*queue, *priority, cursor, room).await?;
                if let Ok(missing) = self.ready.add(*queue, &keys).await {
                    metrics::swept(*queue, missing);
                }
            }
        }
        Ok(())
    }
}

impl Duty for Sweep {
    fn name(&self) -> &'static str {
        "sweep"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.sweep().boxed()
    }

    fn reflects_database_health(&self) -> bool {
        true
    }
}
