//! Recovery of tenants whose worker is killed while it provisions them.

use std::time::{Duration, Instant};

use dezky_sim::bench_output::{progress, report};
use futures::{StreamExt as _, stream};
use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::json;

use crate::world::{World, until};

const TENANTS: u64 = 24;
/// Additional latency of the upstreams until the worker is killed, so that it is killed in the middle.
const LATENCY: Duration = Duration::from_secs(2);

pub(crate) async fn measure() {
    let mut world = World::start().await;
    set_latency(&world, LATENCY);
    let jobs = world.database.collection::<Document>("jobs");
    stream::iter(0..TENANTS)
        .map(async |number| {
            let slug = format!("t-{number}");
            let body = json!({ "slug": slug, "name": slug, "plan": "business" });
            world.send(Method::POST, "/tenants", Some(&body)).await;
        })
        .buffer_unordered(8)
        .collect::<Vec<()>>()
        .await;
    let is_running = doc! { "kind": "provision_tenant", "state": "running" };
    until("the worker provisions all tenants", async || {
        let running = jobs.count_documents(is_running.clone()).await;
        running.expect("MongoDB responds") == TENANTS
    })
    .await;

    let killed = Instant::now();
    world.worker.kill().await;
    set_latency(&world, Duration::ZERO);
    let restarted = world.worker.restart().await;
    restarted.expect("the worker starts");
    progress(format!("the worker of {TENANTS} tenants was killed"));
    // One tenant exists in every installation.
    world.until_active(1 + TENANTS).await;
    report(
        "24 tenants whose worker is killed: until all are active",
        killed.elapsed().as_secs_f64(),
        "s",
    );
}

fn set_latency(world: &World, latency: Duration) {
    for server in [
        &world.authentik.server,
        &world.stalwart.server,
        &world.ocis.server,
    ] {
        server.faults.set_latency(latency);
    }
}
