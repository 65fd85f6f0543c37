//! Latency from enqueueing to the start of the handler, on an idle worker.

use std::time::{Duration, Instant};

use dezky_sim::bench_output::{percentile, report};

use crate::world::{Noop, World};

const JOBS: usize = 1_000;

pub(crate) async fn measure(world: &World) {
    let mut worker = world.worker(16).await;
    let mut from_call = Vec::with_capacity(JOBS);
    let mut from_commit = Vec::with_capacity(JOBS);
    for n in 0..JOBS {
        let called = Instant::now();
        world.enqueue(&Noop { lock: None }).await;
        let enqueued = Instant::now();
        let (_, started) = worker.started.recv().await.expect("the worker runs");
        // The first jobs open connections.
        if n >= 20 {
            from_call.push(started - called);
            from_commit.push(started.saturating_duration_since(enqueued));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    worker.stop().await;
    report(
        "enqueued to started, idle, p50",
        percentile(&mut from_commit, 0.5),
        "ms",
    );
    report(
        "enqueued to started, idle, p99",
        percentile(&mut from_commit, 0.99),
        "ms",
    );
    report(
        "call to started, idle, p50",
        percentile(&mut from_call, 0.5),
        "ms",
    );
    report(
        "call to started, idle, p99",
        percentile(&mut from_call, 0.99),
        "ms",
    );
}
