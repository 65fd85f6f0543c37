//! Shared state of handlers. It holds no upstream client: no request calls an upstream.

use std::sync::Arc;

use dezky_shared::{
    platform::change_feed::{ChangeFeed, DocumentChange},
    queue::{job::Job, ready_set::ReadySet, schedule::Schedule, schedule_registry},
    store::{self, Store, group_commit::GroupCommit, members::AdmissionSources},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{self, TokenVerifier},
    config::Config,
    extract::{AccessControl, AccessState},
    flag_cache::FlagCache,
    keyed_mutex::KeyedMutex,
    long_poll::{ChangeWatcher, Sources},
    rate_limits::RateLimits,
    readiness::{ReadinessChecks, readiness_checks},
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
    /// Notifications after a commit.
    pub hints: Hints,
    /// Long polls and event streams.
    pub watcher: ChangeWatcher,
    /// Feature flags, cached.
    pub flags: FlagCache,
    /// Readiness checks.
    pub(crate) readiness: ReadinessChecks,
    /// HTTP client of the console's sign-in.
    pub(crate) issuer_http: reqwest::Client,
    /// Recurring jobs.
    pub schedules: Vec<Schedule>,
    /// Cancelled when the process shuts down: waiting requests return at once.
    pub shutdown: CancellationToken,
}

/// A connected repository: one of [`Repositories`].
pub trait Connected: Sized {
    /// This one.
    fn of(db: &Repositories) -> &Self;
}

/// Declares [`Repositories`] and their construction from the store.
macro_rules! repositories {
    ($($(#[$doc:meta])* $name:ident: $module:ident::$repository:ident,)*) => {
        /// The repositories, one per collection.
        #[derive(Debug)]
        pub struct Repositories {
            $($(#[$doc])* pub $name: store::$module::$repository,)*
        }

        impl Repositories {
            fn new(store: &Arc<Store>) -> Self {
                Self { $($name: store::$module::$repository::new(store),)* }
            }
        }

        $(impl Connected for store::$module::$repository {
            fn of(db: &Repositories) -> &Self {
                &db.$name
            }
        })*
    };
}

repositories! {
    /// Tenants.
    tenants: tenants::TenantRepository,
    /// Domains.
    domains: domains::DomainRepository,
    /// Apps of tenants.
    apps: apps::AppRepository,
    /// Users.
    users: users::UserRepository,
    /// Members of tenants: their accounts at the upstreams.
    members: members::MemberRepository,
    /// Changes of the members, apps, domains and invoices of tenants.
    tenant_resource_changes: tenant_resource_changes::TenantResourceChanges,
    /// Imports of members.
    member_imports: member_imports::MemberImportRepository,
    /// Partners.
    partners: partners::PartnerRepository,
    /// Invitations to partner teams.
    invitations: invitations::InvitationRepository,
    /// Subscriptions.
    subscriptions: subscriptions::SubscriptionRepository,
    /// Invoices.
    invoices: invoices::InvoiceRepository,
    /// Monthly totals of billing.
    billing_totals: billing_totals::BillingTotalsRepository,
    /// Billing accounts.
    billing_accounts: billing_accounts::BillingAccountRepository,
    /// Setup intents of the last hour.
    setup_intents: setup_intents::SetupIntentRepository,
    /// Events of Stripe that were received.
    webhook_events: webhook_events::WebhookEventRepository,
    /// Ledger of the partners.
    ledger: ledger::LedgerRepository,
    /// Payouts to partners.
    payouts: payouts::PayoutRepository,
    /// Prices of the plans.
    prices: prices::PriceRepository,
    /// Allowances of the plans.
    allowances: allowances::AllowanceRepository,
    /// Storage of tenants, as jobs last measured it.
    storage_reports: storage_reports::StorageReportRepository,
    /// Second factors of tenants' people, as jobs last looked them up.
    mfa_reports: mfa_reports::MfaReportRepository,
    /// Monthly snapshots of subscriptions.
    snapshots: snapshots::SnapshotRepository,
    /// Sums of months, for reports.
    report_months: report_months::ReportMonthRepository,
    /// Saved reports.
    saved_reports: saved_reports::SavedReportRepository,
    /// Jobs.
    jobs: jobs::JobRepository,
    /// Bulk operations on jobs.
    job_operations: job_operations::JobOperationRepository,
    /// Instants at which schedules ran.
    schedule_ledger: schedule_ledger::ScheduleLedger,
    /// Queues and whether they are paused.
    queues: queues::QueueRepository,
    /// Peaks of the backlog of the last day.
    backlog_peaks: backlog_peaks::BacklogPeakRepository,
    /// Workers.
    workers: workers::WorkerRepository,
    /// Upstreams and their circuit breakers.
    upstreams: upstreams::UpstreamRepository,
    /// Dependencies as the workers last checked them.
    dependencies: dependencies::DependencyRepository,
    /// Feature flags.
    flags: flags::FlagRepository,
    /// Sessions of operators in the console.
    console_sessions: console_sessions::ConsoleSessionRepository,
    /// Audit trail.
    audit: audit::AuditRepository,
    /// Idempotency keys.
    idempotency: idempotency::IdempotencyRepository,
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
            issuer_http: auth::http_client(&config.trust_roots)?,
            config: config.clone(),
            store: store.clone(),
            db,
            access,
            locks: KeyedMutex::default(),
            group_commit: GroupCommit::new(store),
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
