//! Access control: token verification, rate limits and the stored permissions, as the extractors use them.

use std::sync::Arc;

use dezky_shared::{
    store::{
        Store, audit::AuditRepository, partners::PartnerRepository, tenants::TenantRepository,
        users::UserRepository,
    },
    tenant::Tenant,
};

use crate::{
    auth::TokenVerifier,
    error::{ApiError, ProblemCode},
    rate_limits::RateLimits,
};

/// Token verification, rate limits and stored permissions.
#[derive(Debug)]
pub struct AccessControl {
    /// Verifies bearer tokens.
    pub tokens: TokenVerifier,
    /// Limits per caller and per address.
    pub limits: Arc<RateLimits>,
    /// The database.
    pub store: Arc<Store>,
    /// Users with their roles.
    pub users: UserRepository,
    /// Partners with their status.
    pub partners: PartnerRepository,
    /// Tenants by slug.
    pub tenants: TenantRepository,
    /// Records new users.
    pub audit: AuditRepository,
    /// Groups whose members are operators.
    pub admin_groups: Vec<String>,
    /// Whether a person without a tenant may create one.
    pub self_service_tenants: bool,
}

impl AccessControl {
    /// 404 for a document that exists and that the caller may not know, after as many queries as for one that does not
    /// exist: response times would reveal it. `reads` is the number of queries that the permission check made.
    pub async fn conceal(&self, reads: u32) -> ApiError {
        match self.store.conceal(reads).await {
            Ok(()) => ProblemCode::NotFound.into(),
            Err(error) => error.into(),
        }
    }

    /// The tenant, if `is_readable`; otherwise 404.
    pub async fn readable(
        &self,
        tenant: Option<Tenant>,
        is_readable: impl FnOnce(&Tenant) -> bool,
    ) -> Result<Tenant, ApiError> {
        match tenant {
            Some(tenant) if is_readable(&tenant) => Ok(tenant),
            Some(_) => Err(self.conceal(0).await),
            None => Err(ProblemCode::NotFound.into()),
        }
    }
}
