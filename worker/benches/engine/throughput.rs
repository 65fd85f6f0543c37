//! Enqueue, then drain.

use std::time::Instant;

use dezky_sim::figures::{rate, tell};

use crate::world::{Noop, World};

const JOBS: usize = 20_000;

pub(crate) async fn measure(world: &World) {
    let began = Instant::now();
    world
        .enqueue_all((0..JOBS).map(|_| Noop { lock: None }))
        .await;
    tell(
        "enqueue, one transaction each",
        rate(JOBS, began.elapsed()),
        "jobs/s",
    );

    tell("drain, 200 slots", drain(world, JOBS, 200).await, "jobs/s");

    for (jobs, tenants) in [(JOBS, 2_000)] {
        world
            .enqueue_all((0..jobs).map(|n| Noop {
                lock: Some(format!("tenant:{}", n % tenants)),
            }))
            .await;
        let name = format!(
            "drain, 200 slots, {tenants} tenants with {} each",
            jobs / tenants
        );
        tell(name, drain(world, jobs, 200).await, "jobs/s");
    }
    world
        .enqueue_all((0..JOBS).map(|_| Noop { lock: None }))
        .await;
    tell("drain, 64 slots", drain(world, JOBS, 64).await, "jobs/s");
}

/// How fast a worker that starts now works off what waits.
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
