//! Writes: from the request until the change is provisioned.

use std::time::{Duration, Instant};

use dezky_sim::bench_output::{percentile, rate, report};
use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;

use crate::world::{CONNECTIONS, World, until};

const TENANTS: usize = 4_000;
const ALONE: usize = 100;
const CHANGES: usize = 2_000;

/// Time from a `POST` to `active` on an idle system, and the upstreams' share of it.
pub(crate) async fn one_at_a_time(world: &World) {
    let mut spans = Vec::with_capacity(ALONE);
    for n in 0..ALONE {
        let slug = format!("alone-{n}");
        let body = json!({ "slug": slug, "name": slug, "plan": "business" });
        let began = Instant::now();
        let response = world
            .request(Method::POST, "/tenants")
            .json(&body)
            .header("Prefer", "wait=25")
            .send()
            .await
            .expect("the api responds");
        let tenant: serde_json::Value = response.json().await.expect("the response is complete");
        assert_eq!(tenant["status"], "active", "{tenant}");
        // The first requests open connections.
        if n >= 10 {
            spans.push(began.elapsed());
        }
    }
    report(
        "tenant, alone: POST to active, p50",
        percentile(&mut spans, 0.5),
        "ms",
    );
    report(
        "tenant, alone: POST to active, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );
    report(
        "tenant, alone: of that, the longest chain of upstream calls",
        chain(world).await,
        "ms",
    );
}

/// Duration of the slowest upstream's sequential calls for a tenant.
async fn chain(world: &World) -> f64 {
    let jobs = world.database.collection::<mongodb::bson::Document>("jobs");
    let mut spans = Vec::new();
    let mut found = jobs
        .find(mongodb::bson::doc! { "kind": "provision_tenant", "state": "completed" })
        .sort(mongodb::bson::doc! { "_id": -1 })
        .limit(50)
        .await
        .expect("MongoDB responds");
    while let Some(job) = found.next().await {
        let job = job.expect("MongoDB responds");
        let steps = job.get_array("steps").expect("it has steps");
        let longest = steps.iter().filter_map(|step| {
            let step = step.as_document()?;
            let began = step.get_datetime("startedAt").ok()?;
            let ended = step.get_datetime("finishedAt").ok()?;
            u64::try_from(ended.timestamp_millis() - began.timestamp_millis()).ok()
        });
        spans.push(Duration::from_millis(longest.max().unwrap_or(0)));
    }
    percentile(&mut spans, 0.5)
}

/// Many concurrent creates.
pub(crate) async fn many_tenants(world: &World) {
    let began = Instant::now();
    let mut spans: Vec<Duration> = stream::iter(0..TENANTS)
        .map(async |n| {
            let body =
                json!({ "slug": format!("t-{n}"), "name": format!("T {n}"), "plan": "business" });
            let began = Instant::now();
            world.send(Method::POST, "/tenants", Some(&body)).await;
            began.elapsed()
        })
        .buffer_unordered(CONNECTIONS)
        .collect()
        .await;
    report(
        "POST /tenants, 64 connections",
        rate(TENANTS, began.elapsed()),
        "requests/s",
    );
    report(
        "POST /tenants, 64 connections, p50",
        percentile(&mut spans, 0.5),
        "ms",
    );
    report(
        "POST /tenants, 64 connections, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );

    // One tenant exists in every installation.
    world.until_active((1 + ALONE + TENANTS) as u64).await;
    report(
        "tenants, from the first POST until all are active",
        rate(TENANTS, began.elapsed()),
        "tenants/s",
    );
}

/// Many concurrent writers of one tenant.
pub(crate) async fn one_hot_tenant(world: &World) {
    let began = Instant::now();
    let mut spans: Vec<Duration> = stream::iter(0..CHANGES)
        .map(async |n| {
            let body = json!({ "name": format!("Hot {n}") });
            let began = Instant::now();
            world
                .send(Method::PATCH, "/tenants/alone-0", Some(&body))
                .await;
            began.elapsed()
        })
        .buffer_unordered(CONNECTIONS)
        .collect()
        .await;
    report(
        "PATCH of one tenant, 64 writers",
        rate(CHANGES, began.elapsed()),
        "requests/s",
    );
    report(
        "PATCH of one tenant, 64 writers, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );
    let jobs = world.database.collection::<mongodb::bson::Document>("jobs");
    until("all jobs are done", async || {
        let open = mongodb::bson::doc! { "state": { "$in": ["available", "running"] } };
        jobs.find_one(open)
            .await
            .expect("MongoDB responds")
            .is_none()
    })
    .await;
}
