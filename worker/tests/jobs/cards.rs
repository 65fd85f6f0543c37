//! Cards of tenants: entered in the browser with a secret that is stored encrypted, and set as the one to charge.

mod deaths;

use dezky_shared::{
    queue::{args::SetDefaultCard, error_code::ErrorCode, job::JobState},
    setup_intent::SetupIntent,
};
use serde_json::json;

use crate::{
    harness::step,
    scenarios::{card_entered, customer, enter_card},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_entered_with_an_encrypted_secret_and_then_charged() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let context = &world.harness.context;

    let (job, intent) = enter_card(&world, tenant).await;
    world.completed(&job).await;
    let created = context.setup_intents.find(intent).await.unwrap().unwrap();
    let stripe_id = created.stripe_id.clone().unwrap();
    let encrypted = created.secret.as_ref().unwrap();
    let keys = &context.encryption_keys;
    let secret: String = keys
        .decrypt(SetupIntent::encrypted_for(intent), encrypted)
        .unwrap();
    let stripe = &world.upstreams.stripe;
    stripe.enter_card(&stripe_id, "pm_card_mastercard").unwrap();
    let args = SetDefaultCard {
        tenant_id: tenant,
        setup_intent_id: stripe_id.clone(),
    };
    let set = world.harness.enqueue(&args).await;
    let set = world.completed(&set).await;

    assert!(secret.starts_with(&format!("{stripe_id}_secret_")));
    assert!(!json!(created).to_string().contains(&secret));
    assert_eq!(step(&set, "stripe").changes, ["card set"]);
    let account = context.billing_accounts.find(tenant).await.unwrap();
    assert_eq!(account.unwrap().default_card.unwrap().last4, "4444");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_intent_that_is_open_or_of_another_customer_sets_no_card() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let (job, intent) = enter_card(&world, tenant).await;
    world.completed(&job).await;
    let open = world.harness.context.setup_intents.find(intent).await;
    let open = open.unwrap().unwrap().stripe_id.unwrap();
    let client = world.harness.context.clients.stripe.as_ref().unwrap();
    let other = client.create_customer("other", "key-1").await.unwrap();
    let foreign = client
        .create_setup_intent(&other.id, "other", "key-2")
        .await
        .unwrap();
    let stripe = &world.upstreams.stripe;
    stripe.enter_card(&foreign.id, "pm_card_visa").unwrap();

    for id in [open, foreign.id, "seti_none".to_owned()] {
        let args = SetDefaultCard {
            tenant_id: tenant,
            setup_intent_id: id,
        };
        let job = world.harness.enqueue(&args).await;
        let job = world.harness.finished(job.id).await;

        assert_eq!(job.state, JobState::Discarded);
        let error = step(&job, "stripe").error.as_ref().unwrap();
        assert_eq!(error.code, ErrorCode::SetupIntentUnusable);
    }
    world.stop().await;
}

/// A card that is set already is not set again.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_choice_makes_no_call_that_changes_anything() {
    let world = World::start().await;
    let (tenant_id, setup_intent_id) = card_entered(&world).await;
    let args = SetDefaultCard {
        tenant_id,
        setup_intent_id,
    };
    world.completed(&world.harness.enqueue(&args).await).await;
    let effects = world.effects();

    let again = world.harness.enqueue(&args).await;
    let again = world.completed(&again).await;

    assert!(step(&again, "stripe").changes.is_empty());
    assert_eq!(world.effects(), effects);
    world.stop().await;
}
