//! Invoice run over subscriptions that are all due, whose invoices a simulated Stripe sends that allows 100 calls a second.
//! Each tenant gets its customer there with its first invoice.

use std::time::{Duration, Instant};

use dezky_shared::{
    billing::{Cycle, Plan, period::whole_second},
    feature_flag::NEW_BILLING_ENGINE,
    id::TenantId,
    platform::clock,
    subscription::{CollectionMethod, NewTerms, Subscription},
};
use dezky_sim::{
    bench_output::{grouped, per, progress, report, size, within},
    copied_tenants::Template,
    stripe::StripeSim,
};
use dezky_upstreams::clients::simulated;
use futures::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::{
    memory,
    world::{Variables, World, requests, until_within},
};

const TEMPLATE: &str = "template";
/// Calls a second that Stripe allows.
const ALLOWED: u32 = 100;
/// Latency of its responses.
const LATENCY: Duration = Duration::from_millis(5);
/// Rate budget of the worker, in steps. Two steps issue an invoice, with about 15 calls.
const STEPS_PER_SECOND: &str = "13";
/// Maximum ratio of the duration to the time that the limit alone takes for the calls.
const MAX_RATIO: f64 = 1.2;
/// Time since the due date.
const OVERDUE: Duration = Duration::from_hours(1);
/// Subscriptions per insert.
const BATCH: usize = 5_000;
const TIMEOUT: Duration = Duration::from_hours(2);
/// The jobs of a run.
const KINDS: [&str; 4] = [
    "run_invoices",
    "invoice_subscription",
    "issue_invoice",
    "mirror_stripe_object",
];

/// A tenant's id.
#[derive(Deserialize)]
struct Id {
    #[serde(rename = "_id")]
    id: TenantId,
}

/// Returns whether the limit holds.
pub(crate) async fn measure() -> bool {
    let count = size(300, 10_000);
    let stripe = StripeSim::start(([127, 0, 0, 1], 0).into()).await;
    let stripe = stripe.expect("a port is free");
    stripe.server.faults.set_latency(LATENCY);
    stripe.server.faults.set_rate_limit(ALLOWED);
    let world = World::start_with(Variables::new(), variables(&stripe)).await;
    sell(&world, count).await;

    let began = Instant::now();
    let path = "/schedules/invoice_run/run";
    world.send(Method::POST, path, Some(&json!({}))).await;
    until_sent(&world, count).await;
    world.until_done(&KINDS, TIMEOUT).await;
    let took = began.elapsed();

    let calls = requests(&stripe.server);
    let name = |part: &str| format!("invoice run over {}: {part}", grouped(count as u64));
    report(name("duration"), took.as_secs_f64(), "s");
    report(name("calls of Stripe"), per(calls, count), "an invoice");
    let refused = per(stripe.server.faults.rate_limited(), count);
    report(name("of them refused by its limit"), refused, "an invoice");
    report(
        name("the most memory the worker has used"),
        memory::peak_megabytes(&world.worker),
        "MB",
    );
    let least = per(calls, 1) / f64::from(ALLOWED);
    within(
        name("duration to that of the calls at 100 a second"),
        took.as_secs_f64() / least,
        "",
        MAX_RATIO,
    )
}

/// Variables of a worker that may call this Stripe.
fn variables(stripe: &StripeSim) -> Variables {
    vec![
        ("BILLING_STRIPE_ENABLED", "true".to_owned()),
        ("STRIPE_SECRET_KEY", simulated::STRIPE_SECRET_KEY.to_owned()),
        ("STRIPE_API_URL", stripe.server.url.clone()),
        ("STRIPE_STEPS_PER_SECOND", STEPS_PER_SECOND.to_owned()),
        ("STRIPE_STEPS_BURST", STEPS_PER_SECOND.to_owned()),
    ]
}

/// Stores tenants with a due subscription each, which are invoiced here.
async fn sell(world: &World, count: usize) {
    let body = json!({ "slug": TEMPLATE, "name": TEMPLATE, "plan": "business" });
    world.send(Method::POST, "/tenants", Some(&body)).await;
    world.until_active(2).await;
    let template = Template {
        slug: TEMPLATE,
        database: &world.database,
        authentik: &world.authentik,
        ocis: &world.ocis,
    };
    let copied = template.copy("t", count).await;
    copied.expect("the tenants are stored");
    let flag = format!("/flags/{NEW_BILLING_ENGINE}");
    let on = json!({ "default": true });
    world.send(Method::PATCH, &flag, Some(&on)).await;

    let tenants = world.database.collection::<Id>("tenants");
    let of_copies = doc! { "slug": { "$regex": "^t-" } };
    let found = tenants.find(of_copies).projection(doc! { "_id": 1 }).await;
    let found = found.expect("MongoDB responds");
    let ids: Vec<Id> = found.try_collect().await.expect("MongoDB responds");
    assert_eq!(ids.len(), count);
    let subscriptions = world.database.collection::<Subscription>("subscriptions");
    for batch in ids.chunks(BATCH) {
        let due = batch.iter().map(|tenant| due_subscription(tenant.id));
        let inserted = subscriptions.insert_many(due).await;
        inserted.expect("MongoDB accepts them");
    }
}

/// A subscription with one period that has begun and is not invoiced.
fn due_subscription(tenant: TenantId) -> Subscription {
    let terms = NewTerms {
        plan: Plan::Business,
        cycle: Cycle::Monthly,
        seats: 5,
        currency: "DKK".to_owned(),
        price_minor: 49_900,
    };
    let since = whole_second(clock::earlier(clock::now(), OVERDUE));
    let mut subscription = Subscription::new(tenant, terms, since);
    subscription.collection_method = CollectionMethod::SendInvoice;
    subscription.billing_anchor = Some(since);
    subscription.advance_to(since);
    subscription
}

/// Waits until Stripe has sent all invoices.
async fn until_sent(world: &World, count: usize) {
    let invoices = world.database.collection::<Document>("invoices");
    let is_sent = doc! { "sentByStripe": true, "stage": { "$exists": false } };
    until_within(TIMEOUT, "all invoices are sent", async || {
        let sent = invoices.count_documents(is_sent.clone()).await;
        let sent = sent.expect("MongoDB responds");
        progress(format!("{sent} of {count} invoices sent"));
        sent >= count as u64
    })
    .await;
}
