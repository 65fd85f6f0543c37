//! What portals do all day: ask how a tenant is.

use std::time::{Duration, Instant};

use dezky_sim::figures::{rate, tell};
use futures::{StreamExt as _, stream::FuturesUnordered};
use reqwest::{Method, header};

use crate::{memory, world::World};

const TENANT: &str = "/tenants/t-1";
const TIME: Duration = Duration::from_secs(5);
const POLLERS: usize = 2_000;

/// Reads, each with rights read from MongoDB.
pub(crate) async fn measure(world: &World) {
    let answered = world.ask_for(TENANT, None, TIME).await;
    tell(
        "GET /tenants/{slug}, 64 connections",
        rate(answered, TIME),
        "requests/s",
    );
    let etag = etag(world).await;
    let answered = world.ask_for(TENANT, Some(&etag), TIME).await;
    tell(
        "GET /tenants/{slug}, unchanged (304)",
        rate(answered, TIME),
        "requests/s",
    );
}

/// Pollers that wait for a change which does not come.
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
    // All of them have to be there before the clock starts.
    let settled = tokio::time::sleep(Duration::from_secs(8));
    tokio::select! {
        () = settled => {}
        Some(answer) = waiting.next() => panic!("none may be answered yet: {answer:?}"),
    }
    let (before, began) = (memory::cpu_seconds(&world.api), Instant::now());
    let observed = tokio::time::sleep(Duration::from_secs(10));
    tokio::select! {
        () = observed => {}
        Some(answer) = waiting.next() => panic!("none may be answered yet: {answer:?}"),
    }
    let used = memory::cpu_seconds(&world.api) - before;
    tell(
        "?wait, 2,000 held at rest: a core's share",
        100.0 * used / began.elapsed().as_secs_f64(),
        "%",
    );
    tell(
        "?wait, 2,000 held: api",
        memory::megabytes(&world.api),
        "MB",
    );
    while let Some(answer) = waiting.next().await {
        assert_eq!(answer.expect("the api answers").status().as_u16(), 304);
    }
}

async fn etag(world: &World) -> String {
    let answer = world.request(Method::GET, TENANT).send().await;
    let answer = answer.expect("the api answers");
    let etag = answer.headers().get(header::ETAG).expect("it has one");
    etag.to_str().expect("it is text").to_owned()
}
