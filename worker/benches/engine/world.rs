//! The fixture of each benchmark: an empty database, and workers of no-op jobs.

use std::{
    collections::BTreeMap,
    future,
    sync::Arc,
    time::{Duration, Instant},
};

use dezky_shared::{
    id::TenantId,
    platform::redis::RedisConfig,
    queue::{
        job::{Job, JobArgs, Queue},
        priority::Priority,
        secret_box::EncryptionKeys,
    },
    store::{
        MongoConfig, Store,
        group_commit::{GroupCommit, Inserts},
        jobs::NewJob,
    },
    tenant::reason,
    upstream::Upstream,
};
use dezky_sim::isolated_stores::FreshStores;
use dezky_upstreams::circuit_breaker::RateBudget;
use dezky_worker::{
    context::{Clients, Context},
    engine::{EngineConfig, EngineTimings},
    steps::{Registry, StepContext, StepFailure, StepSuccess, Steps},
};
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The number of concurrent enqueuers.
const ENQUEUERS: usize = 64;

/// The step of a no-op job.
type NoopStep =
    Box<dyn Fn(StepContext) -> future::Ready<Result<StepSuccess, StepFailure>> + Send + Sync>;

/// A no-op job. Jobs with the same `lock` run one after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Noop {
    pub(crate) lock: Option<String>,
}

impl JobArgs for Noop {
    const KIND: &'static str = "do_nothing";
    const PRIORITY: Priority = Priority::Interactive;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }

    fn lock_key(&self) -> Option<String> {
        self.lock.clone()
    }
}

pub(crate) struct World {
    pub(crate) context: Arc<Context>,
    group_commit: GroupCommit,
    redis: RedisConfig,
    mongodb: MongoConfig,
    _stores: FreshStores,
}

impl World {
    pub(crate) async fn new() -> Self {
        let stores = FreshStores::new().expect("the benchmarks are run with `cargo dev bench`");
        let mongodb = MongoConfig {
            uri: stores.mongodb_uri.clone(),
            database: stores.database.clone(),
        };
        let redis = RedisConfig {
            url: stores.redis_url.clone(),
            prefix: stores.redis_prefix.clone(),
        };
        let context = Arc::new(connect(&mongodb, &redis).await);
        dezky_shared::store::ensure_indexes(&context.store)
            .await
            .expect("the indexes are created");
        Self {
            group_commit: GroupCommit::new(&context.store),
            context,
            redis,
            mongodb,
            _stores: stores,
        }
    }

    /// Enqueues as the API does: in one transaction with the jobs that are enqueued at the same time, then the hint to the
    /// ready set.
    pub(crate) async fn enqueue(&self, args: &Noop) -> Job {
        let new = NewJob::new(args, "bench", self.context.store.now()).expect("it is small");
        let mut inserts = Inserts::default();
        let jobs = &self.context.jobs;
        let job = jobs
            .enqueue_in_group(&mut inserts, &new)
            .expect("it is small");
        let committed = self.group_commit.commit(inserts).await;
        assert!(committed.expect("MongoDB accepts it"));
        self.context.ready.notify(std::slice::from_ref(&job)).await;
        job
    }

    /// Enqueues all of these, concurrently.
    pub(crate) async fn enqueue_all(&self, jobs: impl Iterator<Item = Noop>) {
        stream::iter(jobs)
            .for_each_concurrent(ENQUEUERS, async |args| {
                self.enqueue(&args).await;
            })
            .await;
    }

    /// A worker with this many slots, which reports each job that starts.
    pub(crate) async fn worker(&self, slots: usize) -> Worker {
        self.start_worker(slots, BTreeMap::new(), |step| {
            Steps::parallel().step("nothing", step)
        })
        .await
    }

    /// The same, but each job takes a turn of the upstream's rate budget.
    pub(crate) async fn worker_calling(
        &self,
        upstream: Upstream,
        budget: RateBudget,
        slots: usize,
    ) -> Worker {
        let budgets = BTreeMap::from([(upstream, budget)]);
        self.start_worker(slots, budgets, |step| {
            Steps::parallel().partial(upstream, "nothing", step)
        })
        .await
    }

    async fn start_worker(
        &self,
        slots: usize,
        budgets: BTreeMap<Upstream, RateBudget>,
        steps: impl FnOnce(NoopStep) -> Steps,
    ) -> Worker {
        let context = Arc::new(connect(&self.mongodb, &self.redis).await);
        let (starts, started) = mpsc::unbounded_channel();
        let step: NoopStep = Box::new(move |run| {
            let _ = starts.send((run.job.lock_key.clone(), Instant::now()));
            let done = StepSuccess::ok(reason::PROVISIONED, Vec::new());
            future::ready(Ok(done))
        });
        let registry = Registry::default().register::<Noop>(steps(step));
        let config = EngineConfig {
            worker: "bench".to_owned(),
            slots: BTreeMap::from([(Queue::Provisioning, slots)]),
            times: EngineTimings::default(),
            budgets,
            schedules: Vec::new(),
        };
        let stopping = CancellationToken::new();
        let running = tokio::spawn(dezky_worker::run(
            context,
            registry,
            config,
            stopping.clone(),
        ));
        Worker {
            started,
            stop: stopping,
            running,
        }
    }

    /// Waits until all jobs are final.
    pub(crate) async fn drained(&self) {
        let open =
            bson::doc! { "state": { "$in": ["available", "running"] }, "queue": "provisioning" };
        let jobs = self.context.store.collection::<Job>("jobs");
        while jobs
            .find_one(open.clone())
            .await
            .expect("MongoDB answers")
            .is_some()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn connect(mongodb: &MongoConfig, redis: &RedisConfig) -> Context {
    let store = Store::connect(mongodb).await.expect("MongoDB is reachable");
    Context::new(
        Arc::new(store),
        redis,
        Clients::default(),
        EncryptionKeys::default(),
    )
    .expect("the Redis configuration is valid")
}

pub(crate) struct Worker {
    /// The lock key and start time of each job.
    pub(crate) started: mpsc::UnboundedReceiver<(String, Instant)>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running
            .await
            .expect("the worker does not panic")
            .expect("the worker stops");
    }
}
