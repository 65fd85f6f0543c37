//! What a handler can reach. What is absent is out of its reach: no upstream is here.

use std::{sync::Arc, time::Duration};

use crate::domain_name::NamePolicy;
use dezky_shared::{
    platform::change_feed::ChangeFeed,
    queue::{
        ready_set::ReadySet, schedule::Schedule, schedule_registry, secret_box::EncryptionKeys,
    },
    store::{
        Store, StoreError, audit::AuditRepository, dependencies::DependencyRepository,
        domains::DomainRepository, flags::FlagRepository, idempotency::IdempotencyRepository,
        invitations::InvitationRepository, job_operations::JobOperationRepository,
        jobs::JobRepository, partners::PartnerRepository, prices::PriceRepository,
        queues::QueueRepository, schedule_ledger::ScheduleLedger, snapshots::SnapshotRepository,
        subscriptions::SubscriptionRepository, tenants::TenantRepository,
        upstreams::UpstreamRepository, users::UserRepository, workers::WorkerRepository,
    },
};
use http::HeaderValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::TokenVerifier, config::Config, extract::TrustedProxies, flag_cache::FlagCache,
    keyed_mutex::KeyedMutex, long_poll::ChangeWatcher, rate_limits::RateLimits,
};

/// What handlers share.
pub type SharedState = Arc<AppState>;

/// What handlers can reach.
#[derive(Debug)]
pub struct AppState {
    /// The database.
    pub store: Arc<Store>,
    /// The tenants.
    pub tenants: TenantRepository,
    /// The domains.
    pub domains: DomainRepository,
    /// The users.
    pub users: UserRepository,
    /// The partners.
    pub partners: PartnerRepository,
    /// The invitations to their teams.
    pub invitations: InvitationRepository,
    /// The jobs.
    pub jobs: JobRepository,
    /// What is done again and again.
    pub schedules: Vec<Schedule>,
    /// Which instants of the schedules were run.
    pub schedule_ledger: ScheduleLedger,
    /// The queues themselves.
    pub queues: QueueRepository,
    /// What is known about the upstreams.
    pub upstreams: UpstreamRepository,
    /// The workers that live.
    pub workers: WorkerRepository,
    /// What is to be done to many jobs.
    pub job_operations: JobOperationRepository,
    /// The subscriptions.
    pub subscriptions: SubscriptionRepository,
    /// What tenants had bought, month by month.
    pub snapshots: SnapshotRepository,
    /// The prices of the plans.
    pub prices: PriceRepository,
    /// The audit trail.
    pub audit: AuditRepository,
    /// Answers to requests that may be repeated.
    pub idempotency: IdempotencyRepository,
    /// Where workers are told of new jobs.
    pub ready: ReadySet,
    /// Where whoever waits is told of changes.
    pub changes: ChangeFeed,
    /// What workers and whoever waits are being told.
    pub background: TaskTracker,
    /// Requests that wait for a change.
    pub waiting: ChangeWatcher,
    /// Requests that wait for another one on the same tenant.
    pub turns: KeyedMutex,
    /// Who is calling.
    pub token_verifier: TokenVerifier,
    /// How much may be asked for.
    pub limits: RateLimits,
    /// The feature flags, from memory.
    pub flags: FlagCache,
    /// The same, as they are stored.
    pub flag_repository: FlagRepository,
    /// How the infrastructure stood when a worker last looked.
    pub probes: DependencyRepository,
    /// Groups that mean the admin flag, and never a tenant.
    pub admin_groups: Vec<String>,
    /// How long a deleted tenant can be restored.
    pub purge_after: Duration,
    /// Which names the domains of tenants may have.
    pub domain_names: NamePolicy,
    /// What opens the secrets that jobs have found.
    pub sealing_keys: EncryptionKeys,
    /// The pages that may call us from a browser.
    pub cors_allowed_origins: Vec<HeaderValue>,
    /// The proxies in front of us.
    pub trusted_proxies: TrustedProxies,
    /// Cancelled when the process is to end: whoever waits then answers at once.
    pub shutdown: CancellationToken,
}

impl AppState {
    /// Puts together what handlers need, and begins to look for changes until `shutdown`.
    pub fn new(
        config: &Config,
        store: &Arc<Store>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<SharedState> {
        let tenants = TenantRepository::new(store);
        let jobs = JobRepository::new(store);
        let users = UserRepository::new(store);
        let partners = PartnerRepository::new(store);
        let changes = ChangeFeed::new(&config.redis)?;
        Ok(Arc::new(Self {
            waiting: ChangeWatcher::start(&tenants, &jobs, &users, &partners, &changes, shutdown),
            tenants,
            jobs,
            users,
            job_operations: JobOperationRepository::new(store),
            changes,
            store: store.clone(),
            schedules: schedule_registry::all()?,
            schedule_ledger: ScheduleLedger::new(store),
            queues: QueueRepository::new(store),
            upstreams: UpstreamRepository::new(store),
            workers: WorkerRepository::new(store),
            domains: DomainRepository::new(store),
            partners,
            invitations: InvitationRepository::new(store),
            subscriptions: SubscriptionRepository::new(store),
            snapshots: SnapshotRepository::new(store),
            prices: PriceRepository::new(store),
            audit: AuditRepository::new(store),
            idempotency: IdempotencyRepository::new(store),
            ready: ReadySet::new(&config.redis)?,
            background: TaskTracker::new(),
            turns: KeyedMutex::default(),
            token_verifier: TokenVerifier::new(&config.auth, &config.trust_roots)?,
            limits: RateLimits::new(&config.limits, &config.redis)?,
            flags: FlagCache::start(FlagRepository::new(store), shutdown),
            flag_repository: FlagRepository::new(store),
            probes: DependencyRepository::new(store),
            admin_groups: config.auth.admin_groups.clone(),
            purge_after: config.purge_after,
            domain_names: config.domain_names.clone(),
            sealing_keys: config.sealing_keys.clone(),
            cors_allowed_origins: config.cors_allowed_origins.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            shutdown: shutdown.clone(),
        }))
    }

    /// Makes the indexes of every collection that is written here.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.tenants.ensure_indexes().await?;
        self.domains.ensure_indexes().await?;
        self.users.ensure_indexes().await?;
        self.partners.ensure_indexes().await?;
        self.invitations.ensure_indexes().await?;
        self.jobs.ensure_indexes().await?;
        self.schedule_ledger.ensure_indexes().await?;
        self.workers.ensure_indexes().await?;
        self.job_operations.ensure_indexes().await?;
        self.subscriptions.ensure_indexes().await?;
        self.snapshots.ensure_indexes().await?;
        self.prices.ensure_indexes().await?;
        self.audit.ensure_indexes().await?;
        self.idempotency.ensure_indexes().await
    }
}
