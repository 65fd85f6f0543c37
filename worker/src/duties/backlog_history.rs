//! Backlog history: samples the numbers of due and discarded jobs, whose course of a day the console draws.
//!
//! Samples cost the settlement of jobs nothing, unlike counters that each settlement increments.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dezky_shared::{
    queue::{
        backlog_peak::BacklogPeak,
        job::{JobState, Queue},
    },
    store::StoreError,
};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    context::Context,
    engine::{Duty, EngineTimings, with_timeout},
};

/// The most discarded jobs counted.
const COUNT_LIMIT: u64 = 10_000;
/// Measurements of the backlog between two samples: one sample a minute by default.
const MEASUREMENTS: u32 = 4;

/// Samples the backlog.
pub(super) struct BacklogHistory {
    ctx: Arc<Context>,
    every: Duration,
    timeout: Duration,
}

impl Duty for BacklogHistory {
    fn name(&self) -> &'static str {
        "backlog_history"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.sample().boxed()
    }
}

impl BacklogHistory {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            ctx: ctx.clone(),
            every: times.measure_every * MEASUREMENTS,
            timeout: times.bulk_deadline,
        }
    }

    async fn sample(&self) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        let mut due = BTreeMap::new();
        for queue in Queue::ALL {
            let jobs = self.ctx.queues.count_due(queue, now);
            due.insert(queue, with_timeout(self.timeout, jobs).await?);
        }
        let discarded = self
            .ctx
            .jobs
            .count_in_state(JobState::Discarded, COUNT_LIMIT);
        let discarded = with_timeout(self.timeout, discarded).await?;
        let sample = BacklogPeak::sample(&due, discarded, now);
        self.ctx.backlog_peaks.record(&sample).await
    }
}
