//! What is asked of the service, until it is done.

use std::time::{Duration, Instant};

use dezky_sim::figures::{percentile, rate, tell};
use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;

use crate::world::{CONNECTIONS, World, until};

const TENANTS: usize = 4_000;
const ALONE: usize = 100;
const CHANGES: usize = 2_000;

/// From the request to `active`, with nothing else to do; less what the upstreams take.
pub(crate) async fn one_at_a_time(world: &World) {
    let mut spans = Vec::with_capacity(ALONE);
    for n in 0..ALONE {
        let slug = format!("alone-{n}");
        let body = json!({ "slug": slug, "name": slug, "plan": "business" });
        let began = Instant::now();
        let answer = world
            .request(Method::POST, "/tenants")
            .json(&body)
            .header("Prefer", "wait=25")
            .send()
            .await
            .expect("the api answers");
        let tenant: serde_json::Value = answer.json().await.expect("the api answers whole");
        assert_eq!(tenant["status"], "active", "{tenant}");
        // The first ones open connections.
        if n >= 10 {
            spans.push(began.elapsed());
        }
    }
    tell(
        "tenant, alone: POST to active, p50",
        percentile(&mut spans, 0.5),
        "ms",
    );
    tell(
        "tenant, alone: POST to active, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );
    tell(
        "tenant, alone: of that, the longest chain of upstream calls",
        chain(world).await,
        "ms",
    );
}

/// How long the slowest upstream takes for a tenant: its calls, one after the other.
async fn chain(world: &World) -> f64 {
    let jobs = world.database.collection::<mongodb::bson::Document>("jobs");
    let mut spans = Vec::new();
    let mut found = jobs
        .find(mongodb::bson::doc! { "kind": "provision_tenant", "state": "completed" })
        .sort(mongodb::bson::doc! { "_id": -1 })
        .limit(50)
        .await
        .expect("MongoDB answers");
    while let Some(job) = found.next().await {
        let job = job.expect("MongoDB answers");
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

/// Many tenants at once.
pub(crate) async fn many_tenants(world: &World) {
    let began = Instant::now();
    let mut spans: Vec<Duration> = stream::iter(0..TENANTS)
        .map(async |n| {
            let body =
                json!({ "slug": format!("t-{n}"), "name": format!("T {n}"), "plan": "business" });
            let began = Instant::now();
            world.ask(Method::POST, "/tenants", Some(&body)).await;
            began.elapsed()
        })
        .buffer_unordered(CONNECTIONS)
        .collect()
        .await;
    tell(
        "POST /tenants, 64 connections",
        rate(TENANTS, began.elapsed()),
        "requests/s",
    );
    tell(
        "POST /tenants, 64 connections, p50",
        percentile(&mut spans, 0.5),
        "ms",
    );
    tell(
        "POST /tenants, 64 connections, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );

    // The one that every installation begins with.
    world.until_active((1 + ALONE + TENANTS) as u64).await;
    tell(
        "tenants, from the first POST until all are active",
        rate(TENANTS, began.elapsed()),
        "tenants/s",
    );
}

/// Many who change one tenant.
pub(crate) async fn one_hot_tenant(world: &World) {
    let began = Instant::now();
    let mut spans: Vec<Duration> = stream::iter(0..CHANGES)
        .map(async |n| {
            let body = json!({ "name": format!("Hot {n}") });
            let began = Instant::now();
            world
                .ask(Method::PATCH, "/tenants/alone-0", Some(&body))
                .await;
            began.elapsed()
        })
        .buffer_unordered(CONNECTIONS)
        .collect()
        .await;
    tell(
        "PATCH of one tenant, 64 writers",
        rate(CHANGES, began.elapsed()),
        "requests/s",
    );
    tell(
        "PATCH of one tenant, 64 writers, p99",
        percentile(&mut spans, 0.99),
        "ms",
    );
    let jobs = world.database.collection::<mongodb::bson::Document>("jobs");
    until("all jobs are done", async || {
        let open = mongodb::bson::doc! { "state": { "$in": ["available", "running"] } };
        jobs.find_one(open)
            .await
            .expect("MongoDB answers")
            .is_none()
    })
    .await;
}
