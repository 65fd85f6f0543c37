//! The operator of a scenario: requeues rejected jobs and resumes upstreams until the job completes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bson::{DateTime, doc};
use dezky_shared::{
    queue::{
        error_code::RetryPolicy,
        job::{Job, JobState, Step},
    },
    store::TransactionError,
    upstream::Upstream,
};
use futures::FutureExt as _;
use tokio::time::timeout;

use crate::{
    harness::until,
    scenarios::{Scenario, Scene},
    world::World,
};

/// Timeout of an operator's wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// The state of a job that is final or deferred.
pub(super) struct End {
    pub(super) job: Job,
    /// Upstreams that had failed by then.
    pub(super) failed: BTreeSet<Upstream>,
    /// Upstreams for which the tenant reports an error.
    pub(super) reported: BTreeSet<Upstream>,
}

/// Acts as the operator whenever the job is final or deferred, until it completes.
pub(super) async fn until_completed(
    world: &World,
    scenario: &Scenario,
    scene: &Scene,
    mut job: Job,
) -> Vec<End> {
    let harness = &world.harness;
    let mut ends = Vec::new();
    loop {
        // Unlimited attempts.
        let patient = doc! { "maxAttempts": 1_000 };
        harness.edit_job(job.id, patient).await;
        job = harness.job_until(job.id, needs_operator).await;
        let hits = hits(world);
        ends.push(End {
            job: job.clone(),
            failed: hits
                .iter()
                .filter(|(_, hits)| **hits > 0)
                .map(|(upstream, _)| *upstream)
                .collect(),
            reported: reported_errors(world, scene).await,
        });
        match job.state {
            // A final job has no secrets any more: the password is issued again.
            JobState::Discarded if job.had_secrets => {
                job = (scenario.enqueue)(world, scene).await;
            }
            JobState::Discarded => job = requeue(world, &job).await,
            JobState::Available => {
                resume(world).await;
                // Repeated if nothing happens: on a busy machine the worker may have missed the hint.
                while !goes_on(world, &job, &hits).await {
                    resume(world).await;
                }
            }
            _ => return ends,
        }
    }
}

/// Waits for the jobs that the job enqueued. One that met the failure waits for the operator, too.
pub(super) async fn until_followers_completed(world: &World) {
    for _ in 0..20 {
        if timeout(PATIENCE, world.until_idle()).await.is_ok() {
            return;
        }
        resume(world).await;
    }
    panic!("jobs that were enqueued by the job do not end");
}

/// Whether the job ends or fails again within the time limit.
async fn goes_on(world: &World, job: &Job, before: &BTreeMap<Upstream, u64>) -> bool {
    let look = async || {
        let is_over = world.harness.job(job.id).await.state.is_final();
        is_over || hits(world) != *before
    };
    timeout(PATIENCE, until(look, |&goes_on| goes_on))
        .await
        .is_ok()
}

/// Number of failures of each upstream.
fn hits(world: &World) -> BTreeMap<Upstream, u64> {
    let servers = world.upstreams.servers().into_iter();
    let hits = servers.map(|(upstream, server)| (upstream, server.faults.hits()));
    hits.collect()
}

/// Upstreams for which the tenant, or the member that the job is about, reports an error.
async fn reported_errors(world: &World, scene: &Scene) -> BTreeSet<Upstream> {
    let errors = match &scene.member {
        Some(member) => world.member(member.id).await.provisioning_errors,
        None => world.tenant(scene.tenant).await.provisioning_errors,
    };
    let upstreams = Upstream::ALL.into_iter();
    upstreams
        .filter(|upstream| errors.get(*upstream).is_some())
        .collect()
}

/// Whether the job is final, or deferred because of refused credentials.
fn needs_operator(job: &Job) -> bool {
    let is_held = job.state == JobState::Available
        && job.steps.iter().any(is_held)
        && job
            .steps
            .iter()
            .all(|step| step.state.is_done() || is_held(step));
    is_held || job.state.is_final()
}

fn is_held(step: &Step) -> bool {
    let error = step.error.as_ref();
    error.is_some_and(|error| error.code.retry_policy() == RetryPolicy::AfterHold)
}

/// Requeues the job, as an operator does after resolving the rejection.
async fn requeue(world: &World, job: &Job) -> Job {
    let again = world.harness.requeue(job.id).await.unwrap().job;
    let ready = &world.harness.context.ready;
    ready.notify(std::slice::from_ref(&again)).await;
    again
}

/// Resumes all upstreams, as an operator does after replacing the credentials.
async fn resume(world: &World) {
    let context = &world.harness.context;
    for upstream in Upstream::CALLED {
        let resumed: Result<_, TransactionError<()>> = context
            .store
            .transaction(context, |session, context| {
                async move {
                    let now: DateTime = context.store.now();
                    Ok(context.upstreams.resume(session, upstream, now).await?)
                }
                .boxed()
            })
            .await;
        resumed.unwrap();
    }
}
