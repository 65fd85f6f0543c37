//! What a handler can reach. What is absent is out of its reach: no upstream is here.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    changes::Changes,
    domain::name::NamePolicy,
    ready::Ready,
    schedule::Schedule,
    schedules,
    sealed::SealingKeys,
    store::{
        Store, StoreError, audit::AuditRepository, domains::DomainRepository,
        flags::FlagRepository, idempotency::IdempotencyRepository,
        invitations::InvitationRepository, job_operations::JobOperationRepository,
        jobs::JobRepository, partners::PartnerRepository, prices::PriceRepository,
        probes::ProbeRepository, queues::QueueRepository, schedules::ScheduleRepository,
        snapshots::SnapshotRepository, subscriptions::SubscriptionRepository,
        tenants::TenantRepository, upstreams::UpstreamRepository, users::UserRepository,
        workers::WorkerRepository,
    },
};
use http::HeaderValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::Tokens, config::Config, extract::TrustedProxies, flags::Flags, limits::Limits,
    turns::Turns, waiting::Waiting,
};

/// What handlers share.
pub type App = Arc<AppState>;

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
    pub ledger: ScheduleRepository,
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
    pub ready: Ready,
    /// Where whoever waits is told of changes.
    pub changes: Changes,
    /// What workers and whoever waits are being told.
    pub hints: TaskTracker,
    /// Requests that wait for a change.
    pub waiting: Waiting,
    /// Requests that wait for another one on the same tenant.
    pub turns: Turns,
    /// Who is calling.
    pub tokens: Tokens,
    /// How much may be asked for.
    pub limits: Limits,
    /// The feature flags, from memory.
    pub flags: Flags,
    /// The same, as they are stored.
    pub stored_flags: FlagRepository,
    /// How the infrastructure stood when a worker last looked.
    pub probes: ProbeRepository,
    /// Groups that mean the admin flag, and never a tenant.
    pub admin_groups: Vec<String>,
    /// How long a deleted tenant can be restored.
    pub purge_after: Duration,
    /// Which names the domains of tenants may have.
    pub domain_names: NamePolicy,
    /// What opens the secrets that jobs have found.
    pub sealing_keys: SealingKeys,
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
    ) -> anyhow::Result<App> {
        let tenants = TenantRepository::new(store);
        let jobs = JobRepository::new(store);
        let users = UserRepository::new(store);
        let partners = PartnerRepository::new(store);
        let changes = Changes::new(&config.redis)?;
        Ok(Arc::new(Self {
            waiting: Waiting::start(&tenants, &jobs, &users, &partners, &changes, shutdown),
            tenants,
            jobs,
            users,
            job_operations: JobOperationRepository::new(store),
            changes,
            store: store.clone(),
            schedules: schedules::all()?,
            ledger: ScheduleRepository::new(store),
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
            ready: Ready::new(&config.redis)?,
            hints: TaskTracker::new(),
            turns: Turns::default(),
            tokens: Tokens::new(&config.auth, &config.trust_roots)?,
            limits: Limits::new(&config.limits, &config.redis)?,
            flags: Flags::start(FlagRepository::new(store), shutdown),
            stored_flags: FlagRepository::new(store),
            probes: ProbeRepository::new(store),
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
        self.ledger.ensure_indexes().await?;
        self.workers.ensure_indexes().await?;
        self.job_operations.ensure_indexes().await?;
        self.subscriptions.ensure_indexes().await?;
        self.snapshots.ensure_indexes().await?;
        self.prices.ensure_indexes().await?;
        self.audit.ensure_indexes().await?;
        self.idempotency.ensure_indexes().await
    }
}
