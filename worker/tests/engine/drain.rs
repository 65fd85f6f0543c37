//! Draining: a stopping worker finishes running jobs, releases those that exceed the deadline, and claims no more.

use std::time::Duration;

use dezky_shared::queue::job::JobState;
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Lone, Script},
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
