//! Access of partner staff to a tenant of their partner.

use std::{fmt, marker::PhantomData};

use axum::extract::FromRequestParts;
use dezky_shared::tenant::Tenant;
use http::request::Parts;

use super::{Access, AccessState, Caller, PartnerAccess, PartnerLevel, Read, tenant_in_path};
use crate::error::{ApiError, ProblemCode};

/// A caller with access level `L` to the partner that manages the tenant in the path. Any other tenant is 404, even one
/// that the caller is a member of.
pub struct PartnerTenant<L> {
    /// The caller.
    pub caller: Caller,
    /// The tenant, as read for the permission check.
    pub tenant: Tenant,
    level: PhantomData<L>,
}

impl<L: PartnerLevel> Access for PartnerTenant<L> {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.tenant)
    }
}

impl<L: PartnerLevel, S: AccessState> FromRequestParts<S> for PartnerTenant<L> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let staff = PartnerAccess::<Read>::from_request_parts(parts, state).await?;
        let tenant = tenant_in_path(parts, state).await?;
        let is_own = |tenant: &Tenant| tenant.partner_id == Some(staff.partner.id);
        let tenant = state.access().readable(tenant, is_own).await?;
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
