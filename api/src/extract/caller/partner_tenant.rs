//! A partner's tenant, for its staff.

use std::{fmt, marker::PhantomData};

use axum::extract::FromRequestParts;
use dezky_shared::tenant::Tenant;
use http::request::Parts;

use super::{Caller, PartnerAccess, PartnerLevel, Read, tenant_in_path};
use crate::{
    error::{ApiError, ProblemCode},
    state::SharedState,
};

/// Staff of the partner that looks after the tenant in the path, with this much access. A tenant of anybody else
/// does not exist for them, not even one they belong to.
pub struct PartnerTenant<L> {
    /// Who.
    pub caller: Caller,
    /// The tenant, as it was when access was granted.
    pub tenant: Tenant,
    level: PhantomData<L>,
}

impl<L: PartnerLevel> FromRequestParts<SharedState> for PartnerTenant<L> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, ApiError> {
        let staff = PartnerAccess::<Read>::from_request_parts(parts, app).await?;
        let tenant = tenant_in_path(parts, app).await?;
        let tenant = tenant
            .filter(|tenant| tenant.partner_id == Some(staff.partner.id))
            .ok_or(ProblemCode::NotFound)?;
        if !L::allows(staff.role) {
            return Err(ProblemCode::Forbidden.into());
        }
        Ok(Self {
            caller: staff.caller,
            tenant,
            level: PhantomData,
        })
    }
}

impl<L> fmt::Debug for PartnerTenant<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerTenant")
            .field("slug", &self.tenant.slug)
            .finish_non_exhaustive()
    }
}
