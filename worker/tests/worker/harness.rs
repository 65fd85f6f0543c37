//! What every test here starts from.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bson::{DateTime, doc};
use dezky_shared::{
    clients::{
        TrustRoots,
        authentik::AuthentikConfig,
        ocis::{AppTokenLogin, OcisConfig, OcisLogin},
        stalwart::{Login, StalwartConfig},
    },
    clock,
    id::{JobId, TenantId},
    job::{Job, JobArgs, Queue},
    redis::RedisConfig,
    store::{
        Abort, MongoConfig, Store,
        jobs::{NewJob, RequeueError, Requeued},
    },
    tenant::{PerUpstream, Plan, ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_sim::{
    authentik::AuthentikSim, fresh::FreshStores, ocis::OcisSim, stalwart::StalwartSim,
};
use dezky_worker::{
    context::{Clients, ClientsConfig, Context},
    engine::{self, EngineConfig, Times},
    jobs,
    work::Registry,
};
use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

/// Fresh stores, and what a worker reaches through them.
pub(crate) struct Harness {
    pub(crate) context: Arc<Context>,
    pub(crate) times: Times,
    redis: RedisConfig,
    clients: ClientsConfig,
    _stores: FreshStores,
}

/// Simulated upstreams.
pub(crate) struct Upstreams {
    pub(crate) authentik: AuthentikSim,
    pub(crate) stalwart: StalwartSim,
    pub(crate) ocis: OcisSim,
}

impl Upstreams {
    pub(crate) async fn start() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let stalwart = StalwartSim::start(any_port).await.unwrap();
        stalwart.instant_dkim(true);
        Self {
            authentik: AuthentikSim::start(any_port).await.unwrap(),
            stalwart,
            ocis: OcisSim::start(any_port).await.unwrap(),
        }
    }

    /// How a worker reaches them.
    pub(crate) fn config(&self) -> ClientsConfig {
        let timeout = Duration::from_secs(2);
        ClientsConfig {
            authentik: Some(AuthentikConfig {
                api_url: self.authentik.api_url(),
                api_token: AuthentikSim::TOKEN.into(),
                timeout,
            }),
            stalwart: Some(StalwartConfig {
                base_url: self.stalwart.server.url.clone(),
                login: Login::ApiKey(StalwartSim::TOKEN.into()),
                timeout,
            }),
            ocis: Some(OcisConfig {
                base_url: self.ocis.server.url.clone(),
                login: OcisLogin::AppToken(AppTokenLogin {
                    user: OcisSim::USER.to_owned(),
                    password: OcisSim::PASSWORD.into(),
                }),
                timeout,
                refusal_grace: Duration::from_millis(200),
            }),
        }
    }
}

/// Everything fast, and a lease long enough for a busy machine.
pub(crate) fn quick() -> Times {
    Times {
        renew_every: Duration::from_millis(500),
        trust_margin: Duration::from_millis(250),
        write_margin: Duration::from_millis(250),
        least_write: Duration::from_millis(50),
        unknown_wait: Duration::from_millis(300),
        rescue_every: Duration::from_millis(100),
        rescue_spread: Duration::from_millis(50),
        leader_lease: Duration::from_secs(1),
        leader_renew_every: Duration::from_millis(250),
        leader_quiet: Duration::from_millis(500),
        sweep_every: Duration::from_millis(100),
        pop_block: Duration::from_millis(100),
        retry_base: Duration::from_millis(50),
        drain: Duration::from_secs(5),
        ..Times::with_lease(Duration::from_secs(3))
    }
}

impl Harness {
    /// Stores without upstreams, for tests of the engine.
    pub(crate) async fn new() -> Self {
        Self::with(ClientsConfig::default()).await
    }

    /// Stores, and clients of these upstreams.
    pub(crate) async fn with_upstreams(upstreams: &Upstreams) -> Self {
        Self::with(upstreams.config()).await
    }

    /// Stores, and clients of whatever is configured.
    pub(crate) async fn with(clients: ClientsConfig) -> Self {
        let stores = FreshStores::new().unwrap();
        let config = MongoConfig {
            uri: stores.mongodb_uri.clone(),
            database: stores.database.clone(),
        };
        let redis = RedisConfig {
            url: stores.redis_url.clone(),
            prefix: stores.redis_prefix.clone(),
        };
        let store = Arc::new(Store::connect(&config).await.unwrap());
        let connected = Clients::new(&clients, &TrustRoots::default()).unwrap();
        let context = Arc::new(Context::new(store, &redis, connected).unwrap());
        context.ensure_indexes().await.unwrap();
        Self {
            context,
            times: quick(),
            redis,
            clients,
            _stores: stores,
        }
    }

    /// A worker that runs the product's jobs.
    pub(crate) fn worker(&self) -> Worker {
        self.worker_of("worker", jobs::registry(), 8)
    }

    /// A worker of these kinds, with so many slots for each queue.
    pub(crate) fn worker_of(&self, name: &str, registry: Registry, slots: usize) -> Worker {
        let clients = Clients::new(&self.clients, &TrustRoots::default()).unwrap();
        let context = Context::new(self.context.store.clone(), &self.redis, clients).unwrap();
        let config = EngineConfig {
            worker: name.to_owned(),
            slots: BTreeMap::from(Queue::ALL.map(|queue| (queue, slots))),
            times: self.times.clone(),
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(engine::run(
            Arc::new(context),
            registry,
            config,
            stop.clone(),
        ));
        Worker { stop, running }
    }

    /// Enqueues a job and announces it.
    pub(crate) async fn enqueue<A: JobArgs>(&self, args: &A) -> Job {
        let job = self.enqueue_silently(args).await;
        self.context
            .ready
            .announce(std::slice::from_ref(&job))
            .await;
        job
    }

    /// Enqueues a job as if its enqueuer had died before it could announce it.
    pub(crate) async fn enqueue_silently<A: JobArgs>(&self, args: &A) -> Job {
        let new = NewJob::new(args, "test", self.context.store.now()).unwrap();
        let enqueued: Result<Job, Abort<()>> = self
            .context
            .store
            .transaction((&self.context.jobs, &new), |session, (jobs, new)| {
                async move { Ok(jobs.enqueue(session, new).await?) }.boxed()
            })
            .await;
        enqueued.unwrap()
    }

    /// Puts a job in the queue again, as an operator does.
    pub(crate) async fn requeue(&self, id: JobId) -> Result<Requeued, Abort<RequeueError>> {
        let (jobs, now) = (&self.context.jobs, self.context.store.now());
        self.context
            .store
            .transaction(jobs, |session, jobs| {
                async move { jobs.requeue(session, id, "operator", now).await }.boxed()
            })
            .await
    }

    /// Adds a tenant that has not been provisioned.
    pub(crate) async fn add_tenant(&self, slug: &str, domains: &[&str]) -> Tenant {
        let now = self.context.store.now();
        let mut tenant = new_tenant(slug, domains, now);
        tenant.set_pending(&Upstream::ALL, now);
        let added: Result<(), Abort<()>> = self
            .context
            .store
            .transaction(
                (&self.context.tenants, &tenant),
                |session, (tenants, tenant)| {
                    async move { Ok(tenants.insert(session, tenant).await?) }.boxed()
                },
            )
            .await;
        added.unwrap();
        tenant
    }

    /// Changes a tenant as a caller of the API does: a new generation, the steps pending.
    pub(crate) async fn change_tenant(
        &self,
        id: TenantId,
        change: impl Fn(&mut Tenant) + Send,
    ) -> Tenant {
        let now = self.context.store.now();
        let changed: Result<Tenant, Abort<()>> = self
            .context
            .store
            .transaction(
                (&self.context.tenants, change),
                |session, (tenants, change)| {
                    async move {
                        let mut tenant = tenants.lock(session, id).await?.unwrap();
                        change(&mut tenant);
                        tenant.generation += 1;
                        tenant.set_pending(&Upstream::ALL, now);
                        tenants.save(session, &tenant).await?;
                        Ok(tenant)
                    }
                    .boxed()
                },
            )
            .await;
        changed.unwrap()
    }

    pub(crate) async fn tenant(&self, id: TenantId) -> Tenant {
        self.context.tenants.find(id).await.unwrap().unwrap()
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.context.jobs.find(id).await.unwrap().unwrap()
    }

    /// Waits until the tenant is as it should be.
    pub(crate) async fn tenant_until(&self, id: TenantId, is: impl Fn(&Tenant) -> bool) -> Tenant {
        until(async || self.tenant(id).await, is).await
    }

    /// Waits until the job is as it should be.
    pub(crate) async fn job_until(&self, id: JobId, is: impl Fn(&Job) -> bool) -> Job {
        until(async || self.job(id).await, is).await
    }

    /// Waits until the job is final.
    pub(crate) async fn finished(&self, id: JobId) -> Job {
        self.job_until(id, |job| job.state.is_final()).await
    }

    /// Writes to a job's document directly, as only a test may.
    pub(crate) async fn edit_job(&self, id: JobId, set: bson::Document) {
        let jobs = self.context.store.collection::<bson::Document>("jobs");
        jobs.update_one(doc! { "_id": id }, doc! { "$set": set })
            .await
            .unwrap();
    }
}

/// A worker in this process.
pub(crate) struct Worker {
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Worker {
    /// Asks it to stop, and waits until it has drained.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Asks it to stop.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }
}

/// Looks until what it sees is as it should be.
pub(crate) async fn until<T: std::fmt::Debug>(
    mut look: impl AsyncFnMut() -> T,
    is: impl Fn(&T) -> bool,
) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let seen = look().await;
        if is(&seen) {
            return seen;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "what was waited for did not come; last seen: {seen:#?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn new_tenant(slug: &str, domains: &[&str], now: DateTime) -> Tenant {
    Tenant {
        id: TenantId::new(),
        slug: slug.to_owned(),
        name: format!("{slug} Ltd"),
        status: TenantStatus::Pending,
        status_before: None,
        purge_at: None,
        plan: Plan::Business,
        domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
        former_domains: Vec::new(),
        partner_id: None,
        industry: None,
        brand_color: None,
        owner: None,
        authentik_group_id: None,
        ocis_space_id: None,
        stalwart_domain: None,
        stripe_customer_id: None,
        generation: 1,
        provisioning_status: PerUpstream::all(ProvisioningState::Pending),
        provisioning_errors: PerUpstream::default(),
        conditions: Vec::new(),
        unknown_until: PerUpstream::default(),
        revision: 1,
        created_at: now,
        updated_at: clock::later(now, Duration::ZERO),
    }
}
