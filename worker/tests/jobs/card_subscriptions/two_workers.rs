//! Two workers on one card subscription: there is one at Stripe, also if the first one goes on after the second has taken
//! its job.

use dezky_shared::queue::args::{FetchStripeEvents, SetDefaultCard, SweepBilling};
use dezky_sim::faults::{Fault, FaultRule};
use dezky_worker::jobs;

use crate::{
    harness::until,
    scenarios::{card_entered, customer, sell_by_card},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_cut_off_after_its_look_creates_no_second_one() {
    let late_look = Fault::SlowAnswer { millis: 1_500 };
    is_created_once(FaultRule::once("list_subscriptions", late_look)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_cut_off_in_its_request_creates_no_second_one() {
    let late_effect = Fault::SlowEffect { millis: 2_500 };
    is_created_once(FaultRule::once("create_subscription", late_effect)).await;
}

/// Cuts the first worker off from MongoDB during the fault, until a second one has completed its job.
async fn is_created_once(fault: FaultRule) {
    let mut world = World::start().await;
    let tenant = customer(&world).await;
    let sold = sell_by_card(&world, tenant).await;
    world.only_lead().await;
    let faults = &world.upstreams.stripe.server.faults;
    faults.add(fault);
    let proxy = world.harness.proxy().await;
    let first = world
        .harness
        .worker_through(&proxy, jobs::registry(), 1)
        .await;
    let job = world.sync_billing(tenant).await;
    until(async || faults.hits(), |hits| *hits > 0).await;
    proxy.hold();
    world.expire_lease(job.id).await;

    let second = world.harness.worker();
    world.completed(&job).await;
    world.until_effects_landed().await;
    proxy.mend();
    first.stop().await;
    second.stop().await;

    let theirs = world.theirs();
    assert_eq!(theirs.len(), 1, "{theirs:#?}");
    assert_eq!(world.invoice_totals(), [sold.price_minor]);
    let ours = world.ours(&sold).await.stripe_subscription_id;
    assert_eq!(ours.as_deref(), theirs[0]["id"].as_str());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_jobs_about_a_subscription_at_once_create_one() {
    let world = World::start().await;
    let (tenant_id, setup_intent_id) = card_entered(&world).await;
    let sold = sell_by_card(&world, tenant_id).await;
    let second = world.harness.worker();
    let card = SetDefaultCard {
        tenant_id,
        setup_intent_id,
    };
    let sweep = SweepBilling {
        dry_run: false,
        spread_seconds: 0,
    };

    world.harness.enqueue(&card).await;
    world.sync_billing(tenant_id).await;
    world.harness.enqueue(&sweep).await;
    world.harness.enqueue(&FetchStripeEvents {}).await;
    world.until_idle().await;
    second.stop().await;

    assert_eq!(world.theirs().len(), 1);
    assert_eq!(world.invoice_totals(), [sold.price_minor]);
    world.stop().await;
}
