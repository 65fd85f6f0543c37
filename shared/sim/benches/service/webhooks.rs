//! Receipt of Stripe's events by one api process, each stored with its job, while Stripe answers slowly.

use std::time::{Duration, Instant};

use dezky_shared::platform::clock;
use dezky_sim::{
    bench_output::{grouped, percentile, rate, report, size, within},
    stripe::{API_VERSION, StripeSim, sign},
};
use dezky_upstreams::clients::simulated;
use futures::{StreamExt as _, stream};
use serde_json::json;
use tokio::time::sleep_until;

use crate::world::{CONNECTIONS, Variables, World};

/// Events a second of the steady load.
const STEADY: u32 = 1_000;
/// Events of the steady load that wait for their time or for their response: two seconds of it.
const IN_FLIGHT: usize = 2_000;
/// Maximum time of a response under the steady load.
const MAX_MILLIS: f64 = 50.0;
/// Latency of Stripe's responses.
const LATENCY: Duration = Duration::from_secs(1);

/// Returns whether the limit holds.
pub(crate) async fn measure() -> bool {
    let count = size(10_000, 60_000);
    let stripe = StripeSim::start(([127, 0, 0, 1], 0).into()).await;
    let stripe = stripe.expect("a port is free");
    stripe.server.faults.set_latency(LATENCY);
    let (of_api, of_worker) = variables(&stripe);
    let world = World::start_with(of_api, of_worker).await;
    let secrets = [simulated::STRIPE_WEBHOOK_SECRET.to_owned()];

    let began = Instant::now();
    let mut spans: Vec<Duration> = stream::iter(0..count)
        .map(async |number| {
            let sent = Instant::now();
            deliver(&world, &format!("evt_most_{number}"), &secrets).await;
            sent.elapsed()
        })
        .buffer_unordered(CONNECTIONS)
        .collect()
        .await;
    let accepted = rate(count, began.elapsed());
    report("webhooks, 64 connections", accepted, "events/s");
    report(
        "webhooks, 64 connections, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );

    // Each is due at its own time, however long those before it take.
    let interval = Duration::from_secs(1) / STEADY;
    let began = tokio::time::Instant::now();
    let mut spans: Vec<Duration> = stream::iter((0..count).zip(0_u32..))
        .map(async |(number, position)| {
            let due = began + interval * position;
            sleep_until(due).await;
            deliver(&world, &format!("evt_steady_{number}"), &secrets).await;
            due.elapsed()
        })
        .buffer_unordered(IN_FLIGHT)
        .collect()
        .await;
    within(
        format!("webhooks, {} a second, p99", grouped(u64::from(STEADY))),
        percentile(&mut spans, 0.99),
        "ms",
        MAX_MILLIS,
    )
}

/// Variables of an api that Stripe delivers to, without a limit for its address, and of a worker that may call it.
fn variables(stripe: &StripeSim) -> (Variables, Variables) {
    let of_api = vec![
        (
            "STRIPE_PUBLISHABLE_KEY",
            simulated::STRIPE_PUBLISHABLE_KEY.to_owned(),
        ),
        (
            "STRIPE_WEBHOOK_SECRETS",
            simulated::STRIPE_WEBHOOK_SECRET.to_owned(),
        ),
        ("STRIPE_WEBHOOKS_PER_SECOND", "0".to_owned()),
    ];
    let of_worker = vec![
        ("BILLING_STRIPE_ENABLED", "true".to_owned()),
        ("STRIPE_SECRET_KEY", simulated::STRIPE_SECRET_KEY.to_owned()),
        ("STRIPE_API_URL", stripe.server.url.clone()),
    ];
    (of_api, of_worker)
}

/// Delivers an event about a customer of its own.
async fn deliver(world: &World, id: &str, secrets: &[String]) {
    let customer = id.replacen("evt", "cus", 1);
    let event = json!({
        "id": id, "object": "event", "api_version": API_VERSION,
        "created": clock::now().timestamp_millis() / 1_000, "livemode": false, "pending_webhooks": 1,
        "request": { "id": null, "idempotency_key": null }, "type": "customer.updated",
        "data": { "object": {
            "id": customer, "object": "customer", "email": "billing@acme.test", "name": "Acme",
            "address": { "country": "DK" }, "metadata": {},
        } },
    });
    let payload = event.to_string();
    let request = world
        .client
        .post(format!("{}/webhooks/stripe", world.url))
        .header("content-type", "application/json; charset=utf-8")
        .header("stripe-signature", sign(&payload, secrets))
        .body(payload);
    let response = request.send().await.expect("the api responds");
    let status = response.status();
    let text = response.text().await.expect("the response is complete");
    assert!(status.is_success(), "{status} {text}");
}
