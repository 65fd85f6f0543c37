//! Benchmarks of the job engine alone, on a real MongoDB and Redis. Run with `cargo dev bench`.

mod fairness;
mod growth;
mod latency;
mod throughput;
mod turns;
mod world;

use std::{env, process::ExitCode};

use self::world::World;

/// The argument names a scenario; without one, it is `engine`.
#[tokio::main]
async fn main() -> ExitCode {
    let scenario = env::args().nth(1);
    if scenario.as_deref() == Some("turns") {
        let holds = turns::measure(&World::new().await).await;
        return if holds {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    throughput::measure(&World::new().await).await;
    latency::measure(&World::new().await).await;
    fairness::measure(&World::new().await).await;
    growth::measure(&World::new().await).await;
    ExitCode::SUCCESS
}
