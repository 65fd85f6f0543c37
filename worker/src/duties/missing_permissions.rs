//! Missing permissions: publishes which upstreams refuse an operation of ours, as the errors of the held jobs say.
//!
//! Such a job is held until an operator acts, so that the upstream itself looks healthy.

use std::{sync::Arc, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    queue::job::{JobState, Step},
    store::{StoreError, jobs::HELD_INDEX, to_bson, upstreams::MissingPermission},
    upstream::Upstream,
};
use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use mongodb::{Collection, options::Hint};

use super::release_deferred::REFUSED;
use crate::{
    context::Context,
    engine::{Duty, EngineTimings, with_timeout},
    metrics,
    steps::Registry,
};

/// The most held jobs that are read. More show this many.
const COUNT_LIMIT: i64 = 1_000;

/// Publishes the missing permissions of every upstream.
pub(super) struct MissingPermissions {
    ctx: Arc<Context>,
    jobs: Collection<Document>,
    registry: Registry,
    every: Duration,
    timeout: Duration,
}

impl Duty for MissingPermissions {
    fn name(&self) -> &'static str {
        "missing_permissions"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.publish().boxed()
    }

    fn end_term(&self) {
        metrics::clear_missing_permissions();
    }
}

impl MissingPermissions {
    pub(super) fn new(ctx: &Arc<Context>, registry: &Registry, times: &EngineTimings) -> Self {
        Self {
            jobs: ctx.store.collection("jobs"),
            ctx: ctx.clone(),
            registry: registry.clone(),
            every: times.measure_every,
            timeout: times.bulk_deadline,
        }
    }

    async fn publish(&self) -> Result<(), StoreError> {
        for state in self.ctx.upstreams.list().await? {
            let upstream = state.upstream;
            let refused = with_timeout(self.timeout, self.refused_steps(upstream)).await?;
            let missing = missing_permission(&refused);
            metrics::missing_permission(upstream, refused.len());
            if missing != state.permission {
                let upstreams = &self.ctx.upstreams;
                upstreams.set_permission(upstream, missing.as_ref()).await?;
            }
        }
        Ok(())
    }

    /// The refused steps of the jobs that wait, one for each job.
    async fn refused_steps(&self, upstream: Upstream) -> Result<Vec<Step>, StoreError> {
        let steps = self.registry.steps_using(upstream);
        let refused =
            doc! { "name": { "$in": &steps }, "error.code": { "$in": to_bson(&REFUSED)? } };
        let held = doc! {
            "state": JobState::Available.name(),
            "error": { "$exists": true },
            "steps": { "$elemMatch": refused },
        };
        let found: Vec<Document> = self
            .jobs
            .find(held)
            .hint(Hint::Name(HELD_INDEX.to_owned()))
            .projection(doc! { "steps": 1 })
            .limit(COUNT_LIMIT)
            .max_time(self.timeout)
            .await?
            .try_collect()
            .await?;
        let is_refused = |step: &Step| {
            let code = step.error.as_ref().map(|error| error.code);
            steps.contains(&step.name.as_str()) && code.is_some_and(|code| REFUSED.contains(&code))
        };
        let refused_step = |job: Document| {
            let steps = job.get("steps")?.clone();
            // A newer build may store steps that this one cannot read.
            let steps: Vec<Step> = bson::deserialize_from_bson(steps).ok()?;
            steps.into_iter().find(|step| is_refused(step))
        };
        Ok(found.into_iter().filter_map(refused_step).collect())
    }
}

/// The first refusal, and the operation that was refused last.
fn missing_permission(refused: &[Step]) -> Option<MissingPermission> {
    let since = refused.iter().filter_map(|step| step.finished_at).min()?;
    let last = refused.iter().max_by_key(|step| step.finished_at)?;
    let error = last.error.as_ref()?;
    Some(MissingPermission {
        since,
        operation: error.operation.clone(),
        detail: error.detail.clone(),
        jobs: i64::try_from(refused.len()).unwrap_or(i64::MAX),
    })
}
