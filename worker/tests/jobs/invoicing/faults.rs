//! Never a period twice, and no gap in the numbers: with a write that fails, a worker that dies, concurrent jobs, and a
//! period that is invoiced already.

use bson::doc;
use dezky_shared::{invoice::Invoice, queue::job::JobState};
use futures::future::join_all;

use super::{Billing, at, day, invoice_of, periods};

/// The writes of a claim, beside the job's own, which fences them.
const WRITTEN: [&str; 5] = [
    "invoice_counters",
    "invoices",
    "subscriptions",
    "billing_totals",
    "audit_events",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_which_one_write_fails_leaves_nothing_behind() {
    join_all(WRITTEN.map(a_failed_write_leaves_nothing_behind)).await;
}

async fn a_failed_write_leaves_nothing_behind(collection: &str) {
    let billing = Billing::new().await;
    let sold = billing.sell("nord", day("2025-01-31")).await;
    let harness = &billing.harness;
    harness
        .refuse_unless(collection, doc! { "accepted": true })
        .await;
    let worker = harness.worker();
    let totals = billing.documents("billing_totals");

    let job = harness.enqueue(&invoice_of(&sold, day("2025-01-31"))).await;
    harness
        .job_until(job.id, |job| !job.attempts.is_empty())
        .await;
    let left = billing.invoices().await.len();
    let counters = billing.documents("invoice_counters");
    let counted = counters.count_documents(doc! {}).await.unwrap();
    let added = totals.count_documents(doc! {}).await.unwrap();
    let between = billing.subscription(sold.id).await;
    harness.refuse_unless(collection, doc! {}).await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{collection}: {job:#?}");
    assert_eq!((left, counted, added), (0, 0, 0), "{collection}");
    assert_eq!(between, sold, "{collection}");
    let invoices = billing.invoices().await;
    assert_eq!(invoices.len(), 1, "{collection}");
    assert!(
        billing.numbers().await[0].ends_with("-000001"),
        "{collection}"
    );
    let billed = doc! { "scope": "platform", "billedMinor": invoices[0].subtotal_minor };
    let billed = totals.count_documents(billed).await.unwrap();
    assert_eq!(billed, 1, "{collection}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_between_two_periods_leaves_the_rest_to_another() {
    let billing = Billing::new().await;
    let sold = billing.sell("nord", day("2025-01-31")).await;
    let harness = &billing.harness;
    // The second invoice is refused, so that the first worker is lost between the two.
    let number = doc! { "number": { "$not": { "$regex": "-000002$" } } };
    harness.refuse_unless("invoices", number).await;
    let lost = harness.crashable_worker(dezky_worker::jobs::registry(), 2);
    let job = harness.enqueue(&invoice_of(&sold, day("2025-02-28"))).await;
    crate::harness::until(async || billing.invoices().await.len(), |&count| count == 1).await;
    lost.crash();

    harness.refuse_unless("invoices", doc! {}).await;
    let worker = harness.worker();
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    let expected = [
        (day("2025-01-31"), day("2025-02-28")),
        (day("2025-02-28"), day("2025-03-31")),
    ];
    assert_eq!(periods(&billing.invoices().await), expected);
    let numbers = billing.numbers().await;
    assert!(numbers[0].ends_with("-000001") && numbers[1].ends_with("-000002"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_repeated_after_its_claim_claims_nothing() {
    let billing = Billing::new().await;
    let sold = billing.sell("nord", day("2025-01-31")).await;
    let harness = &billing.harness;
    let job = harness
        .enqueue_unannounced(&invoice_of(&sold, day("2025-01-31")))
        .await;
    harness.block_settlement(job.id).await;
    let lost = harness.crashable_worker(dezky_worker::jobs::registry(), 2);
    crate::harness::until(async || billing.invoices().await.len(), |&count| count == 1).await;
    lost.crash();

    harness.unblock_settlement().await;
    let worker = harness.worker();
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    assert_eq!(billing.invoices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_jobs_of_two_workers_invoice_each_period_once_without_a_gap() {
    let billing = Billing::new().await;
    let harness = &billing.harness;
    let names: Vec<String> = (0..12).map(|n| format!("tenant-{n}")).collect();
    let sold = names
        .iter()
        .map(|name| billing.sell(name, day("2025-01-31")));
    let sold = join_all(sold).await;
    // Several jobs of each subscription that do not wait for each other.
    for (n, sold) in sold.iter().enumerate() {
        let keys: Vec<String> = (0..4).map(|k| format!("billing-{n}-{k}")).collect();
        let args = invoice_of(sold, day("2025-02-28"));
        let args = dezky_shared::queue::args::InvoiceSubscription {
            periods: Some(2),
            ..args
        };
        harness.clone_for_lock_keys(&args, &keys).await;
    }
    let workers = [harness.worker(), harness.worker()];

    let jobs = harness.jobs();
    let open = doc! { "state": { "$in": ["available", "running"] } };
    let count = async || jobs.count_documents(open.clone()).await.unwrap();
    crate::harness::until(count, |&open| open == 0).await;
    for worker in workers {
        worker.stop().await;
    }

    let completed = doc! { "state": "completed" };
    assert_eq!(jobs.count_documents(completed).await.unwrap(), 48);
    let invoices = billing.invoices().await;
    assert_eq!(invoices.len(), 24);
    let mut keys: Vec<&str> = invoices
        .iter()
        .filter_map(|invoice| invoice.period_key.as_deref())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 24);
    for (n, number) in billing.numbers().await.iter().enumerate() {
        assert!(number.ends_with(&format!("-{:06}", n + 1)), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_that_is_invoiced_already_is_passed_over() {
    let billing = Billing::new().await;
    let sold = billing.sell("nord", day("2025-01-31")).await;
    let worker = billing.harness.worker();
    billing.run(day("2025-01-31")).await;
    // As a restore of the subscriptions alone leaves it.
    let back = doc! { "invoicedThrough": day("2025-01-31") };
    billing.set_subscription(sold.id, back).await;

    billing.run(at("2025-01-31T11:15:00Z")).await;
    worker.stop().await;

    let invoices: Vec<Invoice> = billing.invoices().await;
    assert_eq!(invoices.len(), 1);
    let after = billing.subscription(sold.id).await;
    assert_eq!(after.invoiced_through, Some(day("2025-02-28")));
}
