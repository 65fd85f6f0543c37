//! The service as it runs: api and worker as processes, the upstreams simulated. Run with `cargo dev bench`.

mod audit;
mod flags;
mod intents;
mod memory;
mod reading;
mod world;

use self::world::World;

#[tokio::main]
async fn main() {
    flags::measure();
    let world = World::start().await;
    intents::one_at_a_time(&world).await;
    intents::many_tenants(&world).await;
    intents::one_hot_tenant(&world).await;
    reading::measure(&world).await;
    reading::held_at_rest(&world).await;
    memory::tell_of(&world).await;
    audit::export(&world).await;
}
