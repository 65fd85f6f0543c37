//! The stores, clients and configuration that jobs use.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    platform::{
        change_feed::ChangeFeed,
        config::{list, optional},
        redis::RedisConfig,
        tls::TrustRoots,
    },
    queue::{ready_set::ReadySet, secret_box::EncryptionKeys},
    store::{
        Store, StoreError, audit::AuditRepository, dependencies::DependencyRepository,
        domains::DomainRepository, invitations::InvitationRepository,
        job_operations::JobOperationRepository, jobs::JobRepository, partners::PartnerRepository,
        queues::QueueRepository, schedule_ledger::ScheduleLedger, snapshots::SnapshotRepository,
        subscriptions::SubscriptionRepository, tenants::TenantRepository,
        upstreams::UpstreamRepository, users::UserRepository, workers::WorkerRepository,
    },
    upstream::Upstream,
};
use dezky_upstreams::{
    circuit_breaker::CircuitBreakers,
    clients::{
        authentik::{Authentik, AuthentikConfig},
        ocis::{Ocis, OcisConfig},
        stalwart::{Stalwart, StalwartConfig},
    },
};

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
    /// The users.
    pub users: UserRepository,
    /// The partners.
    pub partners: PartnerRepository,
    /// The invitations to partners' teams.
    pub invitations: InvitationRepository,
    /// The subscriptions.
    pub subscriptions: SubscriptionRepository,
    /// The monthly snapshots of subscriptions.
    pub snapshots: SnapshotRepository,
    /// The audit trail.
    pub audit: AuditRepository,
    /// The ledger of the schedules' instants.
    pub schedules: ScheduleLedger,
    /// The state of the upstreams.
    pub upstreams: UpstreamRepository,
    /// The queues, with their pauses.
    pub queues: QueueRepository,
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
    pub sealing_keys: EncryptionKeys,
    /// The rate limit of DNS queries to each zone.
    pub zones: ZoneRateLimiter,
    /// The retention of audit events.
    pub audit_keep: Duration,
}

/// The default retention of audit events: two years.
pub const AUDIT_KEEP: Duration = Duration::from_hours(730 * 24);

impl Context {
    /// The context over `store`, with hints in Redis.
    pub fn new(
        store: Arc<Store>,
        redis: &RedisConfig,
        clients: Clients,
        sealing_keys: EncryptionKeys,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            jobs: JobRepository::new(&store),
            job_operations: JobOperationRepository::new(&store),
            tenants: TenantRepository::new(&store),
            domains: DomainRepository::new(&store),
            users: UserRepository::new(&store),
            partners: PartnerRepository::new(&store),
            invitations: InvitationRepository::new(&store),
            subscriptions: SubscriptionRepository::new(&store),
            snapshots: SnapshotRepository::new(&store),
            audit: AuditRepository::new(&store),
            schedules: ScheduleLedger::new(&store),
            upstreams: UpstreamRepository::new(&store),
            queues: QueueRepository::new(&store),
            workers: WorkerRepository::new(&store),
            probes: DependencyRepository::new(&store),
            circuits: CircuitBreakers::new(redis)?,
            ready: ReadySet::new(redis)?,
            changes: ChangeFeed::new(redis)?,
            store,
            clients,
            sealing_keys,
            zones: ZoneRateLimiter::default(),
            audit_keep: AUDIT_KEEP,
        })
    }

    /// Creates the indexes that the worker needs.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        futures::try_join!(
            self.jobs.ensure_indexes(),
            self.job_operations.ensure_indexes(),
            self.tenants.ensure_indexes(),
            self.domains.ensure_indexes(),
            self.users.ensure_indexes(),
            self.partners.ensure_indexes(),
            self.invitations.ensure_indexes(),
            self.subscriptions.ensure_indexes(),
            self.snapshots.ensure_indexes(),
            self.schedules.ensure_indexes(),
            self.workers.ensure_indexes(),
            self.audit.ensure_indexes(),
        )?;
        Ok(())
    }
}
