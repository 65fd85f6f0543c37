//! What a job can reach.

use std::sync::Arc;

use dezky_shared::{
    changes::Changes,
    ready::Ready,
    redis::RedisConfig,
    store::{
        Store, StoreError, audit::AuditRepository, jobs::JobRepository, tenants::TenantRepository,
        upstreams::UpstreamRepository, users::UserRepository,
    },
    upstream::Upstream,
};

/// The clients of the upstreams. One is missing where its integration is switched off.
#[derive(Debug, Clone, Default)]
pub struct Clients {}

/// What a job can reach.
#[derive(Debug)]
pub struct Context {
    /// The database.
    pub store: Arc<Store>,
    /// The jobs.
    pub jobs: JobRepository,
    /// The tenants.
    pub tenants: TenantRepository,
    /// The users.
    pub users: UserRepository,
    /// The audit trail.
    pub audit: AuditRepository,
    /// What is known about the upstreams.
    pub upstreams: UpstreamRepository,
    /// Lock keys that may have work.
    pub ready: Ready,
    /// Who waits for a document hears of it here.
    pub changes: Changes,
    /// The upstreams.
    pub clients: Clients,
}

impl Context {
    /// What there is in `store`, with hints in Redis.
    pub fn new(store: Arc<Store>, redis: &RedisConfig, clients: Clients) -> anyhow::Result<Self> {
        Ok(Self {
            jobs: JobRepository::new(&store),
            tenants: TenantRepository::new(&store),
            users: UserRepository::new(&store),
            audit: AuditRepository::new(&store),
            upstreams: UpstreamRepository::new(&store),
            ready: Ready::new(redis)?,
            changes: Changes::new(redis)?,
            store,
            clients,
        })
    }

    /// Makes the indexes that the worker relies on.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.jobs.ensure_indexes().await?;
        self.tenants.ensure_indexes().await?;
        self.users.ensure_indexes().await?;
        self.audit.ensure_indexes().await
    }

    /// A fingerprint of the credentials used for each upstream.
    pub fn credential_fingerprints(&self) -> Vec<(Upstream, String)> {
        Vec::new()
    }
}
