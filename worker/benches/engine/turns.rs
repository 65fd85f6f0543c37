//! Cost of waiting for an upstream's rate budget: claims by jobs that cannot do anything yet.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use dezky_shared::upstream::Upstream;
use dezky_sim::bench_output::{progress, rate, report, within};
use dezky_upstreams::circuit_breaker::RateBudget;
use futures::StreamExt as _;

use crate::world::{Noop, World};

const JOBS: usize = 3_000;
const SLOTS: usize = 64;
const BUDGET: RateBudget = RateBudget {
    per_second: 5.0,
    burst: 1,
};
/// Maximum number of claims a second.
const MAX_CLAIMS: f64 = 20.0;
/// Time before the measurement, in which each job finds out that it has to wait.
const SETTLING: Duration = Duration::from_secs(20);
const MEASURED: Duration = Duration::from_secs(20);

/// Returns whether the limit holds.
pub(crate) async fn measure(world: &World) -> bool {
    world
        .enqueue_all((0..JOBS).map(|_| Noop { lock: None }))
        .await;
    let mut worker = world
        .worker_calling(Upstream::Authentik, BUDGET, SLOTS)
        .await;
    progress(format!(
        "{JOBS} jobs wait for {} turns a second",
        BUDGET.per_second
    ));
    let settled = Instant::now() + SETTLING;
    while let Ok(Some(_)) = tokio::time::timeout_at(settled.into(), worker.started.recv()).await {}

    let (claims, steps) = tokio::join!(count_claims(world), async {
        let end = Instant::now() + MEASURED;
        let mut steps = 0;
        while let Ok(Some(_)) = tokio::time::timeout_at(end.into(), worker.started.recv()).await {
            steps += 1;
        }
        steps
    });
    worker.stop().await;
    report(
        "3,000 jobs waiting for 5 turns a second: steps",
        rate(steps, MEASURED),
        "steps/s",
    );
    within(
        "3,000 jobs waiting for 5 turns a second: claims",
        rate(claims, MEASURED),
        "claims/s",
        MAX_CLAIMS,
    )
}

/// Number of claims from now on, for [`MEASURED`].
async fn count_claims(world: &World) -> usize {
    let claim = doc! { "$match": { "updateDescription.updatedFields.state": "running" } };
    let jobs = world.context.store.collection::<Document>("jobs");
    let mut claims = jobs
        .watch()
        .pipeline([claim])
        .await
        .expect("MongoDB answers");
    let end = Instant::now() + MEASURED;
    let mut count = 0;
    while let Ok(Some(claim)) = tokio::time::timeout_at(end.into(), claims.next()).await {
        claim.expect("MongoDB answers");
        count += 1;
    }
    count
}
