//! Subscriptions that are charged to a card: each tenant has one at the payment provider, and each period has one biller,
//! whatever is lost, refused, edited or ended there.

mod changes;
mod deaths;
mod interrupted;
mod restored;
mod two_workers;

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    billing::period::whole_second,
    feature_flag::NEW_BILLING_ENGINE,
    id::TenantId,
    invoice::{BeforeFirstCard, Invoice, InvoiceStatus},
    platform::clock,
    queue::args::{MirrorStripeObject, RunInvoices, SweepBilling, SyncBilling},
    subscription::{Biller, EndedBy, Subscription, SubscriptionStatus},
    tenant::TenantStatus,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    stripe::Refusal,
};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::{
    harness::{step, until},
    scenarios::{billed, change_subscription, charged, customer, dearer, sell_by_card, set_card},
    world::World,
};

/// Seconds in which every month ends, and its invoice is finalized an hour later. Stripe lists the events of 30 days.
const MONTH: i64 = 32 * 24 * 60 * 60;

impl World {
    /// Syncs the tenant, and returns the changes.
    async fn sync(&self, tenant: TenantId) -> Vec<String> {
        let job = self.completed(&self.sync_billing(tenant).await).await;
        step(&job, "stripe").changes.clone()
    }

    async fn ours(&self, sold: &Subscription) -> Subscription {
        let found = self.harness.context.subscriptions.find(sold.id).await;
        found.unwrap().unwrap()
    }

    fn theirs(&self) -> Vec<Value> {
        self.upstreams.stripe.objects("subscription")
    }

    /// Totals of the invoices at the payment provider, oldest first.
    fn invoice_totals(&self) -> Vec<i64> {
        let invoices = self.upstreams.stripe.objects("invoice");
        let total = |invoice: &Value| invoice["total"].as_i64().unwrap();
        invoices.iter().map(total).collect()
    }

    /// All invoices here, oldest period first.
    async fn invoices_by_period(&self) -> Vec<Invoice> {
        let store = &self.harness.context.store;
        let invoices = store.collection::<Invoice>("invoices");
        let found = invoices.find(doc! {}).sort(doc! { "period.start": 1 });
        found.await.unwrap().try_collect().await.unwrap()
    }

    /// Mirrors the last invoice, and returns the changes.
    async fn mirror_last(&self, tenant: TenantId) -> Vec<String> {
        let invoice = self.upstreams.stripe.objects("invoice").pop().unwrap();
        let args = MirrorStripeObject {
            object_type: "invoice".to_owned(),
            object_id: invoice["id"].as_str().unwrap().to_owned(),
            tenant_id: Some(tenant),
        };
        let job = self.harness.enqueue(&args).await;
        step(&self.completed(&job).await, "stripe").changes.clone()
    }

    async fn run_invoices(&self) {
        let run = RunInvoices {
            as_of: self.harness.context.store.now(),
            dry_run: false,
        };
        self.completed(&self.harness.enqueue(&run).await).await;
        self.until_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_created_once_charged_each_month_and_billed_by_nothing_else() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let stripe = &world.upstreams.stripe;

    assert!(world.sync(sold.tenant_id).await.is_empty());
    // Stripe lists events for 30 days.
    world.catch_up().await;
    stripe.advance(MONTH);
    world.catch_up().await;
    world.run_invoices().await;

    let theirs = world.theirs();
    assert_eq!(theirs.len(), 1);
    // In the other one, the lines of changes and of a backdated time are others.
    assert_eq!(theirs[0]["billing_mode"]["type"], "classic");
    let metadata = &theirs[0]["metadata"];
    assert_eq!(metadata["tenantId"], sold.tenant_id.to_string());
    assert_eq!(metadata["subscriptionId"], sold.id.to_string());
    assert_eq!(world.invoice_totals(), [49_900, 49_900]);
    let ours = world.ours(&sold).await;
    assert_eq!(
        (ours.status, ours.biller, ours.may_recreate),
        (SubscriptionStatus::Active, Biller::Stripe, false)
    );
    let end = &theirs[0]["items"]["data"][0]["current_period_end"];
    let through = ours.invoiced_through.unwrap();
    assert_eq!(through.timestamp_millis() / 1_000, end.as_i64().unwrap());
    let mirrored = world.invoices_by_period().await;
    assert_eq!(mirrored.len(), 2);
    for invoice in &mirrored {
        assert_eq!(invoice.status, InvoiceStatus::Paid);
        assert_eq!(invoice.subscription_id, Some(sold.id));
        assert!(invoice.period_key.is_some());
    }
    let (first, second) = (mirrored[0].period.unwrap(), mirrored[1].period.unwrap());
    assert_eq!(first.end, second.start);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_prorated_once_and_edits_in_the_dashboard_are_taken_back() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let stripe = &world.upstreams.stripe;
    let tenant = sold.tenant_id;

    change_subscription(&world, &sold, dearer()).await;
    assert_eq!(world.sync(tenant).await, ["subscription's price changed"]);
    assert!(world.sync(tenant).await.is_empty());
    let accounts = &world.harness.context.billing_accounts;
    let account = accounts.find(tenant).await.unwrap().unwrap();
    let next = account.next_invoice.unwrap();
    assert_eq!(Some(next.at), world.ours(&sold).await.invoiced_through);
    // The amount is only shown.
    stripe.refuse_next("preview_invoice", Refusal::invalid("Refused."));
    assert!(world.sync(tenant).await.is_empty());
    let refused = accounts.find(tenant).await.unwrap().unwrap();
    assert_eq!(refused.next_invoice, None);
    let id = world.theirs()[0]["id"].as_str().unwrap().to_owned();
    let ends = [("cancel_at_period_end", "true")];
    stripe.edit_subscription(&id, &ends).unwrap();
    assert_eq!(world.sync(tenant).await, ["subscription changed"]);

    stripe.advance(MONTH);
    let invoices = stripe.objects("invoice");
    let lines = invoices[1]["lines"]["data"].as_array().unwrap();
    assert_eq!(lines.len(), 3);
    // All of the first month was left, but for the seconds of this test.
    let total = world.invoice_totals()[1];
    assert!((149_890..=149_900).contains(&total), "{total}");
    assert_eq!(next.subtotal_minor, total);
    assert_eq!(stripe.objects("price").len(), 2);
    assert_eq!(stripe.objects("product").len(), 2);

    world.mirror_last(tenant).await;
    // A yearly cycle begins at once, and its invoice credits the rest of the month.
    let yearly = doc! { "cycle": "yearly", "priceMinor": 999_000_i64 };
    change_subscription(&world, &sold, yearly).await;
    world.sync(tenant).await;
    let through = world.ours(&sold).await.invoiced_through.unwrap();
    let now = world.harness.context.store.now();
    let ahead = clock::later(now, Duration::from_hours(360 * 24));
    assert!(through > ahead, "{through}");
    assert_eq!(world.invoice_totals().len(), 3);
    let mirrored = world.mirror_last(tenant).await;
    assert_eq!(mirrored.len(), 1, "{mirrored:?}");
    let periods = world.invoices_by_period().await;
    let ends = periods.iter().map(|it| it.period.unwrap().end);
    assert_eq!(ends.max(), Some(through));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_that_waits_is_shown_and_one_that_expired_waits_for_a_person() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    set_card(&world, "pm_card_authenticationRequired");
    let sold = sell_by_card(&world, tenant).await;
    let stripe = &world.upstreams.stripe;

    world.sync(tenant).await;
    let waiting = world.ours(&sold).await;
    assert_eq!(waiting.stripe_status.as_deref(), Some("incomplete"));
    assert_eq!(waiting.status, SubscriptionStatus::PastDue);
    assert!(waiting.needs_authentication);
    assert_eq!(waiting.invoiced_through, sold.invoiced_through);
    stripe.advance(24 * 60 * 60);
    world.catch_up().await;
    for _ in 0..2 {
        assert!(world.sync(tenant).await.is_empty());
    }
    assert_eq!(world.theirs().len(), 1);
    let expired = world.ours(&sold).await;
    assert_eq!(expired.stripe_status.as_deref(), Some("incomplete_expired"));

    // A new card sets this.
    set_card(&world, "pm_card_visa");
    change_subscription(&world, &sold, doc! { "mayRecreate": true }).await;
    for _ in 0..2 {
        world.sync(tenant).await;
    }
    let statuses: Vec<Value> = world
        .theirs()
        .iter()
        .map(|it| it["status"].clone())
        .collect();
    assert_eq!(json!(statuses), json!(["incomplete_expired", "active"]));
    let ours = world.ours(&sold).await;
    assert_eq!(ours.status, SubscriptionStatus::Active);
    assert!(!ours.needs_authentication);
    world.stop().await;
}

/// The customer has used the service since the sale, ten days ago.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_before_the_first_card_is_charged_where_it_is_not_free() {
    let mut world = World::start().await;
    world.harness.invoicing.before_first_card = BeforeFirstCard::Backdate;
    world.replace_worker().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    let now = world.harness.context.store.now();
    let through = whole_second(clock::earlier(now, Duration::from_hours(10 * 24)));
    change_subscription(&world, &sold, doc! { "invoicedThrough": through }).await;

    world.sync(tenant).await;
    world.catch_up().await;

    let start = &world.theirs()[0]["start_date"];
    assert_eq!(start.as_i64(), Some(through.timestamp_millis() / 1_000));
    // Ten days of a month of 28 to 31 days, and a month.
    let total = world.invoice_totals()[0];
    assert!((65_996..=67_730).contains(&total), "{total}");
    let invoices = world.invoices_by_period().await;
    assert_eq!(invoices.len(), 1);
    let ours = world.ours(&sold).await.invoiced_through;
    assert_eq!(invoices[0].period.map(|period| period.end), ours);
    assert!(ours > Some(now));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_biller_changes_at_the_end_of_a_period() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    let stripe = &world.upstreams.stripe;
    let now = world.harness.context.store.now();
    let through = whole_second(clock::later(now, Duration::from_hours(10 * 24)));
    let by_run = doc! { "biller": "run", "invoicedThrough": through, "billingAnchor": through };
    change_subscription(&world, &sold, by_run).await;

    world.sync(tenant).await;
    world.catch_up().await;
    let anchored = world.ours(&sold).await;
    assert_eq!(anchored.biller, Biller::Stripe);
    assert_eq!(anchored.invoiced_through, Some(through));
    assert_eq!(world.invoice_totals(), [0]);
    // The days until the first charged period are those of an invoice of the run.
    assert_eq!(world.invoices_by_period().await[0].period_key, None);
    stripe.advance(11 * 24 * 60 * 60);
    world.catch_up().await;
    assert_eq!(world.invoice_totals(), [0, 49_900]);
    let charged = world.invoices_by_period().await.remove(1);
    assert_eq!(charged.period.unwrap().start, through);
    assert!(charged.period_key.is_some());

    let by_mail = doc! { "collectionMethod": "send_invoice" };
    change_subscription(&world, &sold, by_mail).await;
    let changes = world.sync(tenant).await;
    assert_eq!(changes, ["subscription ends with its period"]);
    assert_eq!(world.ours(&sold).await.biller, Biller::Stripe);
    stripe.advance(MONTH);
    world.catch_up().await;
    let ours = world.ours(&sold).await;
    assert_eq!(ours.biller, Biller::Run);
    assert!(ours.status.is_live());
    assert_eq!(ours.invoiced_through, Some(charged.period.unwrap().end));
    assert_eq!(ours.billing_anchor, ours.invoiced_through);
    assert_eq!(world.invoice_totals(), [0, 49_900]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ended_there_ends_here_and_is_not_created_again() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let stripe = &world.upstreams.stripe;
    let id = world.theirs()[0]["id"].as_str().unwrap().to_owned();

    stripe.cancel_subscription(&id, "payment_failed").unwrap();
    world.catch_up().await;
    for _ in 0..2 {
        world.sync(sold.tenant_id).await;
    }

    let ours = world.ours(&sold).await;
    assert_eq!(ours.status, SubscriptionStatus::Cancelled);
    assert_eq!(ours.ended_by, Some(EndedBy::PaymentFailed));
    assert_eq!(world.theirs().len(), 1);
    world.stop().await;
}

/// The customer was deleted, and no event told it.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_of_a_deleted_customer_ends_and_the_next_sale_has_one_customer() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let stripe = &world.upstreams.stripe;
    let deleted = stripe.objects("customer").remove(0);
    let deleted = deleted["id"].as_str().unwrap();
    stripe.delete_customer(deleted).unwrap();

    for _ in 0..2 {
        world.sync(sold.tenant_id).await;
    }
    let ended = world.ours(&sold).await;
    assert_eq!(ended.ended_by, Some(EndedBy::CustomerDeleted));
    let again = sell_by_card(&world, sold.tenant_id).await;
    set_card(&world, "pm_card_visa");
    world.sync(sold.tenant_id).await;

    assert_eq!(stripe.objects("customer").len(), 1);
    assert_eq!(world.ours(&again).await.status, SubscriptionStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_in_another_currency_gets_a_customer_of_its_own() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let tenant = sold.tenant_id;
    let ended = doc! { "status": "cancelled" };
    change_subscription(&world, &sold, ended).await;
    world.sync(tenant).await;
    let again = sell_by_card(&world, tenant).await;
    change_subscription(&world, &again, doc! { "currency": "EUR" }).await;

    world.sync(tenant).await;

    let stripe = &world.upstreams.stripe;
    assert_eq!(stripe.objects("customer").len(), 2);
    let account = world.harness.context.billing_accounts.find(tenant).await;
    let account = account.unwrap().unwrap();
    // The card stays with the former customer.
    assert_eq!(account.default_card, None);
    assert_eq!(account.former_stripe_customer_ids.len(), 1);
    world.stop().await;
}

/// The one before was ended a moment before the sale, so that one sync follows both.
#[tokio::test(flavor = "multi_thread")]
async fn one_in_another_currency_leaves_none_behind_with_the_former_customer() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let tenant = sold.tenant_id;
    change_subscription(&world, &sold, doc! { "status": "cancelled" }).await;
    let again = sell_by_card(&world, tenant).await;
    change_subscription(&world, &again, doc! { "currency": "EUR" }).await;

    world.sync(tenant).await;

    assert_eq!(world.upstreams.stripe.objects("customer").len(), 2);
    assert_eq!(world.theirs()[0]["status"], "canceled");
    world.stop().await;
}

/// An event arrives before the sync that adopts it.
#[tokio::test(flavor = "multi_thread")]
async fn an_imported_subscription_goes_on_at_stripe_whichever_job_reads_it_first() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let imported = doc! {
        "collectionMethod": "manual", "biller": "run", "invoicedThrough": null, "billingAnchor": null,
    };
    change_subscription(&world, &sold, imported).await;
    let args = MirrorStripeObject {
        object_type: "subscription".to_owned(),
        object_id: world.theirs()[0]["id"].as_str().unwrap().to_owned(),
        tenant_id: Some(sold.tenant_id),
    };

    world.completed(&world.harness.enqueue(&args).await).await;
    world.sync(sold.tenant_id).await;

    assert_eq!(world.theirs()[0]["cancel_at_period_end"], false);
    let ours = world.ours(&sold).await;
    assert_eq!((ours.biller, ours.is_by_card()), (Biller::Stripe, true));
    world.stop().await;
}

/// The answer of its creation was lost, and an event of its invoice arrives before the next attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_of_the_subscription_that_its_own_was_created_for() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let lost = doc! { "stripeSubscriptionId": null };
    change_subscription(&world, &sold, lost).await;
    let invoice = world.upstreams.stripe.objects("invoice").remove(0);
    let args = MirrorStripeObject {
        object_type: "invoice".to_owned(),
        object_id: invoice["id"].as_str().unwrap().to_owned(),
        tenant_id: Some(sold.tenant_id),
    };

    world.completed(&world.harness.enqueue(&args).await).await;

    let mirrored = world.invoices_by_period().await.remove(0);
    assert_eq!(mirrored.subscription_id, Some(sold.id));
    assert!(mirrored.period_key.is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_while_its_price_is_created_is_never_charged() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    let stripe = &world.upstreams.stripe;
    let slow = Fault::SlowAnswer { millis: 1_000 };
    stripe
        .server
        .faults
        .add(FaultRule::once("create_price", slow));

    let job = world.sync_billing(tenant).await;
    until(
        async || stripe.objects("price").len(),
        |prices| *prices == 1,
    )
    .await;
    change_subscription(&world, &sold, doc! { "status": "cancelled" }).await;
    world.completed(&job).await;

    assert!(world.theirs().is_empty());
    world.stop().await;
}

/// Its customer was never created, so that nothing at the payment provider tells its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_without_a_customer_ends_with_the_removal_of_its_tenant() {
    let world = World::start().await;
    let tenant = billed(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    let removed = world.harness.change_tenant(tenant, |tenant| {
        tenant.status = TenantStatus::Terminated;
    });
    removed.await;

    world.sync(tenant).await;

    let ours = world.ours(&sold).await;
    assert_eq!(ours.ended_by, Some(EndedBy::TenantTerminated));
    assert!(world.upstreams.stripe.objects("customer").is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_leaves_is_charged_for_no_other_period_and_ends_with_its_removal() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let tenant = sold.tenant_id;
    let set_status = async |status| {
        let change = world
            .harness
            .change_tenant(tenant, |tenant| tenant.status = status);
        change.await;
    };

    set_status(TenantStatus::Terminating).await;
    world.sync(tenant).await;
    assert_eq!(world.theirs()[0]["cancel_at_period_end"], true);
    set_status(TenantStatus::Active).await;
    world.sync(tenant).await;
    assert_eq!(world.theirs()[0]["cancel_at_period_end"], false);
    // A customer that is gone is not charged, also with the flag off.
    world.harness.set_flag(NEW_BILLING_ENGINE, false).await;
    set_status(TenantStatus::Terminated).await;
    let sweep = SweepBilling {
        dry_run: false,
        spread_seconds: 0,
    };
    world.completed(&world.harness.enqueue(&sweep).await).await;
    world.until_idle().await;

    assert_eq!(world.theirs()[0]["status"], "canceled");
    let ours = world.ours(&sold).await;
    assert_eq!(ours.ended_by, Some(EndedBy::TenantTerminated));
    assert_eq!(world.upstreams.stripe.objects("customer").len(), 1);
    world.stop().await;
}

/// The database was restored from a backup that is older than the subscription at Stripe, and a person made another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_subscription_is_adopted_and_a_second_one_is_cancelled() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let store = &world.harness.context.store;
    let all = store.collection::<Document>("stripe_calls");
    all.delete_many(doc! {}).await.unwrap();
    let forgotten = doc! { "stripeSubscriptionId": null, "mayRecreate": true };
    change_subscription(&world, &sold, forgotten).await;

    world.sync(sold.tenant_id).await;
    assert_eq!(world.theirs().len(), 1);
    let adopted = world.ours(&sold).await.stripe_subscription_id;
    let id = world.theirs()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(adopted.as_deref(), Some(id.as_str()));

    let first = world.theirs().remove(0);
    let second = dezky_upstreams::clients::stripe::NewSubscription {
        customer: first["customer"].as_str().unwrap().to_owned(),
        price: first["items"]["data"][0]["price"]["id"]
            .as_str()
            .unwrap()
            .to_owned(),
        anchor: None,
        backdated_to: None,
        tenant_id: sold.tenant_id.to_string(),
        subscription_id: sold.id.to_string(),
    };
    let client = world.harness.context.clients.stripe.as_ref().unwrap();
    let created = client.create_subscription(&second, "second").await;
    assert!(created.unwrap().is_some());
    world.sync(sold.tenant_id).await;
    let live = world.theirs();
    let live: Vec<&Value> = live.iter().filter(|it| it["status"] == "active").collect();
    assert_eq!(live.len(), 1);
    assert_eq!(live[0]["id"], id);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_done_and_a_sweep_does_it() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    world.sync(tenant).await;
    let sold = sell_by_card(&world, tenant).await;

    let dry_run = SyncBilling {
        tenant_id: tenant,
        dry_run: true,
    };
    let job = world.harness.enqueue(&dry_run).await;
    let job = world.completed(&job).await;
    assert_eq!(
        step(&job, "stripe").changes,
        ["would create the subscription"]
    );
    assert!(world.theirs().is_empty());
    let sweep = SweepBilling {
        dry_run: false,
        spread_seconds: 0,
    };
    world.completed(&world.harness.enqueue(&sweep).await).await;
    world.until_idle().await;

    assert_eq!(world.theirs().len(), 1);
    let ours = world.ours(&sold).await;
    assert!(ours.stripe_subscription_id.is_some());
    world.stop().await;
}
