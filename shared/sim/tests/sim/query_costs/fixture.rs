//! A large database: many tenants with a user, a domain, a subscription and audit events each, and many more jobs.
//!
//! The documents are those that an earlier build stored, copied with other keys. The server makes the copies: it is sent
//! each document once, and the fields in which the copies differ. The indexes are built at the end, which is faster than
//! to maintain them.

mod audit;
mod control;
mod invoices;
mod jobs;
mod members;
mod reports;
mod stripe;
mod subscriptions;
mod tenants;
mod users;

use std::{fs, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    id::{AppId, DomainId, JobId, PartnerId, TenantId, UserId},
    platform::clock,
    queue::job::Job,
    store::{
        MongoConfig, Store, allowances::AllowanceRepository, apps::AppRepository,
        audit::AuditRepository, backlog_peaks::BacklogPeakRepository,
        billing_accounts::BillingAccountRepository, billing_totals::BillingTotalsRepository,
        dependencies::DependencyRepository, domains::DomainRepository, ensure_indexes,
        flags::FlagRepository, idempotency::IdempotencyRepository,
        invitations::InvitationRepository, invoices::InvoiceRepository,
        job_operations::JobOperationRepository, jobs::JobRepository, ledger::LedgerRepository,
        member_imports::MemberImportRepository, members::MemberRepository,
        mfa_reports::MfaReportRepository, partners::PartnerRepository, payouts::PayoutRepository,
        prices::PriceRepository, queues::QueueRepository, report_months::ReportMonthRepository,
        saved_reports::SavedReportRepository, schedule_ledger::ScheduleLedger,
        setup_intents::SetupIntentRepository, snapshots::SnapshotRepository,
        storage_reports::StorageReportRepository, stripe_calls::StripeCallRepository,
        subscriptions::SubscriptionRepository, tenant_resource_changes::TenantResourceChanges,
        tenants::TenantRepository, upstreams::UpstreamRepository, users::UserRepository,
        webhook_events::WebhookEventRepository, workers::WorkerRepository,
    },
};
use dezky_sim::{isolated_stores::FreshStores, workspace};

/// Tenants, and documents of most other collections.
const TENANTS: usize = 100_000;
/// Copies whose differences are sent in one document, which has at most 16 MiB.
const BATCH: usize = 20_000;

/// The database with its repositories.
pub(super) struct Fixture {
    pub(super) store: Arc<Store>,
    pub(super) allowances: AllowanceRepository,
    pub(super) apps: AppRepository,
    pub(super) audit: AuditRepository,
    pub(super) backlog_peaks: BacklogPeakRepository,
    pub(super) billing_totals: BillingTotalsRepository,
    pub(super) dependencies: DependencyRepository,
    pub(super) domains: DomainRepository,
    pub(super) flags: FlagRepository,
    pub(super) idempotency: IdempotencyRepository,
    pub(super) invitations: InvitationRepository,
    pub(super) billing_accounts: BillingAccountRepository,
    pub(super) stripe_calls: StripeCallRepository,
    pub(super) invoices: InvoiceRepository,
    pub(super) job_operations: JobOperationRepository,
    pub(super) jobs: JobRepository,
    pub(super) ledger: LedgerRepository,
    pub(super) mfa_reports: MfaReportRepository,
    pub(super) member_imports: MemberImportRepository,
    pub(super) members: MemberRepository,
    pub(super) tenant_resource_changes: TenantResourceChanges,
    pub(super) partners: PartnerRepository,
    pub(super) payouts: PayoutRepository,
    pub(super) prices: PriceRepository,
    pub(super) queues: QueueRepository,
    pub(super) report_months: ReportMonthRepository,
    pub(super) saved_reports: SavedReportRepository,
    pub(super) schedule_ledger: ScheduleLedger,
    pub(super) setup_intents: SetupIntentRepository,
    pub(super) snapshots: SnapshotRepository,
    pub(super) storage_reports: StorageReportRepository,
    pub(super) subscriptions: SubscriptionRepository,
    pub(super) tenants: TenantRepository,
    pub(super) upstreams: UpstreamRepository,
    pub(super) users: UserRepository,
    pub(super) webhook_events: WebhookEventRepository,
    pub(super) workers: WorkerRepository,
    pub(super) now: DateTime,
    /// Tenants, oldest first. Every second one is of the first partner.
    pub(super) tenant_ids: Vec<TenantId>,
    pub(super) user_ids: Vec<UserId>,
    pub(super) domain_ids: Vec<DomainId>,
    pub(super) partner_ids: Vec<PartnerId>,
    /// A fan-out with half of the jobs.
    pub(super) parent: JobId,
    _stores: FreshStores,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let stores = FreshStores::unshared().unwrap();
        let config = MongoConfig {
            uri: stores.mongodb_uri.clone(),
            database: stores.database.clone(),
        };
        let store = Arc::new(Store::connect(&config).await.unwrap());
        let ids = |count| std::iter::repeat_with(TenantId::new).take(count);
        let fixture = Self {
            allowances: AllowanceRepository::new(&store),
            apps: AppRepository::new(&store),
            audit: AuditRepository::new(&store),
            backlog_peaks: BacklogPeakRepository::new(&store),
            billing_totals: BillingTotalsRepository::new(&store),
            dependencies: DependencyRepository::new(&store),
            domains: DomainRepository::new(&store),
            flags: FlagRepository::new(&store),
            idempotency: IdempotencyRepository::new(&store),
            invitations: InvitationRepository::new(&store),
            billing_accounts: BillingAccountRepository::new(&store),
            stripe_calls: StripeCallRepository::new(&store),
            invoices: InvoiceRepository::new(&store),
            job_operations: JobOperationRepository::new(&store),
            jobs: JobRepository::new(&store),
            ledger: LedgerRepository::new(&store),
            mfa_reports: MfaReportRepository::new(&store),
            member_imports: MemberImportRepository::new(&store),
            members: MemberRepository::new(&store),
            tenant_resource_changes: TenantResourceChanges::new(&store),
            partners: PartnerRepository::new(&store),
            payouts: PayoutRepository::new(&store),
            prices: PriceRepository::new(&store),
            queues: QueueRepository::new(&store),
            report_months: ReportMonthRepository::new(&store),
            saved_reports: SavedReportRepository::new(&store),
            schedule_ledger: ScheduleLedger::new(&store),
            setup_intents: SetupIntentRepository::new(&store),
            snapshots: SnapshotRepository::new(&store),
            storage_reports: StorageReportRepository::new(&store),
            subscriptions: SubscriptionRepository::new(&store),
            tenants: TenantRepository::new(&store),
            upstreams: UpstreamRepository::new(&store),
            users: UserRepository::new(&store),
            webhook_events: WebhookEventRepository::new(&store),
            workers: WorkerRepository::new(&store),
            now: store.now(),
            tenant_ids: ids(TENANTS).collect(),
            user_ids: ids(TENANTS)
                .map(|id| UserId::from_bytes(id.bytes()))
                .collect(),
            domain_ids: ids(TENANTS)
                .map(|id| DomainId::from_bytes(id.bytes()))
                .collect(),
            partner_ids: ids(TENANTS / 10)
                .map(|id| PartnerId::from_bytes(id.bytes()))
                .collect(),
            parent: JobId::new(),
            store,
            _stores: stores,
        };
        fixture.fill().await;
        ensure_indexes(&fixture.store).await.unwrap();
        fixture
    }

    async fn fill(&self) {
        let stored = Templates::read();
        tokio::join!(
            self.fill_jobs(stored.one("jobs")),
            self.fill_others(&stored)
        );
    }

    /// All collections but the jobs, one after another.
    async fn fill_others(&self, stored: &Templates) {
        self.fill_tenants(stored).await;
        self.fill_users(stored).await;
        self.fill_domains(stored).await;
        self.fill_subscriptions(stored).await;
        self.fill_partners(stored).await;
        self.fill_audit(stored).await;
        self.fill_members().await;
        self.fill_apps().await;
        self.fill_invitations().await;
        self.fill_job_operations().await;
        self.fill_member_imports().await;
        self.fill_snapshots().await;
        self.fill_stripe().await;
        self.fill_invoices().await;
        self.fill_ledger().await;
        self.fill_reports().await;
        self.fill_tenant_reports().await;
        self.fill_control(stored).await;
    }

    /// The tenant that half of all members belong to.
    pub(super) fn crowded(&self) -> TenantId {
        self.tenant_ids[TENANTS - 1]
    }

    pub(super) fn in_seconds(&self, n: usize) -> DateTime {
        clock::later(self.now, Duration::from_secs(n as u64))
    }

    /// Creates a collection of copies of a document. `edit` adds the fields in which a copy differs.
    async fn insert(
        &self,
        collection: &str,
        count: usize,
        like: &Document,
        edit: impl Fn(usize, &mut Document),
    ) {
        let seed = format!("{collection}_seed");
        let seed = self.store.collection::<Document>(&seed);
        for from in (0..count).step_by(BATCH) {
            let differences = (from..count.min(from + BATCH)).map(|n| {
                let mut fields = Document::new();
                edit(n, &mut fields);
                fields
            });
            let differences: Vec<_> = differences.collect();
            seed.insert_one(doc! { "differences": differences })
                .await
                .unwrap();
        }
        let copies = [
            doc! { "$unwind": "$differences" },
            doc! { "$replaceWith": { "$mergeObjects": [{ "$literal": like }, "$differences"] } },
            doc! { "$out": collection },
        ];
        seed.aggregate(copies).await.unwrap();
        seed.drop().await.unwrap();
    }

    /// The app of the tenant with this number.
    pub(super) fn app_id(&self, n: usize) -> AppId {
        AppId::from_bytes(self.tenant_ids[n].bytes())
    }

    /// Some job of the fixture that is due.
    pub(super) async fn due_job(&self) -> Job {
        let due = doc! { "state": "available", "runAt": { "$lte": self.now } };
        let jobs = self.store.collection::<Job>("jobs");
        jobs.find_one(due).await.unwrap().unwrap()
    }
}

/// Documents that an earlier build stored.
struct Templates(Document);

impl Templates {
    fn read() -> Self {
        let path = workspace::root().join("worker/tests/fixtures/stored_documents.json");
        Self(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    }

    fn all(&self, collection: &str) -> Vec<Document> {
        let documents = self.0.get_array(collection).unwrap().iter();
        documents.filter_map(Bson::as_document).cloned().collect()
    }

    fn one(&self, collection: &str) -> Document {
        self.all(collection).swap_remove(0)
    }
}
