//! Benchmarks of the service: api and worker as processes, with simulated upstreams. Run with `cargo dev bench`.

mod audit;
mod flags;
mod memory;
mod reads;
mod world;
mod writes;

use self::world::World;

#[tokio::main]
async fn main() {
    flags::measure();
    let world = World::start().await;
    writes::one_at_a_time(&world).await;
    writes::many_tenants(&world).await;
    writes::one_hot_tenant(&world).await;
    reads::measure(&world).await;
    reads::held_at_rest(&world).await;
    memory::report_usage(&world).await;
    audit::export(&world).await;
}
