//! Customers at the payment provider: each tenant has one, whatever is lost, refused, deleted or old.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    billing_account::BillingAccount,
    feature_flag::NEW_BILLING_ENGINE,
    id::TenantId,
    platform::clock,
    queue::{
        args::SyncBilling,
        job::{Job, StepState},
    },
    stripe_call::request_hash,
    tenant::Tenant,
};
use dezky_sim::stripe::Refusal;
use dezky_upstreams::clients::stripe::CustomerFields;
use serde_json::json;

use crate::{
    harness::step,
    scenarios::{billed, change_customer, customer},
    world::World,
};

impl World {
    async fn synced(&self, tenant: TenantId) -> Job {
        self.completed(&self.sync_billing(tenant).await).await
    }

    async fn account(&self, tenant: TenantId) -> BillingAccount {
        let accounts = &self.harness.context.billing_accounts;
        accounts.find(tenant).await.unwrap().unwrap()
    }

    fn created(&self) -> usize {
        self.upstreams
            .stripe
            .server
            .effects
            .count("create_customer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_has_the_billing_details_and_its_card_is_known() {
    let world = World::start().await;
    let tenant = customer(&world).await;

    let first = world.customers();
    change_customer(&world, tenant).await;
    let job = world.synced(tenant).await;
    let account = world.account(tenant).await;

    let expected = |name: &str, vat_id: &str| {
        json!([{
            "name": name, "email": "billing@acme.test", "country": "DK", "tenant": tenant.to_string(),
            "taxIds": [vat_id],
        }])
    };
    assert_eq!(json!(first), expected("Acme A/S", "DK13585628"));
    let second = expected("Acme Holding A/S", "DK88146328");
    assert_eq!(json!(world.customers()), second);
    let changes = ["customer updated", "VAT id added", "old VAT id removed"];
    assert_eq!(step(&job, "stripe").changes, changes);
    assert_eq!(account.default_card.unwrap().last4, "4242");
    assert_eq!(account.tax_id.unwrap().value, "DK88146328");
    assert_eq!(world.created(), 1);

    // The answer to a change was lost, and the change was taken back before the next attempt.
    let context = &world.harness.context;
    let id = format!("customer.update:{tenant}");
    let other = CustomerFields {
        name: "Another".to_owned(),
        email: Some("another@acme.test".to_owned()),
        tenant_id: tenant.to_string(),
        ..CustomerFields::default()
    };
    let client = context.clients.stripe.as_ref().unwrap();
    let customer = account.stripe_customer_id.unwrap();
    let key = format!("{id}:9");
    let lost = client.update_customer(&customer, &other, &key).await;
    assert!(lost.unwrap().is_some());
    let calls = context.store.collection::<Document>("stripe_calls");
    let open = doc! { "generation": 9_i64, "requestHash": "another", "state": "open" };
    let opened = calls.update_one(doc! { "_id": id }, doc! { "$set": open });
    assert_eq!(opened.await.unwrap().matched_count, 1);
    world.synced(tenant).await;
    assert_eq!(json!(world.customers()), second);

    // The answer to the creation of a VAT id was lost; the VAT id was removed, and is given again.
    let created = doc! { "_id": format!("tax_id.create:{tenant}") };
    let opened = calls.update_one(created, doc! { "$set": { "state": "open" } });
    assert_eq!(opened.await.unwrap().modified_count, 1);
    for vat_id in [None, Some("DK88146328")] {
        let change = |tenant: &mut Tenant| {
            tenant.billing_info.vat_id = vat_id.map(str::to_owned);
        };
        world.harness.change_tenant(tenant, change).await;
        world.synced(tenant).await;
    }
    assert_eq!(json!(world.customers()), second);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_was_deleted_is_replaced_once() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let deleted = world.account(tenant).await.stripe_customer_id.unwrap();
    world.upstreams.stripe.delete_customer(&deleted).unwrap();

    world.synced(tenant).await;
    world.synced(tenant).await;

    let account = world.account(tenant).await;
    assert!(account.is_former(&deleted));
    assert_ne!(account.stripe_customer_id, Some(deleted));
    assert_eq!(account.default_card, None);
    assert_eq!(world.customers().len(), 1);
    assert_eq!(world.created(), 2);
    world.stop().await;
}

/// Stripe stores an internal error as the result of a key, and replays it for a day.
#[tokio::test(flavor = "multi_thread")]
async fn an_internal_error_that_is_replayed_is_followed_by_another_key() {
    let world = World::start().await;
    let tenant = billed(&world).await;
    let stripe = &world.upstreams.stripe;
    stripe.refuse_next("create_customer", Refusal::internal());

    world.synced(tenant).await;

    let calls = world
        .harness
        .context
        .store
        .collection::<Document>("stripe_calls");
    let id = format!("customer.create:{tenant}");
    let call = calls.find_one(doc! { "_id": id }).await.unwrap().unwrap();
    assert_eq!(call.get_i64("generation").unwrap(), 2);
    assert_eq!(call.get_str("state").unwrap(), "done");
    assert_eq!(world.created(), 1);
    world.stop().await;
}

/// Keys are kept for a day: after a longer outage, the effect has to be found instead.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_call_that_is_too_old_to_repeat_is_looked_for() {
    let world = World::start().await;
    let tenant = billed(&world).await;
    let context = &world.harness.context;
    let client = context.clients.stripe.as_ref().unwrap();
    let id = format!("customer.create:{tenant}");
    let (name, key) = (tenant.to_string(), format!("{id}:1"));
    let lost = client.create_customer(&name, &key).await.unwrap().id;
    let started = clock::earlier(context.store.now(), Duration::from_hours(24));
    let open = doc! {
        "_id": id, "generation": 1_i64, "requestHash": request_hash(&[]), "startedAt": started, "state": "open",
    };
    let calls = context.store.collection::<Document>("stripe_calls");
    calls.insert_one(open).await.unwrap();
    world.upstreams.stripe.advance(25 * 60 * 60);

    world.synced(tenant).await;

    assert_eq!(world.account(tenant).await.stripe_customer_id, Some(lost));
    assert_eq!(world.created(), 1);
    world.stop().await;
}

/// The customer was created, and the worker died before it stored its id in the account.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_is_known_by_its_call_only_is_adopted() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let context = &world.harness.context;
    let accounts = context.store.collection::<Document>("billing_accounts");
    accounts.delete_one(doc! { "_id": tenant }).await.unwrap();

    world.synced(tenant).await;

    assert_eq!(world.customers().len(), 1);
    assert_eq!(world.created(), 1);
    assert!(world.account(tenant).await.default_card.is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_vat_id_is_noted_and_the_one_before_stays() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let change = |tenant: &mut Tenant| {
        tenant.billing_info.vat_id = Some("DK1".to_owned());
    };
    world.harness.change_tenant(tenant, change).await;

    let job = world.synced(tenant).await;
    let again = world.synced(tenant).await;

    assert_eq!(step(&job, "stripe").changes, ["VAT id refused"]);
    assert!(step(&again, "stripe").changes.is_empty());
    let account = world.account(tenant).await;
    assert_eq!(account.refused_vat_id.as_deref(), Some("DK1"));
    assert_eq!(world.customers()[0]["taxIds"], json!(["DK13585628"]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_or_the_integration_nothing_is_called() {
    let world = World::start().await;
    let tenant = billed(&world).await;
    world.harness.set_flag(NEW_BILLING_ENGINE, false).await;
    let off = World::start_with(|config, _| config.stripe = None).await;
    let without = billed(&off).await;

    let unbilled = world.synced(tenant).await;
    let disabled = off.synced(without).await;

    for (world, job) in [(&world, unbilled), (&off, disabled)] {
        assert_eq!(step(&job, "stripe").state, StepState::Skipped);
        assert!(world.upstreams.stripe.server.faults.requests().is_empty());
    }
    world.stop().await;
    off.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_lists_the_changes_without_making_them() {
    let world = World::start().await;
    let tenant_id = customer(&world).await;
    change_customer(&world, tenant_id).await;
    let effects = world.effects();

    let args = SyncBilling {
        tenant_id,
        dry_run: true,
    };
    let job = world.harness.enqueue(&args).await;
    let job = world.completed(&job).await;

    let changes = [
        "would update the customer",
        "would add the VAT id",
        "would remove the old VAT id",
    ];
    assert_eq!(step(&job, "stripe").changes, changes);
    assert_eq!(world.effects(), effects);
    world.stop().await;
}
