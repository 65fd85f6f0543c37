//! Outcomes of accepted actions: records the ends of the jobs that carry out accepted requests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use dezky_shared::{
    id::{AuditEventId, JobId},
    store::{StoreError, audit::AcceptedAction, jobs::JobEnd},
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use crate::{
    context::Context,
    engine::{Duty, EngineTimings},
};

/// Accepted actions that are looked up at a time.
const LOOKED_UP_TOGETHER: i64 = 500;
/// Outcomes that are recorded in one transaction.
const RECORDED_TOGETHER: usize = 50;

/// Records outcomes.
pub(super) struct AuditOutcomes {
    ctx: Arc<Context>,
    every: Duration,
    /// Time in which a run reads further actions. The next run continues behind them: many that wait delay no other.
    budget: Duration,
    /// The last action that was read; `None` to start over.
    after: Option<AuditEventId>,
}

impl Duty for AuditOutcomes {
    fn name(&self) -> &'static str {
        "audit_outcomes"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.record().boxed()
    }
}

impl AuditOutcomes {
    pub(super) fn new(ctx: &Arc<Context>, times: &EngineTimings) -> Self {
        Self {
            ctx: ctx.clone(),
            every: times.cron_every,
            budget: times.duty_timeout / 2,
            after: None,
        }
    }

    async fn record(&mut self) -> Result<(), StoreError> {
        let began = Instant::now();
        while began.elapsed() < self.budget {
            let found = self.ctx.audit.list_accepted(self.after, LOOKED_UP_TOGETHER);
            let actions = found.await?;
            self.after = actions.last().map(|last| last.event_id);
            if actions.is_empty() {
                break;
            }
            self.record_ended(actions).await?;
        }
        Ok(())
    }

    /// Records the outcomes of those of these actions whose jobs have ended.
    async fn record_ended(&self, actions: Vec<AcceptedAction>) -> Result<(), StoreError> {
        let ids: Vec<JobId> = actions.iter().map(|action| action.job_id).collect();
        let ends = self.ctx.jobs.ends(&ids).await?;
        let ends: HashMap<JobId, JobEnd> = ends.into_iter().map(|end| (end.id, end)).collect();
        let mut ended = Vec::new();
        for action in actions {
            match ends.get(&action.job_id) {
                Some(JobEnd {
                    superseded_by: Some(successor),
                    ..
                }) => self.ctx.audit.follow_job(&action, *successor).await?,
                Some(end) if !end.state.is_final() => {}
                end => ended.push((action, end.cloned())),
            }
        }
        let now = self.ctx.store.now();
        for ended in ended.chunks(RECORDED_TOGETHER) {
            self.ctx.audit.record_outcomes(ended, now).await?;
        }
        Ok(())
    }
}
