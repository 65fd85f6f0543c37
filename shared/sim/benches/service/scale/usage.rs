//! Usage of the stores and of the workers, and the load between two points in time.

use std::time::{Duration, Instant};

use dezky_sim::process::Process;
use mongodb::bson::{Document, doc};

use crate::{memory, world::World};

/// Usage so far.
pub(super) struct Usage {
    at: Instant,
    stores: Stores,
    /// CPU time of each worker.
    workers: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Stores {
    /// CPU time of MongoDB.
    mongodb_cpu: f64,
    /// Queries that MongoDB received.
    reads: f64,
    /// CPU time of Redis.
    redis_cpu: f64,
    /// Commands that Redis received.
    redis_commands: f64,
}

/// Load during a time.
pub(super) struct Load {
    pub(super) time: Duration,
    /// MongoDB's share of a core, in percent.
    pub(super) mongodb: f64,
    /// Queries to MongoDB, per second.
    pub(super) reads: f64,
    /// Share of a core of Redis, in percent.
    pub(super) redis: f64,
    /// Commands to Redis, per second.
    pub(super) redis_commands: f64,
    /// Each worker's share of a core, in percent.
    pub(super) workers: Vec<f64>,
}

impl Usage {
    pub(super) async fn now(world: &World, workers: &[Process]) -> Self {
        Self {
            stores: Stores::now(world).await,
            workers: workers.iter().map(memory::cpu_seconds).collect(),
            at: Instant::now(),
        }
    }

    /// The load since then, of the workers that already ran.
    pub(super) async fn load(&self, world: &World, workers: &[Process]) -> Load {
        let now = Self::now(world, workers).await;
        let time = now.at - self.at;
        let per_second = |before: f64, after: f64| (after - before) / time.as_secs_f64();
        let share = |before, after| 100.0 * per_second(before, after);
        let (before, after) = (self.stores, now.stores);
        let workers = self.workers.iter().zip(&now.workers);
        Load {
            time,
            mongodb: share(before.mongodb_cpu, after.mongodb_cpu),
            reads: per_second(before.reads, after.reads),
            redis: share(before.redis_cpu, after.redis_cpu),
            redis_commands: per_second(before.redis_commands, after.redis_commands),
            workers: workers
                .map(|(before, after)| share(*before, *after))
                .collect(),
        }
    }
}

impl Load {
    /// The load during `time`.
    pub(super) async fn during(time: Duration, world: &World, workers: &[Process]) -> Self {
        let before = Usage::now(world, workers).await;
        tokio::time::sleep(time).await;
        before.load(world, workers).await
    }

    /// The leader's share of a core, in percent.
    pub(super) fn leader(&self) -> f64 {
        self.workers[0]
    }
}

impl Stores {
    async fn now(world: &World) -> Self {
        let status = world.database.run_command(doc! { "serverStatus": 1 }).await;
        let status = status.expect("MongoDB responds");
        let counters = status.get_document("opcounters").expect("it has counters");
        let info = redis_info(world).await;
        Self {
            mongodb_cpu: memory::mongodb_cpu_seconds_of(&status),
            reads: number(counters, "query"),
            redis_cpu: field(&info, "used_cpu_sys") + field(&info, "used_cpu_user"),
            redis_commands: field(&info, "total_commands_processed"),
        }
    }
}

async fn redis_info(world: &World) -> String {
    let client = redis::Client::open(world.stores.redis_url.as_str());
    let client = client.expect("the address is valid");
    let connection = client.get_multiplexed_async_connection().await;
    let mut connection = connection.expect("Redis responds");
    let info = redis::cmd("INFO").query_async(&mut connection).await;
    info.expect("Redis responds")
}

/// A number in Redis's information, of which each line is a name and a value.
fn field(info: &str, name: &str) -> f64 {
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    let value = fields.find_map(|(field, value)| (field == name).then_some(value));
    let value = value.and_then(|value| value.trim().parse().ok());
    value.expect("Redis has the number")
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn number(of: &Document, name: &str) -> f64 {
    let number = of
        .get_i64(name)
        .or_else(|_| of.get_i32(name).map(i64::from));
    number.expect("MongoDB has the number") as f64
}
