//! Fairness: the wait of one tenant's job behind another tenant's backlog of 10,000.

use std::time::Instant;

use dezky_sim::bench_output::report;

use crate::world::{Noop, World};

const BACKLOG: usize = 10_000;

pub(crate) async fn measure(world: &World) {
    let lock = |name: &str| Some(format!("tenant:{name}"));
    world
        .enqueue_all((0..BACKLOG).map(|_| Noop {
            lock: lock("greedy"),
        }))
        .await;
    let mut worker = world.worker(16).await;
    worker.started.recv().await.expect("the worker runs");

    let other = Noop {
        lock: lock("other"),
    };
    let called = Instant::now();
    world.enqueue(&other).await;
    let mut before = 0_u32;
    let started = loop {
        let (key, started) = worker.started.recv().await.expect("the worker runs");
        if Some(key) == other.lock {
            break started;
        }
        before += 1;
    };
    worker.stop().await;
    let waited = (started - called).as_secs_f64() * 1_000.0;
    report("behind another's backlog of 10,000: waited", waited, "ms");
    report(
        "behind another's backlog of 10,000: overtaken by",
        f64::from(before),
        "jobs",
    );
}
