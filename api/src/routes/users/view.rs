//! People, as callers see them.

use std::collections::BTreeMap;

use dezky_shared::{
    id::TenantId,
    partner::Partner,
    tenant::{Tenant, TenantStatus},
    user::{MfaCheck, PartnerRole, Role, User},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::{
    error::ApiError, extract::ETag, routes::subscriptions::SubscriptionView, state::AppState,
    timestamp::Timestamp,
};

/// Somebody.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserView {
    /// Their id.
    id: String,
    /// The identity provider's id of them.
    authentik_subject_id: String,
    /// Their address.
    email: String,
    /// Their name.
    name: String,
    /// Whether they are an operator.
    platform_admin: bool,
    /// The partner they work for.
    #[serde(skip_serializing_if = "Option::is_none")]
    partner_id: Option<String>,
    /// What they may do there: `owner`, `manager`, `support` or `read-only`, which is what nothing stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(owner|manager|support|read-only)$")]
    partner_role: Option<PartnerRole>,
    /// The tenants they have a role in.
    tenant_ids: Vec<String>,
    /// Their roles there, by tenant: `member`, `admin` or `owner`.
    #[schema(value_type = BTreeMap<String, String>)]
    tenant_roles: BTreeMap<String, Role>,
    /// The same tenants, by name.
    tenants: Vec<TenantOfUser>,
    /// + 1 with every change.
    revision: i64,
    /// When they were added, or first seen.
    created_at: Timestamp,
    /// When anything about them last changed.
    updated_at: Timestamp,
}

/// Somebody, as operators see them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserDetail {
    #[serde(flatten)]
    user: UserView,
    /// When they were last seen, to a few minutes; never, where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// Their second factors, where they were looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
}

/// The caller, and whatever a portal needs to greet them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    #[serde(flatten)]
    user: UserView,
    /// The partner they work for, unless it was terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    partner: Option<PartnerOfUser>,
    /// Whether they are the owner or an admin of any tenant.
    is_tenant_admin: bool,
    /// The subscriptions in force of the tenants they have a role in, oldest first.
    subscriptions: Vec<SubscriptionView>,
}

/// A tenant somebody has a role in.
#[derive(Debug, Serialize, ToSchema)]
struct TenantOfUser {
    /// Its id.
    id: String,
    /// Its name in URLs.
    slug: String,
    /// Its name for people.
    name: String,
    /// Where it stands.
    #[schema(value_type = String)]
    status: TenantStatus,
    /// What they may do there: `member`, `admin` or `owner`.
    #[schema(value_type = String, pattern = "^(member|admin|owner)$")]
    role: Role,
}

/// The partner somebody works for.
#[derive(Debug, Serialize, ToSchema)]
struct PartnerOfUser {
    /// Its id.
    id: String,
    /// Its name in URLs.
    slug: String,
    /// Its name for people.
    name: String,
    /// What they may do there: `owner`, `manager`, `support` or `read-only`.
    #[schema(value_type = String, pattern = "^(owner|manager|support|read-only)$")]
    role: PartnerRole,
}

/// Somebody's second factors, as a job last saw them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct MfaView {
    /// How many devices they have.
    #[schema(minimum = 0)]
    devices: i32,
    /// When that was looked up.
    looked_up_at: Timestamp,
}

impl From<MfaCheck> for MfaView {
    fn from(look: MfaCheck) -> Self {
        Self {
            devices: look.devices,
            looked_up_at: look.looked_up_at.into(),
        }
    }
}

impl UserView {
    /// `tenants` are at least those that they have a role in.
    fn new(user: &User, tenants: &[Tenant]) -> Self {
        let roles: BTreeMap<TenantId, Role> = user
            .memberships
            .iter()
            .filter_map(|(id, membership)| Some((*id, membership.role?)))
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
            partner_id: user.partner_id.map(|id| id.to_string()),
            partner_role: user.partner_role,
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
    /// `tenants` are at least those that they have a role in.
    pub(super) fn new(user: &User, tenants: &[Tenant]) -> Self {
        Self {
            last_seen_at: user.last_seen_at.map(Timestamp::from),
            mfa: user.mfa.map(MfaView::from),
            user: UserView::new(user, tenants),
        }
    }
}

impl Profile {
    /// The profile of `user`, who works for `partner`.
    pub(super) async fn of(
        app: &AppState,
        mut user: User,
        partner: Option<&Partner>,
    ) -> Result<Self, ApiError> {
        let ids = user.tenant_ids();
        let tenants = app.tenants.list_by_ids(&ids).await?;
        let subscriptions = app.subscriptions.list_for(&ids).await?;
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
            is_tenant_admin: ids
                .iter()
                .any(|id| user.role_in(*id).is_some_and(Role::may_write)),
            subscriptions: subscriptions
                .into_iter()
                .filter(|subscription| subscription.status.is_live())
                .map(|subscription| SubscriptionView::among(subscription, &tenants))
                .collect(),
            user: UserView::new(&user, &tenants),
        })
    }

    /// The version of all that is shown, which is more than the user: the generation is theirs, so that it can be
    /// meant in `If-Match`, and the revision stands for everything.
    pub(super) fn etag(&self) -> Result<ETag, ApiError> {
        let shown = serde_json::to_vec(self).map_err(|error| ApiError::internal(error.into()))?;
        let digest: [u8; 32] = Sha256::digest(shown).into();
        let mut revision = [0; 8];
        // Six bytes, so that it is positive.
        revision[2..].copy_from_slice(&digest[..6]);
        Ok(ETag {
            generation: self.user.revision,
            revision: i64::from_be_bytes(revision),
        })
    }
}
