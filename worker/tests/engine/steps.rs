//! Steps: independent results, recorded atomically.

use std::time::Duration;

use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{JobState, StepState},
    },
    store::VersionedRepository as _,
    tenant::{ProvisioningState, TenantStatus},
    upstream::Upstream,
};
use dezky_worker::steps::{Registry, StepContext, StepFailure, StepSuccess, Steps};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    harness::{Harness, until},
    script::{Joining, Lone, Script, Scripted},
};

fn registry(scripts: &[Script; 3]) -> Registry {
    let steps = Upstream::ALL
        .into_iter()
        .zip(scripts)
        .fold(Steps::parallel(), |steps, (upstream, script)| {
            steps.upstream(upstream, script.step())
        });
    Registry::default().register::<Joining>(steps)
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_end_during_a_write_are_recorded_together() {
    let mut harness = Harness::new().await;
    harness.times.sibling_window = Duration::ZERO;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let scripts = [(); 3].map(|()| Script::blocking([]));
    let worker = harness.worker_of("worker", registry(&scripts), 8);
    for script in &scripts {
        script.until_runs(1).await;
    }
    let context = harness.context.clone();
    let blocker = harness
        .open(move |session| {
            let context = context.clone();
            async move {
                context.tenants.find_for_update(session, tenant.id).await?;
                Ok(())
            }
            .boxed()
        })
        .await;
    for script in &scripts {
        script.release(1);
        until(async || script.running(), |running| *running == 0).await;
    }

    blocker.commit().await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    // Enqueued, claimed, the first step, the others, settled.
    assert_eq!(job.revision, 5);
    assert_eq!(harness.tenant(tenant.id).await.status, TenantStatus::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_end_within_the_sibling_window_are_recorded_together_at_the_end_of_the_last() {
    let mut harness = Harness::new().await;
    // Longer than any test waits: the end of the last step has to end it.
    harness.times.sibling_window = Duration::from_hours(1);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let scripts = [(); 3].map(|()| Script::blocking([]));
    let worker = harness.worker_of("worker", registry(&scripts), 8);
    for script in &scripts {
        script.until_runs(1).await;
    }

    for script in &scripts {
        script.release(1);
        until(async || script.running(), |running| *running == 0).await;
    }
    let job = harness.finished(job.id).await;
    worker.stop().await;

    // Enqueued, claimed, all steps, settled.
    assert_eq!(job.revision, 4);
    assert_eq!(harness.tenant(tenant.id).await.status, TenantStatus::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanently_failed_step_does_not_end_the_others() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let scripts = [
        Script::new([]),
        Script::new([Scripted::Fail(ErrorCode::DomainInvalid)]),
        Script::new([Scripted::Fail(ErrorCode::UpstreamUnavailable)]),
    ];

    let worker = harness.worker_of("worker", registry(&scripts), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(
        (job.state, job.error.unwrap().code),
        (JobState::Discarded, ErrorCode::DomainInvalid)
    );
    let status = harness.tenant(tenant.id).await.provisioning_status;
    assert_eq!(status.authentik, ProvisioningState::Ok);
    assert_eq!(status.stalwart, ProvisioningState::Error);
    assert_eq!(
        status.ocis,
        ProvisioningState::Ok,
        "a retryable step is retried until it succeeds"
    );
    assert_eq!(scripts.map(|script| script.runs().len()), [1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_not_due_does_not_block_the_others() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let hour = Duration::from_hours(1);
    let scripts = [
        Script::new([]),
        Script::new([Scripted::FailFor(ErrorCode::UpstreamRateLimited, hour)]),
        Script::new([
            Scripted::Fail(ErrorCode::UpstreamUnavailable),
            Scripted::Fail(ErrorCode::UpstreamUnavailable),
        ]),
    ];

    let worker = harness.worker_of("worker", registry(&scripts), 8);
    let waiting = |job: &dezky_shared::queue::job::Job| {
        job.state == JobState::Available
            && job
                .step("ocis")
                .is_some_and(|step| step.state == StepState::Ok)
    };
    let job = harness.job_until(job.id, waiting).await;
    worker.stop().await;

    assert_eq!(scripts.map(|script| script.runs().len()), [1, 1, 3]);
    assert_eq!(Some(job.run_at), job.step("stalwart").unwrap().next_at);
    assert_eq!(
        job.step("ocis").unwrap().attempts,
        0,
        "a success resets the consecutive failures"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_for_an_outdated_desired_state_is_not_stored_in_the_tenant_and_the_step_runs_again()
 {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let scripts = [
        Script::blocking([Scripted::Fail(ErrorCode::UpstreamRejected)]),
        Script::new([]),
        Script::blocking([]),
    ];
    let worker = harness.worker_of("worker", registry(&scripts), 8);
    harness
        .tenant_until(tenant.id, |tenant| {
            tenant.provisioning_status.stalwart == ProvisioningState::Ok
        })
        .await;
    let changed = harness
        .change_tenant(tenant.id, |tenant| tenant.name.push('2'))
        .await;

    scripts[0].release(1);
    harness
        .job_until(job.id, |job| {
            job.step("authentik")
                .is_some_and(|step| step.state == StepState::Error)
        })
        .await;
    let stored = harness.tenant(tenant.id).await;
    scripts[0].release(1);
    scripts[2].release(2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(stored.provisioning_status, changed.provisioning_status);
    assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
    for script in scripts {
        let generations: Vec<i64> = script
            .runs()
            .iter()
            .map(|run| run.tenant.as_ref().unwrap().generation)
            .collect();
        assert_eq!(generations, [1, 2]);
    }
    assert_eq!(harness.tenant(tenant.id).await.status, TenantStatus::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_the_step() {
    fn panics(_: StepContext) -> BoxFuture<'static, Result<StepSuccess, StepFailure>> {
        panic!("scripted panic before the future")
    }
    let mut harness = Harness::new().await;
    harness.times.retry_base = Duration::from_mins(10);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let steps = Steps::parallel()
        .step("later", Script::new([Scripted::Panic]).step())
        .step("at once", panics)
        .step("well", Script::new([]).step());

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 8);
    let job = harness.job_until(job.id, |job| job.error.is_some()).await;
    worker.stop().await;

    assert_eq!(
        (job.state, job.attempt, job.crashes),
        (JobState::Available, 1, 0)
    );
    let states: Vec<StepState> = job.steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Error, StepState::Error, StepState::Ok]);
    assert_eq!(job.error.unwrap().code, ErrorCode::Internal);
}
