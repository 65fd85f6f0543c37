//! Steps end each for itself, and are written so that nobody sees half of it.

use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{JobState, StepState},
    },
    tenant::{ProvisioningState, TenantStatus},
    upstream::Upstream,
};
use dezky_worker::steps::{Registry, StepContext, StepFailure, StepSuccess, Steps};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    harness::{Harness, until},
    script::{Joining, Lone, Say, Script},
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
async fn steps_that_end_while_another_is_written_are_written_together() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let scripts = [(); 3].map(|()| Script::held([]));
    let worker = harness.worker_of("worker", registry(&scripts), 8);
    for script in &scripts {
        script.ran(1).await;
    }
    let context = harness.context.clone();
    let in_the_way = harness
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
        script.let_go(1);
        until(async || script.inside(), |inside| *inside == 0).await;
    }

    in_the_way.commit().await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    // Enqueued, claimed, the first step, the others, settled.
    assert_eq!(job.revision, 5);
    assert_eq!(harness.tenant(tenant.id).await.status, TenantStatus::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_for_good_settles_itself_and_no_other() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let scripts = [
        Script::new([]),
        Script::new([Say::Fail(ErrorCode::DomainInvalid)]),
        Script::new([Say::Fail(ErrorCode::UpstreamUnavailable)]),
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
        "what may still succeed is tried until it does"
    );
    assert_eq!(scripts.map(|script| script.runs().len()), [1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_not_due_waits_while_others_run() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let hour = std::time::Duration::from_hours(1);
    let scripts = [
        Script::new([]),
        Script::new([Say::FailFor(ErrorCode::UpstreamRateLimited, hour)]),
        Script::new([
            Say::Fail(ErrorCode::UpstreamUnavailable),
            Say::Fail(ErrorCode::UpstreamUnavailable),
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
        "a success ends the failures in a row"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_for_an_old_intent_is_not_told_to_the_tenant_and_is_done_afresh_at_once() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let scripts = [
        Script::held([Say::Fail(ErrorCode::UpstreamRejected)]),
        Script::new([]),
        Script::held([]),
    ];
    let worker = harness.worker_of("worker", registry(&scripts), 8);
    harness
        .tenant_until(tenant.id, |tenant| {
            tenant.provisioning_status.stalwart == ProvisioningState::Ok
        })
        .await;
    let changed = harness.change_tenant(tenant.id, |_| {}).await;

    scripts[0].let_go(1);
    harness
        .job_until(job.id, |job| {
            job.step("authentik")
                .is_some_and(|step| step.state == StepState::Error)
        })
        .await;
    let told = harness.tenant(tenant.id).await;
    scripts[0].let_go(1);
    scripts[2].let_go(2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(told.provisioning_status, changed.provisioning_status);
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
async fn a_panic_is_a_failure_like_any_other() {
    fn at_once(_: StepContext) -> BoxFuture<'static, Result<StepSuccess, StepFailure>> {
        panic!("before there is a future")
    }
    let mut harness = Harness::new().await;
    harness.times.retry_base = std::time::Duration::from_mins(10);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let steps = Steps::parallel()
        .step("later", Script::new([Say::Panic]).step())
        .step("at once", at_once)
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
