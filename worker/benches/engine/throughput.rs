//! Throughput of enqueueing and of draining a backlog.

use std::time::Instant;

use dezky_sim::bench_output::{rate, report};

use crate::world::{Noop, World};

const JOBS: usize = 20_000;
const TENANTS: usize = 2_000;

pub(crate) async fn measure(world: &World) {
    let began = Instant::now();
    world
        .enqueue_all((0..JOBS).map(|_| Noop { lock: None }))
        .await;
    report("enqueue, 64 senders", rate(JOBS, began.elapsed()), "jobs/s");

    report("drain, 200 slots", drain(world, JOBS, 200).await, "jobs/s");

    world
        .enqueue_all((0..JOBS).map(|n| Noop {
            lock: Some(format!("tenant:{}", n % TENANTS)),
        }))
        .await;
    let name = format!(
        "drain, 200 slots, {TENANTS} tenants with {} each",
        JOBS / TENANTS
    );
    report(name, drain(world, JOBS, 200).await, "jobs/s");
    world
        .enqueue_all((0..JOBS).map(|_| Noop { lock: None }))
        .await;
    report("drain, 64 slots", drain(world, JOBS, 64).await, "jobs/s");
}

/// The rate at which a new worker drains the backlog.
pub(crate) async fn drain(world: &World, jobs: usize, slots: usize) -> f64 {
    let began = Instant::now();
    let mut worker = world.worker(slots).await;
    for _ in 0..jobs {
        worker.started.recv().await.expect("the worker runs");
    }
    world.drained().await;
    let rate = rate(jobs, began.elapsed());
    worker.stop().await;
    rate
}
