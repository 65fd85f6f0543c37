//! Backlog history: samples of the leader.

use bson::{Document, doc};
use dezky_shared::{
    id::TenantId,
    queue::backlog_peak::{BacklogPeak, interval_start},
};

use crate::{
    harness::{Harness, until},
    script::Lone,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_keeps_the_peak_of_each_interval() {
    let mut harness = Harness::new().await;
    harness.times.measure_every = std::time::Duration::from_millis(25);
    let jobs: Vec<String> = (0..5)
        .map(|_| format!("tenant:{}", TenantId::new()))
        .collect();
    harness.clone_for_lock_keys(&Lone { n: 1 }, &jobs).await;
    let store = &harness.context.store;
    let stored = store.collection::<Document>("jobs");
    let discarded = doc! { "$set": { "state": "discarded" } };
    stored.update_one(doc! {}, discarded).await.unwrap();
    let due = stored.count_documents(doc! { "state": "available" }).await;
    let due = i64::try_from(due.unwrap()).unwrap();
    let since = interval_start(store.now());
    let peaks = &harness.context.backlog_peaks;
    let sampled = async || peaks.list(since).await.unwrap().pop();

    let leader = harness.leader();
    let peak = until(async || sampled().await, Option::is_some)
        .await
        .unwrap();
    // A former peak of the interval, and a number that the next sample writes again.
    let higher = doc! { "$set": { "due.provisioning": due + 7 }, "$unset": { "discarded": "" } };
    let intervals = store.collection::<Document>("backlog_peaks");
    intervals.update_many(doc! {}, higher).await.unwrap();
    let again = until(
        async || sampled().await,
        |peak: &Option<BacklogPeak>| peak.as_ref().is_some_and(|peak| peak.discarded == 1),
    )
    .await
    .unwrap();
    leader.stop().await;

    assert_eq!(peak.due["provisioning"], due);
    assert_eq!(peak.due["dns"], 0);
    assert_eq!(peak.discarded, 1);
    assert!(again.due["provisioning"] >= due + 7 || again.start != peak.start);
    let expiry = intervals.find_one(doc! {}).await.unwrap().unwrap();
    assert!(expiry.get_datetime("expireAt").unwrap() > &store.now());
}
