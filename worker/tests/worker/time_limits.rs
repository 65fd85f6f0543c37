//! An attempt takes only so long.

use std::time::Duration;

use dezky_shared::queue::{error_code::ErrorCode, job::JobState};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::Harness,
    script::{Lone, Say, Script},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_takes_too_long_is_cut_off_and_charged() {
    let mut harness = Harness::new().await;
    harness.times.attempt_timeout = Duration::from_millis(300);
    let script = Script::new([Say::Hang]);
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
        (script.cut_off(), script.runs().len(), quick.runs().len()),
        (1, 2, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_always_takes_too_long_runs_out_of_attempts() {
    let mut harness = Harness::new().await;
    harness.times.attempt_timeout = Duration::from_millis(100);
    let script = Script::new((0..3).map(|_| Say::Hang));
    let job = harness.enqueue_silently(&Lone { n: 1 }).await;
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
