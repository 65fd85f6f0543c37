//! Death of a worker before and after each write with which a setup intent is created.

use std::time::Duration;

use dezky_shared::setup_intent::SetupIntent;
use dezky_sim::proxy::{Death, is_command, is_commit_after};
use dezky_worker::{engine::EngineTimings, jobs};
use futures::future::join_all;

use crate::{
    harness::until,
    scenarios::{customer, enter_card},
    world::World,
};

/// A collection, and a text of the write to it: the key of the call, and its result.
const WRITES: [(&str, &str); 2] = [
    ("stripe_calls", "setup_intent.create"),
    ("setup_intents", "stripeId"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_intent_is_created_once_whenever_its_worker_dies() {
    let deaths = [Death::BeforeRequest, Death::AfterRequest];
    let rows = WRITES
        .into_iter()
        .flat_map(|write| deaths.map(|death| (write, death)));
    join_all(rows.map(|(write, death)| is_created_once(write, death))).await;
}

async fn is_created_once((collection, text): (&str, &str), death: Death) {
    let mut world = World::start_with(|_, times| {
        *times = EngineTimings {
            rescue_grace: Duration::from_millis(300),
            rescue_every: Duration::from_millis(100),
            rescue_spread: Duration::from_millis(1),
            sweep_every: Duration::from_millis(100),
            pop_block: Duration::from_millis(100),
            ..EngineTimings::with_lease(Duration::from_secs(3))
        };
    })
    .await;
    let tenant = customer(&world).await;
    world.only_lead().await;
    let (job, id) = enter_card(&world, tenant).await;
    let proxy = world.harness.proxy().await;
    let begins = is_command("update", collection, text);
    proxy.die_at(death, is_commit_after(begins));
    let dying = world
        .harness
        .worker_through(&proxy, jobs::registry(), 1)
        .await;
    until(async || proxy.is_cut(), |is_cut| *is_cut).await;

    world.replace_worker().await;
    world.completed(&job).await;

    let created = world.upstreams.stripe.objects("setup_intent");
    assert_eq!(created.len(), 1, "{collection} {death:?}");
    let context = &world.harness.context;
    let stored = context.setup_intents.find(id).await.unwrap().unwrap();
    let stripe_id = stored.stripe_id.unwrap();
    assert_eq!(created[0]["id"], stripe_id, "{collection} {death:?}");
    let keys = &context.encryption_keys;
    let secret = stored.secret.unwrap();
    let secret: String = keys
        .decrypt(SetupIntent::encrypted_for(id), &secret)
        .unwrap();
    assert!(secret.starts_with(&stripe_id), "{collection} {death:?}");
    proxy.mend();
    dying.stop().await;
    world.stop().await;
}
