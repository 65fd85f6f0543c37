//! In-doubt writes: a write whose response was lost has neither succeeded nor failed.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    platform::tls::TrustRoots,
    queue::{
        error_code::ErrorCode,
        job::{JobState, StepState},
    },
    upstream::Upstream,
};
use dezky_sim::faults::{Fault, FaultRule};
use dezky_upstreams::clients::{Operation, UpstreamHttp};
use dezky_worker::steps::{Registry, StepFailure, Steps};

use crate::{
    harness::Harness,
    script::{Joining, Script, Scripted, Single},
    upstreams::Upstreams,
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
async fn a_step_in_doubt_is_retried_only_after_its_write_is_resolved() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_millis(1_500);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let (authentik, ocis) = (
        Script::new([Scripted::Fail(ErrorCode::UpstreamAnswerLost)]),
        Script::new([]),
    );

    let worker = harness.worker_of("worker", registry(&authentik, &ocis), 8);
    let tenant_in_doubt = harness
        .tenant_until(tenant.id, |tenant| tenant.unknown_until.authentik.is_some())
        .await;
    let waiting = harness
        .job_until(job.id, |job| {
            job.state == JobState::Available && job.attempt == 1
        })
        .await;
    let done = harness.finished(job.id).await;
    worker.stop().await;

    let until = tenant_in_doubt.unknown_until.authentik.unwrap();
    let runs = authentik.runs();
    assert_eq!(runs.len(), 2);
    assert!(runs[1].at >= until, "{} < {until}", runs[1].at);
    assert_eq!(waiting.step("authentik").unwrap().state, StepState::Unknown);
    assert!(waiting.run_at >= until);
    assert_eq!(
        (done.attempt, done.snoozes),
        (2, 0),
        "the next attempt is not too early"
    );
    assert_eq!(
        harness.tenant(tenant.id).await.unknown_until.authentik,
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_job_defers_only_the_step_in_doubt() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_millis(1_500);
    let tenant = harness.add_tenant("acme", &[]).await;
    let first = harness.enqueue(&Joining::of(&tenant)).await;
    let (authentik, ocis) = (
        Script::new([Scripted::Fail(ErrorCode::UpstreamAnswerLost)]),
        Script::new([]),
    );

    let worker = harness.worker_of("worker", registry(&authentik, &ocis), 8);
    let tenant_in_doubt = harness
        .tenant_until(tenant.id, |tenant| tenant.unknown_until.authentik.is_some())
        .await;
    let second = harness.enqueue(&Single::of(&tenant)).await;
    let second = harness.finished(second.id).await;
    harness.finished(first.id).await;
    worker.stop().await;

    let until = tenant_in_doubt.unknown_until.authentik.unwrap();
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
        "waiting for another job's in-doubt write is not charged"
    );
    assert_eq!(second.snoozes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_last_attempt_is_in_doubt_is_final() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue_unannounced(&Single::of(&tenant)).await;
    harness.edit_job(job.id, doc! { "maxAttempts": 1 }).await;
    let (authentik, ocis) = (
        Script::new([Scripted::Fail(ErrorCode::UpstreamAnswerLost)]),
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
        "the next job still has to wait"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_in_doubt_write_is_recorded_even_if_the_desired_state_changed() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_millis(1_500);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let (authentik, ocis) = (
        Script::blocking([Scripted::Fail(ErrorCode::UpstreamAnswerLost)]),
        Script::new([]),
    );
    let worker = harness.worker_of("worker", registry(&authentik, &ocis), 8);
    authentik.until_runs(1).await;
    harness
        .change_tenant(tenant.id, |tenant| tenant.name.push('2'))
        .await;

    authentik.release(2);
    let tenant_in_doubt = harness
        .tenant_until(tenant.id, |tenant| tenant.unknown_until.authentik.is_some())
        .await;
    harness.finished(job.id).await;
    worker.stop().await;

    let runs = authentik.runs();
    assert_eq!(runs.len(), 2);
    assert!(runs[1].at >= tenant_in_doubt.unknown_until.authentik.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_its_own_step_dropped_is_in_doubt() {
    let upstreams = Upstreams::start().await;
    let harness = Harness::with_upstreams(&upstreams).await;
    let faults = upstreams.authentik.server.faults.clone();
    faults.add(FaultRule::every(Fault::SlowAnswer { millis: 600_000 }));
    let url = upstreams.authentik.server.url.clone();
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Single::of(&tenant)).await;
    // Two things at a time: one fails while the write of the other is in flight.
    let steps = Steps::parallel().upstream(Upstream::Authentik, move |run| {
        let (url, faults) = (url.clone(), faults.clone());
        async move {
            let timeout = Duration::from_mins(5);
            let roots = TrustRoots::default();
            let http = UpstreamHttp::new(Upstream::Authentik, &url, timeout, &roots).unwrap();
            let http = http.with_deadline(&run.deadline);
            let request = http.request(http::Method::POST, "/api/v3/core/groups/");
            let write = http.send(Operation::write("create_group"), request);
            let sent = async {
                while faults.requests().is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                _ = write => panic!("the write is never answered"),
                () = sent => Err(StepFailure::new(ErrorCode::UpstreamRejected, "the other part")),
            }
        }
    });

    let worker = harness.worker_of("worker", Registry::default().register::<Single>(steps), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    let step = job.step("authentik").unwrap();
    assert_eq!(step.state, StepState::Unknown);
    assert_eq!(
        step.error.as_ref().unwrap().code,
        ErrorCode::UpstreamRejected
    );
    let tenant = harness.tenant(tenant.id).await;
    assert!(tenant.unknown_until.authentik.is_some());
}
