//! Restore of an older database, while Stripe keeps the subscriptions that were created since.

use dezky_shared::queue::{error_code::ErrorCode, job::Job};
use serde_json::{Value, json};

use crate::{
    restore::Backup,
    scenarios::{customer, sell_by_card},
    world::World,
};

/// Seconds after which Stripe has forgotten the key of a call.
const DAY: i64 = 25 * 60 * 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_yesterdays_database_leads_to_no_second_subscription() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    world.catch_up().await;
    let before_sale = Backup::of(&world.harness.context.store).await;
    let sold = sell_by_card(&world, tenant).await;
    let before_charge = Backup::of(&world.harness.context.store).await;
    world.sync(tenant).await;
    world.catch_up().await;
    world.upstreams.stripe.advance(DAY);

    // Ours is there, and has not been charged.
    let world = world.with_restored_stores(&before_charge).await;
    world.sync(tenant).await;
    world.catch_up().await;
    world.run_invoices().await;
    let adopted = world.ours(&sold).await.stripe_subscription_id.unwrap();
    assert_eq!(world.theirs().len(), 1);
    assert_eq!(world.theirs()[0]["id"], adopted);
    assert_eq!(world.invoice_totals(), [sold.price_minor]);
    let invoices = world.invoices_by_period().await;
    assert_eq!(invoices.len(), 1);
    assert!(invoices[0].period_key.is_some());

    // Ours is not there, and is sold again.
    let world = world.with_restored_stores(&before_sale).await;
    let again = sell_by_card(&world, tenant).await;
    let job = world.sync_billing(tenant).await;
    let is_refused = |job: &Job| {
        let error = job.step("stripe").and_then(|step| step.error.as_ref());
        error.is_some_and(|error| error.code == ErrorCode::UpstreamConflict)
    };
    world.harness.job_until(job.id, is_refused).await;
    assert_eq!(world.theirs().len(), 1);
    let stripe = &world.upstreams.stripe;
    let cancelled = stripe.cancel_subscription(&adopted, "cancellation_requested");
    cancelled.unwrap();
    world.completed(&job).await;

    let theirs = world.theirs();
    let statuses: Vec<&Value> = theirs.iter().map(|it| &it["status"]).collect();
    assert_eq!(json!(statuses), json!(["canceled", "active"]));
    let ours = world.ours(&again).await.stripe_subscription_id;
    assert_eq!(ours.as_deref(), theirs[1]["id"].as_str());
    world.stop().await;
}
