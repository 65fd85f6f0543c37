//! Invoice runs: each billing period is invoiced once, with gapless numbers, whatever is repeated, killed or concurrent.

mod ending;
mod faults;
mod held;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    feature_flag::NEW_BILLING_ENGINE,
    id::{SubscriptionId, TenantId},
    invoice::{Invoice, InvoiceStatus, TaxNote},
    queue::{
        args::{InvoiceSubscription, RunInvoices},
        job::{Job, JobState},
    },
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use futures::TryStreamExt as _;

use crate::harness::{Harness, until};

fn at(text: &str) -> DateTime {
    DateTime::parse_rfc3339_str(text).unwrap()
}

/// An instant of this day.
fn day(text: &str) -> DateTime {
    at(&format!("{text}T10:00:00Z"))
}

/// Stores in which tenants are invoiced.
pub(crate) struct Billing {
    pub(crate) harness: Harness,
}

impl Billing {
    async fn new() -> Self {
        let billing = Self {
            harness: Harness::new().await,
        };
        billing.set_flag(true).await;
        billing
    }

    async fn set_flag(&self, default: bool) {
        self.harness.set_flag(NEW_BILLING_ENGINE, default).await;
    }

    /// Adds a tenant with a monthly subscription over EUR 100.00 that starts at this time, enrolled from its start.
    async fn sell(&self, slug: &str, started_at: DateTime) -> Subscription {
        let tenant = self.harness.add_tenant(slug, &[]).await;
        let enrolled = doc! { "invoicedThrough": started_at, "billingAnchor": started_at };
        self.sell_to(&tenant, started_at, enrolled).await
    }

    async fn sell_to(
        &self,
        tenant: &Tenant,
        started_at: DateTime,
        fields: Document,
    ) -> Subscription {
        let mut subscription = doc! {
            "_id": SubscriptionId::new(), "tenantId": tenant.id, "plan": "business", "cycle": "monthly", "seats": 5,
            "currency": "EUR", "priceMinor": 10_000_i64, "status": "active", "startedAt": started_at,
            "revision": 1_i64, "createdAt": started_at, "updatedAt": started_at,
        };
        subscription.extend(fields);
        let subscriptions = self.documents("subscriptions");
        subscriptions.insert_one(&subscription).await.unwrap();
        bson::deserialize_from_document(subscription).unwrap()
    }

    fn documents(&self, name: &str) -> mongodb::Collection<Document> {
        self.harness.context.store.collection(name)
    }

    async fn set_tenant(&self, id: TenantId, fields: Document) {
        let set = doc! { "$set": fields };
        let tenants = self.documents("tenants");
        tenants.update_one(doc! { "_id": id }, set).await.unwrap();
    }

    async fn set_subscription(&self, id: SubscriptionId, fields: Document) {
        let set = doc! { "$set": fields };
        let subscriptions = self.documents("subscriptions");
        let updated = subscriptions.update_one(doc! { "_id": id }, set).await;
        assert_eq!(updated.unwrap().matched_count, 1);
    }

    async fn subscription(&self, id: SubscriptionId) -> Subscription {
        let found = self.harness.context.subscriptions.find(id).await;
        found.unwrap().unwrap()
    }

    /// All invoices, oldest first.
    async fn invoices(&self) -> Vec<Invoice> {
        let invoices = self.harness.context.store.collection::<Invoice>("invoices");
        let found = invoices.find(doc! {}).sort(doc! { "_id": 1 }).await;
        found.unwrap().try_collect().await.unwrap()
    }

    /// Numbers of all invoices, sorted.
    async fn numbers(&self) -> Vec<String> {
        let invoices = self.invoices().await.into_iter();
        let mut numbers: Vec<String> = invoices.filter_map(|invoice| invoice.number).collect();
        numbers.sort();
        numbers
    }

    /// Runs the invoice run, and waits until it and its jobs have ended.
    async fn run(&self, as_of: DateTime) -> Job {
        let dry_run = false;
        let job = self.harness.enqueue(&RunInvoices { as_of, dry_run }).await;
        self.ended(job).await
    }

    async fn ended(&self, job: Job) -> Job {
        let job = self.harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Completed, "{job:#?}");
        let jobs = self.harness.jobs();
        let open = doc! { "state": { "$in": ["available", "running"] } };
        let count = async || jobs.count_documents(open.clone()).await.unwrap();
        until(count, |&open| open == 0).await;
        let failed = jobs.find_one(doc! { "state": "discarded" }).await.unwrap();
        assert_eq!(failed, None);
        job
    }
}

fn invoice_of(sold: &Subscription, as_of: DateTime) -> InvoiceSubscription {
    InvoiceSubscription {
        tenant_id: sold.tenant_id,
        subscription_id: sold.id,
        as_of,
        dry_run: false,
        periods: None,
        skip_to: None,
    }
}

/// Starts and ends of the invoiced periods.
fn periods(invoices: &[Invoice]) -> Vec<(DateTime, DateTime)> {
    let periods = invoices.iter().filter_map(|invoice| invoice.period);
    periods.map(|period| (period.start, period.end)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_period_is_invoiced_once_at_the_terms_of_its_claim() {
    let billing = Billing::new().await;
    let sold = billing.sell("nord", day("2025-01-31")).await;
    let worker = billing.harness.worker();

    billing.run(at("2025-01-31T10:15:00Z")).await;
    billing.run(at("2025-01-31T11:15:00Z")).await;
    let price = doc! { "priceMinor": 12_000_i64 };
    billing.set_subscription(sold.id, price).await;
    billing.run(at("2025-02-27T10:15:00Z")).await;
    let first = billing.invoices().await;
    billing.run(at("2025-02-28T10:15:00Z")).await;
    billing.run(at("2025-02-28T10:15:00Z")).await;
    worker.stop().await;

    let invoices = billing.invoices().await;
    assert_eq!(first.len(), 1);
    let expected = [
        (day("2025-01-31"), day("2025-02-28")),
        (day("2025-02-28"), day("2025-03-31")),
    ];
    assert_eq!(periods(&invoices), expected);
    let amounts: Vec<i64> = invoices.iter().map(|it| it.subtotal_minor).collect();
    assert_eq!(amounts, [10_000, 12_000]);
    let year = &invoices[0].issued_at.try_to_rfc3339_string().unwrap()[..4];
    let numbers = [1, 2].map(|n| format!("DEZKY-{year}-{n:06}"));
    assert_eq!(billing.numbers().await, numbers);
    let one = &invoices[0];
    assert_eq!((one.status, one.is_overdue), (InvoiceStatus::Open, false));
    assert_eq!(one.lines[0].description, "Business, monthly, 5 seats");
    assert_eq!(one.tax_note, TaxNote::Net);
    let fortnight = 14 * 24 * 60 * 60 * 1_000;
    let due = one.issued_at.timestamp_millis() + fortnight;
    assert_eq!(one.due_at, Some(DateTime::from_millis(due)));
    let after = billing.subscription(sold.id).await;
    assert_eq!(after.invoiced_through, Some(day("2025-03-31")));
    assert_eq!(after.renews_at, after.invoiced_through);
    let issued = doc! { "action": "invoice.create", "actor.id": "system" };
    let events = billing.documents("audit_events");
    assert_eq!(events.count_documents(issued).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_without_a_worker_are_made_up_with_their_own_periods() {
    let billing = Billing::new().await;
    let leap = billing.sell("leap", day("2024-01-30")).await;
    let worker = billing.harness.worker();
    billing.run(day("2024-01-30")).await;

    // A month and a day late.
    billing.run(day("2024-03-31")).await;
    worker.stop().await;

    let expected = [
        (day("2024-01-30"), day("2024-02-29")),
        (day("2024-02-29"), day("2024-03-30")),
        (day("2024-03-30"), day("2024-04-30")),
    ];
    assert_eq!(periods(&billing.invoices().await), expected);
    let after = billing.subscription(leap.id).await;
    assert_eq!(after.invoiced_through, Some(day("2024-04-30")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_invoices_nothing_and_one_that_is_ahead_no_future_period() {
    let billing = Billing::new().await;
    billing.sell("nord", day("2025-01-31")).await;
    let now = billing.harness.context.store.now();
    billing.sell("new", now).await;
    let worker = billing.harness.worker();
    billing.run(day("2025-01-31")).await;

    billing.run(at("2025-01-31T09:00:00Z")).await;
    let set_back = billing.invoices().await.len();
    let ahead = DateTime::from_millis(now.timestamp_millis() + 40 * 24 * 60 * 60 * 1_000);
    let args = RunInvoices {
        as_of: ahead,
        dry_run: false,
    };
    let held = billing.harness.enqueue(&args).await;
    billing.ended(held).await;
    worker.stop().await;

    assert_eq!(set_back, 1);
    // The other subscription is months behind, which waits for an operator.
    let invoices = billing.invoices().await;
    assert_eq!(invoices.len(), 2);
    assert_eq!(periods(&invoices)[1].0, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_for_subscriptions_to_enrol_continues_where_the_last_run_stopped() {
    let billing = Billing::new().await;
    let mut sold = Vec::new();
    for slug in ["first", "second"] {
        let tenant = billing.harness.add_tenant(slug, &[]).await;
        let started = day("2025-01-31");
        sold.push(billing.sell_to(&tenant, started, doc! {}).await);
    }
    let position = &billing.harness.context.invoice_run;
    position.set_position(Some(sold[0].id)).await.unwrap();
    let worker = billing.harness.worker();
    let enrolled = async || {
        let [first, second] = [&sold[0], &sold[1]].map(|sold| billing.subscription(sold.id));
        (first.await.is_enrolled(), second.await.is_enrolled())
    };

    billing.run(at("2025-02-01T10:15:00Z")).await;
    let behind = enrolled().await;
    let next = position.position().await.unwrap();
    billing.run(at("2025-02-01T11:15:00Z")).await;
    let all = enrolled().await;
    worker.stop().await;

    assert_eq!(behind, (false, true));
    assert_eq!(next, None);
    assert_eq!(all, (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_of_before_is_enrolled_at_its_renewal() {
    let billing = Billing::new().await;
    let tenant = billing.harness.add_tenant("older", &[]).await;
    let renews = doc! { "renewsAt": at("2025-03-15T10:00:00.250Z") };
    let sold = billing
        .sell_to(&tenant, at("2025-01-15T10:00:00.250Z"), renews)
        .await;
    let worker = billing.harness.worker();

    billing.run(day("2025-03-14")).await;
    let enrolled = billing.subscription(sold.id).await;
    billing.run(day("2025-03-14")).await;
    let before = billing.invoices().await.len();
    billing.run(day("2025-03-15")).await;
    worker.stop().await;

    assert_eq!(enrolled.invoiced_through, Some(day("2025-03-15")));
    assert_eq!(enrolled.started_at, Some(day("2025-01-15")));
    assert_eq!(before, 0);
    let expected = [(day("2025-03-15"), day("2025-04-15"))];
    assert_eq!(periods(&billing.invoices().await), expected);
    let events = billing.documents("audit_events");
    let update = doc! { "action": "subscription.update", "target.id": sold.id.to_string() };
    assert_eq!(events.count_documents(update).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_for_nothing_is_settled_without_a_number_and_the_next_one_is_paid_for() {
    let billing = Billing::new().await;
    let sold = billing.sell("free", day("2025-01-31")).await;
    billing
        .set_subscription(sold.id, doc! { "priceMinor": 0_i64 })
        .await;
    let worker = billing.harness.worker();
    billing.run(day("2025-01-31")).await;

    let price = doc! { "priceMinor": 30_000_i64 };
    billing.set_subscription(sold.id, price).await;
    billing.run(day("2025-02-01")).await;
    let free = billing.invoices().await;
    billing.run(day("2025-02-28")).await;
    worker.stop().await;

    assert_eq!(free.len(), 1);
    assert_eq!(free[0].status, InvoiceStatus::Paid);
    assert_eq!((&free[0].number, free[0].due_at), (&None, None));
    let paid = &billing.invoices().await[1];
    assert_eq!(
        (paid.status, paid.subtotal_minor),
        (InvoiceStatus::Open, 30_000)
    );
    assert_eq!(billing.numbers().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_copies_the_partner_and_the_recipient_of_its_time() {
    let billing = Billing::new().await;
    let sold = billing.sell("acme", day("2025-01-31")).await;
    let now = billing.harness.context.store.now();
    let partner = dezky_shared::id::PartnerId::new();
    let document = doc! {
        "_id": partner, "slug": "nordic", "name": "Nordic", "status": "active", "marginBasisPoints": 2_000,
        "revision": 1_i64, "createdAt": now, "updatedAt": now,
    };
    billing
        .documents("partners")
        .insert_one(document)
        .await
        .unwrap();
    let info = doc! { "company": "Acme GmbH", "vatId": "DE136695976", "email": "ada@acme.test" };
    let fields = doc! { "partnerId": partner, "billingInfo": info };
    billing.set_tenant(sold.tenant_id, fields).await;
    let worker = billing.harness.worker();

    billing.run(day("2025-01-31")).await;
    let left = doc! { "status": "terminated" };
    let partners = billing.documents("partners");
    partners
        .update_one(doc! { "_id": partner }, doc! { "$set": left })
        .await
        .unwrap();
    billing.run(day("2025-02-28")).await;
    worker.stop().await;

    let invoices = billing.invoices().await;
    let terms = |invoice: &Invoice| (invoice.partner_id, invoice.margin_basis_points);
    assert_eq!(terms(&invoices[0]), (Some(partner), 2_000));
    assert_eq!(terms(&invoices[1]), (None, 0));
    assert_eq!(invoices[0].tax_note, TaxNote::ReverseCharge);
    let recipient = &invoices[0].bill_to;
    assert_eq!(recipient.company.as_deref(), Some("Acme GmbH"));
    assert_eq!(recipient.email, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_invoice_makes_its_subscription_past_due_until_it_is_settled() {
    let billing = Billing::new().await;
    let sold = billing.sell("late", day("2025-01-31")).await;
    let worker = billing.harness.worker();
    billing.run(day("2025-01-31")).await;
    let invoices = billing.documents("invoices");
    let due = doc! { "$set": { "dueAt": day("2025-02-14") } };
    invoices.update_one(doc! {}, due).await.unwrap();

    billing.run(at("2025-02-14T09:59:59Z")).await;
    let in_time = billing.subscription(sold.id).await.status;
    billing.run(day("2025-02-14")).await;
    let late = billing.subscription(sold.id).await.status;
    let jobs = doc! { "kind": "invoice_subscription" };
    let before = billing.harness.jobs().count_documents(jobs.clone()).await;
    billing.run(day("2025-02-15")).await;
    let after = billing.harness.jobs().count_documents(jobs).await;
    worker.stop().await;

    assert_eq!(in_time, SubscriptionStatus::Active);
    assert_eq!(late, SubscriptionStatus::PastDue);
    assert!(billing.invoices().await[0].is_overdue);
    // A known one causes no job.
    assert_eq!(before.unwrap(), after.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_the_flag_is_not_invoiced() {
    let billing = Billing::new().await;
    billing.sell("nord", day("2025-01-31")).await;
    billing.set_flag(false).await;
    let worker = billing.harness.worker();

    let job = billing.run(day("2025-01-31")).await;
    worker.stop().await;

    assert_eq!(
        job.steps[0].state,
        dezky_shared::queue::job::StepState::Skipped
    );
    assert_eq!(billing.invoices().await.len(), 0);
    assert_eq!(
        billing
            .harness
            .jobs()
            .count_documents(doc! {})
            .await
            .unwrap(),
        1
    );
}
