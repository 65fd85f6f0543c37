//! Who has lost the lease of a job can write nothing.

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

/// Leases so long that nothing is noticed by renewing.
fn slow() -> EngineTimings {
    EngineTimings {
        pop_block: Duration::from_millis(100),
        drain: Duration::from_secs(5),
        ..EngineTimings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_ends_after_its_lease_was_taken_writes_neither_job_nor_tenant() {
    let mut harness = Harness::new().await;
    harness.times = slow();
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Single {
            tenant_id: tenant.id,
        })
        .await;
    let script = Script::held([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.ran(1).await;
    let thief = harness.steal(job.id).await;
    let before = harness.document(job.id).await;

    script.let_go(1);
    worker.stop().await;

    assert_eq!(harness.document(job.id).await, before);
    assert_eq!(harness.job(job.id).await.lease.unwrap().token, thief);
    assert_eq!(harness.tenant(tenant.id).await, tenant);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_after_the_lease_was_taken_matches_nothing() {
    let mut harness = Harness::new().await;
    harness.times = slow();
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::held([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.ran(1).await;
    harness.steal(job.id).await;
    let before = harness.document(job.id).await;

    script.let_go(1);
    worker.stop().await;

    assert_eq!(harness.document(job.id).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_ends_while_its_lease_is_being_taken_does_not_slip_through() {
    let mut harness = Harness::new().await;
    harness.times = slow();
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .enqueue(&Single {
            tenant_id: tenant.id,
        })
        .await;
    let script = Script::held([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.ran(1).await;
    // Not committed: whoever only reads the token finds the old one, and conflicts with nobody.
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

    script.let_go(1);
    until(async || script.inside(), |inside| *inside == 0).await;
    // Long enough for a write that nothing stops; one that is stopped may take as long as it likes.
    tokio::time::sleep(Duration::from_millis(300)).await;
    taking.commit().await;
    worker.stop().await;

    assert_eq!(harness.tenant(tenant.id).await, tenant);
    assert_eq!(harness.job(job.id).await.state, JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_cancelled_once_its_lease_is_found_to_be_lost() {
    let harness = Harness::new().await;
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::held([]);
    let worker = harness.worker_of("dead", registry(&script), 8);
    script.ran(1).await;
    let far = clock::later(harness.context.store.now(), Duration::from_mins(10));
    harness
        .edit_job(
            job.id,
            doc! { "lease.token": LeaseToken::new(), "lease.until": far },
        )
        .await;

    until(async || script.cut_off(), |cut_off| *cut_off == 1).await;
    worker.stop().await;

    assert_eq!(harness.job(job.id).await.state, JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_renews_its_own_leases_and_not_those_of_its_namesake() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    let orphan = harness.enqueue_silently(&Lone { n: 1 }).await;
    let until = clock::later(harness.context.store.now(), Duration::from_secs(2));
    let lease = doc! { "token": LeaseToken::new(), "worker": "twin", "until": until };
    harness
        .edit_job(
            orphan.id,
            doc! { "state": "running", "attempt": 1, "lease": lease },
        )
        .await;
    let own = harness.enqueue(&Lone { n: 2 }).await;
    let script = Script::held([]);

    let worker = harness.worker_of("twin", registry(&script), 8);
    script.ran(1).await;
    let began = harness.job(own.id).await;
    // Once the namesake's is rescued, its own has outlived the span that it was claimed for.
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
    script.let_go(2);
    harness.finished(own.id).await;
    harness.finished(orphan.id).await;
    worker.stop().await;

    assert_eq!(
        renewed.revision, began.revision,
        "a renewal is nothing that a person would want to see"
    );
    assert!(renewed.lease.unwrap().started_at.is_some());
    assert_eq!(renewed.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_held_by_an_open_transaction_does_not_keep_others_from_being_renewed() {
    let mut harness = Harness::new().await;
    harness.times.bulk_deadline = Duration::from_millis(200);
    let script = Script::held([]);
    let (held, other) = (
        harness.enqueue(&Lone { n: 1 }).await,
        harness.enqueue(&Lone { n: 2 }).await,
    );
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.ran(2).await;
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
    script.let_go(2);
    harness.finished(held.id).await;
    harness.finished(other.id).await;
    worker.stop().await;

    assert_eq!(script.runs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_renew_begins_no_write_lets_go_and_is_charged_nothing() {
    let mut harness = Harness::new().await;
    harness.times.rescue_grace = Duration::from_secs(30);
    harness.times.lease = Duration::from_secs(3);
    let proxy = harness.proxy().await;
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::held([]);
    let worker = harness.worker_behind(&proxy, registry(&script), 8).await;
    let trust = script.ran(1).await[0].trust.clone();
    assert!(trust.write_timeout(Duration::from_secs(1)).is_some());

    proxy.hold();
    until(
        async || trust.write_timeout(Duration::from_secs(10)),
        Option::is_none,
    )
    .await;
    let cancelled_early = script.cut_off();
    until(async || script.cut_off(), |cut_off| *cut_off == 1).await;
    let lease = harness.job(job.id).await.lease.unwrap();
    let now = harness.context.store.now();
    proxy.mend();
    let released = harness
        .job_until(job.id, |job| !job.attempts.is_empty())
        .await;
    script.let_go(1);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(cancelled_early, 0, "writes end before the handler does");
    assert!(now <= lease.until, "trust ends before the lease");
    assert_eq!(released.attempts[0].outcome, "release");
    assert_eq!(
        (job.attempt, job.crashes, job.state),
        (1, 0, JobState::Completed)
    );
}
