//! Shared state of handlers. It holds no upstream client: no request calls an upstream.

use std::sync::Arc;

use dezky_shared::{
    platform::change_feed::{ChangeFeed, DocumentChange},
    queue::{job::Job, ready_set::ReadySet, schedule::Schedule, schedule_registry},
    store::{
        Store,
        allowances::AllowanceRepository,
        apps::AppRepository,
        audit::AuditRepository,
        backlog_peaks::BacklogPeakRepository,
        billing_accounts::BillingAccountRepository,
        billing_totals::BillingTotalsRepository,
        console_sessions::ConsoleSessionRepository,
        dependencies::DependencyRepository,
        domains::DomainRepository,
        flags::FlagRepository,
        group_commit::GroupCommit,
        idempotency::IdempotencyRepository,
        invitations::InvitationRepository,
        invoices::InvoiceRepository,
        job_operations::JobOperationRepository,
        jobs::JobRepository,
        ledger::LedgerRepository,
        member_imports::MemberImportRepository,
        members::{AdmissionSources, MemberRepository},
        mfa_reports::MfaReportRepository,
        partners::PartnerRepository,
        payouts::PayoutRepository,
        prices::PriceRepository,
        queues::QueueRepository,
        report_months::ReportMonthRepository,
        saved_reports::SavedReportRepository,
        schedule_ledger::ScheduleLedger,
        setup_intents::SetupIntentRepository,
        snapshots::SnapshotRepository,
        storage_reports::StorageReportRepository,
        subscriptions::SubscriptionRepository,
        tenant_resource_changes::TenantResourceChanges,
        tenants::TenantRepository,
        upstreams::UpstreamRepository,
        users::UserRepository,
        webhook_events::WebhookEventRepository,
        workers::WorkerRepository,
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::TokenVerifier,
    config::Config,
    console::IssuerClient,
    extract::{AccessControl, AccessState},
    flag_cache::FlagCache,
    keyed_mutex::KeyedMutex,
    long_poll::{ChangeWatcher, Sources},
    rate_limits::RateLimits,
    readiness::{ReadinessChecks, readiness_checks},
    routes::tenants::PatchQueue,
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
    /// Group commit of commands that only insert documents.
    pub group_commit: GroupCommit,
    /// Patches of tenants that wait for their keyed mutex.
    pub(crate) patches: PatchQueue,
    /// Notifications after a commit.
    pub hints: Hints,
    /// Long polls and event streams.
    pub watcher: ChangeWatcher,
    /// Feature flags, cached.
    pub flags: FlagCache,
    /// Readiness checks.
    pub(crate) readiness: ReadinessChecks,
    /// Client of the issuer at which operators sign in to the console. `None` if it is off.
    pub(crate) console_issuer: Option<IssuerClient>,
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
    /// Apps of tenants.
    pub apps: AppRepository,
    /// Users.
    pub users: UserRepository,
    /// Members of tenants: their accounts at the upstreams.
    pub members: MemberRepository,
    /// Changes of the members, apps, domains and invoices of tenants.
    pub tenant_resource_changes: TenantResourceChanges,
    /// Imports of members.
    pub member_imports: MemberImportRepository,
    /// Partners.
    pub partners: PartnerRepository,
    /// Invitations to partner teams.
    pub invitations: InvitationRepository,
    /// Subscriptions.
    pub subscriptions: SubscriptionRepository,
    /// Invoices.
    pub invoices: InvoiceRepository,
    /// Monthly totals of billing.
    pub billing_totals: BillingTotalsRepository,
    /// Billing accounts.
    pub billing_accounts: BillingAccountRepository,
    /// Setup intents of the last hour.
    pub setup_intents: SetupIntentRepository,
    /// Events of Stripe that were received.
    pub webhook_events: WebhookEventRepository,
    /// Ledger of the partners.
    pub ledger: LedgerRepository,
    /// Payouts to partners.
    pub payouts: PayoutRepository,
    /// Prices of the plans.
    pub prices: PriceRepository,
    /// Allowances of the plans.
    pub allowances: AllowanceRepository,
    /// Storage of tenants, as jobs last measured it.
    pub storage_reports: StorageReportRepository,
    /// Second factors of tenants' people, as jobs last looked them up.
    pub mfa_reports: MfaReportRepository,
    /// Monthly snapshots of subscriptions.
    pub snapshots: SnapshotRepository,
    /// Sums of months, for reports.
    pub report_months: ReportMonthRepository,
    /// Saved reports.
    pub saved_reports: SavedReportRepository,
    /// Jobs.
    pub jobs: JobRepository,
    /// Bulk operations on jobs.
    pub job_operations: JobOperationRepository,
    /// Instants at which schedules ran.
    pub schedule_ledger: ScheduleLedger,
    /// Queues and whether they are paused.
    pub queues: QueueRepository,
    /// Peaks of the backlog of the last day.
    pub backlog_peaks: BacklogPeakRepository,
    /// Workers.
    pub workers: WorkerRepository,
    /// Upstreams and their circuit breakers.
    pub upstreams: UpstreamRepository,
    /// Dependencies as the workers last checked them.
    pub dependencies: DependencyRepository,
    /// Feature flags.
    pub flags: FlagRepository,
    /// Sessions of operators in the console.
    pub console_sessions: ConsoleSessionRepository,
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

impl Hints {
    /// Notifies workers of the jobs and waiting requests of the changes, in the background. A lost hint delays work,
    /// nothing more.
    pub fn publish(&self, jobs: Vec<Job>, mut changed: Vec<DocumentChange>) {
        changed.extend(jobs.iter().map(|job| DocumentChange::Job(job.id)));
        let (ready, feed) = (self.ready.clone(), self.changes.clone());
        self.tasks.spawn(async move {
            tokio::join!(ready.notify(&jobs), feed.publish(&changed));
        });
    }
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
            audit: db.audit.clone(),
            admin_groups: config.auth.admin_groups.clone(),
            self_service_tenants: config.self_service_tenants,
        };
        Ok(Arc::new(Self {
            watcher: ChangeWatcher::start(watched(&db), &hints.changes, shutdown),
            flags: FlagCache::start(db.flags.clone(), shutdown),
            readiness: readiness_checks(),
            console_issuer: config
                .console
                .as_ref()
                .map(|console| IssuerClient::new(console, &config.trust_roots))
                .transpose()?,
            config: config.clone(),
            store: store.clone(),
            db,
            access,
            locks: KeyedMutex::default(),
            group_commit: GroupCommit::new(store),
            patches: PatchQueue::default(),
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
            apps: AppRepository::new(store),
            tenant_resource_changes: TenantResourceChanges::new(store),
            users: UserRepository::new(store),
            members: MemberRepository::new(store),
            member_imports: MemberImportRepository::new(store),
            partners: PartnerRepository::new(store),
            invitations: InvitationRepository::new(store),
            subscriptions: SubscriptionRepository::new(store),
            invoices: InvoiceRepository::new(store),
            billing_totals: BillingTotalsRepository::new(store),
            billing_accounts: BillingAccountRepository::new(store),
            setup_intents: SetupIntentRepository::new(store),
            webhook_events: WebhookEventRepository::new(store),
            ledger: LedgerRepository::new(store),
            payouts: PayoutRepository::new(store),
            prices: PriceRepository::new(store),
            allowances: AllowanceRepository::new(store),
            storage_reports: StorageReportRepository::new(store),
            mfa_reports: MfaReportRepository::new(store),
            snapshots: SnapshotRepository::new(store),
            report_months: ReportMonthRepository::new(store),
            saved_reports: SavedReportRepository::new(store),
            jobs: JobRepository::new(store),
            job_operations: JobOperationRepository::new(store),
            schedule_ledger: ScheduleLedger::new(store),
            queues: QueueRepository::new(store),
            backlog_peaks: BacklogPeakRepository::new(store),
            workers: WorkerRepository::new(store),
            upstreams: UpstreamRepository::new(store),
            dependencies: DependencyRepository::new(store),
            flags: FlagRepository::new(store),
            console_sessions: ConsoleSessionRepository::new(store),
            audit: AuditRepository::new(store),
            idempotency: IdempotencyRepository::new(store),
        }
    }

    /// Repositories that the admission of new members reads.
    pub fn admission_sources(&self) -> AdmissionSources<'_> {
        AdmissionSources {
            members: &self.members,
            domains: &self.domains,
            tenants: &self.tenants,
            users: &self.users,
        }
    }
}

/// The repositories of the documents that requests wait for.
fn watched(db: &Repositories) -> Sources {
    Sources {
        tenants: db.tenants.clone(),
        domains: db.domains.clone(),
        jobs: db.jobs.clone(),
        users: db.users.clone(),
        partners: db.partners.clone(),
        tenant_resources: db.tenant_resource_changes.clone(),
    }
}
