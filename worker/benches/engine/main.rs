//! Benchmarks of the job engine alone: no-op jobs on a real MongoDB and Redis. Run with `cargo dev bench`.

mod fairness;
mod growth;
mod latency;
mod throughput;
mod world;

use self::world::World;

#[tokio::main]
async fn main() {
    throughput::measure(&World::new().await).await;
    latency::measure(&World::new().await).await;
    fairness::measure(&World::new().await).await;
    growth::measure(&World::new().await).await;
}
