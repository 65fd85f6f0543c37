//! What a job can reach.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    platform::{change_feed::ChangeFeed, config::optional, redis::RedisConfig, tls::TrustRoots},
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
    dns::{DnsConfig, Verifier},
    zone_limits::ZoneLimits,
};

/// Where the upstreams are. One is missing where its integration is switched off.
#[derive(Debug, Clone, Default)]
pub struct ClientsConfig {
    /// Identity.
    pub authentik: Option<AuthentikConfig>,
    /// Mail.
    pub stalwart: Option<StalwartConfig>,
    /// Files.
    pub ocis: Option<OcisConfig>,
    /// The public DNS.
    pub dns: Option<DnsConfig>,
    /// The domain whose SPF record customers include. Without one they authorise our mail hosts.
    pub spf_include: Option<String>,
}

impl ClientsConfig {
    /// Reads the variables of all upstreams.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            authentik: AuthentikConfig::from_env()?,
            stalwart: StalwartConfig::from_env()?,
            ocis: OcisConfig::from_env()?,
            dns: Some(DnsConfig::from_env()?),
            spf_include: optional("MAIL_SPF_INCLUDE")?,
        })
    }
}

/// The clients of the upstreams. One is missing where its integration is switched off.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    /// Identity.
    pub authentik: Option<Authentik>,
    /// Mail.
    pub stalwart: Option<Stalwart>,
    /// Files.
    pub ocis: Option<Ocis>,
    /// The public DNS.
    pub dns: Option<Verifier>,
    /// The domain whose SPF record customers include.
    pub spf_include: Option<String>,
    fingerprints: Vec<(Upstream, String)>,
}

impl Clients {
    /// Clients for what is configured.
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
            fingerprints: fingerprints.into_iter().flatten().collect(),
        })
    }

    /// A name for the credentials used for each upstream.
    pub fn fingerprints(&self) -> &[(Upstream, String)] {
        &self.fingerprints
    }
}

/// What a job can reach.
#[derive(Debug)]
pub struct Context {
    /// The database.
    pub store: Arc<Store>,
    /// The jobs.
    pub jobs: JobRepository,
    /// What is to be done to many jobs.
    pub job_operations: JobOperationRepository,
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
    /// The subscriptions.
    pub subscriptions: SubscriptionRepository,
    /// What tenants had bought, month by month.
    pub snapshots: SnapshotRepository,
    /// The audit trail.
    pub audit: AuditRepository,
    /// Which instants of the schedules were run.
    pub schedules: ScheduleLedger,
    /// What is known about the upstreams.
    pub upstreams: UpstreamRepository,
    /// The queues themselves.
    pub queues: QueueRepository,
    /// The workers that live.
    pub workers: WorkerRepository,
    /// How the infrastructure stood at the last look.
    pub probes: DependencyRepository,
    /// When the upstreams may be spoken to.
    pub circuits: CircuitBreakers,
    /// Lock keys that may have work.
    pub ready: ReadySet,
    /// Who waits for a document hears of it here.
    pub changes: ChangeFeed,
    /// The upstreams.
    pub clients: Clients,
    /// What opens the secrets that jobs carry.
    pub sealing_keys: EncryptionKeys,
    /// How often a zone is asked.
    pub zones: ZoneLimits,
    /// How long audit events are kept.
    pub audit_keep: Duration,
}

/// How long audit events are kept where nothing else is said: two years.
pub const AUDIT_KEEP: Duration = Duration::from_hours(730 * 24);

impl Context {
    /// What there is in `store`, with hints in Redis.
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
            zones: ZoneLimits::default(),
            audit_keep: AUDIT_KEEP,
        })
    }

    /// Makes the indexes that the worker relies on.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.jobs.ensure_indexes().await?;
        self.job_operations.ensure_indexes().await?;
        self.tenants.ensure_indexes().await?;
        self.domains.ensure_indexes().await?;
        self.users.ensure_indexes().await?;
        self.partners.ensure_indexes().await?;
        self.invitations.ensure_indexes().await?;
        self.subscriptions.ensure_indexes().await?;
        self.snapshots.ensure_indexes().await?;
        self.schedules.ensure_indexes().await?;
        self.workers.ensure_indexes().await?;
        self.audit.ensure_indexes().await
    }
}
