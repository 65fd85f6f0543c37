//! Drain of tenants' reconcile jobs by one worker and by more. Their steps are skipped: each job is claimed, recorded and
//! settled, and calls no upstream.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    id::TenantId,
    platform::redis::RedisConfig,
    queue::{args::ReconcileTenant, job::Job, ready_set::ReadySet},
    store::{
        MongoConfig, Store,
        jobs::{JobRepository, NewJob},
    },
};
use dezky_sim::bench_output::{progress, rate, report};
use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::json;

use super::{
    usage::{Load, Usage},
    workers::Workers,
};
use crate::world::World;

/// Numbers of workers.
const WORKERS: [usize; 3] = [1, 2, 4];
/// Tenants, each with a job.
const TENANTS: usize = 10_000;
/// Documents per insert.
const BATCH: usize = 1_000;
const TIMEOUT: Duration = Duration::from_mins(3);
const TEMPLATE: &str = "template";

pub(super) async fn measure(world: &World, workers: &mut Workers<'_>) {
    workers.grow(1).await;
    let tenants = store_tenants(world).await;
    let backlog = Backlog::connect(world).await;
    let mut rates = Vec::with_capacity(WORKERS.len());
    for count in WORKERS {
        workers.grow(count).await;
        progress(format!("draining with {count} workers"));
        let load = drain(world, &backlog, workers, &tenants).await;
        let rate = rate(TENANTS, load.time);
        let name = |what: &str| format!("scale: drain, workers: {count}{what}");
        report(name(""), rate, "jobs/s");
        report(name(", MongoDB's share of a core"), load.mongodb, "%");
        let busiest = load.workers.iter().copied().fold(0.0, f64::max);
        report(name(", busiest worker's share of a core"), busiest, "%");
        rates.push(rate);
    }
    let gain = |before: f64, after: f64| 100.0 * (after / before - 1.0);
    report("scale: a second worker adds", gain(rates[0], rates[1]), "%");
    report(
        "scale: a third and a fourth add",
        gain(rates[1], rates[2]),
        "%",
    );
}

/// Stores a job for each tenant while the queue is paused, and measures from its resumption until all are done.
async fn drain(
    world: &World,
    backlog: &Backlog,
    workers: &Workers<'_>,
    tenants: &[TenantId],
) -> Load {
    pause(world, true).await;
    backlog.enqueue(tenants).await;
    let before = Usage::now(world, workers.running()).await;
    pause(world, false).await;
    world.until_done(&["reconcile_tenant"], TIMEOUT).await;
    before.load(world, workers.running()).await
}

/// Pauses or resumes the queue of provisioning.
pub(super) async fn pause(world: &World, paused: bool) {
    let action = if paused { "pause" } else { "resume" };
    let path = format!("/queues/provisioning/{action}");
    world.send(Method::POST, &path, None).await;
}

/// Stores copies of a provisioned tenant. Returns their ids.
async fn store_tenants(world: &World) -> Vec<TenantId> {
    let body = json!({ "slug": TEMPLATE, "name": TEMPLATE, "plan": "business" });
    world.send(Method::POST, "/tenants", Some(&body)).await;
    world.until_active(2).await;
    progress(format!("storing {TENANTS} tenants"));
    let stored = world.database.collection::<Document>("tenants");
    let original = stored.find_one(doc! { "slug": TEMPLATE }).await;
    let original = original
        .expect("MongoDB responds")
        .expect("the tenant exists");
    let tenants: Vec<TenantId> = std::iter::repeat_with(TenantId::new)
        .take(TENANTS)
        .collect();
    let copies = tenants.iter().enumerate().map(|(n, id)| {
        let mut copy = original.clone();
        copy.extend(doc! { "_id": *id, "slug": format!("t-{n}") });
        copy
    });
    for batch in copies.collect::<Vec<_>>().chunks(BATCH) {
        let inserted = stored.insert_many(batch).await;
        inserted.expect("MongoDB accepts them");
    }
    tenants
}

/// The queue, as the api writes it.
struct Backlog {
    store: Arc<Store>,
    jobs: JobRepository,
    ready: ReadySet,
}

impl Backlog {
    async fn connect(world: &World) -> Self {
        let stores = &world.stores;
        let mongodb = MongoConfig {
            uri: stores.mongodb_uri.clone(),
            database: stores.database.clone(),
        };
        let redis = RedisConfig {
            url: stores.redis_url.clone(),
            prefix: stores.redis_prefix.clone(),
        };
        let store = Store::connect(&mongodb).await;
        let store = Arc::new(store.expect("MongoDB responds"));
        Self {
            jobs: JobRepository::new(&store),
            ready: ReadySet::new(&redis).expect("the address is valid"),
            store,
        }
    }

    /// Enqueues a job for each tenant, and adds its lock key to the ready set.
    async fn enqueue(&self, tenants: &[TenantId]) {
        for batch in tenants.chunks(BATCH) {
            let new: Vec<NewJob> = batch.iter().map(|tenant| self.job(*tenant)).collect();
            let enqueued = self.jobs.enqueue_many(&new).await;
            assert_eq!(enqueued.expect("MongoDB accepts them"), batch.len());
            let jobs: Vec<Job> = new.iter().map(|new| new.job().clone()).collect();
            self.ready.notify(&jobs).await;
        }
    }

    fn job(&self, tenant_id: TenantId) -> NewJob {
        let args = ReconcileTenant {
            tenant_id,
            dry_run: false,
        };
        NewJob::new(&args, "bench", self.store.now()).expect("it is small")
    }
}
