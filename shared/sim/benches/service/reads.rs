//! Reads of a tenant, as portals send them.

use std::time::{Duration, Instant};

use dezky_sim::bench_output::{rate, report};
use futures::{StreamExt as _, stream::FuturesUnordered};
use reqwest::{Method, header};

use crate::{memory, world::World};

const TENANT: &str = "/tenants/t-1";
const TIME: Duration = Duration::from_secs(5);
const POLLERS: usize = 2_000;

/// Reads, each of which loads the caller's permissions from MongoDB.
pub(crate) async fn measure(world: &World) {
    let responses = world.request_for(TENANT, None, TIME).await;
    report(
        "GET /tenants/{slug}, 64 connections",
        rate(responses, TIME),
        "requests/s",
    );
    let etag = etag(world).await;
    let responses = world.request_for(TENANT, Some(&etag), TIME).await;
    report(
        "GET /tenants/{slug}, unchanged (304)",
        rate(responses, TIME),
        "requests/s",
    );
}

/// Long polls without a change.
pub(crate) async fn held_at_rest(world: &World) {
    let etag = etag(world).await;
    let path = format!("{TENANT}?wait=25s");
    let mut waiting: FuturesUnordered<_> = (0..POLLERS)
        .map(|_| {
            world
                .request(Method::GET, &path)
                .header(header::IF_NONE_MATCH, &etag)
                .send()
        })
        .collect();
    // All requests must be held before the measurement starts.
    let settled = tokio::time::sleep(Duration::from_secs(8));
    tokio::select! {
        () = settled => {}
        Some(response) = waiting.next() => panic!("unexpected response: {response:?}"),
    }
    let (before, began) = (memory::cpu_seconds(&world.api), Instant::now());
    let observed = tokio::time::sleep(Duration::from_secs(10));
    tokio::select! {
        () = observed => {}
        Some(response) = waiting.next() => panic!("unexpected response: {response:?}"),
    }
    let used = memory::cpu_seconds(&world.api) - before;
    report(
        "?wait, 2,000 held at rest: a core's share",
        100.0 * used / began.elapsed().as_secs_f64(),
        "%",
    );
    report(
        "?wait, 2,000 held: api",
        memory::megabytes(&world.api),
        "MB",
    );
    while let Some(response) = waiting.next().await {
        assert_eq!(response.expect("the api responds").status().as_u16(), 304);
    }
}

async fn etag(world: &World) -> String {
    let response = world.request(Method::GET, TENANT).send().await;
    let response = response.expect("the api responds");
    let etag = response.headers().get(header::ETAG).expect("it has one");
    etag.to_str().expect("it is text").to_owned()
}
