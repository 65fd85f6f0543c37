//! Draining: a stopping worker finishes running jobs, releases those that exceed the deadline, and claims no more.

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
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Lone, Script, Scripted},
    upstreams::Upstreams,
};

fn registry(script: &Script) -> Registry {
    Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()))
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_waits_for_a_running_job() {
    let harness = Harness::new().await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("worker", registry(&script), 8);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    script.until_runs(1).await;

    worker.request_stop();
    let late = harness.enqueue(&Lone { n: 2 }).await;
    script.release(1);
    worker.stop().await;

    assert_eq!(harness.job(job.id).await.state, JobState::Completed);
    let late = harness.job(late.id).await;
    assert_eq!((late.state, late.attempt), (JobState::Available, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_exceeds_the_drain_deadline_is_released_uncharged_to_another_worker() {
    let mut harness = Harness::new().await;
    harness.times.drain = Duration::from_millis(200);
    let script = Script::blocking([]);
    let worker = harness.worker_of("worker", registry(&script), 8);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    script.until_runs(1).await;

    worker.stop().await;

    let released = harness.job(job.id).await;
    assert_eq!(
        (released.state, released.attempt, released.crashes),
        (JobState::Available, 0, 0)
    );
    assert!(released.lease.is_none() && released.run_at <= released.updated_at);
    assert_eq!(released.attempts[0].outcome, "release");
    assert_eq!(script.interrupted(), 1);
    script.release(1);
    let next = harness.worker_of("next", registry(&script), 8);
    let job = harness.finished(job.id).await;
    next.stop().await;
    assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_at_any_time_leaves_no_running_job() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let mut jobs = Vec::new();
    for n in 0..120 {
        jobs.push(harness.enqueue(&Lone { n }).await);
    }

    for pause in 0..30 {
        let done = script.runs().len();
        let worker = harness.worker_of("worker", registry(&script), 2);
        // At a different point of the fetch loop each time.
        until(
            async || script.runs().len(),
            |runs| *runs > done || *runs == 120,
        )
        .await;
        tokio::time::sleep(Duration::from_micros(pause * 300)).await;
        worker.stop().await;

        for job in &jobs {
            let job = harness.job(job.id).await;
            assert_ne!(job.state, JobState::Running, "{job:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_free_slots_stops_as_fast() {
    let harness = Harness::new().await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("worker", registry(&script), 1);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    script.until_runs(1).await;

    worker.request_stop();
    script.release(1);
    worker.stop().await;

    assert_eq!(harness.job(job.id).await.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_job_runs_a_step_that_was_never_attempted_at_once() {
    let mut harness = Harness::new().await;
    harness.times.drain = Duration::from_millis(200);
    let wait = Duration::from_mins(15);
    let limited = Script::new([Scripted::FailFor(ErrorCode::UpstreamRateLimited, wait)]);
    let slow = Script::blocking([]);
    let steps = Steps::parallel()
        .step("limited", limited.step())
        .step("slow", slow.step());
    let job = harness.enqueue(&Lone { n: 1 }).await;

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 8);
    slow.until_runs(1).await;
    harness
        .job_until(job.id, |job| {
            job.step("limited").is_some_and(|step| step.error.is_some())
        })
        .await;
    worker.stop().await;

    let released = harness.job(job.id).await;
    assert_eq!(released.state, JobState::Available);
    assert!(released.step("limited").unwrap().next_at.unwrap() > released.updated_at);
    assert!(released.run_at <= released.updated_at, "{released:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_cut_off_by_a_stop_does_not_exhaust_the_attempts() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.drain = Duration::from_millis(200);
    let never = Fault::SlowAnswer { millis: 600_000 };
    upstreams
        .authentik
        .server
        .faults
        .add(FaultRule::every(never));
    let url = upstreams.authentik.server.url.clone();
    let write = Steps::parallel().upstream(Upstream::Authentik, move |run| {
        let url = url.clone();
        async move {
            let timeout = Duration::from_mins(5);
            let http =
                UpstreamHttp::new(Upstream::Authentik, &url, timeout, &TrustRoots::default());
            let http = http.unwrap().with_deadline(&run.deadline);
            let request = http.request(http::Method::POST, "/api/v3/core/groups/");
            let response = http.send(Operation::write("create_group"), request).await;
            Err(response.unwrap_err().into())
        }
    });
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    harness.edit_job(job.id, doc! { "maxAttempts": 1 }).await;

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(write), 8);
    let requests = || upstreams.authentik.server.faults.requests();
    until(async || requests().len(), |operations| *operations > 0).await;
    worker.stop().await;

    let released = harness.job(job.id).await;
    assert_eq!((released.state, released.attempt), (JobState::Available, 0));
    let step = released.step("authentik").unwrap();
    assert_eq!(step.state, StepState::Unknown);
    assert!(
        step.next_at.is_some_and(|at| released.run_at == at),
        "{released:#?}"
    );
}
