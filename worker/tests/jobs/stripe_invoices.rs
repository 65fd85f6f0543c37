//! Invoices of the payment provider: they and the partner's share end as what they are there, however often and in which
//! order that is told.

mod any_order;
mod deaths;

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    billing::month::Month,
    billing_totals::Scope,
    feature_flag::NEW_BILLING_ENGINE,
    id::{PartnerId, SubscriptionId, TenantId},
    invoice::{
        Invoice, InvoiceKind,
        InvoiceStatus::{Draft, Open, Paid, Uncollectible, Void},
    },
    ledger::LedgerEntry,
    platform::clock,
    queue::{
        args::{
            IssueInvoice, MirrorStripeObject, RunInvoices, SettleInvoice, SweepBilling, VoidInvoice,
        },
        error_code::ErrorCode,
        job::{JobArgs, JobState},
    },
    tenant::Tenant,
};
use dezky_sim::stripe::{BilledInvoice, Refusal};
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::{
    harness::step,
    scenarios::{customer, draft_of, drafted},
    world::World,
};

/// Seconds of a billing period.
const PERIOD: i64 = 30 * 24 * 60 * 60;

/// A tenant of a partner, with a subscription at the payment provider.
struct Sale {
    tenant: TenantId,
    partner: PartnerId,
    customer: String,
}

impl World {
    async fn sold(&self) -> Sale {
        let tenant = customer(self).await;
        let partner = self.add_partner("nordic").await.id;
        self.set_margin(2_000).await;
        let store = &self.harness.context.store;
        let attach = |tenant: &mut Tenant| tenant.partner_id = Some(partner);
        self.harness.change_tenant(tenant, attach).await;
        let now = store.now();
        let subscription = doc! {
            "_id": SubscriptionId::new(), "tenantId": tenant, "plan": "business", "cycle": "monthly", "seats": 5,
            "currency": "DKK", "priceMinor": 10_000_i64, "status": "active", "startedAt": now,
            "stripeSubscriptionId": "sub_1", "revision": 1_i64, "createdAt": now, "updatedAt": now,
        };
        let subscriptions = store.collection::<Document>("subscriptions");
        subscriptions.insert_one(subscription).await.unwrap();
        let customer = self.upstreams.stripe.objects("customer").remove(0);
        Sale {
            tenant,
            partner,
            customer: id_of(&customer),
        }
    }

    async fn set_margin(&self, basis_points: i32) {
        let partners = self
            .harness
            .context
            .store
            .collection::<Document>("partners");
        let set = doc! { "$set": { "marginBasisPoints": basis_points } };
        partners.update_one(doc! {}, set).await.unwrap();
    }

    /// Issues the invoice of a period over DKK 100.00 and DKK 19.00 of taxes. Returns its id.
    fn bill(&self, sale: &Sale, period: i64) -> String {
        self.bill_for(sale, (period * PERIOD, (period + 1) * PERIOD))
    }

    /// As [`bill`](Self::bill), for these seconds.
    fn bill_for(&self, sale: &Sale, period: (i64, i64)) -> String {
        let billed = self.upstreams.stripe.bill(&BilledInvoice {
            customer: sale.customer.clone(),
            currency: "dkk".to_owned(),
            net: 10_000,
            tax: 1_900,
            subscription: Some("sub_1".to_owned()),
            period,
            proration: false,
        });
        id_of(&billed.unwrap())
    }

    fn pay(&self, invoice: &str) {
        self.upstreams.stripe.pay_invoice(invoice).unwrap();
    }

    /// Amounts of all ledger entries, oldest first, once all events are followed.
    async fn shares(&self) -> Vec<i64> {
        self.catch_up().await;
        let entries = self
            .harness
            .context
            .store
            .collection::<LedgerEntry>("ledger_entries");
        let found = entries.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        let amounts = found.map_ok(|entry| entry.amount_minor);
        amounts.try_collect().await.unwrap()
    }

    /// All invoices, oldest first.
    async fn mirrored(&self) -> Vec<Invoice> {
        let invoices = self.harness.context.store.collection::<Invoice>("invoices");
        let found = invoices.find(doc! {}).sort(doc! { "_id": 1 }).await;
        found.unwrap().try_collect().await.unwrap()
    }
}

fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partners_share_follows_payments_refunds_credit_notes_and_disputes() {
    let world = World::start().await;
    let sale = world.sold().await;
    let stripe = &world.upstreams.stripe;

    // No webhook arrives: the list of events is enough.
    let first = world.bill(&sale, 0);
    assert_eq!(world.shares().await, [0; 0]);
    world.pay(&first);
    assert_eq!(world.shares().await, [2_000]);
    // Several events at once, twice.
    let payment = stripe.objects("invoice_payment").remove(0);
    let intent = payment["payment"]["payment_intent"].as_str().unwrap();
    for (object_type, id) in [("invoice", first.as_str()), ("payment_intent", intent)].repeat(2) {
        let args = MirrorStripeObject {
            object_type: object_type.to_owned(),
            object_id: id.to_owned(),
            tenant_id: None,
        };
        world.harness.enqueue(&args).await;
    }
    world.until_idle().await;
    assert_eq!(world.shares().await, [2_000]);
    assert_eq!(world.mirrored().await.len(), 1);
    // A later margin changes nothing.
    world.set_margin(1_500).await;
    stripe.refund(&first, 1_190).unwrap();
    let failing = id_of(&stripe.refund(&first, 10_710).unwrap());
    assert_eq!(world.shares().await, [2_000, -2_000]);
    stripe.set_status(&failing, "failed").unwrap();
    assert_eq!(world.shares().await, [2_000, -2_000, 1_800]);

    let second = world.bill(&sale, 1);
    world.pay(&second);
    let dispute = id_of(&stripe.dispute(&second).unwrap());
    stripe.set_status(&dispute, "lost").unwrap();
    assert_eq!(world.shares().await[3..], [0; 0]);
    stripe.set_status(&dispute, "won").unwrap();
    assert_eq!(world.shares().await[3..], [1_500]);
    let refund = id_of(&stripe.refund(&second, 595).unwrap());
    stripe.credit(&second, 500, 95, Some(&refund)).unwrap();
    assert_eq!(world.shares().await[3..], [1_500, -75]);

    let context = &world.harness.context;
    let balances = context.ledger.list_balances(sale.partner).await.unwrap();
    assert_eq!(balances[0].unsettled_minor, 1_800 + 1_425);
    let month = Month::of(context.store.now());
    let totals = context
        .billing_totals
        .list(Scope::Platform, month, month)
        .await;
    let totals = &totals.unwrap()[0];
    assert_eq!((totals.billed_minor, totals.paid_minor), (20_000, 18_500));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_mirrored_with_its_period_and_what_is_final_stays() {
    let world = World::start().await;
    let sale = world.sold().await;
    let stripe = &world.upstreams.stripe;
    let [paid, overlapping, voided, given_up] =
        [0, 0, 1, 2].map(|period| world.bill(&sale, period));
    world.pay(&paid);
    stripe.close_invoice(&given_up, false).unwrap();
    world.catch_up().await;
    let before = world.mirrored().await;
    let status = |id: &str| {
        before
            .iter()
            .find(|it| it.stripe_id() == id)
            .unwrap()
            .status
    };
    let statuses = [&paid, &overlapping, &voided, &given_up].map(|id| status(id));
    stripe.close_invoice(&voided, true).unwrap();
    world.pay(&given_up);

    world.catch_up().await;

    assert_eq!(statuses, [Paid, Open, Open, Uncollectible]);
    let invoices = world.mirrored().await;
    let find = |id: &str| invoices.iter().find(|it| it.stripe_id() == id).unwrap();
    assert_eq!(
        (find(&voided).status, &find(&voided).period_key),
        (Void, &None)
    );
    assert_eq!(find(&given_up).status, Paid);
    // One of the two invoices has the key of their period, so the invoice run leaves it out.
    let keys = [&paid, &overlapping].map(|id| find(id).period_key.is_some());
    assert_eq!(keys.iter().filter(|has_key| **has_key).count(), 1);
    let invoice = find(&paid);
    assert_eq!(invoice.tenant_id, sale.tenant);
    assert_eq!(
        (invoice.kind, invoice.plan.is_some()),
        (InvoiceKind::Cycle, true)
    );
    assert_eq!(
        (invoice.subtotal_minor, &*invoice.currency),
        (10_000, "DKK")
    );
    let period = invoice.period.unwrap();
    assert_eq!(period.end.timestamp_millis(), PERIOD * 1_000);
    assert!(invoice.number.is_some() && invoice.paid_at.is_some());
    let audited = world
        .harness
        .context
        .store
        .collection::<Document>("audit_events");
    let mirrored = doc! { "action": "invoice.mirror", "tenantId": sale.tenant };
    assert_eq!(audited.count_documents(mirrored).await.unwrap(), 6);
    world.stop().await;
}

/// The event of the payment is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_finds_a_payment_that_no_event_told() {
    let world = World::start().await;
    let sale = world.sold().await;
    let invoice = world.bill(&sale, 0);
    world.catch_up().await;
    world.pay(&invoice);

    let sweep = SweepBilling {
        dry_run: false,
        spread_seconds: 0,
    };
    world.invoice_job(&sweep).await;

    assert_eq!(world.mirrored().await[0].status, Paid);
    let context = &world.harness.context;
    let balances = context.ledger.list_balances(sale.partner).await.unwrap();
    assert_eq!(balances[0].unsettled_minor, 2_000);
    world.stop().await;
}

/// Both have a key, since they begin at different times.
#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_whose_period_begins_within_another_one_is_reported() {
    let world = World::start().await;
    let sale = world.sold().await;
    world.bill(&sale, 0);
    world.catch_up().await;
    let within = world.bill_for(&sale, (PERIOD * 9 / 10, 2 * PERIOD));
    let after = world.bill(&sale, 2);

    let reported = async |id: &str| {
        let args = MirrorStripeObject {
            object_type: "invoice".to_owned(),
            object_id: id.to_owned(),
            tenant_id: Some(sale.tenant),
        };
        let job = world.harness.enqueue(&args).await;
        let job = world.completed(&job).await;
        step(&job, "stripe").changes[0].starts_with("PeriodOverlap")
    };

    assert!(reported(&within).await);
    assert!(!reported(&after).await);
    world.stop().await;
}

impl World {
    async fn invoice_job(&self, args: &impl JobArgs) {
        let job = self.harness.enqueue(args).await;
        self.completed(&job).await;
        self.until_idle().await;
    }

    async fn issue(&self, invoice: &Invoice) {
        let args = IssueInvoice {
            tenant_id: invoice.tenant_id,
            invoice_id: invoice.id,
        };
        self.invoice_job(&args).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_that_stripe_sends_is_issued_once_paid_and_found_again_after_a_restore() {
    let world = World::start_with(|config, _| {
        config.stripe.as_mut().unwrap().automatic_tax = true;
    })
    .await;
    let draft = drafted(&world).await;
    let stripe = &world.upstreams.stripe;

    world.issue(&draft).await;
    // The attempt died once the invoice was sent.
    let store = &world.harness.context.store;
    let invoices = store.collection::<Document>("invoices");
    let unsent = doc! { "$set": { "stage": "finalized" } };
    let unsent = invoices.update_one(doc! { "_id": draft.id }, unsent);
    assert_eq!(unsent.await.unwrap().modified_count, 1);
    world.issue(&draft).await;
    assert_eq!(stripe.server.effects.count("send_invoice"), 1);
    let issued = world.mirrored().await.remove(0);
    let settle = SettleInvoice {
        tenant_id: draft.tenant_id,
        invoice_id: draft.id,
    };
    // What a tenant owes is paid, too, once it is not billed any more.
    world.harness.set_flag(NEW_BILLING_ENGINE, false).await;
    world.invoice_job(&settle).await;
    world.harness.set_flag(NEW_BILLING_ENGINE, true).await;
    let paid = world.mirrored().await.remove(0);

    assert_eq!(
        (draft.status, issued.status, paid.status),
        (Draft, Open, Paid)
    );
    assert_eq!(
        (draft.number.is_some(), issued.number.is_some()),
        (false, true)
    );
    assert_eq!((issued.stage, issued.due_at.is_some()), (None, true));
    assert_eq!(
        (&issued.period, &issued.period_key),
        (&draft.period, &draft.period_key)
    );
    assert!(issued.stripe.unwrap().pdf_url.is_some());
    let at_stripe = stripe.objects("invoice");
    assert_eq!(at_stripe.len(), 1);
    assert_eq!(at_stripe[0]["total_excluding_tax"], 10_000);
    assert_eq!(at_stripe[0]["automatic_tax"]["enabled"], true);
    assert_eq!(
        at_stripe[0]["metadata"]["periodKey"],
        draft.period_key.unwrap()
    );

    // The database was restored from a backup that is older than the invoice, and its period is claimed again.
    for name in ["invoices", "stripe_calls"] {
        let all = store.collection::<Document>(name);
        all.delete_many(doc! {}).await.unwrap();
    }
    let again = draft_of(&world, draft.tenant_id, 0).await;
    world.issue(&again).await;
    let found = world.mirrored().await.remove(0);
    assert_eq!(
        (found.id, found.status, found.number),
        (again.id, Paid, issued.number)
    );
    assert_eq!(stripe.objects("invoice").len(), 1);

    // An invoice that Stripe does not have yet is voided here.
    let unsent = draft_of(&world, draft.tenant_id, 1).await;
    let void = VoidInvoice {
        tenant_id: unsent.tenant_id,
        invoice_id: unsent.id,
    };
    world.invoice_job(&void).await;
    let voided = world.mirrored().await.remove(1);
    assert_eq!((voided.status, voided.period_key), (Void, None));

    // The job of an invoice was skipped or discarded.
    let waiting = draft_of(&world, draft.tenant_id, 2).await;
    let before = clock::earlier(store.now(), Duration::from_hours(2));
    let aged = doc! { "$set": { "updatedAt": before } };
    let aged = invoices.update_one(doc! { "_id": waiting.id }, aged);
    assert_eq!(aged.await.unwrap().modified_count, 1);
    let run = RunInvoices {
        as_of: store.now(),
        dry_run: false,
    };
    world.invoice_job(&run).await;
    let sent = world.mirrored().await.remove(2);
    assert_eq!((sent.id, sent.status, sent.stage), (waiting.id, Open, None));
    world.stop().await;
}

/// A refused invoice is tried again ever later, and does not take the place of others.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_invoice_says_so_and_waits_longer_each_time() {
    let world = World::start().await;
    let draft = drafted(&world).await;
    let context = &world.harness.context;
    let store = &context.store;
    let stripe = &world.upstreams.stripe;
    let args = IssueInvoice {
        tenant_id: draft.tenant_id,
        invoice_id: draft.id,
    };
    let mut waits = Vec::new();
    for attempts in 1..=3 {
        let refusal = Refusal::invalid("Invalid currency.");
        stripe.refuse_next("create_invoice", refusal);
        let job = world.harness.enqueue(&args).await;
        let job = world.harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Discarded);
        let error = world.mirrored().await.remove(0).error.unwrap();
        assert_eq!(error.code, ErrorCode::UpstreamRejected);
        assert_eq!(error.attempts, attempts);
        let wait = error.retry_at.timestamp_millis() - error.at.timestamp_millis();
        waits.push(wait / 3_600_000);
    }
    assert_eq!(waits, [1, 2, 4]);
    let soon = clock::later(store.now(), Duration::from_secs(1));
    let unsent = async |now| {
        let unsent = context.invoices.list_unsent(soon, now, 10).await.unwrap();
        unsent.len()
    };
    assert_eq!(unsent(store.now()).await, 0);
    let later = clock::later(store.now(), Duration::from_hours(5));
    assert_eq!(unsent(later).await, 1);

    world.issue(&draft).await;
    assert_eq!(world.mirrored().await.remove(0).error, None);
    world.stop().await;
}
