//! Card subscriptions whose creation is interrupted: answers are lost, requests arrive late or are refused, and ours, its
//! tenant or the first payment changes meanwhile.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    feature_flag::NEW_BILLING_ENGINE,
    platform::clock,
    queue::{args::SweepBilling, job::JobState},
    subscription::{Biller, EndedBy, Subscription, SubscriptionStatus},
    tenant::TenantStatus,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    stripe::Refusal,
};
use dezky_upstreams::clients::stripe::NewSubscription;
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::{
    harness::until,
    scenarios::{change_subscription, charged, customer, dearer, sell_by_card, set_card},
    world::World,
};

const CREATE: &str = "create_subscription";
/// Time limit of a change that the database reports.
const PATIENCE: Duration = Duration::from_secs(30);

impl World {
    async fn creation_is_open(&self, sold: &Subscription) -> bool {
        self.creation_is(sold, "open").await
    }

    async fn creation_is(&self, sold: &Subscription, state: &str) -> bool {
        let calls = self
            .harness
            .context
            .store
            .collection::<Document>("stripe_calls");
        let call = doc! { "_id": format!("subscription.create:{}", sold.id), "state": state };
        calls.find_one(call).await.unwrap().is_some()
    }

    /// The request of the first attempt to create a subscription, as it arrives after all.
    async fn first_creation_arrives(&self, sold: &Subscription) {
        let stripe = &self.upstreams.stripe;
        let id_of = |object: &serde_json::Value| object["id"].as_str().unwrap().to_owned();
        let prices = stripe.objects("price");
        let price = prices
            .iter()
            .find(|price| price["unit_amount"] == sold.price_minor);
        let first = NewSubscription {
            customer: id_of(&stripe.objects("customer")[0]),
            price: id_of(price.unwrap()),
            anchor: None,
            backdated_to: None,
            tenant_id: sold.tenant_id.to_string(),
            subscription_id: sold.id.to_string(),
        };
        let client = self.harness.context.clients.stripe.as_ref().unwrap();
        let key = format!("subscription.create:{}:1", sold.id);
        let arrived = client.create_subscription(&first, &key).await;
        assert!(arrived.unwrap().is_some());
    }

    /// A subscription whose creation is lost for now, and is followed by this change of ours before the next attempt.
    async fn lost_creation(&self, change: Document) -> Subscription {
        let tenant = customer(self).await;
        let sold = sell_by_card(self, tenant).await;
        let faults = &self.upstreams.stripe.server.faults;
        let lost = FaultRule {
            operation: Some(CREATE.to_owned()),
            ..FaultRule::every(Fault::Reset)
        };
        faults.add(lost.clone());
        let job = self.sync_billing(tenant).await;
        until(
            async || self.creation_is_open(&sold).await,
            |is_open| *is_open,
        )
        .await;
        change_subscription(self, &sold, change).await;
        self.completed(&job).await;
        faults.remove(&lost);
        sold
    }
}

/// The run would invoice the period that the request charges to the card once it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_leaves_its_card_before_a_lost_creation_arrives_is_billed_once() {
    let world = World::start().await;
    let by_hand = doc! { "collectionMethod": "manual" };
    let sold = world.lost_creation(by_hand).await;

    world.run_invoices().await;
    let between = world.ours(&sold).await.biller;
    assert!(world.invoices_by_period().await.is_empty());
    world.first_creation_arrives(&sold).await;
    world.catch_up().await;
    world.sync(sold.tenant_id).await;
    world.run_invoices().await;

    assert_eq!(between, Biller::Stripe);
    assert_eq!(world.theirs()[0]["cancel_at_period_end"], true);
    assert_eq!(world.invoice_totals(), [49_900]);
    assert_eq!(world.invoices_by_period().await.len(), 1);
    world.stop().await;
}

/// No request is in doubt any more: Stripe would have forgotten its key.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_leaves_its_card_returns_to_the_run_a_day_after_a_lost_creation() {
    let world = World::start().await;
    let by_hand = doc! { "collectionMethod": "manual" };
    let sold = world.lost_creation(by_hand).await;
    let store = &world.harness.context.store;
    let yesterday = clock::earlier(store.now(), Duration::from_hours(24));
    let calls = store.collection::<Document>("stripe_calls");
    let aged = doc! { "$set": { "startedAt": yesterday } };
    calls.update_many(doc! {}, aged).await.unwrap();

    world.sync(sold.tenant_id).await;

    assert_eq!(world.ours(&sold).await.biller, Biller::Run);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_created_after_ours_has_ended_is_cancelled_by_its_event() {
    let world = World::start().await;
    let ended = doc! { "status": "cancelled" };
    let sold = world.lost_creation(ended).await;

    world.first_creation_arrives(&sold).await;
    world.catch_up().await;

    assert_eq!(world.theirs()[0]["status"], "canceled");
    world.stop().await;
}

/// Ours is what the sweep finds it by.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_a_removed_tenant_does_not_end_before_a_lost_creation_arrives() {
    let world = World::start().await;
    let ends = doc! { "cancelAtPeriodEnd": true };
    let sold = world.lost_creation(ends).await;
    let tenant = sold.tenant_id;
    let removed = world
        .harness
        .change_tenant(tenant, |tenant| tenant.status = TenantStatus::Terminated);
    removed.await;

    world.sync(tenant).await;
    let between = world.ours(&sold).await.status;
    world.first_creation_arrives(&sold).await;
    let sweep = SweepBilling {
        dry_run: false,
        spread_seconds: 0,
    };
    world.completed(&world.harness.enqueue(&sweep).await).await;
    world.until_idle().await;

    assert!(between.is_live());
    assert_eq!(world.theirs()[0]["status"], "canceled");
    let ours = world.ours(&sold).await;
    assert_eq!(ours.ended_by, Some(EndedBy::TenantTerminated));
    world.stop().await;
}

/// With another key for the new terms, the first request would create a second subscription, which charges once more.
#[tokio::test(flavor = "multi_thread")]
async fn terms_that_change_before_a_lost_creation_arrives_cause_no_second_one() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    let stripe = &world.upstreams.stripe;
    let lost = FaultRule {
        operation: Some(CREATE.to_owned()),
        ..FaultRule::every(Fault::Reset)
    };
    stripe.server.faults.add(lost.clone());
    let job = world.sync_billing(tenant).await;
    until(
        async || world.creation_is_open(&sold).await,
        |is_open| *is_open,
    )
    .await;
    change_subscription(&world, &sold, dearer()).await;
    stripe.server.faults.remove(&lost);

    world.completed(&job).await;
    world.first_creation_arrives(&sold).await;

    let theirs = world.theirs();
    assert_eq!(theirs.len(), 1);
    let price = &theirs[0]["items"]["data"][0]["price"];
    assert_eq!(price["unit_amount"], 99_900);
    assert_eq!(world.invoice_totals(), [49_900]);
    assert_eq!(world.ours(&sold).await.status, SubscriptionStatus::Active);
    world.stop().await;
}

/// It would be billed by neither otherwise. The call ends in the transaction that returns it: a worker that dies between two
/// would leave one that is repeated after the run has invoiced.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_run_returns_to_it_if_a_lost_creation_is_refused() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    change_subscription(&world, &sold, doc! { "biller": "run" }).await;
    let stripe = &world.upstreams.stripe;
    let lost = FaultRule::once(CREATE, Fault::Reset);
    stripe.server.faults.add(lost);
    for _ in 0..2 {
        stripe.refuse_next(CREATE, Refusal::invalid("Refused."));
    }
    let database = world.harness.context.store.database();
    let mut changes = database.watch().await.unwrap();

    let job = world.sync_billing(tenant).await;
    let job = world.harness.finished(job.id).await;
    let (mut refused, mut written) = (Vec::new(), Vec::new());
    // Each of the two refusals ends a call, and returns a subscription that was taken before.
    while refused.len() < 2 || written.len() < 4 {
        let change = timeout(PATIENCE, changes.next()).await.unwrap();
        let change = change.unwrap().unwrap();
        let fields = change.update_description.map(|it| it.updated_fields);
        let state = fields.as_ref().and_then(|it| it.get_str("state").ok());
        let collection = change.ns.and_then(|namespace| namespace.coll);
        match collection.as_deref() {
            Some("subscriptions") => written.push(change.cluster_time),
            Some("stripe_calls") if state == Some("refused") => refused.push(change.cluster_time),
            _ => {}
        }
    }

    assert_eq!(refused, [written[1], written[3]]);
    assert_eq!(job.state, JobState::Discarded, "{job:#?}");
    assert!(world.theirs().is_empty());
    let ours = world.ours(&sold).await;
    assert_eq!((ours.biller, ours.leaves_run), (Biller::Run, false));
    world.stop().await;
}

/// Stripe stores an internal error, and does not say whether the subscription exists: until the next look, the run must not
/// invoice the same period.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_run_does_not_return_to_it_after_an_internal_error() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    change_subscription(&world, &sold, doc! { "biller": "run" }).await;
    let stripe = &world.upstreams.stripe;
    stripe.refuse_next(CREATE, Refusal::internal());
    // The third attempt looks for a second, in which the state after the second one is read.
    let slow = FaultRule {
        operation: Some("list_subscriptions".to_owned()),
        ..FaultRule::every(Fault::SlowAnswer { millis: 1_000 })
    };
    stripe.server.faults.add(slow.clone());

    let job = world.sync_billing(tenant).await;
    until(
        async || world.creation_is(&sold, "refused").await,
        |is_refused| *is_refused,
    )
    .await;
    let between = world.ours(&sold).await;
    stripe.server.faults.remove(&slow);
    world.completed(&job).await;

    assert_eq!(between.biller, Biller::Stripe);
    assert_eq!(world.theirs().len(), 1);
    assert_eq!(world.ours(&sold).await.biller, Biller::Stripe);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_tenant_is_deleted_while_its_price_is_created_is_never_charged() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    let stripe = &world.upstreams.stripe;
    // The tenant is deleted between the first effect and the last answer.
    for operation in ["create_product", "create_price"] {
        let slow = Fault::SlowAnswer { millis: 1_500 };
        stripe.server.faults.add(FaultRule::once(operation, slow));
    }

    let job = world.sync_billing(tenant).await;
    until(
        async || stripe.objects("product").len(),
        |products| *products == 1,
    )
    .await;
    let deleted = world
        .harness
        .change_tenant(tenant, |tenant| tenant.status = TenantStatus::Terminating);
    deleted.await;
    world.completed(&job).await;

    assert!(world.theirs().is_empty());
    assert!(world.ours(&sold).await.status.is_live());
    world.stop().await;
}

/// Stripe leaves it open, and its page would take the payment of a subscription that has ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_invoice_of_one_that_is_cancelled_before_it_was_paid_is_voided() {
    for end in [
        doc! { "cancelAtPeriodEnd": true },
        doc! { "status": "cancelled" },
    ] {
        let world = World::start().await;
        let tenant = customer(&world).await;
        set_card(&world, "pm_card_authenticationRequired");
        let sold = sell_by_card(&world, tenant).await;
        world.sync(tenant).await;
        let stripe = &world.upstreams.stripe;
        assert_eq!(stripe.objects("invoice")[0]["status"], "open");

        change_subscription(&world, &sold, end).await;
        world.sync(tenant).await;

        assert_eq!(world.theirs()[0]["status"], "canceled");
        assert_eq!(stripe.objects("invoice")[0]["status"], "void");
        assert_eq!(
            world.ours(&sold).await.status,
            SubscriptionStatus::Cancelled
        );
        world.stop().await;
    }
}

/// The sync of its deletion was discarded, and its removal waits for another upstream.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_purge_has_begun_is_charged_for_no_other_period() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let now = world.harness.context.store.now();
    let begun = clock::earlier(now, Duration::from_hours(1));
    let deleted = world.harness.change_tenant(sold.tenant_id, |tenant| {
        tenant.status = TenantStatus::Terminating;
        tenant.purge_at = Some(begun);
    });
    deleted.await;

    world.sync(sold.tenant_id).await;

    assert_eq!(world.theirs()[0]["cancel_at_period_end"], true);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_cancels_the_subscription_of_its_tenant() {
    purge_cancels(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_cancels_the_subscription_of_a_tenant_whose_flag_is_off() {
    purge_cancels(false).await;
}

async fn purge_cancels(is_billed: bool) {
    let world = World::start().await;
    let sold = charged(&world).await;
    let tenant = sold.tenant_id;
    world.harness.set_flag(NEW_BILLING_ENGINE, is_billed).await;
    let [freeze, _] = world.delete(tenant, Duration::from_hours(1)).await;
    world.completed(&freeze).await;

    world.completed(&world.purge(tenant).await).await;

    let ended = until(async || world.ours(&sold).await.ended_by, Option::is_some);
    assert_eq!(ended.await, Some(EndedBy::TenantTerminated));
    assert_eq!(world.theirs()[0]["status"], "canceled");
    world.stop().await;
}

/// With the flag off, its end here ends nothing at Stripe.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_cancels_a_subscription_that_ended_here_while_the_flag_was_off() {
    let world = World::start().await;
    let sold = charged(&world).await;
    let tenant = sold.tenant_id;
    world.harness.set_flag(NEW_BILLING_ENGINE, false).await;
    change_subscription(&world, &sold, doc! { "status": "cancelled" }).await;
    let [freeze, _] = world.delete(tenant, Duration::from_hours(1)).await;
    world.completed(&freeze).await;

    world.completed(&world.purge(tenant).await).await;

    until(
        async || world.theirs()[0]["status"].clone(),
        |status| *status == "canceled",
    )
    .await;
    world.stop().await;
}
