//! Changes of a card subscription within one period, and events about them in any order: each is charged once, and no period
//! has two billers.

use std::{slice, time::Duration};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    billing::period::Period,
    platform::clock,
    subscription::{Subscription, SubscriptionStatus},
};
use serde_json::{Value, json};

use super::MONTH;
use crate::{
    scenarios::{change_subscription, charged, customer, sell_by_card, set_card},
    world::World,
};

impl World {
    async fn by_hand(&self, sold: &Subscription) -> Vec<String> {
        change_subscription(self, sold, doc! { "collectionMethod": "manual" }).await;
        self.sync(sold.tenant_id).await
    }

    /// As the API does it.
    async fn by_card_again(&self, sold: &Subscription) -> Vec<String> {
        let by_card = doc! { "collectionMethod": "charge_automatically", "mayRecreate": true };
        change_subscription(self, sold, by_card).await;
        self.sync(sold.tenant_id).await
    }

    /// A subscription that left its card before the first payment, and the start of the period that both billers begin. The
    /// sync has left it so, and its void invoice is not mirrored yet.
    async fn left_unpaid(&self) -> (Subscription, DateTime) {
        let tenant = customer(self).await;
        set_card(self, "pm_card_authenticationRequired");
        let sold = sell_by_card(self, tenant).await;
        self.sync(tenant).await;
        let start = &self.theirs()[0]["items"]["data"][0]["current_period_start"];
        let start = DateTime::from_millis(start.as_i64().unwrap() * 1_000);
        let same = doc! { "invoicedThrough": start, "billingAnchor": start };
        change_subscription(self, &sold, same).await;
        self.catch_up().await;
        let left = doc! { "collectionMethod": "manual", "biller": "run", "status": "active" };
        change_subscription(self, &sold, left).await;
        (sold, start)
    }

    /// The next period begins at Stripe, which lists the events of the one before no more.
    async fn next_period(&self) {
        self.catch_up().await;
        self.upstreams.stripe.advance(MONTH);
        self.catch_up().await;
        self.run_invoices().await;
    }

    /// Periods that were invoiced, oldest first.
    async fn invoiced_periods(&self) -> Vec<Period> {
        let invoices = self.invoices_by_period().await.into_iter();
        let claimed = invoices.filter(|invoice| invoice.period_key.is_some());
        claimed.filter_map(|invoice| invoice.period).collect()
    }
}

/// Automattic/woocommerce-payments#9702: each job runs twice, the second time as if the result of its call had been lost.
#[tokio::test(flavor = "multi_thread")]
async fn two_upgrades_within_a_period_are_prorated_once_each() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let context = &world.harness.context;
    let calls = context.store.collection::<Document>("stripe_calls");

    for price in [99_900_i64, 149_900] {
        let upgrade = doc! { "plan": "enterprise", "priceMinor": price };
        change_subscription(&world, &sold, upgrade).await;
        let job = world.sync_billing(sold.tenant_id).await;
        world.completed(&job).await;
        let call = doc! { "_id": format!("subscription.update:{}", sold.id) };
        let lost = doc! { "$set": { "state": "open" } };
        let lost = calls.update_one(call, lost).await.unwrap();
        assert_eq!(lost.modified_count, 1);
        let again = world.harness.requeue(job.id).await.unwrap().job;
        context.ready.notify(slice::from_ref(&again)).await;
        world.completed(&again).await;
    }
    world.upstreams.stripe.advance(MONTH);

    let invoices = world.upstreams.stripe.objects("invoice");
    let lines = invoices[1]["lines"]["data"].as_array().unwrap();
    let is_proration =
        |line: &&Value| line["parent"]["subscription_item_details"]["proration"] == true;
    assert_eq!(lines.iter().filter(is_proration).count(), 4);
    // Two upgrades of DKK 500.00 for all of the first month, but for the seconds of this test.
    let total = world.invoice_totals()[1];
    assert!((249_880..=249_900).contains(&total), "{total}");
    world.stop().await;
}

/// laravel/cashier-stripe#1201, stripe/sync-engine#268: the copy of the creation is older than that of the update, and both
/// events are of one second.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_arrives_before_the_creation_leaves_a_subscription_active() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    set_card(&world, "pm_card_authenticationRequired");
    let sold = sell_by_card(&world, tenant).await;
    world.sync(tenant).await;
    assert_eq!(world.ours(&sold).await.status, SubscriptionStatus::PastDue);
    let stripe = &world.upstreams.stripe;
    let first = stripe.objects("invoice").remove(0);
    stripe.pay_invoice(first["id"].as_str().unwrap()).unwrap();
    let mut events = stripe.objects("event");
    events.retain(|event| event["data"]["object"]["object"] == "subscription");
    let (mut created, mut updated) = (events.remove(0), events.pop().unwrap());
    created["data"]["object"]["status"] = json!("incomplete");
    updated["created"] = created["created"].clone();

    for event in [&updated, &created] {
        world.receive(slice::from_ref(event)).await;
        world.until_idle().await;
    }

    assert_eq!(created["type"], "customer.subscription.created");
    assert_eq!(updated["data"]["object"]["status"], "active");
    let ours = world.ours(&sold).await;
    assert_eq!(ours.status, SubscriptionStatus::Active);
    assert_eq!(ours.stripe_status.as_deref(), Some("active"));
    let store = &world.harness.context.store;
    let stored = store.collection::<Document>("webhook_events");
    let followed = stored.count_documents(doc! { "state": "processed" }).await;
    assert_eq!(followed.unwrap(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_returns_to_its_card_within_a_period_is_billed_by_stripe_alone() {
    let world = World::start().await;
    let sold = charged(&world).await;

    let left = world.by_hand(&sold).await;
    world.run_invoices().await;
    let returned = world.by_card_again(&sold).await;
    world.run_invoices().await;
    world.next_period().await;

    assert_eq!(left, ["subscription ends with its period"]);
    assert_eq!(returned, ["subscription changed"]);
    assert_eq!(world.invoice_totals(), [49_900, 49_900]);
    assert_eq!(world.invoices_by_period().await.len(), 2);
    let periods = world.invoiced_periods().await;
    assert_eq!(periods.len(), 2);
    assert_eq!(periods[0].end, periods[1].start);
    world.stop().await;
}

/// Its first invoice at Stripe has the key of the period that the run is to invoice, until the event of its end is followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_period_whose_first_payment_was_given_up_is_invoiced_by_the_run_and_the_next_one_by_stripe()
 {
    let world = World::start().await;
    let (sold, start) = world.left_unpaid().await;

    world.run_invoices().await;
    let between = world.ours(&sold).await.invoiced_through;
    world.sync(sold.tenant_id).await;
    world.catch_up().await;
    world.run_invoices().await;
    set_card(&world, "pm_card_visa");
    world.by_card_again(&sold).await;
    world.run_invoices().await;
    world.next_period().await;

    assert_eq!(between, Some(start));
    assert_eq!(world.invoice_totals(), [49_900, 0, 49_900]);
    let periods = world.invoiced_periods().await;
    assert_eq!(periods.len(), 2);
    assert_eq!(periods[0].start, start);
    assert_eq!(periods[0].end, periods[1].start);
    let invoices = world.invoices_by_period().await;
    let claimed = invoices.iter().filter(|it| it.period_key.is_some());
    let by_stripe: Vec<bool> = claimed.map(|it| it.stripe.is_some()).collect();
    assert_eq!(by_stripe, [false, true]);
    world.stop().await;
}

/// As that of a subscription that a person has cancelled in the dashboard: Stripe never voids it.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_invoice_that_stays_open_delays_the_periods_after_it_by_some_days_only() {
    let world = World::start().await;
    let (sold, start) = world.left_unpaid().await;
    let store = &world.harness.context.store;
    let invoices = store.collection::<Document>("invoices");
    let old = clock::earlier(store.now(), Duration::from_hours(96));
    let aged = doc! { "$set": { "issuedAt": old } };
    let aged = invoices.update_one(doc! {}, aged).await.unwrap();

    world.run_invoices().await;

    assert_eq!(aged.modified_count, 1);
    assert!(world.ours(&sold).await.invoiced_through > Some(start));
    assert_eq!(world.invoices_by_period().await.len(), 1);
    world.stop().await;
}
