//! Audit retention: expired events are deleted oldest first, and the rest stays verifiable.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use dezky_shared::{id::TenantId, platform::clock, queue::args::TrimAudit};

use crate::harness::{Harness, until};

/// A time before the retention period.
fn long_ago(harness: &Harness) -> DateTime {
    let now = harness.context.store.now();
    clock::earlier(now, Duration::from_hours(731 * 24))
}

/// Runs the retention job, with a leader that seals.
async fn trim(harness: &Harness) -> Vec<String> {
    let worker = harness.worker();
    let job = harness.enqueue(&TrimAudit {}).await;
    let job = harness.finished(job.id).await;
    worker.stop().await;
    job.steps[0].changes.clone()
}

async fn seal(harness: &Harness, trail: Option<TenantId>) {
    while harness.context.audit.seal(&[trail]).await.unwrap() != Some(Vec::new()) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_events_are_deleted_and_the_rest_of_each_chain_is_valid() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    let acme = Some(TenantId::new());
    for (trail, old, new) in [(acme, 1_200, 3), (None, 2, 0)] {
        harness.record_events(trail, old, long_ago(&harness)).await;
        seal(&harness, trail).await;
        harness.record_events(trail, new, now).await;
        seal(&harness, trail).await;
    }

    let first = trim(&harness).await;
    let again = trim(&harness).await;

    assert_eq!(first, ["1202 audit events deleted"]);
    assert!(again.is_empty());
    let of_acme = harness.verify(acme).await;
    assert_eq!(of_acme.problems, []);
    assert_eq!((of_acme.checked, of_acme.first_seq), (3, Some(1_201)));
    assert_eq!(of_acme.chain.anchor.seq, 1_200);
    let of_platform = harness.verify(None).await;
    assert_eq!(of_platform.problems, []);
    assert_eq!(of_platform.chain.anchor, of_platform.chain.head);
    harness.record_events(None, 1, now).await;
    seal(&harness, None).await;
    assert_eq!(harness.verify(None).await.problems, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsealed_events_are_kept_at_any_age() {
    let harness = Harness::new().await;
    harness.record_events(None, 3, long_ago(&harness)).await;
    let audit = &harness.context.audit;

    let now = harness.context.store.now();
    let trimmed = audit.trim(None, now, 500).await.unwrap();

    assert_eq!(trimmed, dezky_shared::store::audit::Trimmed::Nothing);
    assert_eq!(audit.backlog().await.unwrap().events, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_event_after_a_kept_one_is_kept() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    for at in [long_ago(&harness), now, long_ago(&harness)] {
        harness.record_events(None, 1, at).await;
        seal(&harness, None).await;
    }

    trim(&harness).await;

    let found = harness.verify(None).await;
    assert_eq!(found.problems, []);
    assert_eq!((found.first_seq, found.last_seq), (Some(2), Some(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_tampered_with_is_not_trimmed() {
    let harness = Harness::new().await;
    let id = TenantId::new();
    let acme = Some(id);
    for trail in [acme, None] {
        harness.record_events(trail, 5, long_ago(&harness)).await;
        seal(&harness, trail).await;
    }
    let events = harness.context.store.collection::<Document>("audit_events");
    let third = doc! { "tenantId": acme, "seq": 3_i64 };
    let set = doc! { "$set": { "target.name": "x" } };
    events.update_one(third, set).await.unwrap();

    let deleted = trim(&harness).await;

    let kept = format!("audit trail {id} kept: event 3 differs from its seal");
    assert_eq!(deleted, ["7 audit events deleted", &kept]);
    let found = harness.verify(acme).await;
    assert_eq!((found.first_seq, found.problems.len()), (Some(3), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_trail_with_many_expired_events_does_not_delay_others() {
    let harness = Harness::new().await;
    let acme = Some(TenantId::new());
    harness.record_events(acme, 1_100, long_ago(&harness)).await;
    seal(&harness, acme).await;
    harness.record_events(None, 3, long_ago(&harness)).await;
    seal(&harness, None).await;
    let events = harness.context.store.collection::<Document>("audit_events");
    let first = doc! { "tenantId": acme, "seq": 1_i64 };
    let set = doc! { "$set": { "target.name": "x" } };
    events.update_one(first, set).await.unwrap();

    let changes = trim(&harness).await;

    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(changes[0], "3 audit events deleted");
    assert_eq!(harness.verify(acme).await.first_seq, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_tolerates_concurrent_sealing_and_retention() {
    let harness = Harness::new().await;
    harness.record_events(None, 2_500, long_ago(&harness)).await;
    seal(&harness, None).await;
    let audit = &harness.context.audit;
    let chain = audit.find_chain(None).await.unwrap();

    // As if both happened right after the verification started.
    let now = harness.context.store.now();
    audit.trim(None, now, 500).await.unwrap();
    harness.record_events(None, 2, now).await;
    seal(&harness, None).await;
    let found = audit.verify(chain).await.unwrap();

    assert_eq!(found.problems, []);
    assert_eq!((found.checked, found.first_seq), (2_000, Some(501)));
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_is_scheduled_every_night() {
    let mut harness = Harness::new().await;
    let schedules = dezky_shared::queue::schedule_registry::all().unwrap();
    let nightly = schedules.into_iter().find(|it| it.name == "trim_audit");
    harness.schedules = nightly.into_iter().collect();
    let ledger = &harness.context.schedules;
    let seen = clock::earlier(harness.context.store.now(), Duration::from_hours(25));
    ledger.run_due(&harness.schedules[0], seen).await.unwrap();

    let worker = harness.worker();
    let trimmed = doc! { "kind": "trim_audit", "state": "completed" };
    until(
        async || harness.jobs().find_one(trimmed.clone()).await.unwrap(),
        Option::is_some,
    )
    .await;
    worker.stop().await;
}
