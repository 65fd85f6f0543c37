//! The report `growth` over 36 months of all tenants, and the job that adds up their snapshots.

use std::time::{Duration, Instant};

use dezky_shared::{
    billing::{Cycle, Plan, month::Month},
    id::{SnapshotId, SubscriptionId, TenantId},
    platform::clock,
    subscription::SubscriptionStatus,
    subscription_snapshot::{SubscriptionSnapshot, SubscriptionTerms},
    tenant::TenantStatus,
};
use dezky_sim::bench_output::{grouped, percentile, progress, report, size, within};
use futures::{StreamExt as _, stream};
use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, until_within};

/// Months of the report, which end with the one before this.
const MONTHS: usize = 36;
/// Snapshots per insert.
const BATCH: usize = 5_000;
const READS: usize = 200;
/// Maximum time of the report.
const MAX_MILLIS: f64 = 1_000.0;
const TIMEOUT: Duration = Duration::from_hours(1);
/// The jobs that write and add up snapshots.
const KINDS: [&str; 2] = ["snapshot_subscriptions", "summarize_months"];
const CURRENCIES: [&str; 3] = ["DKK", "EUR", "SEK"];

/// Returns whether the limit holds.
pub(crate) async fn measure() -> bool {
    let count = size(5_000, 100_000);
    let world = World::start().await;
    let this = Month::of(clock::now());
    let mut months: Vec<Month> =
        std::iter::successors(Some(this.previous()), |month| Some(month.previous()))
            .take(MONTHS)
            .collect();
    months.reverse();
    progress(format!("storing {MONTHS} snapshots of {count} tenants"));
    store(&world, &months, count).await;
    let name = |part: &str| format!("36 months of {} tenants: {part}", grouped(count as u64));

    let began = Instant::now();
    let path = "/schedules/monthly_snapshots/run";
    world.send(Method::POST, path, Some(&json!({}))).await;
    until_added_up(&world).await;
    report(name("added up in"), began.elapsed().as_secs_f64(), "s");

    let (first, last) = (months[0], months[MONTHS - 1]);
    let path = format!("/reports/growth?from={first}&to={last}");
    let mut spans = Vec::with_capacity(READS);
    for _ in 0..READS {
        let began = Instant::now();
        let response = world.request(Method::GET, &path).send().await;
        let response = response.expect("the api responds");
        let found: Value = response.json().await.expect("the response is a report");
        spans.push(began.elapsed());
        let currencies = found["currencies"].as_array().map(Vec::len);
        assert_eq!(currencies, Some(CURRENCIES.len()), "{found}");
    }
    within(
        name("report growth, p99"),
        percentile(&mut spans, 0.99),
        "ms",
        MAX_MILLIS,
    )
}

/// Waits until all months, the current one included, are added up.
async fn until_added_up(world: &World) {
    let months = world.database.collection::<Document>("report_months");
    let of_platform = doc! { "scope": "platform" };
    until_within(TIMEOUT, "all months are added up", async || {
        let added = months.count_documents(of_platform.clone()).await;
        let added = added.expect("MongoDB responds");
        progress(format!("{added} of {} months added up", MONTHS + 1));
        added > MONTHS as u64
    })
    .await;
    world.until_done(&KINDS, TIMEOUT).await;
}

/// Stores a snapshot of each tenant and month.
async fn store(world: &World, months: &[Month], count: usize) {
    let collection = world
        .database
        .collection::<SubscriptionSnapshot>("subscription_snapshots");
    let tenants: Vec<TenantId> = (0..count).map(|_| TenantId::new()).collect();
    let batches = months.iter().enumerate().flat_map(|(age, month)| {
        let numbered = tenants.chunks(BATCH).zip((0_usize..).step_by(BATCH));
        numbered.map(move |(batch, from)| (age, *month, batch, from))
    });
    stream::iter(batches)
        .for_each_concurrent(2, async |(age, month, batch, from)| {
            let numbers = from..from + batch.len();
            let snapshots = batch
                .iter()
                .zip(numbers)
                .map(|(tenant, number)| snapshot(*tenant, number, month, age));
            let inserted = collection.insert_many(snapshots).await;
            inserted.expect("MongoDB accepts them");
        })
        .await;
}

/// Snapshot of a tenant in the month number `age`. A third comes within the first year, some pay more from month to month,
/// and one in ten leaves.
fn snapshot(tenant: TenantId, number: usize, month: Month, age: usize) -> SubscriptionSnapshot {
    let is_sold = !number.is_multiple_of(3) || age >= number % 12;
    let has_left = number % 10 == 9 && age >= 12 + number % 24;
    let plan = Plan::ALL[number % Plan::ALL.len()];
    let raises = i64::try_from((age * (number % 4)) / 6).unwrap_or_default();
    let terms = SubscriptionTerms {
        id: SubscriptionId::new(),
        status: SubscriptionStatus::Active,
        plan,
        cycle: Cycle::Monthly,
        seats: 5,
        currency: CURRENCIES[number / Plan::ALL.len() % CURRENCIES.len()].to_owned(),
        price_minor: 10_000 + raises * 500,
    };
    SubscriptionSnapshot {
        id: SnapshotId::deterministic(tenant, &month.to_string()),
        month,
        tenant_id: tenant,
        slug: format!("t-{number}"),
        tenant_status: TenantStatus::Active,
        plan,
        partner_id: None,
        subscription: Some(terms).filter(|_| is_sold && !has_left),
        taken_at: clock::later(month.end(), Duration::from_mins(10)),
    }
}
