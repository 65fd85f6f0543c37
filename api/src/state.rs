//! Shared state of handlers. It holds no upstream client: no request calls an upstream.

use std::sync::Arc;

use dezky_shared::{
    platform::change_feed::ChangeFeed,
    queue::{ready_set::ReadySet, schedule::Schedule, schedule_registry},
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
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::TokenVerifier,
    config::Config,
    extract::{AccessControl, AccessState},
    flag_cache::FlagCache,
    keyed_mutex::KeyedMutex,
    long_poll::ChangeWatcher,
    rate_limits::RateLimits,
    routes::health::{ReadinessChecks, readiness_checks},
};

/// The state of the router.
pub type SharedState = Arc<AppState>;

/// The state of the router.
#[derive(Debug)]
pub struct AppState {
    /// The configuration that the process started with.
    pub config: Config,
    /// The database: its clock and its transactions.
    pub store: Arc<Store>,
    /// The repositories.
    pub db: Repositories,
    /// Authentication, permissions and rate limits.
    pub access: AccessControl,
    /// Serializes the commands on one tenant or partner.
    pub locks: KeyedMutex,
    /// Notifications after a commit.
    pub hints: Hints,
    /// Long polls and event streams.
    pub watcher: ChangeWatcher,
    /// Feature flags, cached.
    pub flags: FlagCache,
    /// Readiness checks.
    pub(crate) readiness: ReadinessChecks,
    /// Recurring jobs.
    pub schedules: Vec<Schedule>,
    /// Cancelled when the process shuts down: waiting requests return at once.
    pub shutdown: CancellationToken,
}

/// The repositories, one per collection.
#[derive(Debug)]
pub struct Repositories {
    /// Tenants.
    pub tenants: TenantRepository,
    /// Domains.
    pub domains: DomainRepository,
    /// Users.
    pub users: UserRepository,
    /// Partners.
    pub partners: PartnerRepository,
    /// Invitations to partner teams.
    pub invitations: InvitationRepository,
    /// Subscriptions.
    pub subscriptions: SubscriptionRepository,
    /// Prices of the plans.
    pub prices: PriceRepository,
    /// Monthly snapshots of what tenants bought.
    pub snapshots: SnapshotRepository,
    /// Jobs.
    pub jobs: JobRepository,
    /// Bulk operations on jobs.
    pub job_operations: JobOperationRepository,
    /// Instants at which schedules ran.
    pub schedule_ledger: ScheduleLedger,
    /// Queues and whether they are paused.
    pub queues: QueueRepository,
    /// Workers.
    pub workers: WorkerRepository,
    /// Upstreams and their circuit breakers.
    pub upstreams: UpstreamRepository,
    /// Dependencies as the workers last checked them.
    pub dependencies: DependencyRepository,
    /// Feature flags.
    pub flags: FlagRepository,
    /// Audit trail.
    pub audit: AuditRepository,
    /// Idempotency keys.
    pub idempotency: IdempotencyRepository,
}

/// Notifications after a commit. Losing one delays work and harms nothing.
#[derive(Debug)]
pub struct Hints {
    /// Notifies workers of new jobs.
    pub ready: ReadySet,
    /// Notifies waiting requests of changed documents.
    pub changes: ChangeFeed,
    /// Notifications being sent.
    pub tasks: TaskTracker,
}

impl AppState {
    /// Connects everything, and starts the background tasks, which run until `shutdown`.
    pub fn new(
        config: &Config,
        store: &Arc<Store>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<SharedState> {
        let db = Repositories::new(store);
        let hints = Hints {
            ready: ReadySet::new(&config.redis)?,
            changes: ChangeFeed::new(&config.redis)?,
            tasks: TaskTracker::new(),
        };
        let access = AccessControl {
            tokens: TokenVerifier::new(&config.auth, &config.trust_roots)?,
            limits: Arc::new(RateLimits::new(&config.limits, &config.redis)?),
            store: store.clone(),
            users: db.users.clone(),
            partners: db.partners.clone(),
            tenants: db.tenants.clone(),
        };
        Ok(Arc::new(Self {
            watcher: ChangeWatcher::start(
                &db.tenants,
                &db.jobs,
                &db.users,
                &db.partners,
                &hints.changes,
                shutdown,
            ),
            flags: FlagCache::start(db.flags.clone(), shutdown),
            readiness: readiness_checks(),
            config: config.clone(),
            store: store.clone(),
            db,
            access,
            locks: KeyedMutex::default(),
            hints,
            schedules: schedule_registry::all()?,
            shutdown: shutdown.clone(),
        }))
    }
}

impl AccessState for SharedState {
    fn access(&self) -> &AccessControl {
        &self.access
    }
}

impl Repositories {
    fn new(store: &Arc<Store>) -> Self {
        Self {
            tenants: TenantRepository::new(store),
            domains: DomainRepository::new(store),
            users: UserRepository::new(store),
            partners: PartnerRepository::new(store),
            invitations: InvitationRepository::new(store),
            subscriptions: SubscriptionRepository::new(store),
            prices: PriceRepository::new(store),
            snapshots: SnapshotRepository::new(store),
            jobs: JobRepository::new(store),
            job_operations: JobOperationRepository::new(store),
            schedule_ledger: ScheduleLedger::new(store),
            queues: QueueRepository::new(store),
            workers: WorkerRepository::new(store),
            upstreams: UpstreamRepository::new(store),
            dependencies: DependencyRepository::new(store),
            flags: FlagRepository::new(store),
            audit: AuditRepository::new(store),
            idempotency: IdempotencyRepository::new(store),
        }
    }

    /// Creates the indexes of every collection that the api writes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        futures::try_join!(
            self.tenants.ensure_indexes(),
            self.domains.ensure_indexes(),
            self.users.ensure_indexes(),
            self.partners.ensure_indexes(),
            self.invitations.ensure_indexes(),
            self.jobs.ensure_indexes(),
            self.schedule_ledger.ensure_indexes(),
            self.workers.ensure_indexes(),
            self.job_operations.ensure_indexes(),
            self.subscriptions.ensure_indexes(),
            self.snapshots.ensure_indexes(),
            self.prices.ensure_indexes(),
            self.audit.ensure_indexes(),
            self.idempotency.ensure_indexes(),
        )?;
        Ok(())
    }
}
