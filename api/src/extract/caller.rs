//! Who is calling, and whether they may. A handler without one of these is public, and looks it.
//!
//! Rights are read from MongoDB on every request; of the token, only the audience counts. A tenant that the caller
//! may not know does not exist for them.

mod partner_tenant;

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
    id::PartnerId,
    partner::{Partner, PartnerStatus},
    tenant::Tenant,
    user::{PartnerRole, Role, User},
};
use http::{header, request::Parts};

pub use self::partner_tenant::PartnerTenant;
use super::RequestInfo;
use crate::{
    auth::{Claims, OPERATOR_AUDIENCE},
    error::{ApiError, ProblemCode},
    state::{AppState, SharedState},
};

/// For how long rights count as those of the moment.
const PERMISSIONS_TTL: Duration = Duration::from_millis(100);

/// What an operator's route says to others.
const OPERATORS_ONLY: &str = "This endpoint requires an operator-scoped token";

/// What a route of partner staff says to others.
const PARTNERS_ONLY: &str = "This endpoint is for the staff of a partner.";

/// Somebody with a valid token, whom we may not have seen before.
#[derive(Debug)]
pub struct Bearer(pub Claims);

/// Somebody we know, and the token they came with.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who, and their rights when they were last read.
    pub user: Arc<User>,
    /// The partner they work for, unless it was terminated: then they work for nobody.
    pub partner: Option<Arc<Partner>>,
    audiences: Vec<String>,
    rights_read_at: Instant,
    /// When the token ends; whoever is shown something for long is sent away then.
    pub token_expires_at: DateTime,
}

/// What somebody may do about a tenant, or about their partner's or their own.
#[derive(PartialEq, Eq)]
struct Permissions {
    is_operator: bool,
    /// Their role in the tenant.
    role: Option<Role>,
    /// The partner they act for, and what they may do there.
    at_partner: Option<(PartnerId, Option<PartnerRole>)>,
}

/// Anybody we know.
#[derive(Debug)]
pub struct SignedIn(pub Caller);

/// An operator: the audience and the flag.
#[derive(Debug)]
pub struct Operator(pub Caller);

/// Somebody who has this much access to the tenant in the path.
pub struct TenantAccess<L> {
    /// Who.
    pub caller: Caller,
    /// The tenant, as it was when access was granted.
    pub tenant: Tenant,
    level: PhantomData<L>,
}

/// Staff of the partner they work for, with this much access to it. Operators have none by this: they have their
/// own routes.
pub struct PartnerAccess<L> {
    /// Who.
    pub caller: Caller,
    /// The partner they work for, as it was when access was granted.
    pub partner: Arc<Partner>,
    /// What they may do there.
    pub role: PartnerRole,
    level: PhantomData<L>,
}

/// How much access to their partner's own affairs a route of partner staff needs.
pub trait PartnerLevel: Send + Sync + 'static {
    /// Whether staff with this role have it.
    fn allows(role: PartnerRole) -> bool;
}

impl PartnerLevel for Read {
    fn allows(_: PartnerRole) -> bool {
        true
    }
}

impl PartnerLevel for Write {
    fn allows(role: PartnerRole) -> bool {
        role.may_write()
    }
}

impl PartnerLevel for ManageTeam {
    fn allows(role: PartnerRole) -> bool {
        role == PartnerRole::Owner
    }
}

/// How much access to a tenant a route needs.
pub trait Permission: Send + Sync + 'static {
    /// Whether only operators have it.
    const OPERATORS_ONLY: bool = false;

    /// Whether this caller has it.
    fn allows(caller: &Caller, tenant: &Tenant) -> bool;
}

/// Reading: members, partner staff, operators.
#[derive(Debug)]
pub enum Read {}

/// Reading what is not meant for members: the tenant's owners and admins, partner staff, operators.
#[derive(Debug)]
pub enum ReadPrivate {}

/// Changing what is the tenant's own: its owners and admins, partner staff who may write, operators.
#[derive(Debug)]
pub enum Write {}

/// Suspending and resuming: partner staff who may write, operators.
#[derive(Debug)]
pub enum Manage {}

/// Changing who works for a partner: its owners.
#[derive(Debug)]
pub enum ManageTeam {}

/// Deleting and restoring: operators.
#[derive(Debug)]
pub enum OperatorOnly {}

impl Permission for Read {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        caller.may_read(tenant)
    }
}

impl Permission for ReadPrivate {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        <Write as Permission>::allows(caller, tenant) || caller.works_for_partner_of(tenant)
    }
}

impl Permission for Write {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        Manage::allows(caller, tenant)
            || caller.user.role_in(tenant.id).is_some_and(Role::may_write)
    }
}

impl Permission for Manage {
    fn allows(caller: &Caller, tenant: &Tenant) -> bool {
        caller.is_operator()
            || caller.works_for_partner_of(tenant)
                && caller.user.partner_role.is_some_and(PartnerRole::may_write)
    }
}

impl Permission for OperatorOnly {
    const OPERATORS_ONLY: bool = true;

    fn allows(caller: &Caller, _: &Tenant) -> bool {
        caller.is_operator()
    }
}

impl Caller {
    /// Whether the audience and the flag are both there.
    pub fn is_operator(&self) -> bool {
        self.user.platform_admin && self.has_operator_audience()
    }

    /// Whether the caller may know that this tenant exists.
    pub fn may_read(&self, tenant: &Tenant) -> bool {
        self.is_operator()
            || self.works_for_partner_of(tenant)
            || self.user.role_in(tenant.id).is_some()
    }

    /// Reads the rights again: whoever waited may have lost them. What they are shown is to be read before, so that
    /// nothing is that came later.
    pub async fn refresh(&mut self, app: &AppState) -> Result<(), ApiError> {
        self.rights_read_at = Instant::now();
        self.user = known_user(app, &self.user.authentik_subject_id).await?;
        self.partner = active_partner_of(app, &self.user).await?;
        Ok(())
    }

    /// Whether the rights were read a while ago: a body may take its time to arrive.
    pub fn permissions_stale(&self) -> bool {
        self.rights_read_at.elapsed() > PERMISSIONS_TTL
    }

    /// Refuses whoever waited and has other rights now than those they came with: on `tenant`, or else on their
    /// partner's affairs.
    pub async fn recheck_permissions(
        &self,
        app: &AppState,
        tenant: Option<&Tenant>,
    ) -> Result<(), ApiError> {
        let mut caller = self.clone();
        let look = async {
            let Some(tenant) = tenant else {
                return Ok(None);
            };
            let known = app.tenants.find(tenant.id).await?;
            Ok(Some(known.ok_or(ProblemCode::NotFound)?))
        };
        let (known, ()) = tokio::try_join!(look, caller.refresh(app))?;
        if known.as_ref().is_some_and(|known| !caller.may_read(known)) {
            return Err(ProblemCode::NotFound.into());
        }
        if caller.rights(known.as_ref()) == self.rights(tenant) {
            return Ok(());
        }
        let detail = "Your rights changed while the request waited.";
        Err(ApiError::new(ProblemCode::Forbidden).with_detail(detail))
    }

    fn rights(&self, tenant: Option<&Tenant>) -> Permissions {
        let partner = self.partner.as_ref();
        Permissions {
            is_operator: self.is_operator(),
            role: tenant.and_then(|tenant| self.user.role_in(tenant.id)),
            at_partner: partner
                .filter(|_| tenant.is_none_or(|tenant| self.works_for_partner_of(tenant)))
                .map(|partner| (partner.id, self.user.partner_role)),
        }
    }

    /// The caller as the audit trail names them, acting on `tenant`, or on what is their partner's or their own.
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

    /// Whether the caller may know where this actor is to be found: everybody of their trails, but of us only operators.
    pub fn may_see_origin(&self, actor: &Actor) -> bool {
        self.is_operator() || !matches!(actor.kind, ActorKind::Operator | ActorKind::Unknown)
    }

    fn has_operator_audience(&self) -> bool {
        self.audiences.iter().any(|name| name == OPERATOR_AUDIENCE)
    }

    /// One of the two things that make an operator, without the other.
    fn is_half_an_operator(&self) -> bool {
        self.user.platform_admin != self.has_operator_audience()
    }

    fn works_for_partner_of(&self, tenant: &Tenant) -> bool {
        let partner = self.partner.as_ref();
        partner.is_some_and(|partner| tenant.partner_id == Some(partner.id))
    }
}

impl FromRequestParts<SharedState> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, ApiError> {
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
        match app.token_verifier.verify(token.trim()).await {
            Ok(claims) => {
                app.limits.count_caller(&claims.sub).await?;
                Ok(Self(claims))
            }
            Err(refused) => Err(app.limits.count_refused_token(address, refused).await),
        }
    }
}

impl FromRequestParts<SharedState> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, ApiError> {
        let Bearer(claims) = Bearer::from_request_parts(parts, app).await?;
        let rights_read_at = Instant::now();
        let user = known_user(app, &claims.sub).await?;
        let caller = Caller {
            partner: active_partner_of(app, &user).await?,
            user,
            rights_read_at,
            token_expires_at: claims.expires_at(),
            audiences: claims.aud,
        };
        // For the body's extractor: an idempotency key is its caller's own.
        parts.extensions.insert(caller.clone());
        Ok(Self(caller))
    }
}

impl FromRequestParts<SharedState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, app).await?;
        if caller.is_operator() {
            Ok(Self(caller))
        } else {
            Err(ApiError::new(ProblemCode::Forbidden).with_detail(OPERATORS_ONLY))
        }
    }
}

impl<L: Permission> FromRequestParts<SharedState> for TenantAccess<L> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, app).await?;
        if L::OPERATORS_ONLY && caller.is_half_an_operator() {
            return Err(ApiError::new(ProblemCode::Forbidden).with_detail(OPERATORS_ONLY));
        }
        let tenant = tenant_in_path(parts, app).await?;
        let tenant = tenant
            .filter(|tenant| caller.may_read(tenant))
            .ok_or(ProblemCode::NotFound)?;
        if !L::allows(&caller, &tenant) {
            let refused = ApiError::new(ProblemCode::Forbidden);
            return Err(if L::OPERATORS_ONLY {
                refused.with_detail(OPERATORS_ONLY)
            } else {
                refused
            });
        }
        Ok(Self {
            caller,
            tenant,
            level: PhantomData,
        })
    }
}

impl<L: PartnerLevel> FromRequestParts<SharedState> for PartnerAccess<L> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &SharedState) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, app).await?;
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

async fn known_user(app: &AppState, subject: &str) -> Result<Arc<User>, ApiError> {
    let user = app.users.find_by_subject(subject).await?;
    Ok(Arc::new(user.ok_or(ProblemCode::UserUnknown)?))
}

/// The partner somebody works for, unless it was terminated.
pub(crate) async fn active_partner_of(
    app: &AppState,
    user: &User,
) -> Result<Option<Arc<Partner>>, ApiError> {
    let Some(id) = user.partner_id else {
        return Ok(None);
    };
    let partner = app.partners.find(id).await?;
    let partner = partner.filter(|partner| partner.status == PartnerStatus::Active);
    Ok(partner.map(Arc::new))
}

async fn tenant_in_path(parts: &mut Parts, app: &AppState) -> Result<Option<Tenant>, ApiError> {
    let parameters = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| ProblemCode::NotFound)?;
    let slug = parameters
        .iter()
        .find_map(|(name, value)| (name == "slug").then_some(value))
        .ok_or(ProblemCode::NotFound)?;
    Ok(app.tenants.find_by_slug(slug).await?)
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
