//! Reconcile of all tenants: its cost for each tenant, of few tenants and of many, and the wait of a change behind it.
//!
//! Tenants are copies of one that was provisioned, with their groups and spaces: nothing has to be repaired.

use std::time::{Duration, Instant};

use dezky_sim::{
    bench_output::{per, percentile, progress, report, within},
    copied_tenants::Template,
};
use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::json;

use crate::world::{World, requests, until_within};

const FEW: usize = 1_000;
const MANY: usize = 100_000;
/// Maximum ratio of a tenant's cost among many tenants to that among few.
const MAX_RATIO: f64 = 1.2;
/// Tenants created behind the reconcile of many, one after the other.
const CHANGES: usize = 20;
/// Pause between them, so that the last are created behind a backlog that is minutes old.
const PAUSE: Duration = Duration::from_secs(6);
/// Maximum time from `POST` to `active` behind a reconcile.
const MAX_WAIT_MILLIS: f64 = 10_000.0;
const TIMEOUT: Duration = Duration::from_hours(2);
const TEMPLATE: &str = "template";

/// Cost of a reconcile, for each tenant.
struct Cost {
    millis: f64,
    calls: f64,
    bytes: f64,
}

/// Returns whether all limits hold.
pub(crate) async fn measure() -> bool {
    let (few, _) = reconcile(FEW, 0).await;
    let (many, mut spans) = reconcile(MANY, CHANGES).await;
    for (tenants, cost) in [("1,000", &few), ("100,000", &many)] {
        let name = |what: &str| format!("reconcile of {tenants} tenants: {what}");
        report(name("time"), cost.millis, "ms a tenant");
        report(name("upstream calls"), cost.calls, "a tenant");
        report(name("bytes received"), cost.bytes, "a tenant");
    }
    let ratio = |what: &str, many: f64, few: f64| {
        let name = format!("reconcile of 100,000 tenants to 1,000: {what}");
        within(name, many / few, "", MAX_RATIO)
    };
    report(
        "tenant behind a reconcile of 100,000: POST to active, p50",
        percentile(&mut spans, 0.5),
        "ms",
    );
    let limits = [
        ratio("time", many.millis, few.millis),
        ratio("upstream calls", many.calls, few.calls),
        ratio("bytes received", many.bytes, few.bytes),
        within(
            "tenant behind a reconcile of 100,000: POST to active, at most",
            percentile(&mut spans, 1.0),
            "ms",
            MAX_WAIT_MILLIS,
        ),
    ];
    limits.into_iter().all(|holds| holds)
}

/// Reconciles `count` tenants at once, while `changes` tenants are created. Returns the cost, and the time of each change.
async fn reconcile(count: usize, changes: usize) -> (Cost, Vec<Duration>) {
    let world = World::start().await;
    create(&world, TEMPLATE).await;
    let template = Template {
        slug: TEMPLATE,
        database: &world.database,
        authentik: &world.authentik,
        ocis: &world.ocis,
    };
    progress(format!(
        "storing {count} tenants, with their groups and spaces"
    ));
    template
        .copy("t", count)
        .await
        .expect("the tenants are stored");

    let (calls, bytes) = traffic(&world);
    let began = Instant::now();
    world
        .send(Method::POST, "/schedules/nightly_reconcile/run", None)
        .await;
    let (took, spans) = tokio::join!(
        until_reconciled(&world, count, began),
        create_behind(&world, changes),
    );
    let (calls_after, bytes_after) = traffic(&world);
    let cost = Cost {
        millis: took.as_secs_f64() * 1_000.0 / to_float(count),
        calls: per(calls_after - calls, count + changes),
        bytes: per(bytes_after - bytes, count + changes),
    };
    assert_unchanged(&world).await;
    (cost, spans)
}

/// Time until as many reconcile jobs have ended.
async fn until_reconciled(world: &World, count: usize, began: Instant) -> Duration {
    let jobs = world.database.collection::<Document>("jobs");
    let done = doc! { "kind": "reconcile_tenant", "state": "completed" };
    until_within(TIMEOUT, "all tenants are reconciled", async || {
        // Counting them is work for MongoDB, too.
        tokio::time::sleep(Duration::from_millis(if count > FEW { 5_000 } else { 100 })).await;
        let done = jobs
            .count_documents(done.clone())
            .await
            .expect("MongoDB responds");
        progress(format!("{done} of {count} tenants reconciled"));
        done >= count as u64
    })
    .await;
    began.elapsed()
}

/// Time from `POST` to `active` of tenants created one after the other.
async fn create_behind(world: &World, changes: usize) -> Vec<Duration> {
    let mut spans = Vec::with_capacity(changes);
    for number in 0..changes {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        create(world, &format!("waited-for-{number}")).await;
        spans.push(began.elapsed());
        progress(format!(
            "tenant {number} active after {:?}",
            began.elapsed()
        ));
    }
    spans
}

async fn create(world: &World, slug: &str) {
    let body = json!({ "slug": slug, "name": slug, "plan": "business" });
    world.send(Method::POST, "/tenants", Some(&body)).await;
    let tenants = world.database.collection::<Document>("tenants");
    let active = doc! { "slug": slug, "status": "active" };
    until_within(TIMEOUT, "the tenant is active", async || {
        let found = tenants.find_one(active.clone()).await;
        found.expect("MongoDB responds").is_some()
    })
    .await;
}

/// Number of calls of all upstreams, and of bytes in their responses.
fn traffic(world: &World) -> (u64, u64) {
    let servers = [
        &world.authentik.server,
        &world.stalwart.server,
        &world.ocis.server,
    ];
    let calls = servers.iter().map(|server| requests(server)).sum();
    let bytes = servers.iter().map(|server| server.sent_bytes()).sum();
    (calls, bytes)
}

/// A reconcile that repairs something would measure something else.
async fn assert_unchanged(world: &World) {
    let jobs = world.database.collection::<Document>("jobs");
    let changed = doc! { "kind": "reconcile_tenant", "steps.changes.0": { "$exists": true } };
    let changed = jobs.find_one(changed).await.expect("MongoDB responds");
    assert!(
        changed.is_none(),
        "a reconcile changed something: {changed:?}"
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn to_float(count: usize) -> f64 {
    count as f64
}
