//! Schedules: enqueues the jobs of the instants that have come. The ledger ensures that each instant is run once.

use std::{sync::Arc, time::Duration};

use dezky_shared::{queue::schedule::Schedule, store::StoreError};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    context::Context,
    engine::{Duty, EngineConfig},
};

/// Enqueues the due jobs of every schedule.
pub(super) struct ScheduleRunner {
    ctx: Arc<Context>,
    schedules: Vec<Schedule>,
    every: Duration,
}

impl Duty for ScheduleRunner {
    fn name(&self) -> &'static str {
        "schedules"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run_due().boxed()
    }
}

impl ScheduleRunner {
    pub(super) fn new(ctx: &Arc<Context>, config: &EngineConfig) -> Self {
        Self {
            ctx: ctx.clone(),
            schedules: config.schedules.clone(),
            every: config.times.cron_every,
        }
    }

    /// A schedule that fails is logged and retried at the next run; the others go on.
    async fn run_due(&self) -> Result<(), StoreError> {
        for schedule in &self.schedules {
            if let Err(error) = self.enqueue_due(schedule).await {
                tracing::warn!(schedule = schedule.name, %error, "Could not run a schedule; retrying");
            }
        }
        Ok(())
    }

    async fn enqueue_due(&self, schedule: &Schedule) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        let jobs = self.ctx.schedules.run_due(schedule, now).await?;
        for job in &jobs {
            tracing::info!(schedule = schedule.name, job.id = %job.id, "Enqueued a scheduled job");
        }
        self.ctx.ready.notify(&jobs).await;
        Ok(())
    }
}
