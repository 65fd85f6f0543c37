//! Subscription snapshots: one per tenant and month, across crashes.

use std::collections::BTreeSet;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    billing::{Plan, month::Month},
    id::{PartnerId, SnapshotId, SubscriptionId, TenantId},
    queue::{
        args::SnapshotSubscriptions,
        job::{Job, JobState},
    },
    subscription_snapshot::SubscriptionSnapshot,
    tenant::Tenant,
};
use futures::TryStreamExt as _;

use crate::harness::Harness;

/// Subscribes `tenant` to five seats.
async fn subscribe(harness: &Harness, tenant: TenantId, status: &str, currency: &str) {
    let now = harness.context.store.now();
    let subscription = doc! {
        "_id": SubscriptionId::new(), "tenantId": tenant, "plan": "business", "cycle": "yearly", "seats": 5,
        "currency": currency, "priceMinor": 120_000_i64, "status": status, "revision": 1_i64, "createdAt": now,
        "updatedAt": now,
    };
    let subscriptions = harness.context.store.collection("subscriptions");
    subscriptions.insert_one(subscription).await.unwrap();
}

async fn set_tenant(harness: &Harness, tenant: &Tenant, set: Document) {
    let tenants = harness.context.store.collection::<Document>("tenants");
    tenants
        .update_one(doc! { "_id": tenant.id }, doc! { "$set": set })
        .await
        .unwrap();
}

/// All snapshots, ordered by id.
async fn snapshots(harness: &Harness) -> Vec<SubscriptionSnapshot> {
    let snapshots = harness.context.store.collection("subscription_snapshots");
    let found = snapshots.find(doc! {}).sort(doc! { "_id": 1 }).await;
    found.unwrap().try_collect().await.unwrap()
}

/// The current month.
fn this_month(harness: &Harness) -> Month {
    Month::of(harness.context.store.now())
}

async fn take(harness: &Harness, month: Month) -> Job {
    let job = harness.enqueue(&SnapshotSubscriptions { month }).await;
    let job = harness.finished(job.id).await;
    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_a_snapshot_with_its_active_subscription() {
    let harness = Harness::new().await;
    let paying = harness.add_tenant("paying", &[]).await;
    let owing = harness.add_tenant("owing", &[]).await;
    let gone = harness.add_tenant("gone", &[]).await;
    let partner = PartnerId::new();
    subscribe(&harness, paying.id, "cancelled", "EUR").await;
    subscribe(&harness, paying.id, "active", "DKK").await;
    subscribe(&harness, owing.id, "past_due", "EUR").await;
    subscribe(&harness, gone.id, "cancelled", "EUR").await;
    set_tenant(&harness, &paying, doc! { "partnerId": partner }).await;
    set_tenant(&harness, &gone, doc! { "status": "terminated" }).await;
    let month = this_month(&harness);
    let worker = harness.worker();

    let job = take(&harness, month).await;
    worker.stop().await;

    let found = snapshots(&harness).await;
    let tenants: Vec<TenantId> = found.iter().map(|snapshot| snapshot.tenant_id).collect();
    assert_eq!(tenants, [paying.id, owing.id, gone.id]);
    assert!(found.iter().all(|snapshot| snapshot.month == month));
    let stored = serde_json::to_value(&found).unwrap();
    assert_eq!(stored[0]["partnerId"], partner.to_string());
    assert_eq!(stored[0]["subscription"]["currency"], "DKK");
    assert_eq!(stored[0]["subscription"]["cycle"], "yearly");
    assert_eq!(stored[0]["subscription"]["seats"], 5);
    assert_eq!(stored[0]["subscription"]["priceMinor"], 120_000);
    assert_eq!(stored[1]["subscription"]["status"], "past_due");
    assert_eq!(stored[2]["tenantStatus"], "terminated");
    assert_eq!(found[2].subscription, None);
    let progress = job.progress.unwrap();
    assert_eq!((progress.done, progress.total), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_a_subscription_of_a_newer_build_is_left_to_it_and_stops_no_other() {
    let harness = Harness::new().await;
    let newer = harness.add_tenant("newer", &[]).await;
    let paying = harness.add_tenant("paying", &[]).await;
    for tenant in [&newer, &paying] {
        subscribe(&harness, tenant.id, "active", "DKK").await;
    }
    let subscriptions = harness
        .context
        .store
        .collection::<Document>("subscriptions");
    let cycle = doc! { "$set": { "cycle": "of_the_next_release" } };
    subscriptions
        .update_one(doc! { "tenantId": newer.id }, cycle)
        .await
        .unwrap();
    let worker = harness.worker();

    take(&harness, this_month(&harness)).await;
    worker.stop().await;

    let found = snapshots(&harness).await;
    let tenants: Vec<TenantId> = found.iter().map(|snapshot| snapshot.tenant_id).collect();
    assert_eq!(tenants, [paying.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_month_is_replaced_and_other_months_are_kept() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("tenant", &[]).await;
    subscribe(&harness, tenant.id, "active", "DKK").await;
    let month = this_month(&harness);
    let worker = harness.worker();
    take(&harness, month).await;
    let before = snapshots(&harness).await.remove(0);
    let collection = harness
        .context
        .store
        .collection::<Document>("subscription_snapshots");
    let mut kept = bson::serialize_to_document(&before).unwrap();
    kept.extend(doc! { "_id": tenant.id, "month": "2020-01" });
    collection.insert_one(&kept).await.unwrap();

    let cancelled = doc! { "$set": { "status": "cancelled" } };
    let subscriptions = harness
        .context
        .store
        .collection::<Document>("subscriptions");
    subscriptions.update_one(doc! {}, cancelled).await.unwrap();
    set_tenant(&harness, &tenant, doc! { "plan": "enterprise" }).await;
    take(&harness, month).await;
    worker.stop().await;

    let found = snapshots(&harness).await;
    assert_eq!(found.len(), 2);
    let now = found
        .iter()
        .find(|snapshot| snapshot.month == month)
        .unwrap();
    assert_eq!(now.id, before.id);
    assert_eq!(now.plan, Plan::Enterprise);
    assert_eq!(now.subscription, None);
    assert!(now.taken_at >= before.taken_at);
    let past = doc! { "month": "2020-01" };
    assert_eq!(collection.find_one(past).await.unwrap(), Some(kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_run_adds_missing_snapshots_and_replaces_none() {
    let harness = Harness::new().await;
    let known = harness.add_tenant("known", &[]).await;
    let month: Month = "2020-01".parse().unwrap();
    let long_ago = doc! { "createdAt": DateTime::from_millis(0) };
    set_tenant(&harness, &known, long_ago.clone()).await;
    let worker = harness.worker();
    take(&harness, month).await;
    let missed = harness.add_tenant("missed", &[]).await;
    let newer = harness.add_tenant("newer", &[]).await;
    set_tenant(&harness, &missed, long_ago).await;
    set_tenant(&harness, &known, doc! { "plan": "enterprise" }).await;

    take(&harness, month).await;
    worker.stop().await;

    let found = snapshots(&harness).await;
    let tenants: Vec<TenantId> = found.iter().map(|snapshot| snapshot.tenant_id).collect();
    assert_eq!(tenants, [known.id, missed.id]);
    assert_eq!(found[0].plan, Plan::Business);
    assert!(!tenants.contains(&newer.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_continues_at_its_cursor_after_a_crash_without_duplicates() {
    let harness = Harness::new().await;
    let first = harness.add_tenant("tenant", &[]).await;
    let tenants = harness.context.store.collection::<Document>("tenants");
    let like = tenants.find_one(doc! { "_id": first.id }).await.unwrap();
    let others = (1..1_500).map(|n| {
        let mut other = like.clone().unwrap();
        other.insert("_id", TenantId::new());
        other.insert("slug", format!("tenant-{n}"));
        other
    });
    tenants.insert_many(others).await.unwrap();
    let month = this_month(&harness);
    let refuse = |validator: Document| doc! { "collMod": "jobs", "validator": validator };
    let database = harness.context.store.database();
    let job = harness
        .enqueue_unannounced(&SnapshotSubscriptions { month })
        .await;
    // The first batch is written, but its cursor is not saved.
    let unreported = doc! { "progress": { "$exists": false } };
    database.run_command(refuse(unreported)).await.unwrap();

    let worker = harness.worker();
    harness
        .job_until(job.id, |job| !job.attempts.is_empty())
        .await;
    let half = snapshots(&harness).await;
    database.run_command(refuse(doc! {})).await.unwrap();
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    assert_eq!(half.len(), 1_000);
    let all = snapshots(&harness).await;
    let of: BTreeSet<TenantId> = all.iter().map(|snapshot| snapshot.tenant_id).collect();
    assert_eq!((all.len(), of.len()), (1_500, 1_500));
    assert_eq!(job.progress.unwrap().done, 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_the_end_of_a_month_is_not_replaced_by_older_or_later_state() {
    let harness = Harness::new().await;
    harness.add_tenant("tenant", &[]).await;
    let worker = harness.worker();
    take(&harness, this_month(&harness)).await;
    worker.stop().await;
    let like = snapshots(&harness).await.remove(0);
    let taken = async |at: &str, n: i32| {
        let mut snapshot = like.clone();
        snapshot.id = SnapshotId::deterministic(like.tenant_id, "2020-11");
        snapshot.month = "2020-11".parse().unwrap();
        snapshot.taken_at = DateTime::parse_rfc3339_str(at).unwrap();
        snapshot.slug = format!("tenant-{n}");
        harness.context.snapshots.renew(&[snapshot]).await.unwrap();
        let mut all = snapshots(&harness).await.into_iter();
        all.find(|it| it.month < like.month).unwrap().slug
    };

    assert_eq!(taken("2020-11-20T00:10:00Z", 1).await, "tenant-1");
    assert_eq!(taken("2020-11-22T00:10:00Z", 2).await, "tenant-2");
    assert_eq!(taken("2020-11-21T00:10:00Z", 3).await, "tenant-2");
    assert_eq!(taken("2020-12-01T00:10:00Z", 4).await, "tenant-4");
    assert_eq!(taken("2020-12-01T08:00:00Z", 5).await, "tenant-4");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_tenant_is_skipped_and_does_not_block_others() {
    let harness = Harness::new().await;
    let broken = harness.add_tenant("broken", &[]).await;
    let whole = harness.add_tenant("whole", &[]).await;
    set_tenant(&harness, &broken, doc! { "plan": 7 }).await;
    let worker = harness.worker();

    take(&harness, this_month(&harness)).await;
    worker.stop().await;

    let found = snapshots(&harness).await;
    let tenants: Vec<TenantId> = found.iter().map(|snapshot| snapshot.tenant_id).collect();
    assert_eq!(tenants, [whole.id]);
}
