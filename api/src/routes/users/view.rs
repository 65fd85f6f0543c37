//! Representations of users.

use std::collections::BTreeMap;

use dezky_shared::{
    id::TenantId,
    partner::Partner,
    tenant::{Tenant, TenantStatus},
    user::{PartnerRole, PlatformRole, Role, User},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::{
    error::ApiError,
    etag::ETag,
    routes::{mfa::MfaView, partner_team::AwaitingInvitationView, subscriptions::SubscriptionView},
    state::AppState,
    timestamp::Timestamp,
};

/// Maximum number of a user's tenants in a representation, oldest first. The rest are in the list of tenants.
const SHOWN_TENANTS: usize = 100;

/// Tenants of `user` that a representation shows.
pub(super) fn shown_tenants(user: &User) -> Vec<TenantId> {
    let mut ids = user.tenant_ids();
    ids.truncate(SHOWN_TENANTS);
    ids
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = User)]
pub(super) struct UserView {
    /// Id.
    id: String,
    /// Id at the identity provider.
    authentik_subject_id: String,
    /// E-mail address.
    email: String,
    /// Name.
    name: String,
    /// Whether the user is an operator with all rights.
    platform_admin: bool,
    /// Role as an operator: `admin`, `support` (reads everything, and requeues jobs) or `viewer` (reads everything).
    #[serde(skip_serializing_if = "Option::is_none")]
    platform_role: Option<PlatformRole>,
    /// Partner whose staff the user belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    partner_id: Option<String>,
    /// Access level at the partner: `owner`, `manager`, `support` or `read-only` (also if missing).
    #[serde(skip_serializing_if = "Option::is_none")]
    partner_role: Option<PartnerRole>,
    /// Number of tenants in which the user has a role.
    tenant_count: usize,
    /// The first 100 of these tenants, oldest first. `GET /tenants` lists all.
    tenant_ids: Vec<String>,
    /// Roles in these tenants by id: `member`, `admin` or `owner`.
    #[schema(value_type = BTreeMap<String, String>)]
    tenant_roles: BTreeMap<String, Role>,
    /// These tenants in detail.
    tenants: Vec<TenantOfUser>,
    /// Incremented by every change.
    revision: i64,
    /// Time of the creation or the first request.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
}

/// A user, as operators see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserDetail {
    #[serde(flatten)]
    user: UserView,
    /// Time of the last request, accurate to a few minutes. Missing before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// Second factors, if they were looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
}

/// The caller, with the data for the start page of a portal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UserProfile)]
pub(super) struct Profile {
    #[serde(flatten)]
    user: UserView,
    /// Partner whose staff the caller belongs to, unless it was terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    partner: Option<PartnerOfUser>,
    /// Whether the caller is an owner or admin of any tenant.
    is_tenant_admin: bool,
    /// Active subscriptions of these tenants, oldest first.
    subscriptions: Vec<SubscriptionView>,
    /// Invitations to partners' teams that await the caller's consent, oldest first. Missing if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    invitations: Vec<AwaitingInvitationView>,
}

/// A tenant in which the user has a role.
#[derive(Debug, Serialize, ToSchema)]
struct TenantOfUser {
    /// Id.
    id: String,
    /// Name in URLs.
    slug: String,
    /// Display name.
    name: String,
    /// Status.
    status: TenantStatus,
    /// Role: `member`, `admin` or `owner`.
    role: Role,
}

/// The partner whose staff the user belongs to.
#[derive(Debug, Serialize, ToSchema)]
struct PartnerOfUser {
    /// Id.
    id: String,
    /// Name in URLs.
    slug: String,
    /// Display name.
    name: String,
    /// Access level: `owner`, `manager`, `support` or `read-only`.
    role: PartnerRole,
}

impl UserView {
    /// `tenants` must include those of [`shown_tenants`].
    fn new(user: &User, tenants: &[Tenant]) -> Self {
        let roles: BTreeMap<TenantId, Role> = shown_tenants(user)
            .into_iter()
            .filter_map(|id| Some((id, user.role_in(id)?)))
            .collect();
        let tenants = tenants.iter().filter_map(|tenant| {
            Some(TenantOfUser {
                role: *roles.get(&tenant.id)?,
                id: tenant.id.to_string(),
                slug: tenant.slug.clone(),
                name: tenant.name.clone(),
                status: tenant.status,
            })
        });
        Self {
            tenants: tenants.collect(),
            id: user.id.to_string(),
            authentik_subject_id: user.authentik_subject_id.clone(),
            email: user.email.clone(),
            name: user.name.clone(),
            platform_admin: user.platform_admin,
            platform_role: user.role_at_platform(),
            partner_id: user.partner_id.map(|id| id.to_string()),
            partner_role: user.partner_role,
            tenant_count: user.tenant_ids().len(),
            tenant_ids: roles.keys().map(ToString::to_string).collect(),
            tenant_roles: roles
                .iter()
                .map(|(id, role)| (id.to_string(), *role))
                .collect(),
            revision: user.revision,
            created_at: user.created_at.into(),
            updated_at: user.updated_at.into(),
        }
    }
}

impl UserDetail {
    /// `tenants` must include those of [`shown_tenants`].
    pub(super) fn new(user: &User, tenants: &[Tenant]) -> Self {
        Self {
            last_seen_at: user.last_seen_at.map(Timestamp::from),
            mfa: user.mfa.clone().map(MfaView::from),
            user: UserView::new(user, tenants),
        }
    }
}

impl Profile {
    /// The profile of `user`, a member of the staff of `partner`.
    pub(super) async fn of(
        app: &AppState,
        mut user: User,
        partner: Option<&Partner>,
    ) -> Result<Self, ApiError> {
        let ids = shown_tenants(&user);
        let tenants = app.db.tenants.list_by_ids(&ids).await?;
        let subscriptions = app.db.subscriptions.list_for(&ids).await?;
        let invitations = AwaitingInvitationView::list(app, &user.authentik_subject_id).await?;
        let role = user.partner_role.unwrap_or(PartnerRole::ReadOnly);
        if partner.is_none() {
            (user.partner_id, user.partner_role) = (None, None);
        }
        Ok(Self {
            partner: partner.map(|partner| PartnerOfUser {
                id: partner.id.to_string(),
                slug: partner.slug.clone(),
                name: partner.name.clone(),
                role,
            }),
            is_tenant_admin: user
                .tenant_ids()
                .into_iter()
                .any(|id| user.role_in(id).is_some_and(Role::may_write)),
            subscriptions: subscriptions
                .into_iter()
                .filter(|subscription| subscription.status.is_live())
                .map(|subscription| SubscriptionView::among(subscription, &tenants))
                .collect(),
            invitations,
            user: UserView::new(&user, &tenants),
        })
    }

    /// The version of the whole profile. The generation is the user's revision, for `If-Match`; the revision is a
    /// digest of all fields.
    pub(super) fn etag(&self) -> Result<ETag, ApiError> {
        let profile = serde_json::to_vec(self).map_err(|error| ApiError::internal(error.into()))?;
        let digest: [u8; 32] = Sha256::digest(profile).into();
        let mut revision = [0; 8];
        // Six bytes keep it positive.
        revision[2..].copy_from_slice(&digest[..6]);
        Ok(ETag {
            generation: self.user.revision,
            revision: i64::from_be_bytes(revision),
        })
    }
}
