//! Idle workers: the load of a hundred of them on the stores, beyond that of the first one.

use std::time::Duration;

use dezky_sim::bench_output::{progress, report};

use super::{usage::Load, workers::Workers};
use crate::world::World;

/// Idle workers besides the leader.
const IDLE: usize = 100;
/// Time for a started or relieved system to come to rest.
const REST: Duration = Duration::from_secs(10);
/// Time of a measurement: a few periods of every poll.
const OBSERVED: Duration = Duration::from_secs(20);

pub(super) async fn measure(world: &World, workers: &mut Workers<'_>) {
    workers.keep_first();
    progress("waiting for the first worker to be at rest");
    tokio::time::sleep(REST).await;
    let alone = Load::during(OBSERVED, world, workers.running()).await;
    report(
        "scale: one worker at rest, its share of a core",
        alone.leader(),
        "%",
    );

    progress(format!("starting {IDLE} workers"));
    workers.grow(1 + IDLE).await;
    tokio::time::sleep(REST).await;
    let many = Load::during(OBSERVED, world, workers.running()).await;
    workers.keep_first();
    for (what, before, after, unit) in [
        ("reads at MongoDB", alone.reads, many.reads, "reads/s"),
        (
            "MongoDB's share of a core",
            alone.mongodb,
            many.mongodb,
            "%",
        ),
        (
            "commands at Redis",
            alone.redis_commands,
            many.redis_commands,
            "commands/s",
        ),
        ("Redis's share of a core", alone.redis, many.redis, "%"),
    ] {
        report(
            format!("scale: 100 idle workers, {what}"),
            after - before,
            unit,
        );
    }
    let theirs: f64 = many.workers[1..].iter().sum();
    report(
        "scale: 100 idle workers, their share of a core",
        theirs,
        "%",
    );
}
