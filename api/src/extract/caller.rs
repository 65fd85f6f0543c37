//! Authentication and authorization, as extractors. A handler without one of them is public.
//!
//! Permissions are read from MongoDB on every request; only the audience is taken from the token. A tenant that the
//! caller may not read is 404.

mod partner_tenant;
mod permission;

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
    store::{Store, partners::PartnerRepository, tenants::TenantRepository, users::UserRepository},
    tenant::Tenant,
    user::{PartnerRole, Role, User},
};
use http::{header, request::Parts};

pub use self::{
    partner_tenant::PartnerTenant,
    permission::{
        Manage, ManageTeam, OperatorOnly, PartnerLevel, Permission, Read, ReadPrivate, ReadWrite,
    },
};
use super::RequestInfo;
use crate::{
    auth::{Claims, OPERATOR_AUDIENCE, TokenVerifier},
    error::{ApiError, ProblemCode},
    rate_limits::RateLimits,
};

/// Age at which permissions are stale.
const PERMISSIONS_TTL: Duration = Duration::from_millis(100);

/// Detail of a 403 on a route for operators.
const OPERATORS_ONLY: &str = "This endpoint requires an operator-scoped token";

/// Detail of a 403 on a route for partner staff.
const PARTNERS_ONLY: &str = "This endpoint is for partner staff.";

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

impl Access for Operator {
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
    is_operator: bool,
    /// Role in the tenant.
    role: Option<Role>,
    /// The partner that the user acts for, and their role there.
    at_partner: Option<(PartnerId, Option<PartnerRole>)>,
}

/// Any known user.
#[derive(Debug)]
pub struct SignedIn(pub Caller);

/// An operator: has both the operator audience and the admin flag.
#[derive(Debug)]
pub struct Operator(pub Caller);

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
    /// Whether the caller has both the operator audience and the admin flag.
    pub fn is_operator(&self) -> bool {
        self.user.platform_admin && self.has_operator_audience()
    }

    /// Whether the caller may read this tenant.
    pub fn may_read(&self, tenant: &Tenant) -> bool {
        self.is_operator()
            || self.works_for_partner_of(tenant)
            || self.user.role_in(tenant.id).is_some()
    }

    /// Reads the permissions again, since they may be revoked while a request waits. Read the data of the response
    /// first: data written after a revocation must not be returned.
    pub async fn refresh(&mut self, access: &AccessControl) -> Result<(), ApiError> {
        self.permissions_read_at = Instant::now();
        self.user = known_user(access, &self.user.authentik_subject_id).await?;
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
            is_operator: self.is_operator(),
            role: tenant.and_then(|tenant| self.user.role_in(tenant.id)),
            at_partner: partner
                .filter(|_| tenant.is_none_or(|tenant| self.works_for_partner_of(tenant)))
                .map(|partner| (partner.id, self.user.partner_role)),
        }
    }

    /// The caller as an audit actor, acting on `tenant`, or on their partner or user if `None`.
    pub fn actor(&self, tenant: Option<&Tenant>) -> Actor {
        let kind = match tenant {
            _ if self.is_operator() => ActorKind::Operator,
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
        self.is_operator() || !matches!(actor.kind, ActorKind::Operator | ActorKind::Unknown)
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
                Ok(Self(claims))
            }
            Err(rejection) => Err(access.limits.check_rejected_token(address, rejection).await),
        }
    }
}

impl<S: AccessState> FromRequestParts<S> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let access = state.access();
        let Bearer(claims) = Bearer::from_request_parts(parts, state).await?;
        let permissions_read_at = Instant::now();
        let user = known_user(access, &claims.sub).await?;
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

impl<S: AccessState> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, state).await?;
        if caller.is_operator() {
            Ok(Self(caller))
        } else {
            Err(ApiError::new(ProblemCode::Forbidden).with_detail(OPERATORS_ONLY))
        }
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

async fn known_user(access: &AccessControl, subject: &str) -> Result<Arc<User>, ApiError> {
    let user = access.users.find_by_subject(subject).await?;
    Ok(Arc::new(user.ok_or(ProblemCode::UserUnknown)?))
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
