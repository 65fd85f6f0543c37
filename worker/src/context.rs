//! The stores, clients and configuration that jobs use.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    invoice::InvoicingConfig,
    platform::{
        change_feed::ChangeFeed,
        config::{list, optional},
        redis::RedisConfig,
        tls::TrustRoots,
    },
    queue::{ready_set::ReadySet, secret_box::EncryptionKeys},
    store::{
        Store, allowances::AllowanceRepository, apps::AppRepository, audit::AuditRepository,
        backlog_peaks::BacklogPeakRepository, billing_accounts::BillingAccountRepository,
        billing_cursors::BillingCursorRepository, billing_totals::BillingTotalsRepository,
        dependencies::DependencyRepository, domains::DomainRepository, flags::FlagRepository,
        invitations::InvitationRepository, invoice_run::InvoiceRunRepository,
        invoices::InvoiceRepository, job_operations::JobOperationRepository, jobs::JobRepository,
        ledger::LedgerRepository, member_imports::MemberImportRepository,
        members::MemberRepository, mfa_reports::MfaReportRepository, partners::PartnerRepository,
        payouts::PayoutRepository, queues::QueueRepository, report_months::ReportMonthRepository,
        schedule_ledger::ScheduleLedger, setup_intents::SetupIntentRepository,
        snapshots::SnapshotRepository, storage_reports::StorageReportRepository,
        stripe_calls::StripeCallRepository, subscriptions::SubscriptionRepository,
        tenants::TenantRepository, upstreams::UpstreamRepository, users::UserRepository,
        webhook_events::WebhookEventRepository, workers::WorkerRepository,
    },
    upstream::Upstream,
};
use dezky_upstreams::{
    circuit_breaker::CircuitBreakers,
    clients::{
        authentik::{Authentik, AuthentikConfig},
        ocis::{Ocis, OcisConfig},
        stalwart::{Stalwart, StalwartConfig},
        stripe::{Stripe, StripeConfig},
    },
};

use tokio::sync::Mutex;

use crate::{
    dns::{self, DnsConfig, Verifier},
    dns_rate_limit::ZoneRateLimiter,
};

/// The configuration of the upstreams. `None` disables an integration.
#[derive(Debug, Clone, Default)]
pub struct ClientsConfig {
    /// The identity provider.
    pub authentik: Option<AuthentikConfig>,
    /// The mail server.
    pub stalwart: Option<StalwartConfig>,
    /// File storage.
    pub ocis: Option<OcisConfig>,
    /// The payment provider.
    pub stripe: Option<StripeConfig>,
    /// The public DNS.
    pub dns: Option<DnsConfig>,
    /// The domain whose SPF record customers include. Without one, customers authorise the mail hosts themselves.
    pub spf_include: Option<String>,
    /// The slugs of the applications in Authentik whose tokens the api accepts.
    pub applications: Vec<String>,
}

impl ClientsConfig {
    /// Reads the configuration of all upstreams from the environment.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            authentik: AuthentikConfig::from_env()?,
            stalwart: StalwartConfig::from_env()?,
            ocis: OcisConfig::from_env()?,
            stripe: StripeConfig::from_env()?,
            dns: Some(DnsConfig::from_env()?),
            spf_include: optional::<String>("MAIL_SPF_INCLUDE")?
                .map(|domain| dns::parse_spf_include(&domain))
                .transpose()?,
            applications: applications(&list("AUTHENTIK_ISSUERS")?),
        })
    }
}

/// The slugs in the api's issuers, `https://HOST/application/o/SLUG/`. The defaults are those of the blueprint.
fn applications(issuers: &[String]) -> Vec<String> {
    const DEFAULT: [&str; 2] = ["dezky-portal", "dezky-operator"];
    let slug = |issuer: &String| {
        let (_, slug) = issuer.rsplit_once("/application/o/")?;
        let slug = slug.trim_end_matches('/');
        (!slug.is_empty() && !slug.contains('/')).then(|| slug.to_owned())
    };
    let slugs: Vec<String> = issuers.iter().filter_map(slug).collect();
    if slugs.is_empty() {
        return DEFAULT.map(str::to_owned).to_vec();
    }
    slugs
}

/// The clients of the upstreams. `None` if the integration is disabled.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    /// The identity provider.
    pub authentik: Option<Authentik>,
    /// The mail server.
    pub stalwart: Option<Stalwart>,
    /// File storage.
    pub ocis: Option<Ocis>,
    /// The payment provider.
    pub stripe: Option<Stripe>,
    /// The public DNS.
    pub dns: Option<Verifier>,
    /// The domain whose SPF record customers include.
    pub spf_include: Option<String>,
    /// The slugs of the applications in Authentik whose tokens the api accepts.
    pub applications: Vec<String>,
    fingerprints: Vec<(Upstream, String)>,
}

impl Clients {
    /// Clients for the configured upstreams.
    pub fn new(config: &ClientsConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        let fingerprints = [
            config
                .authentik
                .as_ref()
                .map(|config| (Upstream::Authentik, config.fingerprint())),
            config
                .stalwart
                .as_ref()
                .map(|config| (Upstream::Stalwart, config.fingerprint())),
            config
                .ocis
                .as_ref()
                .map(|config| (Upstream::Ocis, config.fingerprint())),
            config
                .stripe
                .as_ref()
                .map(|config| (Upstream::Stripe, config.fingerprint())),
        ];
        Ok(Self {
            authentik: config
                .authentik
                .as_ref()
                .map(|config| Authentik::new(config, trust_roots))
                .transpose()?,
            stalwart: config
                .stalwart
                .as_ref()
                .map(|config| Stalwart::new(config, trust_roots))
                .transpose()?,
            ocis: config
                .ocis
                .as_ref()
                .map(|config| Ocis::new(config, trust_roots))
                .transpose()?,
            stripe: config
                .stripe
                .as_ref()
                .map(|config| Stripe::new(config, trust_roots))
                .transpose()?,
            dns: config.dns.as_ref().map(Verifier::new).transpose()?,
            spf_include: config.spf_include.clone(),
            applications: config.applications.clone(),
            fingerprints: fingerprints.into_iter().flatten().collect(),
        })
    }

    /// The fingerprint of the credentials for each configured upstream.
    pub fn fingerprints(&self) -> &[(Upstream, String)] {
        &self.fingerprints
    }

    /// The fingerprint of the credentials for `upstream`; empty if its integration is disabled.
    pub(crate) fn fingerprint(&self, upstream: Upstream) -> &str {
        let mut fingerprints = self.fingerprints.iter();
        fingerprints
            .find(|(of, _)| *of == upstream)
            .map_or("", |(_, fingerprint)| fingerprint)
    }
}

/// The stores, clients and configuration that jobs use.
#[derive(Debug)]
pub struct Context {
    /// The database.
    pub store: Arc<Store>,
    /// The jobs.
    pub jobs: JobRepository,
    /// The bulk operations on jobs.
    pub job_operations: JobOperationRepository,
    /// The tenants.
    pub tenants: TenantRepository,
    /// The domains.
    pub domains: DomainRepository,
    /// The apps.
    pub apps: AppRepository,
    /// The members of tenants.
    pub members: MemberRepository,
    /// The imports of members.
    pub member_imports: MemberImportRepository,
    /// The users.
    pub users: UserRepository,
    /// The partners.
    pub partners: PartnerRepository,
    /// The invitations to partners' teams.
    pub invitations: InvitationRepository,
    /// The allowances of the plans.
    pub allowances: AllowanceRepository,
    /// The storage reports of the tenants.
    pub storage_reports: StorageReportRepository,
    /// The MFA reports of the tenants.
    pub mfa_reports: MfaReportRepository,
    /// The subscriptions.
    pub subscriptions: SubscriptionRepository,
    /// The invoices.
    pub invoices: InvoiceRepository,
    /// The position of the invoice run.
    pub invoice_run: InvoiceRunRepository,
    /// The monthly totals of billing.
    pub billing_totals: BillingTotalsRepository,
    /// The billing accounts.
    pub billing_accounts: BillingAccountRepository,
    /// The position in the list of Stripe's events.
    pub billing_cursors: BillingCursorRepository,
    /// The events of Stripe that were received.
    pub webhook_events: WebhookEventRepository,
    /// The setup intents of the last hour.
    pub setup_intents: SetupIntentRepository,
    /// The calls to Stripe, with their keys.
    pub stripe_calls: StripeCallRepository,
    /// The ledger of the partners.
    pub ledger: LedgerRepository,
    /// The payouts to partners.
    pub payouts: PayoutRepository,
    /// The feature flags.
    pub flags: FlagRepository,
    /// The monthly snapshots of subscriptions.
    pub snapshots: SnapshotRepository,
    /// The sums of months, for reports.
    pub report_months: ReportMonthRepository,
    /// The audit trail.
    pub audit: AuditRepository,
    /// The ledger of the schedules' instants.
    pub schedules: ScheduleLedger,
    /// The state of the upstreams.
    pub upstreams: UpstreamRepository,
    /// The queues, with their pauses.
    pub queues: QueueRepository,
    /// The peaks of the backlog.
    pub backlog_peaks: BacklogPeakRepository,
    /// The live workers.
    pub workers: WorkerRepository,
    /// The results of the dependency checks.
    pub probes: DependencyRepository,
    /// The circuit breakers and rate budgets of the upstreams.
    pub circuits: CircuitBreakers,
    /// The ready sets.
    pub ready: ReadySet,
    /// The change feed.
    pub changes: ChangeFeed,
    /// The clients of the upstreams.
    pub clients: Clients,
    /// The keys of the secrets that jobs carry.
    pub encryption_keys: EncryptionKeys,
    /// The rate limit of DNS queries to each zone.
    pub zones: ZoneRateLimiter,
    /// The retention of audit events.
    pub audit_keep: Duration,
    /// The configuration of invoices.
    pub invoicing: InvoicingConfig,
    /// Held by the transaction that takes an invoice number: concurrent ones would conflict, and be repeated.
    pub invoice_numbers: Mutex<()>,
}

/// The default retention of audit events: two years.
pub const AUDIT_KEEP: Duration = Duration::from_hours(730 * 24);

impl Context {
    /// The context over `store`, with hints in Redis.
    pub fn new(
        store: Arc<Store>,
        redis: &RedisConfig,
        clients: Clients,
        encryption_keys: EncryptionKeys,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            jobs: JobRepository::new(&store),
            job_operations: JobOperationRepository::new(&store),
            tenants: TenantRepository::new(&store),
            domains: DomainRepository::new(&store),
            apps: AppRepository::new(&store),
            members: MemberRepository::new(&store),
            member_imports: MemberImportRepository::new(&store),
            users: UserRepository::new(&store),
            partners: PartnerRepository::new(&store),
            invitations: InvitationRepository::new(&store),
            allowances: AllowanceRepository::new(&store),
            storage_reports: StorageReportRepository::new(&store),
            mfa_reports: MfaReportRepository::new(&store),
            subscriptions: SubscriptionRepository::new(&store),
            invoices: InvoiceRepository::new(&store),
            invoice_run: InvoiceRunRepository::new(&store),
            billing_totals: BillingTotalsRepository::new(&store),
            billing_accounts: BillingAccountRepository::new(&store),
            billing_cursors: BillingCursorRepository::new(&store),
            webhook_events: WebhookEventRepository::new(&store),
            setup_intents: SetupIntentRepository::new(&store),
            stripe_calls: StripeCallRepository::new(&store),
            ledger: LedgerRepository::new(&store),
            payouts: PayoutRepository::new(&store),
            flags: FlagRepository::new(&store),
            snapshots: SnapshotRepository::new(&store),
            report_months: ReportMonthRepository::new(&store),
            audit: AuditRepository::new(&store),
            schedules: ScheduleLedger::new(&store),
            upstreams: UpstreamRepository::new(&store),
            queues: QueueRepository::new(&store),
            backlog_peaks: BacklogPeakRepository::new(&store),
            workers: WorkerRepository::new(&store),
            probes: DependencyRepository::new(&store),
            circuits: CircuitBreakers::new(redis)?,
            ready: ReadySet::new(redis)?,
            changes: ChangeFeed::new(redis)?,
            store,
            clients,
            encryption_keys,
            zones: ZoneRateLimiter::default(),
            audit_keep: AUDIT_KEEP,
            invoicing: InvoicingConfig::default(),
            invoice_numbers: Mutex::new(()),
        })
    }
}
