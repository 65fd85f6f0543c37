//! Webhooks of the payment provider: what is signed is stored once and by name, and all else is refused without a trace.

use std::time::Duration;

use bson::{Document, doc};
use dezky_api::config::{Limit, StripeConfig};
use dezky_shared::{id::TenantId, platform::clock, queue::args::MirrorStripeObject};
use dezky_sim::stripe::{sign, sign_at};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    app::{TestApp, WEBHOOK_SECRETS, shared_issuer},
    client::{Call, sorted_summaries},
};

const PATH: &str = "/webhooks/stripe";

fn event(id: &str, kind: &str, object: &Value) -> Value {
    json!({
        "id": id, "object": "event", "type": kind, "created": 1_795_339_800, "livemode": false,
        "api_version": "2026-09-30.endive", "data": { "object": object },
    })
}

fn customer(id: &str) -> Value {
    json!({ "object": "customer", "id": id, "email": "ada@acme.test" })
}

fn delivery<'a>(app: &'a TestApp, body: &str, signature: &str) -> Call<'a> {
    let call = app.anonymous().post_empty(PATH);
    let call = call.header("stripe-signature", signature);
    call.body("application/json; charset=utf-8", body)
}

/// A delivery that is signed now, with the secret of this index.
fn signed<'a>(app: &'a TestApp, event: &Value, secret: usize) -> Call<'a> {
    let body = event.to_string();
    let signature = sign(&body, &[WEBHOOK_SECRETS[secret].to_owned()]);
    delivery(app, &body, &signature)
}

async fn stored(app: &TestApp) -> Vec<Document> {
    let events = app.collection("webhook_events");
    let found = events.find(doc! {});
    let found = found.sort(doc! { "_id": 1 }).await.unwrap();
    found.try_collect().await.unwrap()
}

#[tokio::test]
async fn an_event_is_stored_once_by_its_names_and_a_job_reads_its_object() {
    let app = TestApp::with_operator().await;
    let tenant = TenantId::new();
    let account = doc! { "_id": tenant, "stripeCustomerId": "cus_1", "syncedAt": clock::now() };
    let accounts = app.collection("billing_accounts");
    accounts.insert_one(account).await.unwrap();
    let jobs_before = app.jobs().await.len();
    let updated = event("evt_1", "customer.updated", &customer("cus_1"));
    let card = json!({ "object": "payment_method", "id": "pm_1", "customer": "cus_1" });
    let attached = event("evt_2", "payment_method.attached", &card);
    let balance = event(
        "evt_3",
        "balance.available",
        &json!({ "object": "balance" }),
    );

    let first = signed(&app, &updated, 0).await;
    let again = signed(&app, &updated, 1).await;
    let other = event("evt_1", "customer.updated", &customer("cus_2"));
    let other = signed(&app, &other, 0).await;
    let second = signed(&app, &attached, 0).await;
    let ignored = signed(&app, &balance, 0).await;

    for reply in [&first, &again, &second, &ignored] {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(other.summary(), "409 event_mismatch");
    let events = stored(&app).await;
    let states: Vec<&str> = events
        .iter()
        .map(|it| it.get_str("state").unwrap())
        .collect();
    assert_eq!(states, ["received", "received", "ignored"]);
    assert!(!format!("{events:?}").contains("ada@acme.test"));
    assert!(!format!("{:?}", app.config).contains(WEBHOOK_SECRETS[0]));
    let jobs = app.jobs().await;
    assert_eq!(jobs.len(), jobs_before + 1);
    let job = jobs.iter().find(|job| job.kind == "mirror_stripe_object");
    let job = job.unwrap();
    let expected = MirrorStripeObject {
        object_type: "customer".to_owned(),
        object_id: "cus_1".to_owned(),
        tenant_id: Some(tenant),
    };
    assert_eq!(job.args::<MirrorStripeObject>().unwrap(), expected);
    assert_eq!(job.lock_key, format!("billing:{tenant}"));

    let operator = app.operator();
    let list = operator.get("/webhook-events?limit=2").await;
    let next = list.body["nextCursor"].as_str().unwrap();
    let rest = format!("/webhook-events?limit=2&cursor={next}");
    let rest = operator.get(rest).await;
    let ids = list.items().iter().chain(rest.items());
    let ids: Vec<&Value> = ids.map(|event| &event["id"]).collect();
    assert_eq!(ids, ["evt_3", "evt_2", "evt_1"]);
    let filtered = operator.get("/webhook-events?state=ignored").await;
    assert_eq!(filtered.items().len(), 1);
    assert_eq!(rest.items()[0]["tenantId"], tenant.to_string());

    let processed = doc! { "state": "processed" };
    app.set("webhook_events", doc! { "_id": "evt_1" }, processed)
        .await;
    let replay = |id: &str| operator.post_empty(format!("/webhook-events/{id}/replay"));
    let replayed = replay("evt_1").await;
    let replies = [replay("evt_3").await, replay("evt_9").await];
    assert_eq!(replayed.status, 202, "{replayed:?}");
    assert_eq!(replayed.body["job"]["id"], job.id.to_string());
    let expected = ["404 not_found", "409 event_ignored"];
    assert_eq!(sorted_summaries(&replies), expected);
    assert_eq!(stored(&app).await[0].get_str("state").unwrap(), "received");
    app.audit_event("webhookEvent.replay").await;
}

#[tokio::test]
async fn events_that_are_unsigned_outdated_or_of_the_other_mode_are_refused_and_leave_no_trace() {
    let app = TestApp::start().await;
    let updated = event("evt_1", "customer.updated", &customer("cus_1"));
    let body = updated.to_string();
    let seconds = clock::now().timestamp_millis() / 1_000;
    let secret = [WEBHOOK_SECRETS[0].to_owned()];
    let mut live = updated.clone();
    live["livemode"] = json!(true);
    let wrong_id = event("evt_1", "customer.updated", &customer("cus/1"));
    let large = " ".repeat(1024 * 1024 + 1);

    for (reply, expected) in [
        (
            delivery(&app, &body, &sign(&body, &["whsec_other".to_owned()])).await,
            "400 invalid_signature",
        ),
        (
            delivery(&app, &body, &sign_at(&body, &secret, seconds - 400)).await,
            "400 invalid_signature",
        ),
        (
            delivery(&app, &format!("{body} "), &sign(&body, &secret)).await,
            "400 invalid_signature",
        ),
        (
            app.anonymous().post_empty(PATH).await,
            "400 invalid_signature",
        ),
        (signed(&app, &live, 0).await, "400 mode_mismatch"),
        (signed(&app, &wrong_id, 0).await, "400 invalid_request"),
        (signed(&app, &json!([]), 0).await, "400 invalid_request"),
        (
            delivery(&app, &large, &sign(&large, &secret)).await,
            "413 payload_too_large",
        ),
    ] {
        assert_eq!(reply.summary(), expected, "{reply:?}");
    }
    let mut connected = updated.clone();
    connected["account"] = json!("acct_1");
    assert_eq!(signed(&app, &connected, 0).await.status, 200);
    assert_eq!(app.count("webhook_events").await, 0);
    assert!(app.jobs().await.is_empty());
}

#[tokio::test]
async fn deliveries_have_a_limit_of_their_own_and_forged_ones_count_as_failed_sign_ins() {
    let burst = |burst| {
        Some(Limit {
            per_second: 0.001,
            burst,
        })
    };
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.limits.address = burst(1);
        config.limits.webhook = burst(5);
        config.limits.failed_sign_in = burst(2);
    })
    .await;
    let balance = event(
        "evt_1",
        "balance.available",
        &json!({ "object": "balance" }),
    );
    let forged = || app.anonymous().post_empty(PATH).sent_from("192.0.2.1");

    let forgeries = [forged().await, forged().await, forged().await];
    let good = signed(&app, &balance, 0).sent_from("192.0.2.1").await;
    let last = signed(&app, &balance, 0).sent_from("192.0.2.1").await;
    let too_many = signed(&app, &balance, 0).sent_from("192.0.2.1").await;
    let elsewhere = signed(&app, &balance, 0).sent_from("192.0.2.2").await;

    let expected = [
        "400 invalid_signature",
        "400 invalid_signature",
        "429 too_many_requests",
    ];
    assert_eq!(sorted_summaries(&forgeries), expected);
    assert_eq!([good.status, last.status, elsewhere.status], [200_u16; 3]);
    assert_eq!(too_many.summary(), "429 too_many_requests");
}

/// Every event is delivered twice, at once with others. Stripe itself is never asked here: the jobs read the objects.
#[tokio::test]
async fn a_hundred_events_a_second_are_accepted_repeated_and_in_any_order() {
    const CUSTOMERS: usize = 40;
    const INTERVAL: Duration = Duration::from_millis(10);
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.limits.webhook = Some(Limit {
            per_second: 100.0,
            burst: 100,
        });
    })
    .await;
    let jobs_before = app.jobs().await.len();
    // A stride that shares no factor with their number.
    let events = (0..3 * CUSTOMERS).map(|position| {
        let number = position * 7 % (3 * CUSTOMERS);
        let object = customer(&format!("cus_{}", number % CUSTOMERS));
        event(&format!("evt_{number}"), "customer.updated", &object)
    });
    let deliveries: Vec<Value> = events.flat_map(|event| [event.clone(), event]).collect();
    let began = Instant::now();

    let statuses: Vec<u16> = stream::iter(deliveries.iter().zip(0_u32..))
        .map(async |(event, position)| {
            sleep_until(began + INTERVAL * position).await;
            signed(&app, event, 0).await.status.as_u16()
        })
        .buffer_unordered(32)
        .collect()
        .await;

    assert_eq!(statuses, vec![200; 6 * CUSTOMERS]);
    let events = stored(&app).await;
    assert_eq!(events.len(), 3 * CUSTOMERS);
    assert!(
        events
            .iter()
            .all(|event| event.get_str("state").unwrap() == "received")
    );
    // One job for each customer follows all of its events.
    assert_eq!(app.jobs().await.len(), jobs_before + CUSTOMERS);
}

#[tokio::test]
async fn without_secrets_nothing_is_accepted_and_stripe_keeps_its_events() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.stripe = StripeConfig::default();
    })
    .await;
    let updated = event("evt_1", "customer.updated", &customer("cus_1"));

    let refused = signed(&app, &updated, 0).await;

    assert_eq!(refused.summary(), "503 webhook_not_configured");
    assert_eq!(app.count("webhook_events").await, 0);
}
