//! A write whose outcome is not known is neither done nor failed.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{JobState, StepState},
    },
    upstream::Upstream,
};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::Harness,
    script::{Joining, Say, Script, Single},
};

fn registry(authentik: &Script, ocis: &Script) -> Registry {
    let steps = || {
        Steps::parallel()
            .upstream(Upstream::Authentik, authentik.step())
            .upstream(Upstream::Ocis, ocis.step())
    };
    Registry::default()
        .register::<Joining>(steps())
        .register::<Single>(steps())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_unknown_outcome_is_tried_again_only_once_its_write_has_landed_or_not() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_millis(1_500);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let (authentik, ocis) = (
        Script::new([Say::Fail(ErrorCode::UpstreamAnswerLost)]),
        Script::new([]),
    );

    let worker = harness.worker_of("worker", registry(&authentik, &ocis), 8);
    let told = harness
        .tenant_until(tenant.id, |tenant| tenant.unknown_until.authentik.is_some())
        .await;
    let waiting = harness
        .job_until(job.id, |job| {
            job.state == JobState::Available && job.attempt == 1
        })
        .await;
    let done = harness.finished(job.id).await;
    worker.stop().await;

    let until = told.unknown_until.authentik.unwrap();
    let runs = authentik.runs();
    assert_eq!(runs.len(), 2);
    assert!(runs[1].at >= until, "{} < {until}", runs[1].at);
    assert_eq!(waiting.step("authentik").unwrap().state, StepState::Unknown);
    assert!(waiting.run_at >= until);
    assert_eq!(
        (done.attempt, done.snoozes),
        (2, 0),
        "the next try is not made too early"
    );
    assert_eq!(
        harness.tenant(tenant.id).await.unknown_until.authentik,
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_job_waits_with_that_step_too_and_only_with_that() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_millis(1_500);
    let tenant = harness.add_tenant("acme", &[]).await;
    let first = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let (authentik, ocis) = (
        Script::new([Say::Fail(ErrorCode::UpstreamAnswerLost)]),
        Script::new([]),
    );

    let worker = harness.worker_of("worker", registry(&authentik, &ocis), 8);
    let told = harness
        .tenant_until(tenant.id, |tenant| tenant.unknown_until.authentik.is_some())
        .await;
    let second = harness
        .enqueue(&Single {
            tenant_id: tenant.id,
        })
        .await;
    let second = harness.finished(second.id).await;
    harness.finished(first.id).await;
    worker.stop().await;

    let until = told.unknown_until.authentik.unwrap();
    assert!(authentik.runs()[1..].iter().all(|run| run.at >= until));
    let files = ocis.runs();
    assert!(
        files
            .iter()
            .any(|run| run.job == second.id && run.at < until),
        "{files:#?}"
    );
    assert_eq!(
        second.attempt, 1,
        "waiting for what another left open costs nothing"
    );
    assert_eq!(second.snoozes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_last_attempt_is_of_unknown_outcome_is_over() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue_silently(&Single {
            tenant_id: tenant.id,
        })
        .await;
    harness.edit_job(job.id, doc! { "maxAttempts": 1 }).await;
    let (authentik, ocis) = (
        Script::new([Say::Fail(ErrorCode::UpstreamAnswerLost)]),
        Script::new([]),
    );

    let worker = harness.worker_of("worker", registry(&authentik, &ocis), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(
        (job.state, job.error.unwrap().code),
        (JobState::Discarded, ErrorCode::UpstreamAnswerLost)
    );
    assert_eq!(authentik.runs().len(), 1);
    let tenant = harness.tenant(tenant.id).await;
    assert!(
        tenant.unknown_until.authentik.is_some(),
        "whoever comes next has to wait all the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_kept_although_the_intent_changed_meanwhile() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_millis(1_500);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let (authentik, ocis) = (
        Script::held([Say::Fail(ErrorCode::UpstreamAnswerLost)]),
        Script::new([]),
    );
    let worker = harness.worker_of("worker", registry(&authentik, &ocis), 8);
    authentik.ran(1).await;
    harness.change_tenant(tenant.id, |_| {}).await;

    authentik.let_go(2);
    let told = harness
        .tenant_until(tenant.id, |tenant| tenant.unknown_until.authentik.is_some())
        .await;
    harness.finished(job.id).await;
    worker.stop().await;

    let runs = authentik.runs();
    assert_eq!(runs.len(), 2);
    assert!(runs[1].at >= told.unknown_until.authentik.unwrap());
}
