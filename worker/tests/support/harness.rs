//! Test harness: isolated stores, workers, and direct access to jobs.

mod tenants;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    feature_flag::Flag,
    id::{JobId, LeaseToken, TenantId},
    invoice::InvoicingConfig,
    platform::{clock, redis::RedisConfig, tls::TrustRoots},
    queue::{
        job::{Job, JobArgs, Queue, Step},
        priority::Priority,
        schedule::Schedule,
        secret_box::EncryptionKeys,
    },
    store::{
        MongoConfig, Store, TransactionError,
        jobs::{CancelError, Cancelled, NewJob, RequeueError, Requeued},
    },
    tenant::Tenant,
    upstream::Upstream,
};
use dezky_sim::{
    isolated_stores::FreshStores,
    proxy::Proxy,
    stores::{Mongo, Redis},
};
use dezky_upstreams::circuit_breaker::{CircuitTimes, RateBudget};
use dezky_worker::{
    context::{Clients, ClientsConfig, Context},
    engine::{EngineConfig, EngineTimings},
    jobs,
    steps::Registry,
};
use futures::FutureExt as _;
use mongodb::Collection;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::upstreams::Upstreams;

/// Limit of [`until`].
const DEADLINE: Duration = Duration::from_mins(2);

/// Isolated stores and the context of a worker.
pub(crate) struct Harness {
    pub(crate) context: Arc<Context>,
    pub(crate) times: EngineTimings,
    pub(crate) invoicing: InvoicingConfig,
    pub(crate) budgets: BTreeMap<Upstream, RateBudget>,
    pub(crate) mongodb: MongoConfig,
    pub(crate) redis: RedisConfig,
    pub(crate) clients: ClientsConfig,
    pub(crate) schedules: Vec<Schedule>,
    _stores: FreshStores,
}

/// Short intervals, with a lease long enough for a busy machine.
pub(crate) fn fast_timings() -> EngineTimings {
    EngineTimings {
        renew_every: Duration::from_millis(500),
        trust_margin: Duration::from_millis(250),
        write_margin: Duration::from_millis(250),
        min_write_timeout: Duration::from_millis(50),
        in_doubt_wait: Duration::from_millis(300),
        rescue_every: Duration::from_millis(100),
        rescue_spread: Duration::from_millis(50),
        isolation_wait: Duration::from_millis(100),
        leader_lease: Duration::from_secs(1),
        leader_renew_every: Duration::from_millis(250),
        rescue_grace: Duration::from_millis(500),
        sweep_every: Duration::from_millis(100),
        control_every: Duration::from_millis(100),
        cron_every: Duration::from_millis(100),
        seal_every: Duration::from_millis(100),
        // Practically off: a dependency check would trigger the faults that a test injects.
        probe_every: Duration::from_hours(1),
        pop_block: Duration::from_millis(100),
        retry_base: Duration::from_millis(50),
        circuit: CircuitTimes {
            first_probe: Duration::from_millis(300),
            last_probe: Duration::from_secs(1),
            ..CircuitTimes::default()
        },
        drain: Duration::from_secs(5),
        ..EngineTimings::with_lease(Duration::from_secs(10))
    }
}

/// The key of every worker, and an older one that only decrypts.
pub(crate) fn encryption_keys() -> EncryptionKeys {
    let key = |id: &str, letter: &str| format!("{id}:{}=", letter.repeat(43));
    EncryptionKeys::parse([&*key("new", "A"), &*key("old", "E")]).unwrap()
}

/// The step of this name.
pub(crate) fn step<'a>(job: &'a Job, name: &str) -> &'a Step {
    job.steps.iter().find(|step| step.name == name).unwrap()
}

impl Harness {
    /// Stores only, without upstreams.
    pub(crate) async fn new() -> Self {
        Self::with(ClientsConfig::default()).await
    }

    /// With clients of these upstreams.
    pub(crate) async fn with_upstreams(upstreams: &Upstreams) -> Self {
        Self::with(upstreams.config()).await
    }

    /// With a dedicated MongoDB, which the test may kill, and the shared Redis.
    pub(crate) async fn on_mongodb(mongo: &Mongo) -> Self {
        let mut stores = FreshStores::unshared().unwrap();
        stores.mongodb_uri.clone_from(&mongo.uri);
        Self::at(stores, ClientsConfig::default()).await
    }

    /// With a dedicated Redis, which the test may kill and flush, and the shared MongoDB.
    pub(crate) async fn on_redis(redis: &Redis) -> Self {
        let mut stores = FreshStores::new().unwrap();
        stores.redis_url.clone_from(&redis.url);
        Self::at(stores, ClientsConfig::default()).await
    }

    /// With clients of this configuration.
    pub(crate) async fn with(clients: ClientsConfig) -> Self {
        Self::at(FreshStores::new().unwrap(), clients).await
    }

    async fn at(mut stores: FreshStores, clients: ClientsConfig) -> Self {
        let config = MongoConfig {
            uri: stores.mongodb_uri.clone(),
            database: stores.database.clone(),
        };
        let redis = RedisConfig {
            url: stores.redis_url.clone(),
            prefix: stores.redis_prefix.clone(),
        };
        let store = Arc::new(Store::connect(&config).await.unwrap());
        stores.ensure_indexes(&store).await.unwrap();
        let connected = Clients::new(&clients, &TrustRoots::default()).unwrap();
        let context = Arc::new(Context::new(store, &redis, connected, encryption_keys()).unwrap());
        Self {
            context,
            times: fast_timings(),
            invoicing: InvoicingConfig::default(),
            budgets: BTreeMap::new(),
            mongodb: config,
            redis,
            clients,
            // None, so that tests do not depend on the time of day.
            schedules: Vec::new(),
            _stores: stores,
        }
    }

    /// Starts a worker of all job kinds.
    pub(crate) fn worker(&self) -> Worker {
        self.worker_of("worker", jobs::registry(), 8)
    }

    /// Starts a worker of these kinds, with this number of slots for each queue.
    pub(crate) fn worker_of(&self, name: &str, registry: Registry, slots: usize) -> Worker {
        let slots = BTreeMap::from(Queue::ALL.map(|queue| (queue, slots)));
        self.worker_with(self.context.store.clone(), name, registry, slots)
    }

    /// Starts a worker without job kinds, which only leads.
    pub(crate) fn leader(&self) -> Worker {
        self.leader_of(Registry::default())
    }

    /// Starts a worker that runs no job of `registry`, only the leader's duties for them.
    pub(crate) fn leader_of(&self, registry: Registry) -> Worker {
        let store = self.context.store.clone();
        self.worker_with(store, "leader", registry, BTreeMap::new())
    }

    /// A proxy to MongoDB that can inject faults.
    pub(crate) async fn proxy(&self) -> Proxy {
        let address = self.mongodb.uri.trim_start_matches("mongodb://");
        let address = address.split('/').next().unwrap();
        Proxy::to(address).await.unwrap()
    }

    /// Starts a worker that connects to MongoDB through `proxy`.
    pub(crate) async fn worker_through(
        &self,
        proxy: &Proxy,
        registry: Registry,
        slots: usize,
    ) -> Worker {
        let store = self.store_through(proxy).await;
        let slots = BTreeMap::from(Queue::ALL.map(|queue| (queue, slots)));
        self.worker_with(store, "proxied", registry, slots)
    }

    /// Starts a worker that only leads, for the jobs of `registry`, and connects to MongoDB through `proxy`.
    pub(crate) async fn leader_through(&self, proxy: &Proxy, registry: Registry) -> Worker {
        let store = self.store_through(proxy).await;
        self.worker_with(store, "proxied leader", registry, BTreeMap::new())
    }

    async fn store_through(&self, proxy: &Proxy) -> Arc<Store> {
        let config = MongoConfig {
            uri: format!("mongodb://{}/?directConnection=true", proxy.address),
            ..self.mongodb.clone()
        };
        Arc::new(Store::connect(&config).await.unwrap())
    }

    fn worker_with(
        &self,
        store: Arc<Store>,
        name: &str,
        registry: Registry,
        slots: BTreeMap<Queue, usize>,
    ) -> Worker {
        let clients = Clients::new(&self.clients, &TrustRoots::default()).unwrap();
        let context = Context {
            invoicing: self.invoicing.clone(),
            ..Context::new(store, &self.redis, clients, encryption_keys()).unwrap()
        };
        let config = EngineConfig {
            worker: name.to_owned(),
            slots,
            budgets: self.budgets.clone(),
            times: self.times.clone(),
            schedules: self.schedules.clone(),
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(dezky_worker::run(
            Arc::new(context),
            registry,
            config,
            stop.clone(),
        ));
        Worker { stop, running }
    }

    /// Starts a worker in its own runtime, which can be crashed.
    pub(crate) fn crashable_worker(&self, registry: Registry, slots: usize) -> CrashableWorker {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (mongodb, redis, times) =
            (self.mongodb.clone(), self.redis.clone(), self.times.clone());
        runtime.spawn(async move {
            let store = Arc::new(Store::connect(&mongodb).await.unwrap());
            let context =
                Context::new(store, &redis, Clients::default(), encryption_keys()).unwrap();
            let slots = BTreeMap::from(Queue::ALL.map(|queue| (queue, slots)));
            let config = EngineConfig {
                worker: "crashing".to_owned(),
                slots,
                budgets: BTreeMap::new(),
                times,
                schedules: Vec::new(),
            };
            dezky_worker::run(
                Arc::new(context),
                registry,
                config,
                CancellationToken::new(),
            )
            .await
            .unwrap();
        });
        CrashableWorker(Some(runtime))
    }

    /// Sets a feature flag for all tenants.
    pub(crate) async fn set_flag(&self, key: &str, default: bool) {
        let now = self.context.store.now();
        let flag = Flag {
            key: key.to_owned(),
            description: String::new(),
            default,
            rules: Vec::new(),
            kill_switch: false,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let flags = self.context.store.collection::<Flag>("flags");
        let stored = flags.replace_one(doc! { "_id": key }, flag).upsert(true);
        stored.await.unwrap();
    }

    /// Enqueues a job and notifies the ready set.
    pub(crate) async fn enqueue<A: JobArgs>(&self, args: &A) -> Job {
        let job = self.enqueue_unannounced(args).await;
        self.context.ready.notify(std::slice::from_ref(&job)).await;
        job
    }

    /// Enqueues a job without notifying the ready set, as if the enqueuer had crashed.
    pub(crate) async fn enqueue_unannounced<A: JobArgs>(&self, args: &A) -> Job {
        let new = NewJob::new(args, "test", self.context.store.now()).unwrap();
        self.enqueue_new(&new).await
    }

    /// Enqueues a prepared job without notifying the ready set.
    pub(crate) async fn enqueue_new(&self, new: &NewJob) -> Job {
        let enqueued: Result<Job, TransactionError<()>> = self
            .context
            .store
            .transaction((&self.context.jobs, new), |session, (jobs, new)| {
                async move { Ok(jobs.enqueue(session, new).await?) }.boxed()
            })
            .await;
        enqueued.unwrap()
    }

    /// Cancels a job as an operator does.
    pub(crate) async fn cancel(&self, id: JobId) -> Job {
        let (jobs, now) = (&self.context.jobs, self.context.store.now());
        let cancelled: Result<Cancelled, TransactionError<CancelError>> = self
            .context
            .store
            .transaction(jobs, |session, jobs| {
                async move { jobs.cancel(session, id, now).await }.boxed()
            })
            .await;
        cancelled.unwrap().job
    }

    /// Requeues a job as an operator does.
    pub(crate) async fn requeue(
        &self,
        id: JobId,
    ) -> Result<Requeued, TransactionError<RequeueError>> {
        self.requeue_in(id, Priority::Interactive).await
    }

    /// Requeues a job in this lane.
    pub(crate) async fn requeue_in(
        &self,
        id: JobId,
        priority: Priority,
    ) -> Result<Requeued, TransactionError<RequeueError>> {
        let (jobs, now) = (&self.context.jobs, self.context.store.now());
        self.context
            .store
            .transaction(jobs, |session, jobs| {
                async move { jobs.requeue(session, id, "operator", priority, now).await }.boxed()
            })
            .await
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.context.jobs.find(id).await.unwrap().unwrap()
    }

    /// The stored document of a job.
    pub(crate) async fn stored_job(&self, id: JobId) -> Document {
        let job = self.jobs().find_one(doc! { "_id": id }).await;
        job.unwrap().unwrap()
    }

    /// Waits until the tenant satisfies `is`.
    pub(crate) async fn tenant_until(&self, id: TenantId, is: impl Fn(&Tenant) -> bool) -> Tenant {
        until(async || self.tenant(id).await, is).await
    }

    /// Waits until the job satisfies `is`.
    pub(crate) async fn job_until(&self, id: JobId, is: impl Fn(&Job) -> bool) -> Job {
        until(async || self.job(id).await, is).await
    }

    /// Waits until the job is final.
    pub(crate) async fn finished(&self, id: JobId) -> Job {
        self.job_until(id, |job| job.state.is_final()).await
    }

    /// Updates a job's document directly.
    pub(crate) async fn edit_job(&self, id: JobId, set: Document) {
        self.jobs()
            .update_one(doc! { "_id": id }, doc! { "$set": set })
            .await
            .unwrap();
    }

    /// The collection of jobs.
    pub(crate) fn jobs(&self) -> Collection<Document> {
        self.context.store.collection("jobs")
    }

    /// Enqueues a job left running by a crashed worker, with an expired lease.
    pub(crate) async fn add_orphan<A: JobArgs>(&self, args: &A, started: bool) -> Job {
        let now = self.context.store.now();
        let past = clock::earlier(now, Duration::from_mins(1));
        let mut lease = doc! { "token": LeaseToken::new(), "worker": "gone", "until": past };
        if started {
            lease.insert("startedAt", past);
        }
        let left = doc! { "$set": { "state": "running", "attempt": 1, "lease": lease } };
        let new = NewJob::new(args, "test", now).unwrap();
        // In one transaction, so that no worker claims it in between.
        let enqueued: Result<Job, TransactionError<()>> = self
            .context
            .store
            .transaction((self, &new, left), |session, (this, new, left)| {
                async move {
                    let job = this.context.jobs.enqueue(session, new).await?;
                    let filter = doc! { "_id": job.id };
                    let jobs = this.jobs();
                    jobs.update_one(filter, left.clone())
                        .session(session)
                        .await?;
                    Ok(job)
                }
                .boxed()
            })
            .await;
        self.job(enqueued.unwrap().id).await
    }

    /// Enqueues a copy of this job for each lock key.
    pub(crate) async fn clone_for_lock_keys<A: JobArgs>(&self, args: &A, lock_keys: &[String]) {
        let first = self.enqueue_unannounced(args).await.id;
        let like = self.stored_job(first).await;
        self.jobs().delete_one(doc! { "_id": first }).await.unwrap();
        for batch in lock_keys.chunks(2_500) {
            let jobs = batch.iter().map(|lock_key| {
                let mut job = like.clone();
                job.insert("_id", JobId::new());
                job.insert("lockKey", lock_key);
                job
            });
            self.jobs().insert_many(jobs).await.unwrap();
        }
    }

    /// Makes MongoDB reject any write that ends the current run of a job.
    pub(crate) async fn block_settlement(&self, id: JobId) {
        let stays = doc! { "$or": [{ "_id": { "$ne": id } }, { "state": "running" }] };
        self.refuse_unless("jobs", stays).await;
    }

    /// Reverts [`Self::block_settlement`].
    pub(crate) async fn unblock_settlement(&self) {
        self.refuse_unless("jobs", doc! {}).await;
    }

    /// Makes MongoDB reject any write after which a document does not match `validator`. An empty one matches every
    /// document.
    pub(crate) async fn refuse_unless(&self, collection: &str, validator: Document) {
        let database = self.context.store.database();
        // Fails if it exists.
        let _ = database.create_collection(collection).await;
        let change = doc! { "collMod": collection, "validator": validator };
        database.run_command(change).await.unwrap();
    }

    /// Replaces the lease token of a running job.
    pub(crate) async fn steal_lease(&self, id: JobId) -> LeaseToken {
        let thief = LeaseToken::new();
        self.edit_job(id, doc! { "lease.token": thief }).await;
        thief
    }

    /// The Redis key of a lane of the ready set of `queue`.
    pub(crate) fn lane(&self, queue: Queue, priority: Priority) -> String {
        let suffix = match priority {
            Priority::Security => ":security",
            Priority::Interactive => "",
            Priority::Bulk => ":bulk",
        };
        format!("{}:ready:{queue}{suffix}", self.redis.prefix)
    }

    /// The members of the ready set of `queue`, lane by lane, in the order of their scores.
    pub(crate) async fn ready(&self, queue: Queue) -> Vec<(String, f64)> {
        let mut connection = self.redis_connection().await;
        let mut members = Vec::new();
        for priority in Priority::ALL {
            let lane: Vec<(String, f64)> = redis::cmd("ZRANGE")
                .arg(self.lane(queue, priority))
                .arg(0)
                .arg(-1)
                .arg("WITHSCORES")
                .query_async(&mut connection)
                .await
                .unwrap();
            members.extend(lane);
        }
        members
    }

    /// A connection to Redis.
    pub(crate) async fn redis_connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.redis.url.as_str()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Waits until a leader is elected.
    pub(crate) async fn until_leader(&self) -> Document {
        let leaders = self.context.store.collection::<Document>("leader");
        until(
            async || leaders.find_one(doc! {}).await.unwrap(),
            Option::is_some,
        )
        .await
        .unwrap()
    }
}

/// A worker that can be crashed.
pub(crate) struct CrashableWorker(Option<tokio::runtime::Runtime>);

impl CrashableWorker {
    /// Stops without cleanup, as in a power failure.
    pub(crate) fn crash(mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

impl Drop for CrashableWorker {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A running worker.
pub(crate) struct Worker {
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    /// Stops the worker and waits until it has drained.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Requests a stop without waiting for it.
    pub(crate) fn request_stop(&self) {
        self.stop.cancel();
    }
}

/// Polls until the result satisfies `is`.
pub(crate) async fn until<T: std::fmt::Debug>(
    mut poll: impl AsyncFnMut() -> T,
    is: impl Fn(&T) -> bool,
) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let value = poll().await;
        if is(&value) {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "condition not met in time; last value: {value:#?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
