//! A worker that stops lets what runs end, lets go of what does not end in time, and takes nothing new.

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
async fn a_running_job_may_end() {
    let harness = Harness::new().await;
    let script = Script::held([]);
    let worker = harness.worker_of("worker", registry(&script), 8);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    script.ran(1).await;

    worker.begin_stop();
    let late = harness.enqueue(&Lone { n: 2 }).await;
    script.let_go(1);
    worker.stop().await;

    assert_eq!(harness.job(job.id).await.state, JobState::Completed);
    let late = harness.job(late.id).await;
    assert_eq!((late.state, late.attempt), (JobState::Available, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_end_in_time_is_released_at_no_cost_and_taken_up_by_another_worker() {
    let mut harness = Harness::new().await;
    harness.times.drain = Duration::from_millis(200);
    let script = Script::held([]);
    let worker = harness.worker_of("worker", registry(&script), 8);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    script.ran(1).await;

    worker.stop().await;

    let released = harness.job(job.id).await;
    assert_eq!(
        (released.state, released.attempt, released.crashes),
        (JobState::Available, 0, 0)
    );
    assert!(released.lease.is_none() && released.run_at <= released.updated_at);
    assert_eq!(released.attempts[0].outcome, "release");
    assert_eq!(script.cut_off(), 1);
    script.let_go(1);
    let next = harness.worker_of("next", registry(&script), 8);
    let job = harness.finished(job.id).await;
    next.stop().await;
    assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_worker_stops_it_leaves_no_job_running() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let mut jobs = Vec::new();
    for n in 0..120 {
        jobs.push(harness.enqueue(&Lone { n }).await);
    }

    for pause in 0..30 {
        let done = script.runs().len();
        let worker = harness.worker_of("worker", registry(&script), 2);
        // At another moment of its rounds each time.
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
async fn a_worker_whose_slots_are_all_taken_stops_as_fast() {
    let harness = Harness::new().await;
    let script = Script::held([]);
    let worker = harness.worker_of("worker", registry(&script), 1);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    script.ran(1).await;

    worker.begin_stop();
    script.let_go(1);
    worker.stop().await;

    assert_eq!(harness.job(job.id).await.state, JobState::Completed);
}
