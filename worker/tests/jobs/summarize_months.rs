//! Adding up of the monthly snapshots: once for each month, in order, whatever is late, repeated or killed.

use std::collections::BTreeMap;

use bson::{Document, doc};
use dezky_shared::{
    billing::{Cycle, Plan, month::Month},
    billing_totals::Scope,
    id::{PartnerId, SnapshotId, SubscriptionId, TenantId},
    queue::{
        args::{SnapshotSubscriptions, SummarizeMonths},
        job::{Job, JobState},
    },
    report::{MonthBuilder, Movements, ReportMonth},
    store::report_months::Part,
    subscription::SubscriptionStatus,
    subscription_snapshot::{SubscriptionSnapshot, SubscriptionTerms},
    tenant::TenantStatus,
};
use futures::TryStreamExt as _;

use crate::harness::{Harness, until};

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

/// Stores the snapshot of a tenant that pays this price a year in DKK.
async fn snapshot(
    harness: &Harness,
    tenant: TenantId,
    of: &str,
    price_minor: i64,
    partner_id: Option<PartnerId>,
) {
    let of = month(of);
    let snapshot = SubscriptionSnapshot {
        id: SnapshotId::deterministic(tenant, &of.to_string()),
        month: of,
        tenant_id: tenant,
        slug: "tenant".to_owned(),
        tenant_status: TenantStatus::Active,
        plan: Plan::Business,
        partner_id,
        subscription: Some(SubscriptionTerms {
            id: SubscriptionId::new(),
            status: SubscriptionStatus::Active,
            plan: Plan::Business,
            cycle: Cycle::Yearly,
            seats: 5,
            currency: "DKK".to_owned(),
            price_minor,
        }),
        taken_at: of.end(),
    };
    let snapshots = &harness.context.snapshots;
    snapshots.renew(&[snapshot]).await.unwrap();
}

async fn summarize(harness: &Harness, from: &str) -> Job {
    let from = month(from);
    let job = harness.enqueue(&SummarizeMonths { from }).await;
    let job = harness.finished(job.id).await;
    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    job
}

/// All sums, by month and scope, without the time of adding up.
async fn all(harness: &Harness) -> BTreeMap<(String, String), Document> {
    let months = harness
        .context
        .store
        .collection::<Document>("report_months");
    let found: Vec<Document> = months
        .find(doc! {})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let key = |mut it: Document| {
        it.remove("summarizedAt");
        let text = |field: &str| it.get_str(field).unwrap().to_owned();
        ((text("month"), text("scope")), it)
    };
    found.into_iter().map(key).collect()
}

async fn sums(harness: &Harness, scope: Scope, of: &str) -> Option<ReportMonth> {
    let months = &harness.context.report_months;
    let mut found = months.list(scope, &[month(of)], Part::All).await.unwrap();
    found.pop()
}

async fn movements(harness: &Harness, scope: Scope, of: &str) -> Movements {
    let sums = sums(harness, scope, of).await.unwrap();
    sums.currencies
        .get("DKK")
        .map_or_else(Movements::default, |it| it.total)
}

#[tokio::test(flavor = "multi_thread")]
async fn months_that_were_never_added_up_are_added_up_in_order() {
    let harness = Harness::new().await;
    let [stays, leaves, comes] = [TenantId::new(), TenantId::new(), TenantId::new()];
    for (tenant, of, price) in [
        (stays, "2025-01", 100),
        (leaves, "2025-01", 7),
        (stays, "2025-02", 150),
        (leaves, "2025-02", 0),
        (stays, "2025-03", 150),
        (leaves, "2025-03", 5),
        (comes, "2025-03", 30),
    ] {
        snapshot(&harness, tenant, of, price, None).await;
    }
    let worker = harness.worker();

    let job = summarize(&harness, "2025-03").await;
    let once = all(&harness).await;
    summarize(&harness, "2025-01").await;
    worker.stop().await;

    let changes = &job.steps[0].changes;
    assert_eq!(changes.len(), 3, "{changes:?}");
    let platform = async |of| movements(&harness, Scope::Platform, of).await;
    let (january, february) = (platform("2025-01").await, platform("2025-02").await);
    let march = platform("2025-03").await;
    assert_eq!((january.new.arr_minor, january.new.tenants), (107, 2));
    assert_eq!(
        (february.expansion.arr_minor, february.churn.arr_minor),
        (50, 7)
    );
    assert_eq!((march.reactivation.arr_minor, march.new.arr_minor), (5, 30));
    assert_eq!([january.end, february.end], [february.start, march.start]);
    assert_eq!(march.expected_end(), march.end.arr_minor);
    let march = sums(&harness, Scope::Platform, "2025-03").await.unwrap();
    assert_eq!(march.cohorts["2025-01"].paying, 2);
    assert_eq!(march.cohorts["2025-03"].paying, 1);
    assert!(march.is_complete());
    // Repeated, nothing changes.
    assert_eq!(all(&harness).await, once);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_lost_its_last_tenant_has_no_sums_any_more() {
    let harness = Harness::new().await;
    let (tenant, partner) = (TenantId::new(), PartnerId::new());
    snapshot(&harness, tenant, "2025-01", 100, Some(partner)).await;
    let worker = harness.worker();

    summarize(&harness, "2025-01").await;
    let before = movements(&harness, Scope::Partner(partner), "2025-01").await;
    let snapshots = harness
        .context
        .store
        .collection::<Document>("subscription_snapshots");
    let unset = doc! { "$unset": { "partnerId": "" } };
    snapshots.update_one(doc! {}, unset).await.unwrap();
    summarize(&harness, "2025-01").await;
    worker.stop().await;

    assert_eq!(before.new.arr_minor, 100);
    let gone = sums(&harness, Scope::Partner(partner), "2025-01").await;
    assert_eq!(gone, None);
    let platform = movements(&harness, Scope::Platform, "2025-01").await;
    assert_eq!(platform.end.arr_minor, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_without_snapshots_has_no_sums_and_the_next_one_follows_the_last() {
    let harness = Harness::new().await;
    let tenant = TenantId::new();
    snapshot(&harness, tenant, "2025-01", 100, None).await;
    snapshot(&harness, tenant, "2025-03", 130, None).await;
    let worker = harness.worker();

    summarize(&harness, "2025-01").await;
    worker.stop().await;

    assert_eq!(sums(&harness, Scope::Platform, "2025-02").await, None);
    let march = movements(&harness, Scope::Platform, "2025-03").await;
    assert_eq!(
        (march.start.arr_minor, march.expansion.arr_minor),
        (100, 30)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_dies_within_a_month_is_finished_by_the_next_attempt() {
    let harness = Harness::new().await;
    let (tenant, partner) = (TenantId::new(), PartnerId::new());
    for of in ["2025-01", "2025-02", "2025-03"] {
        snapshot(&harness, tenant, of, 100, Some(partner)).await;
    }
    // The sums of partners are written, and the platform's, which complete the month, are not.
    let platform = doc! { "month": "2025-02", "scope": "platform" };
    let unfinished = doc! { "$nor": [platform] };
    harness.refuse_unless("report_months", unfinished).await;
    let worker = harness.worker();
    let from = month("2025-01");

    let job = harness.enqueue(&SummarizeMonths { from }).await;
    harness
        .job_until(job.id, |job| !job.attempts.is_empty())
        .await;
    let before = all(&harness).await.len();
    let months = &harness.context.report_months;
    let is_complete = months.has_month(month("2025-02")).await.unwrap();
    harness.refuse_unless("report_months", doc! {}).await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    assert_eq!((before, is_complete), (3, false));
    assert_eq!(all(&harness).await.len(), 6);
    let march = movements(&harness, Scope::Platform, "2025-03").await;
    assert_eq!((march.start, march.end), (march.end, march.start));
    assert_eq!(march.start.arr_minor, 100);
}

/// An attempt was paused for longer than its lease, and continues after the next one has ended.
#[tokio::test(flavor = "multi_thread")]
async fn sums_are_not_replaced_by_those_of_an_earlier_attempt() {
    let harness = Harness::new().await;
    let partner = PartnerId::new();
    snapshot(&harness, TenantId::new(), "2025-01", 100, Some(partner)).await;
    let began_at = harness.context.store.now();
    let worker = harness.worker();
    summarize(&harness, "2025-01").await;
    worker.stop().await;
    let before = all(&harness).await;

    let paused = MonthBuilder::new(month("2025-01"), began_at);
    let months = &harness.context.report_months;
    months.replace_month(&paused.finish()).await.unwrap();

    assert_eq!(all(&harness).await, before);
    assert_eq!(before.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshots_of_a_month_are_added_up_after_they_are_taken() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("paying", &[]).await;
    let now = harness.context.store.now();
    let subscription = doc! {
        "_id": SubscriptionId::new(), "tenantId": tenant.id, "plan": "business", "cycle": "monthly", "seats": 5,
        "currency": "DKK", "priceMinor": 100_i64, "status": "past_due", "revision": 1_i64, "createdAt": now,
        "updatedAt": now,
    };
    let subscriptions = harness.context.store.collection("subscriptions");
    subscriptions.insert_one(subscription).await.unwrap();
    let this_month = Month::of(now);
    let worker = harness.worker();

    harness
        .enqueue(&SnapshotSubscriptions { month: this_month })
        .await;
    let of_platform = async || sums(&harness, Scope::Platform, &this_month.to_string()).await;
    let sums = until(of_platform, Option::is_some).await;
    worker.stop().await;

    let sums = sums.unwrap();
    assert_eq!((sums.tenants, sums.paying), (1, 1));
    assert_eq!(sums.health["past_due"].arr_minor["DKK"], 1_200);
    assert_eq!(sums.top["DKK"][0].slug, "paying");
    assert!(!sums.is_complete());
    // What is bought in the middle of a month may be gone at its end.
    let first = harness
        .context
        .store
        .collection::<Document>("first_payments");
    assert_eq!(first.count_documents(doc! {}).await.unwrap(), 0);
}
