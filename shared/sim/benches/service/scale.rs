//! Scale of the worker processes: gain of further ones in a drain, cost of idle ones at the stores, and the share of a core
//! that the leader's duties take. Each process is pinned to one core, so that a share is of that core.

mod drain;
mod idle;
mod leader;
mod usage;
mod workers;

use std::time::Duration;

use crate::world::{Variables, World};

use self::workers::Workers;

/// Time limit of the end of the worker that the other scenarios use.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn measure() {
    let mut world = World::start_with(Variables::new(), without_upstreams()).await;
    world.worker.stop(STOP_TIMEOUT).await;
    let mut workers = Workers::new(&world);
    workers::pin(&world.api, workers.cores() - 1).await;
    drain::measure(&world, &mut workers).await;
    idle::measure(&world, &mut workers).await;
    leader::measure(&world, &workers).await;
}

/// Disabled integrations: the steps of a job are skipped, so that the simulators take no part of the machine.
fn without_upstreams() -> Variables {
    [
        "AUTHENTIK_PROVISIONING_ENABLED",
        "STALWART_PROVISIONING_ENABLED",
        "OCIS_PROVISIONING_ENABLED",
    ]
    .map(|name| (name, "false".to_owned()))
    .into()
}
