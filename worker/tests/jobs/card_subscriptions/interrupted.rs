//! Card subscriptions whose creation is interrupted: answers are lost, requests arrive late or are refused, and ours, its
//! tenant or the first payment changes meanwhile.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    platform::clock,
    queue::job::JobState,
    subscription::{Biller, EndedBy, Subscription, SubscriptionStatus},
    tenant::TenantStatus,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    stripe::Refusal,
};
use dezky_upstreams::clients::stripe::NewSubscription;

use crate::{
    harness::until,
    scenarios::{change_subscription, charged, customer, dearer, sell_by_card, set_card},
    world::World,
};

const CREATE: &str = "create_subscription";

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
            tenant_id: sold.tenant_id.to_string(),
            subscription_id: sold.id.to_string(),
        };
        let client = self.harness.context.clients.stripe.as_ref().unwrap();
        let key = format!("subscription.create:{}:1", sold.id);
        let arrived = client.create_subscription(&first, &key).await;
        assert!(arrived.unwrap().is_some());
    }
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

/// It would be billed by neither otherwise.
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

    let job = world.sync_billing(tenant).await;
    let job = world.harness.finished(job.id).await;

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
    let world = World::start().await;
    let sold = charged(&world).await;
    let tenant = sold.tenant_id;
    let [freeze, _] = world.delete(tenant, Duration::from_hours(1)).await;
    world.completed(&freeze).await;

    world.completed(&world.purge(tenant).await).await;

    let ended = until(async || world.ours(&sold).await.ended_by, Option::is_some);
    assert_eq!(ended.await, Some(EndedBy::TenantTerminated));
    assert_eq!(world.theirs()[0]["status"], "canceled");
    world.stop().await;
}
