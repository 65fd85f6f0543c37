//! Benchmarks of the service: api and worker as processes, with simulated upstreams. Run with `cargo dev bench`.

mod audit;
mod console;
mod flags;
mod growth_report;
mod invoice_run;
mod large_tenant;
mod ledger;
mod members;
mod memory;
mod reads;
mod reconcile;
mod recovery;
mod scale;
mod spaces;
mod webhooks;
mod world;
mod writes;

use std::{env, process::ExitCode};

use self::world::World;

/// The argument names a scenario; without one, it is `service`.
#[tokio::main]
async fn main() -> ExitCode {
    let scenario = env::args().nth(1);
    let holds = match scenario.as_deref() {
        Some("members") => {
            large_tenant::measure().await;
            members::measure().await
        }
        Some("console") => console::measure().await,
        Some("reconcile") => reconcile::measure().await,
        Some("recovery") => {
            recovery::measure().await;
            true
        }
        Some("scale") => {
            scale::measure().await;
            true
        }
        Some("billing") => {
            let is_fast = webhooks::measure().await;
            invoice_run::measure().await && is_fast
        }
        Some("reports") => {
            let is_fast = ledger::measure().await;
            growth_report::measure().await && is_fast
        }
        _ => {
            service().await;
            true
        }
    };
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn service() {
    flags::measure();
    spaces::measure().await;
    let world = World::start().await;
    writes::one_at_a_time(&world).await;
    writes::many_tenants(&world).await;
    writes::one_hot_tenant(&world).await;
    reads::measure(&world).await;
    reads::held_at_rest(&world).await;
    memory::report_usage(&world).await;
    audit::export(&world).await;
}
