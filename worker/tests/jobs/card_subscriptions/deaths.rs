//! Death of a worker before and after each write with which a card subscription is created.

use bson::{Document, doc};
use dezky_shared::subscription::{Biller, Subscription};
use dezky_sim::proxy::Death::{self, AfterRequest, BeforeRequest};
use serde_json::Value;

use crate::{
    dying::FatalWrite,
    scenarios::{change_subscription, customer, sell_by_card},
    world::World,
};

const BILLER: FatalWrite = FatalWrite {
    collection: "subscriptions",
    texts: &["biller\0\u{7}\0\0\0stripe"],
};
const KEY: FatalWrite = FatalWrite {
    collection: "stripe_calls",
    texts: &["subscription.create"],
};
const RESULT: FatalWrite = FatalWrite {
    collection: "stripe_calls",
    texts: &["subscription.create", "done"],
};
const MIRROR: FatalWrite = FatalWrite {
    collection: "subscriptions",
    texts: &["sub_sim"],
};

/// Deaths in the order of the writes. Between two of them there is an effect after the key only: any other death before a
/// write leaves the state of one after the write before, and needs no row.
const DEATHS: [(FatalWrite, Death); 5] = [
    (BILLER, AfterRequest),
    (KEY, AfterRequest),
    (RESULT, BeforeRequest),
    (RESULT, AfterRequest),
    (MIRROR, AfterRequest),
];

/// Each sale replaces the one before, which the run billed until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_created_once_whenever_its_worker_dies() {
    let mut world = World::start().await;
    let tenant = customer(&world).await;
    world.only_lead().await;
    let mut sales: Vec<Subscription> = Vec::new();

    for (write, death) in DEATHS {
        if let Some(before) = sales.last() {
            change_subscription(&world, before, doc! { "status": "cancelled" }).await;
        }
        let sold = sell_by_card(&world, tenant).await;
        change_subscription(&world, &sold, doc! { "biller": "run" }).await;
        let job = world.sync_billing(tenant).await;
        world.completed_after_death(&job, write, death).await;
        sales.push(sold.clone());

        let about = format!("{write:?} {death:?}");
        let theirs = world.theirs();
        assert_eq!(theirs.len(), sales.len(), "{about}");
        let live = theirs.iter().filter(|it| it["status"] == "active");
        let live: Vec<&Value> = live.collect();
        assert_eq!(live.len(), 1, "{about}");
        assert_eq!(
            live[0]["metadata"]["subscriptionId"],
            sold.id.to_string(),
            "{about}"
        );
        let charged = vec![sold.price_minor; sales.len()];
        assert_eq!(world.invoice_totals(), charged, "{about}");
        let ours = world.ours(&sold).await;
        assert_eq!(ours.biller, Biller::Stripe, "{about}");
        assert!(!ours.may_recreate, "{about}");
        let known = ours.stripe_subscription_id.as_deref();
        assert_eq!(known, live[0]["id"].as_str(), "{about}");
        let store = &world.harness.context.store;
        let calls = store.collection::<Document>("stripe_calls");
        let open = calls.count_documents(doc! { "state": "open" }).await;
        assert_eq!(open.unwrap(), 0, "{about}");
    }
    world.stop().await;
}
