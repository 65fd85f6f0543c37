//! MongoDB outages.

use std::time::Duration;

use dezky_shared::{queue::job::JobState, tenant::TenantStatus, upstream::Upstream};
use dezky_sim::stores::Mongo;
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Joining, Lone, Script},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_mongodb_loses_no_job() {
    let directory = tempfile::tempdir().unwrap();
    let mut mongo = Mongo::start(directory.path()).await.unwrap();
    let harness = Harness::on_mongodb(&mongo).await;
    let script = Script::blocking([]);
    let steps = Upstream::ALL
        .into_iter()
        .fold(Steps::parallel(), |steps, upstream| {
            steps.upstream(upstream, script.step())
        });
    let mut jobs = Vec::new();
    for n in 0..12 {
        let tenant = harness.add_tenant(&format!("acme-{n}"), &[]).await;
        let args = Joining::of(&tenant);
        jobs.push((harness.enqueue(&args).await, tenant));
    }
    let worker = harness.worker_of("worker", Registry::default().register::<Joining>(steps), 8);
    script.until_runs(24).await;

    // Some jobs are claimed, some are being written, some are available.
    script.release(10);
    mongo.kill().await;
    script.release(200);
    mongo.restart().await.unwrap();
    for (job, tenant) in &jobs {
        let job = harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Completed, "{job:#?}");
        let tenant = harness.tenant(tenant.id).await;
        assert_eq!(tenant.status, TenantStatus::Active);
    }
    worker.stop().await;
    harness.context.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_settle_still_stops_and_its_job_is_rescued() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    harness.times.drain = Duration::from_millis(200);
    harness.times.bulk_deadline = Duration::from_millis(300);
    let proxy = harness.proxy().await;
    let script = Script::blocking([]);
    let registry =
        || Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let worker = harness.worker_through(&proxy, registry(), 8).await;
    script.until_runs(1).await;

    proxy.hold();
    worker.stop().await;
    until(async || script.interrupted(), |cut_off| *cut_off == 1).await;
    script.release(1);
    let next = harness.worker_of("next", registry(), 8);
    let job = harness.finished(job.id).await;
    next.stop().await;

    assert_eq!(job.state, JobState::Completed);
    assert_eq!(job.attempts[0].outcome, "rescue");
}
