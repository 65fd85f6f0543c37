//! Rolling deploys: jobs of a newer build do not disturb a worker of an older one.

use std::time::Duration;

use bson::doc;
use dezky_shared::queue::job::JobState;
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::Harness,
    script::{Lone, Script, Single},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_unknown_kind_waits_for_a_newer_worker() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::new([]);
    let job = harness.enqueue(&Single::of(&tenant)).await;

    let older = harness.worker_of("older", Registry::default(), 8);
    let waiting = harness.job_until(job.id, |job| job.snoozes > 0).await;
    let steps = Steps::parallel().step("work", script.step());
    let newer = harness.worker_of("newer", Registry::default().register::<Single>(steps), 8);
    let done = harness.finished(job.id).await;
    older.stop().await;
    newer.stop().await;

    assert_eq!(waiting.state, JobState::Available);
    assert_eq!((waiting.attempt, waiting.error), (0, None));
    assert!(waiting.run_at > waiting.updated_at);
    assert_eq!((done.state, done.attempt), (JobState::Completed, 1));
    assert_eq!(script.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_job_does_not_block_others() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let left = harness.add_orphan(&Lone { n: 1 }, true).await;
    let stranger = harness.add_orphan(&Lone { n: 2 }, true).await;
    let unclaimed = harness.enqueue_unannounced(&Lone { n: 3 }).await;
    let unknown = doc! { "error": { "code": "of_the_next_release" } };
    for job in [&stranger, &unclaimed] {
        harness.edit_job(job.id, unknown.clone()).await;
    }
    let waiting = harness.enqueue_unannounced(&Lone { n: 4 }).await;

    let steps = Steps::parallel().step("work", script.step());
    let registry = Registry::default().register::<Lone>(steps);
    let worker = harness.worker_of("worker", registry, 8);
    let others = [
        harness.finished(left.id).await,
        harness.finished(waiting.id).await,
    ];
    worker.stop().await;

    assert!(others.iter().all(|job| job.state == JobState::Completed));
    for job in [stranger, unclaimed] {
        let stored = harness.stored_job(job.id).await;
        assert_eq!(stored.get_str("state").unwrap(), "running");
    }
}
