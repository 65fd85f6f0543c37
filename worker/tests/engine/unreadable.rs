//! Targets that cannot be read or written: they concern their own jobs alone.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::TenantId,
    platform::{change_feed::DocumentChange, clock},
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState},
    },
    store::StoreError,
    upstream::Upstream,
};
use dezky_worker::{
    context::Context,
    steps::{
        JobKind, Loaded, Registry, Reported, SinkFuture, StepReport, StepSink, StepTarget, Steps,
        Targets,
    },
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use crate::{
    harness::Harness,
    script::{Joining, Lone, Script, Scripted, Single},
};

impl Harness {
    /// Sets a tenant's plan. Only a newer build knows the plan `next`.
    async fn set_plan(&self, tenant: TenantId, plan: &str) {
        let tenants = self.context.store.collection::<Document>("tenants");
        let set = doc! { "$set": { "plan": plan }, "$inc": { "revision": 1_i64 } };
        tenants
            .update_one(doc! { "_id": tenant }, set)
            .await
            .unwrap();
    }

    /// The stored revision of a tenant, whether or not the tenant can be decoded.
    async fn tenant_revision(&self, tenant: TenantId) -> i64 {
        let tenants = self.context.store.collection::<Document>("tenants");
        let stored = tenants.find_one(doc! { "_id": tenant }).await.unwrap();
        stored.unwrap().get_i64("revision").unwrap()
    }
}

fn registry(script: &Script) -> Registry {
    let steps = || Steps::parallel().step("work", script.step());
    Registry::default()
        .register::<Single>(steps())
        .register::<Joining>(steps())
        .register::<Lone>(steps())
}

/// The attempts of a job that were released.
fn releases(job: &Job) -> usize {
    let attempts = job.attempts.iter();
    attempts
        .filter(|attempt| attempt.outcome == "release")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_tenant_cannot_be_read_waits_longer_each_time_and_stops_no_rescue() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let tenant = harness.add_tenant("acme", &[]).await;
    harness.set_plan(tenant.id, "next").await;
    let job = harness.enqueue(&Single::of(&tenant)).await;

    let worker = harness.worker_of("worker", registry(&script), 8);
    let waiting = harness
        .job_until(job.id, |job| {
            releases(job) == 5 && job.state == JobState::Available
        })
        .await;
    let lost = harness.add_orphan(&Lone { n: 1 }, false).await;
    let rescued = harness.finished(lost.id).await;
    harness.set_plan(tenant.id, "business").await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!((waiting.attempt, waiting.snoozes), (0, 0));
    let error = waiting.error.unwrap();
    assert_eq!((error.code, error.retryable), (ErrorCode::Internal, true));
    assert!(error.detail.contains("next"), "{error:?}");
    let fifth = &waiting.attempts[4];
    // At least half of the base doubled four times, less the moment between the decision and the attempt's end.
    let delay = clock::until(fifth.finished_at, waiting.run_at);
    assert!(delay >= harness.times.retry_base * 7, "{delay:?}");
    assert_eq!(rescued.state, JobState::Completed);
    assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_tenant_cannot_be_read_can_end() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    harness.set_plan(tenant.id, "next").await;
    let args = Single::of(&tenant);
    let crashed = harness.add_orphan(&args, true).await;
    harness.edit_job(crashed.id, doc! { "crashes": 2 }).await;
    let cancelled = harness.enqueue_unannounced(&args).await;
    let cancelled = harness.cancel(cancelled.id).await;
    let expired = harness.enqueue_unannounced(&args).await;
    let past = clock::earlier(harness.context.store.now(), Duration::from_secs(1));
    harness
        .edit_job(expired.id, doc! { "giveUpAt": past })
        .await;

    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    let crashed = harness.finished(crashed.id).await;
    let expired = harness.finished(expired.id).await;
    worker.stop().await;

    assert_eq!(cancelled.state, JobState::Cancelled);
    let code = |job: Job| job.error.unwrap().code;
    assert_eq!(code(crashed), ErrorCode::WorkerCrashed);
    assert_eq!(code(expired), ErrorCode::GaveUp);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_becomes_unreadable_during_an_attempt_releases_its_job() {
    let harness = Harness::new().await;
    let script = Script::blocking([]);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    script.until_runs(3).await;

    harness.set_plan(tenant.id, "next").await;
    let revision = harness.tenant_revision(tenant.id).await;
    script.release(6);
    let waiting = harness.job_until(job.id, |job| releases(job) > 0).await;
    assert_eq!(harness.tenant_revision(tenant.id).await, revision);
    harness.set_plan(tenant.id, "business").await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(waiting.attempt, 0);
    assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
}

/// A target without a document.
#[derive(Debug)]
struct NoDocument;

impl StepTarget for NoDocument {
    fn in_doubt_until(&self, _: Upstream) -> Option<DateTime> {
        None
    }

    fn changes(&self) -> Vec<DocumentChange> {
        Vec::new()
    }
}

/// A sink that refuses every report.
#[derive(Debug)]
struct Refusing;

fn refusal<T>() -> Result<T, StoreError> {
    Err(StoreError::custom("the report is refused".to_owned()))
}

impl StepSink for Refusing {
    fn load<'a>(&'a self, _: &'a Context, _: &'a Job) -> SinkFuture<'a, Loaded> {
        async { Ok(Loaded::Target(Arc::new(NoDocument))) }.boxed()
    }

    fn is_reported(&self, _: &Job, _: &JobKind) -> bool {
        true
    }

    fn report<'a>(
        &'a self,
        _: &'a Context,
        _: &'a mut ClientSession,
        _: StepReport<'a>,
        _: DateTime,
    ) -> SinkFuture<'a, Reported> {
        async { refusal() }.boxed()
    }

    fn report_group<'a>(
        &'a self,
        _: &'a Context,
        _: &'a mut ClientSession,
        _: &'a [StepReport<'a>],
        _: DateTime,
    ) -> SinkFuture<'a, Option<Targets>> {
        async { refusal() }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_refused_releases_the_job_and_its_lock() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let steps = Steps::parallel()
        .step("work", script.step())
        .reporting_to(Refusing);
    let job = harness.enqueue(&Lone { n: 1 }).await;

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 8);
    let job = harness
        .job_until(job.id, |job| {
            releases(job) == 3 && job.state == JobState::Available
        })
        .await;
    worker.stop().await;

    assert_eq!(job.attempt, 0);
    assert!(job.error.unwrap().detail.ends_with("the report is refused"));
    assert!(
        !job.steps[0].state.is_done(),
        "only recorded steps are settled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_held_while_a_write_is_in_doubt_that_could_not_be_reported() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_secs(2);
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::new([Scripted::Fail(ErrorCode::UpstreamAnswerLost)]);
    let steps = Steps::parallel()
        .upstream(Upstream::Stalwart, script.step())
        .reporting_to(Refusing);
    harness.enqueue(&Single::of(&tenant)).await;
    harness.enqueue(&Single::of(&tenant)).await;

    let worker = harness.worker_of("worker", Registry::default().register::<Single>(steps), 8);
    let runs = script.until_runs(2).await;
    worker.stop().await;

    let wait = clock::until(runs[0].at, runs[1].at);
    assert!(wait >= harness.times.in_doubt_wait, "{wait:?}");
}
