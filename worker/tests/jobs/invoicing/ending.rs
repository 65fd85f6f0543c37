//! The end of invoicing: a subscription that ends with its period, and tenants that leave.

use bson::doc;
use dezky_shared::subscription::{EndedBy, SubscriptionStatus};

use super::{Billing, at, day};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_its_last_invoiced_period() {
    let billing = Billing::new().await;
    let sold = billing.sell("leaving", day("2025-01-31")).await;
    let worker = billing.harness.worker();
    billing.run(day("2025-01-31")).await;
    let ends = doc! { "cancelAtPeriodEnd": true };
    billing.set_subscription(sold.id, ends).await;

    billing.run(at("2025-02-28T09:15:00Z")).await;
    let before = billing.subscription(sold.id).await;
    billing.run(day("2025-03-05")).await;
    billing.run(day("2025-03-06")).await;
    worker.stop().await;

    assert_eq!(before.status, SubscriptionStatus::Active);
    let after = billing.subscription(sold.id).await;
    assert_eq!(after.status, SubscriptionStatus::Cancelled);
    assert_eq!(after.cancelled_at, Some(day("2025-02-28")));
    assert_eq!(after.ended_by, Some(EndedBy::PeriodEnd));
    assert_eq!(billing.invoices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_leaves_is_not_invoiced_and_its_subscription_ends_with_it() {
    let billing = Billing::new().await;
    let sold = billing.sell("leaving", day("2025-01-31")).await;
    let worker = billing.harness.worker();
    let leaves = doc! { "status": "terminating" };
    billing.set_tenant(sold.tenant_id, leaves).await;

    billing.run(day("2025-01-31")).await;
    let leaving = billing.subscription(sold.id).await;
    let gone = doc! { "status": "terminated" };
    billing.set_tenant(sold.tenant_id, gone).await;
    // Long after: however many periods passed, none is invoiced.
    billing.run(day("2025-08-31")).await;
    worker.stop().await;

    assert!(leaving.status.is_live());
    let after = billing.subscription(sold.id).await;
    assert_eq!(after.ended_by, Some(EndedBy::TenantTerminated));
    assert!(!after.status.is_live());
    assert_eq!(billing.invoices().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_invoice_of_a_cancelled_subscription_is_found_once() {
    let billing = Billing::new().await;
    let sold = billing.sell("left", day("2025-01-31")).await;
    let worker = billing.harness.worker();
    billing.run(day("2025-01-31")).await;
    let due = doc! { "$set": { "dueAt": day("2025-02-14") } };
    let invoices = billing.documents("invoices");
    invoices.update_one(doc! {}, due).await.unwrap();
    let cancelled = doc! { "status": "cancelled" };
    billing.set_subscription(sold.id, cancelled).await;

    billing.run(day("2025-02-14")).await;
    let jobs = billing.harness.jobs();
    let before = jobs.count_documents(doc! {}).await.unwrap();
    billing.run(day("2025-02-15")).await;
    worker.stop().await;

    assert!(billing.invoices().await[0].is_overdue);
    assert_eq!(jobs.count_documents(doc! {}).await.unwrap(), before + 1);
    let after = billing.subscription(sold.id).await;
    assert_eq!(after.status, SubscriptionStatus::Cancelled);
}
