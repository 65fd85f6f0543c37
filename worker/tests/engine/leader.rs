//! Leader election: one leader at a time, and harmless overlap.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{platform::clock, queue::job::JobState};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Lone, Script},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_resigns_before_its_lease_expires() {
    let mut harness = Harness::new().await;
    harness.times.leader_lease = Duration::from_mins(10);
    let leaders = harness.context.store.collection::<Document>("leader");
    let first = harness.leader();
    let before = harness.until_leader().await;

    let second = harness.leader();
    first.stop().await;
    let after = until(
        async || leaders.find_one(doc! {}).await.unwrap().unwrap(),
        |leader| leader.get_i64("term").unwrap() == 2,
    )
    .await;
    second.stop().await;

    assert_eq!(before.get_i64("term").unwrap(), 1);
    assert!(after.get_datetime("until").unwrap() > before.get_datetime("until").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_leader_is_replaced_when_its_lease_expires() {
    let harness = Harness::new().await;
    let leaders = harness.context.store.collection::<Document>("leader");
    let crashing = harness.crashable_worker(Registry::default(), 1);
    harness.until_leader().await;
    crashing.crash();

    let next = harness.leader();
    until(
        async || leaders.find_one(doc! {}).await.unwrap().unwrap(),
        |leader| leader.get_str("holder").unwrap() == "leader",
    )
    .await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_leaders_do_no_harm() {
    let mut harness = Harness::new().await;
    harness.times.rescue_grace = Duration::ZERO;
    harness.times.leader_renew_every = Duration::from_millis(500);
    let leaders = harness.context.store.collection::<Document>("leader");
    let script = Script::new([]);
    let registry =
        || Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let workers = ["one", "two"].map(|name| harness.worker_of(name, registry(), 4));
    harness.until_leader().await;

    // The old leader is unaware for a while; the other is elected immediately.
    let depose = async || {
        let over = clock::earlier(harness.context.store.now(), Duration::from_secs(1));
        let deposed = leaders.find_one_and_update(doc! {}, doc! { "$set": { "until": over } });
        deposed.await.unwrap().unwrap().get_i64("term").unwrap()
    };
    let mut jobs = Vec::new();
    for n in 0..40 {
        depose().await;
        let lost = harness.add_orphan(&Lone { n }, true).await;
        let silent = harness.enqueue_unannounced(&Lone { n }).await;
        jobs.extend([(lost, 1), (silent, 0)]);
    }
    until(depose, |terms| *terms > 1).await;
    for (job, rescues) in &jobs {
        let job = harness.finished(job.id).await;
        assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
        let rescued = job
            .attempts
            .iter()
            .filter(|attempt| attempt.outcome == "rescue")
            .count();
        assert_eq!(rescued, *rescues);
    }
    for worker in workers {
        worker.stop().await;
    }

    assert_eq!(script.runs().len(), 80);
}
