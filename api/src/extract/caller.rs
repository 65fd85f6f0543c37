//! Authentication and authorization, as extractors. A handler without one of them is public.
//!
//! Permissions are read from MongoDB on every request; only the audience is taken from the token. A tenant that the
//! caller may not read is 404.

mod partner_tenant;
mod permission;
mod platform;
mod tenant_creator;

use std::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::extract::{FromRequestParts, RawPathParams};
use bson::DateTime;
use dezky_shared::{
    audit::{Actor, ActorKind},
    id::{PartnerId, TenantId},
    partner::{Partner, PartnerStatus},
    tenant::Tenant,
    user::{PartnerRole, PlatformRole, Role, User},
};
use http::{Extensions, header, request::Parts};

pub use self::{
    partner_tenant::PartnerTenant,
    permission::{
        Manage, ManageCards, ManageTeam, OperatorOnly, OwnersOnly, PartnerLevel, Permission, Read,
        ReadBilling, ReadPrivate, ReadWrite,
    },
    platform::{Operator, PlatformReader, PlatformSupport},
    tenant_creator::TenantCreator,
};
use crate::{
    access_control::AccessControl,
    auth::{Claims, OPERATOR_AUDIENCE, SessionClaims},
    error::{ApiError, ProblemCode},
    request_info::RequestInfo,
    serve::ResponseMemory,
    user_sync,
};

/// Age at which permissions are stale.
const PERMISSIONS_TTL: Duration = Duration::from_millis(100);

/// Detail of a 403 on a route for operators.
const OPERATORS_ONLY: &str = "This endpoint requires an operator-scoped token";

/// Detail of a 403 on a route for partner staff.
const PARTNERS_ONLY: &str = "This endpoint is for partner staff.";

/// Router state of the extractors in this module.
pub trait AccessState: Send + Sync {
    /// Token verification, rate limits and stored permissions.
    fn access(&self) -> &AccessControl;
}

/// An extractor that authorizes a write.
pub trait Access: Send + Sync {
    /// The caller.
    fn caller(&self) -> &Caller;

    /// The tenant that permissions were checked against.
    fn tenant(&self) -> Option<&Tenant> {
        None
    }
}

impl Access for SignedIn {
    fn caller(&self) -> &Caller {
        &self.0
    }
}

impl<L: Permission> Access for TenantAccess<L> {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn tenant(&self) -> Option<&Tenant> {
        Some(&self.tenant)
    }
}

impl<L: PartnerLevel> Access for PartnerAccess<L> {
    fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// The bearer of a valid token, who may not be a known user.
#[derive(Debug)]
pub struct Bearer(pub Claims);

/// A known user and their token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user, with the permissions as last read.
    pub user: Arc<User>,
    /// The active partner that the user works for. `None` if it is terminated.
    pub partner: Option<Arc<Partner>>,
    audiences: Vec<String>,
    permissions_read_at: Instant,
    /// Expiry of the token. Event streams end at this time.
    pub token_expires_at: DateTime,
}

/// Permissions of a user on a tenant, or on their own partner.
#[derive(PartialEq, Eq)]
struct Permissions {
    at_platform: Option<PlatformRole>,
    /// Role in the tenant.
    role: Option<Role>,
    /// The partner that the user acts for, and their role there.
    at_partner: Option<(PartnerId, Option<PartnerRole>)>,
}

/// Any known user.
#[derive(Debug)]
pub struct SignedIn(pub Caller);

/// A caller with permission `L` on the tenant in the path.
pub struct TenantAccess<L> {
    /// The caller.
    pub caller: Caller,
    /// The tenant, as read for the permission check.
    pub tenant: Tenant,
    level: PhantomData<L>,
}

/// A caller with access level `L` to the partner they work for. Operators have separate routes.
pub struct PartnerAccess<L> {
    /// The caller.
    pub caller: Caller,
    /// The partner, as read for the permission check.
    pub partner: Arc<Partner>,
    /// Role at the partner.
    pub role: PartnerRole,
    level: PhantomData<L>,
}

impl Caller {
    /// Whether the caller may read this tenant.
    pub fn may_read(&self, tenant: &Tenant) -> bool {
        self.reads_platform()
            || self.works_for_partner_of(tenant)
            || self.user.role_in(tenant.id).is_some()
    }

    /// Reads the permissions again, since they may be revoked while a request waits. Read the data of the response
    /// first: data written after a revocation must not be returned.
    pub async fn refresh(&mut self, access: &AccessControl) -> Result<(), ApiError> {
        self.permissions_read_at = Instant::now();
        let subject = &self.user.authentik_subject_id;
        let user = access.users.find_by_subject(subject).await?;
        self.user = Arc::new(user.ok_or(ProblemCode::Forbidden)?);
        self.partner = active_partner_of(access, &self.user).await?;
        Ok(())
    }

    /// Reads the tenant, then the permissions. 404 if the caller may no longer read the tenant.
    pub async fn reload_tenant(
        &mut self,
        access: &AccessControl,
        id: TenantId,
    ) -> Result<Tenant, ApiError> {
        let tenant = access.tenants.find(id).await?;
        self.refresh(access).await?;
        let readable = tenant.filter(|tenant| self.may_read(tenant));
        readable.ok_or_else(|| ProblemCode::NotFound.into())
    }

    /// Whether the permissions are stale, for instance after a slow body.
    pub fn permissions_stale(&self) -> bool {
        self.permissions_read_at.elapsed() > PERMISSIONS_TTL
    }

    /// Rejects a request whose caller lost or gained permissions while it waited: on `tenant`, or on their partner if
    /// `None`.
    pub async fn recheck_permissions(
        &self,
        access: &AccessControl,
        tenant: Option<&Tenant>,
    ) -> Result<(), ApiError> {
        let mut caller = self.clone();
        let reload = async {
            let Some(tenant) = tenant else {
                return Ok(None);
            };
            let current = access.tenants.find(tenant.id).await?;
            Ok(Some(current.ok_or(ProblemCode::NotFound)?))
        };
        let (current, ()) = tokio::try_join!(reload, caller.refresh(access))?;
        if current
            .as_ref()
            .is_some_and(|current| !caller.may_read(current))
        {
            return Err(ProblemCode::NotFound.into());
        }
        if caller.permissions(current.as_ref()) == self.permissions(tenant) {
            return Ok(());
        }
        let detail = "Your permissions changed while the request waited. Retry the request.";
        Err(ApiError::new(ProblemCode::Forbidden).with_detail(detail))
    }

    fn permissions(&self, tenant: Option<&Tenant>) -> Permissions {
        let partner = self.partner.as_ref();
        Permissions {
            at_platform: self.platform_role(),
            role: tenant.and_then(|tenant| self.user.role_in(tenant.id)),
            at_partner: partner
                .filter(|_| tenant.is_none_or(|tenant| self.works_for_partner_of(tenant)))
                .map(|partner| (partner.id, self.user.partner_role)),
        }
    }

    /// The caller as an audit actor, acting on `tenant`, or on their partner or user if `None`.
    pub fn actor(&self, tenant: Option<&Tenant>) -> Actor {
        let kind = match tenant {
            _ if self.reads_platform() => ActorKind::Operator,
            Some(tenant) if self.works_for_partner_of(tenant) => ActorKind::Partner,
            Some(_) => ActorKind::Tenant,
            None if self.partner.is_some() => ActorKind::Partner,
            None => ActorKind::User,
        };
        Actor {
            id: self.user.id.to_string(),
            name: Some(self.user.name.clone()),
            email: Some(self.user.email.clone()),
            kind,
            audience: self.audiences.clone(),
        }
    }

    /// Whether the caller may see the address and user agent of this actor. Those of operators are visible to operators only.
    pub fn may_see_origin(&self, actor: &Actor) -> bool {
        self.reads_platform() || !matches!(actor.kind, ActorKind::Operator | ActorKind::Unknown)
    }

    fn has_operator_audience(&self) -> bool {
        self.audiences.iter().any(|name| name == OPERATOR_AUDIENCE)
    }

    /// Whether the caller has only one of the operator audience and the admin flag.
    fn is_partial_operator(&self) -> bool {
        self.user.platform_admin != self.has_operator_audience()
    }

    fn works_for_partner_of(&self, tenant: &Tenant) -> bool {
        let partner = self.partner.as_ref();
        partner.is_some_and(|partner| tenant.partner_id == Some(partner.id))
    }
}

impl<S: AccessState> FromRequestParts<S> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let access = state.access();
        if let Some(SessionClaims(claims)) = parts.extensions.get().cloned() {
            access.limits.check_caller(&claims.sub).await?;
            return Ok(Self(claims));
        }
        let mut values = parts.headers.get_all(header::AUTHORIZATION).into_iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(ProblemCode::TokenMissing.into());
        };
        let value = value.to_str().map_err(|_| ProblemCode::TokenInvalid)?;
        let (scheme, token) = value.split_once(' ').ok_or(ProblemCode::TokenMissing)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(ProblemCode::TokenMissing.into());
        }
        let address = parts
            .extensions
            .get()
            .and_then(|info: &RequestInfo| info.ip);
        match access.tokens.verify(token.trim()).await {
            Ok(claims) => {
                access.limits.check_caller(&claims.sub).await?;
                if let Some(memory) = parts.extensions.get::<ResponseMemory>() {
                    memory.charge_to(&claims.sub);
                }
                Ok(Self(claims))
            }
            Err(rejection) => Err(access
                .limits
                .check_rejected_credentials(address, rejection)
                .await),
        }
    }
}

impl<S: AccessState> FromRequestParts<S> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let access = state.access();
        let Bearer(claims) = Bearer::from_request_parts(parts, state).await?;
        let permissions_read_at = Instant::now();
        let user = user_of(access, &claims, &parts.extensions).await?;
        let caller = Caller {
            partner: active_partner_of(access, &user).await?,
            user,
            permissions_read_at,
            token_expires_at: claims.expires_at(),
            audiences: claims.aud,
        };
        // The extractor of the body reads it, since idempotency keys are scoped to the caller.
        parts.extensions.insert(caller.clone());
        Ok(Self(caller))
    }
}

impl<L: Permission, S: AccessState> FromRequestParts<S> for TenantAccess<L> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, state).await?;
        if L::OPERATORS_ONLY && caller.is_partial_operator() {
            return Err(ApiError::new(ProblemCode::Forbidden).with_detail(OPERATORS_ONLY));
        }
        let tenant = tenant_in_path(parts, state).await?;
        let access = state.access();
        let tenant = access
            .readable(tenant, |tenant| caller.may_read(tenant))
            .await?;
        if !L::allows(&caller, &tenant) {
            let rejection = ApiError::new(ProblemCode::Forbidden);
            return Err(if L::OPERATORS_ONLY {
                rejection.with_detail(OPERATORS_ONLY)
            } else {
                rejection
            });
        }
        Ok(Self {
            caller,
            tenant,
            level: PhantomData,
        })
    }
}

impl<L: PartnerLevel, S: AccessState> FromRequestParts<S> for PartnerAccess<L> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, state).await?;
        let role = caller.user.partner_role.unwrap_or(PartnerRole::ReadOnly);
        match caller.partner.clone() {
            Some(partner) if L::allows(role) => Ok(Self {
                caller,
                partner,
                role,
                level: PhantomData,
            }),
            Some(_) => Err(ProblemCode::Forbidden.into()),
            None => Err(ApiError::new(ProblemCode::Forbidden).with_detail(PARTNERS_ONLY)),
        }
    }
}

/// The user of a token. The first request of a person, whichever it is, creates it.
async fn user_of(
    access: &AccessControl,
    claims: &Claims,
    extensions: &Extensions,
) -> Result<Arc<User>, ApiError> {
    if let Some(user) = access.users.find_by_subject(&claims.sub).await? {
        return Ok(Arc::new(user));
    }
    let request = extensions.get().cloned().unwrap_or_default();
    Ok(Arc::new(user_sync::sync(access, claims, &request).await?))
}

/// The partner that a user works for, if it is active.
pub(crate) async fn active_partner_of(
    access: &AccessControl,
    user: &User,
) -> Result<Option<Arc<Partner>>, ApiError> {
    let Some(id) = user.partner_id else {
        return Ok(None);
    };
    let partner = access.partners.find(id).await?;
    let partner = partner.filter(|partner| partner.status == PartnerStatus::Active);
    Ok(partner.map(Arc::new))
}

async fn tenant_in_path<S: AccessState>(
    parts: &mut Parts,
    state: &S,
) -> Result<Option<Tenant>, ApiError> {
    let parameters = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| ProblemCode::NotFound)?;
    let slug = parameters
        .iter()
        .find_map(|(name, value)| (name == "slug").then_some(value))
        .ok_or(ProblemCode::NotFound)?;
    let access = state.access();
    Ok(access.tenants.find_by_slug(slug).await?)
}

impl<L> fmt::Debug for TenantAccess<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantAccess")
            .field("slug", &self.tenant.slug)
            .finish_non_exhaustive()
    }
}

impl<L> fmt::Debug for PartnerAccess<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerAccess")
            .field("slug", &self.partner.slug)
            .finish_non_exhaustive()
    }
}

impl Deref for SignedIn {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.0
    }
}
