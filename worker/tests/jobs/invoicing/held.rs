//! Decisions of an operator: too many periods at once, skipped periods, and dry runs.

use bson::doc;
use dezky_shared::queue::{
    args::{InvoiceSubscription, RunInvoices},
    error_code::ErrorCode,
    job::JobState,
};

use super::{Billing, day, invoice_of, periods};

#[tokio::test(flavor = "multi_thread")]
async fn too_many_due_periods_wait_for_an_operator_who_releases_them() {
    let billing = Billing::new().await;
    let sold = billing.sell("behind", day("2025-01-31")).await;
    let other = billing.sell("other", day("2025-04-30")).await;
    let worker = billing.harness.worker();
    let as_of = day("2025-04-30");

    let run = billing.run(as_of).await;
    let invoiced = billing.invoices().await;
    let asked = billing.harness.enqueue(&invoice_of(&sold, as_of)).await;
    let asked = billing.harness.finished(asked.id).await;
    let too_few = InvoiceSubscription {
        periods: Some(3),
        ..invoice_of(&sold, as_of)
    };
    let too_few = billing.harness.enqueue(&too_few).await;
    let too_few = billing.harness.finished(too_few.id).await;
    let none = billing.invoices().await.len();
    let released = InvoiceSubscription {
        periods: Some(4),
        ..invoice_of(&sold, as_of)
    };
    let released = billing.harness.enqueue(&released).await;
    let released = billing.harness.finished(released.id).await;
    worker.stop().await;

    let changes = &run.steps[0].changes;
    assert_eq!(changes, &["held, too many periods are due: behind"]);
    assert_eq!(invoiced.len(), 1);
    assert_eq!(invoiced[0].subscription_id, Some(other.id));
    for refused in [asked, too_few] {
        assert_eq!(refused.state, JobState::Discarded);
        assert_eq!(refused.error.unwrap().code, ErrorCode::TooManyPeriods);
    }
    assert_eq!(none, 1);
    assert_eq!(released.state, JobState::Completed, "{released:#?}");
    assert_eq!(released.steps[0].changes.len(), 4);
    let expected = [
        (day("2025-01-31"), day("2025-02-28")),
        (day("2025-02-28"), day("2025-03-31")),
        (day("2025-03-31"), day("2025-04-30")),
        (day("2025-04-30"), day("2025-05-31")),
    ];
    assert_eq!(periods(&billing.invoices().await[1..]), expected);
    // A discarded job of billing leaves the tenant as it is.
    let tenant = billing.harness.tenant(sold.tenant_id).await;
    let errors = tenant.provisioning_errors;
    assert_eq!(
        (errors.authentik, errors.stalwart, errors.ocis),
        (None, None, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn skipped_periods_have_no_invoice() {
    let billing = Billing::new().await;
    let sold = billing.sell("behind", day("2025-01-31")).await;
    let worker = billing.harness.worker();
    let skip = InvoiceSubscription {
        skip_to: Some(day("2025-04-30")),
        ..invoice_of(&sold, day("2025-04-30"))
    };

    for _ in 0..2 {
        let job = billing.harness.enqueue(&skip).await;
        billing.ended(job).await;
    }
    worker.stop().await;

    let expected = [(day("2025-04-30"), day("2025-05-31"))];
    assert_eq!(periods(&billing.invoices().await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_reports_and_writes_nothing() {
    let billing = Billing::new().await;
    let sold = billing.sell("nord", day("2025-01-31")).await;
    let older = billing.harness.add_tenant("older", &[]).await;
    let renews = doc! { "renewsAt": day("2025-03-15") };
    let older = billing.sell_to(&older, day("2025-01-15"), renews).await;
    let before = [
        billing.subscription(sold.id).await,
        billing.subscription(older.id).await,
    ];
    let worker = billing.harness.worker();
    let run = RunInvoices {
        as_of: day("2025-02-28"),
        dry_run: true,
    };

    let run = billing.harness.enqueue(&run).await;
    let run = billing.ended(run).await;
    let ahead = InvoiceSubscription {
        dry_run: true,
        ..invoice_of(&sold, day("2026-06-30"))
    };
    let ahead = billing.harness.enqueue(&ahead).await;
    let ahead = billing.ended(ahead).await;
    worker.stop().await;

    let children = doc! { "parent": run.id };
    assert_eq!(
        billing
            .harness
            .jobs()
            .count_documents(children)
            .await
            .unwrap(),
        2
    );
    let of_sold = doc! { "parent": run.id, "args.subscriptionId": sold.id };
    let child = billing.harness.jobs().find_one(of_sold).await.unwrap();
    let child: dezky_shared::queue::job::Job =
        bson::deserialize_from_document(child.unwrap()).unwrap();
    assert_eq!(
        child.steps[0].changes,
        [
            "would invoice 10000 EUR (minor units) for 2025-01-31T10:00:00Z to 2025-02-28T10:00:00Z",
            "would invoice 10000 EUR (minor units) for 2025-02-28T10:00:00Z to 2025-03-31T10:00:00Z",
        ]
    );
    let waits = "would wait for an operator: 18 periods are due";
    assert_eq!(ahead.steps[0].changes, [waits]);
    assert_eq!(billing.invoices().await.len(), 0);
    let after = [
        billing.subscription(sold.id).await,
        billing.subscription(older.id).await,
    ];
    assert_eq!(after, before);
    let counters = billing.documents("invoice_counters");
    assert_eq!(counters.count_documents(doc! {}).await.unwrap(), 0);
}
