//! Leases: a worker that lost the lease of a job writes nothing.

use std::time::Duration;

use bson::doc;
use dezky_shared::{id::LeaseToken, platform::clock, queue::job::JobState, upstream::Upstream};
use dezky_worker::{
    engine::EngineTimings,
    steps::{Registry, Steps},
};
use futures::FutureExt as _;

use crate::{
    harness::{Harness, until},
    script::{Lone, Script, Single},
};

fn registry(script: &Script) -> Registry {
    Registry::default()
        .register::<Single>(Steps::parallel().upstream(Upstream::Authentik, script.step()))
        .register::<Lone>(Steps::parallel().step("work", script.step()))
}

/// Leases so long that no renewal detects a lost lease.
fn slow() -> EngineTimings {
    EngineTimings {
        pop_block: Duration::from_millis(100),
        drain: Duration::from_secs(5),
        ..EngineTimings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_ends_after_its_lease_was_lost_writes_neither_job_nor_tenant() {
    let mut harness = Harness::new().await;
    harness.times = slow();
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Single::of(&tenant)).await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.until_runs(1).await;
    let thief = harness.steal_lease(job.id).await;
    let before = harness.stored_job(job.id).await;

    script.release(1);
    worker.stop().await;

    assert_eq!(harness.stored_job(job.id).await, before);
    assert_eq!(harness.job(job.id).await.lease.unwrap().token, thief);
    assert_eq!(harness.tenant(tenant.id).await, tenant);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_after_the_lease_was_lost_matches_nothing() {
    let mut harness = Harness::new().await;
    harness.times = slow();
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.until_runs(1).await;
    harness.steal_lease(job.id).await;
    let before = harness.stored_job(job.id).await;

    script.release(1);
    worker.stop().await;

    assert_eq!(harness.stored_job(job.id).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_record_conflicts_with_an_uncommitted_change_of_its_lease() {
    let mut harness = Harness::new().await;
    harness.times = slow();
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Single::of(&tenant)).await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.until_runs(1).await;
    // Uncommitted: a mere read of the token would return the old one without a conflict.
    let jobs = harness.jobs();
    let taking = harness
        .open(move |session| {
            let jobs = jobs.clone();
            async move {
                let taken = doc! { "$set": { "lease.token": LeaseToken::new() } };
                jobs.update_one(doc! { "_id": job.id }, taken)
                    .session(session)
                    .await?;
                Ok(())
            }
            .boxed()
        })
        .await;

    script.release(1);
    until(async || script.running(), |running| *running == 0).await;
    // Long enough for an unblocked write; a blocked one has no time limit.
    tokio::time::sleep(Duration::from_millis(300)).await;
    taking.commit().await;
    worker.stop().await;

    assert_eq!(harness.tenant(tenant.id).await, tenant);
    assert_eq!(harness.job(job.id).await.state, JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_cancelled_when_its_lease_is_lost() {
    let harness = Harness::new().await;
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.until_runs(1).await;
    let far = clock::later(harness.context.store.now(), Duration::from_mins(10));
    harness
        .edit_job(
            job.id,
            doc! { "lease.token": LeaseToken::new(), "lease.until": far },
        )
        .await;

    until(async || script.interrupted(), |cut_off| *cut_off == 1).await;
    worker.stop().await;

    assert_eq!(harness.job(job.id).await.state, JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_not_renew_leases_of_another_worker_with_the_same_name() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    let orphan = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let until = clock::later(harness.context.store.now(), Duration::from_secs(2));
    let lease = doc! { "token": LeaseToken::new(), "worker": "twin", "until": until };
    harness
        .edit_job(
            orphan.id,
            doc! { "state": "running", "attempt": 1, "lease": lease },
        )
        .await;
    let own = harness.enqueue(&Lone { n: 2 }).await;
    let script = Script::blocking([]);

    let worker = harness.worker_of("twin", registry(&script), 8);
    script.until_runs(1).await;
    let began = harness.job(own.id).await;
    // When the other worker's lease is rescued, its own has outlived its initial term.
    harness
        .job_until(orphan.id, |job| job.rescued || job.state.is_final())
        .await;
    let renewed = harness
        .job_until(own.id, |job| {
            let lease = job.lease.as_ref().unwrap();
            lease.until.timestamp_millis()
                > began.lease.as_ref().unwrap().until.timestamp_millis() + 3_000
        })
        .await;
    script.release(2);
    harness.finished(own.id).await;
    harness.finished(orphan.id).await;
    worker.stop().await;

    assert_eq!(
        renewed.revision, began.revision,
        "a renewal does not count as an update"
    );
    assert!(renewed.lease.unwrap().started_at.is_some());
    assert_eq!(renewed.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_locked_by_an_open_transaction_does_not_block_other_renewals() {
    let mut harness = Harness::new().await;
    harness.times.bulk_deadline = Duration::from_millis(200);
    let script = Script::blocking([]);
    let (held, other) = (
        harness.enqueue(&Lone { n: 1 }).await,
        harness.enqueue(&Lone { n: 2 }).await,
    );
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.until_runs(2).await;
    let open = harness.hold(&[held.id]).await;
    let began = harness.job(other.id).await.lease.unwrap().until;

    let span = 2 * i64::try_from(harness.times.renew_every.as_millis()).unwrap();
    harness
        .job_until(other.id, |job| {
            let until = job.lease.as_ref().unwrap().until;
            until.timestamp_millis() >= began.timestamp_millis() + span
        })
        .await;
    open.commit().await;
    script.release(2);
    harness.finished(held.id).await;
    harness.finished(other.id).await;
    worker.stop().await;

    assert_eq!(script.runs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_renew_starts_no_write_and_releases_the_job_uncharged() {
    let mut harness = Harness::new().await;
    harness.times.rescue_grace = Duration::from_secs(30);
    harness.times.lease = Duration::from_secs(3);
    let proxy = harness.proxy().await;
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::blocking([]);
    let worker = harness.worker_through(&proxy, registry(&script), 8).await;
    let deadline = script.until_runs(1).await[0].deadline.clone();
    assert!(deadline.write_timeout(Duration::from_secs(1)).is_some());

    proxy.hold();
    until(
        async || deadline.write_timeout(Duration::from_secs(10)),
        Option::is_none,
    )
    .await;
    let cancelled_early = script.interrupted();
    until(async || script.interrupted(), |cut_off| *cut_off == 1).await;
    let lease = harness.job(job.id).await.lease.unwrap();
    let now = harness.context.store.now();
    proxy.mend();
    let released = harness
        .job_until(job.id, |job| !job.attempts.is_empty())
        .await;
    script.release(1);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(cancelled_early, 0, "writes end before the handler");
    assert!(
        now <= lease.until,
        "the write deadline is before the lease expires"
    );
    assert_eq!(released.attempts[0].outcome, "release");
    assert_eq!(
        (job.attempt, job.crashes, job.state),
        (1, 0, JobState::Completed)
    );
}
