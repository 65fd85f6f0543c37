//! Time limits of attempts.

use std::time::Duration;

use dezky_shared::queue::{error_code::ErrorCode, job::JobState};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::Harness,
    script::{Lone, Script, Scripted},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_exceeds_its_time_limit_is_interrupted_and_charged() {
    let mut harness = Harness::new().await;
    harness.times.attempt_timeout = Duration::from_millis(300);
    let script = Script::new([Scripted::Hang]);
    let quick = Script::new([]);
    let steps = Steps::parallel()
        .step("slow", script.step())
        .step("quick", quick.step());
    let job = harness.enqueue(&Lone { n: 1 }).await;

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!((job.state, job.attempt), (JobState::Completed, 2));
    let outcomes: Vec<&str> = job
        .attempts
        .iter()
        .map(|attempt| attempt.outcome.as_str())
        .collect();
    assert_eq!(outcomes, ["timeout", "complete"]);
    assert_eq!(
        (
            script.interrupted(),
            script.runs().len(),
            quick.runs().len()
        ),
        (1, 2, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_always_exceeds_its_time_limit_runs_out_of_attempts() {
    let mut harness = Harness::new().await;
    harness.times.attempt_timeout = Duration::from_millis(100);
    let script = Script::new((0..3).map(|_| Scripted::Hang));
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    harness
        .edit_job(job.id, bson::doc! { "maxAttempts": 2 })
        .await;

    let steps = Steps::parallel().step("slow", script.step());
    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!((job.state, job.attempt), (JobState::Discarded, 2));
    assert_eq!(job.error.unwrap().code, ErrorCode::AttemptTimedOut);
}
