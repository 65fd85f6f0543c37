//! Events of the payment provider: whatever is lost, repeated or old, billing accounts follow what their customers are.

use std::{collections::BTreeSet, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    billing_account::BillingAccount,
    id::TenantId,
    platform::clock,
    queue::{
        args::FetchStripeEvents,
        error_code::ErrorCode,
        job::{Job, StepState},
    },
    store::TransactionError,
    stripe_event::Event,
    webhook_event::{EventSource, WebhookEvent},
};
use futures::{FutureExt as _, TryStreamExt as _};
use serde_json::Value;

use crate::{
    harness::step,
    scenarios::{billed, customer},
    world::World,
};

/// With those of its creation, more events than a page of the list has.
const EDITS: usize = 100;

impl World {
    /// Reads the events, and waits for the jobs that follow them.
    pub(crate) async fn catch_up(&self) -> Job {
        let job = self.harness.enqueue(&FetchStripeEvents {}).await;
        let job = self.completed(&job).await;
        self.until_idle().await;
        job
    }

    /// Stores these events in this order, as the API does with deliveries.
    pub(crate) async fn receive(&self, events: &[Value]) {
        let context = &self.harness.context;
        let mut jobs = Vec::new();
        for event in events {
            let event: Event = serde_json::from_value(event.clone()).unwrap();
            let now = context.store.now();
            let event = WebhookEvent::new(&event, EventSource::Webhook, now);
            let job = event.job("webhook", now).unwrap();
            let recording = (context, &event, job.as_ref());
            let recorded = context.store.transaction(recording, |session, recording| {
                let (context, event, job) = *recording;
                async move {
                    let events = &context.webhook_events;
                    let recorded = events.record(session, &context.jobs, event, job);
                    Ok::<_, TransactionError<()>>(recorded.await?)
                }
                .boxed()
            });
            jobs.extend(recorded.await.unwrap().job);
        }
        context.ready.notify(&jobs).await;
    }

    async fn billing_account(&self, tenant: TenantId) -> BillingAccount {
        let accounts = &self.harness.context.billing_accounts;
        accounts.find(tenant).await.unwrap().unwrap()
    }

    fn events(&self) -> mongodb::Collection<Document> {
        self.harness.context.store.collection("webhook_events")
    }

    /// Distinct values of a field of the events about the customer.
    async fn event_states(&self) -> BTreeSet<String> {
        let about = doc! { "mirrored": { "$exists": true } };
        let found = self.events().find(about).await.unwrap();
        let states = found.map_ok(|event| event.get_str("state").unwrap().to_owned());
        states.try_collect().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_follows_its_customer_without_any_webhook() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let stripe = &world.upstreams.stripe;
    let id = world.billing_account(tenant).await.stripe_customer_id;
    let id = id.unwrap();
    for number in 0..EDITS {
        let phone = number.to_string();
        stripe
            .edit_customer(&id, &[("phone", phone.as_str())])
            .unwrap();
    }
    let tax_id = stripe.objects("tax_id").remove(0);
    let tax_id = tax_id["id"].as_str().unwrap();
    stripe.verify_tax_id(tax_id, "verified").unwrap();

    let first = world.catch_up().await;
    let account = world.billing_account(tenant).await;
    let again = world.catch_up().await;
    stripe.delete_customer(&id).unwrap();
    world.catch_up().await;
    let deleted = world.billing_account(tenant).await;

    let stored = world.events().count_documents(doc! {}).await.unwrap();
    assert!(stored > EDITS as u64, "{stored}");
    assert_eq!(step(&first, "stripe").changes.len(), 1);
    assert!(step(&again, "stripe").changes.is_empty());
    assert_eq!(account.default_card.unwrap().last4, "4242");
    let verification = account.tax_id.unwrap().verification;
    assert_eq!(verification.as_deref(), Some("verified"));
    assert!(deleted.is_former(&id));
    assert_eq!(deleted.default_card, None);
    let expected = BTreeSet::from(["processed".to_owned()]);
    assert_eq!(world.event_states().await, expected);
    world.stop().await;
}

/// The database was restored from a backup that is older than the customer.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_names_its_tenant_is_adopted_by_an_account_without_one() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let before = world.billing_account(tenant).await;
    let store = &world.harness.context.store;
    for name in ["billing_accounts", "stripe_calls"] {
        let all = store.collection::<Document>(name);
        all.delete_many(doc! {}).await.unwrap();
    }

    let read_until = clock::earlier(store.now(), Duration::from_hours(24));
    let cursor = doc! { "_id": "stripe_events", "readUntil": read_until };
    let cursors = store.collection::<Document>("billing_cursors");
    cursors.insert_one(cursor).await.unwrap();
    let sync = world.sync_billing(tenant).await;
    let is_waiting = |job: &Job| {
        let error = job.step("stripe").and_then(|step| step.error.as_ref());
        error.is_some_and(|error| error.code == ErrorCode::UpstreamNotReady)
    };
    world.harness.job_until(sync.id, is_waiting).await;
    world.catch_up().await;
    world.completed(&sync).await;

    let after = world.billing_account(tenant).await;
    assert_eq!(after.stripe_customer_id, before.stripe_customer_id);
    assert_eq!(after.default_card.unwrap().last4, "4242");
    assert_eq!(world.customers().len(), 1);
    world.stop().await;
}

/// All workers were stopped during a pass, until the event that it would continue behind was gone from the list.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_was_interrupted_for_days_begins_again() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let store = &world.harness.context.store;
    let began_at = clock::earlier(store.now(), Duration::from_hours(3 * 24));
    let pass = doc! { "beganAt": began_at, "since": began_at, "after": "evt_gone" };
    let cursor = doc! { "_id": "stripe_events", "readUntil": began_at, "pass": pass };
    let cursors = store.collection::<Document>("billing_cursors");
    cursors.delete_many(doc! {}).await.unwrap();
    cursors.insert_one(cursor).await.unwrap();

    world.catch_up().await;

    let cursor = world.harness.context.billing_cursors.events().await;
    let cursor = cursor.unwrap().unwrap();
    assert!(cursor.read_until > began_at);
    assert_eq!(cursor.pass, None);
    let of_tenant = doc! { "tenantId": tenant, "state": "processed" };
    let read = world.events().count_documents(of_tenant).await.unwrap();
    assert!(read > 0);
    world.stop().await;
}

/// The job of an event was lost, and a customer of another service in the same account changed.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_wait_get_another_job_and_those_of_strangers_are_ignored() {
    let world = World::start().await;
    let tenant = customer(&world).await;
    let client = world.harness.context.clients.stripe.as_ref().unwrap();
    client.create_customer("of-another", "key-1").await.unwrap();
    world.catch_up().await;
    let ignored = world.event_states().await;
    let waiting = doc! { "$set": {
        "state": "received",
        "enqueuedAt": clock::earlier(world.harness.context.store.now(), Duration::from_mins(6)),
    } };
    let known = doc! { "tenantId": tenant };
    world.events().update_many(known, waiting).await.unwrap();

    world.catch_up().await;

    let expected = BTreeSet::from(["ignored".to_owned(), "processed".to_owned()]);
    assert_eq!(ignored, expected);
    assert_eq!(world.event_states().await, expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_integration_nothing_is_read() {
    let world = World::start_with(|config, _| config.stripe = None).await;
    billed(&world).await;

    let job = world.catch_up().await;

    assert_eq!(step(&job, "stripe").state, StepState::Skipped);
    assert_eq!(world.events().count_documents(doc! {}).await.unwrap(), 0);
    world.stop().await;
}
