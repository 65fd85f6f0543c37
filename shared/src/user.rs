//! User and permissions. Permissions are read from here on every request, never from a token.

use std::collections::{BTreeMap, BTreeSet};

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    id::{MemberId, PartnerId, TenantId, UserId},
    mfa::MfaCheck,
};

/// Role of a user in a tenant.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = TenantRole)]
pub enum Role {
    /// Reads data for members.
    Member,
    /// Reads and writes the tenant.
    Admin,
    /// Like `Admin`; a tenant with an owner always keeps one.
    Owner,
}

impl Role {
    /// Name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Whether the role may write the tenant.
    pub fn may_write(self) -> bool {
        self >= Self::Admin
    }
}

/// Role of an operator, in the order of rights.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PlatformRole {
    /// Reads everything.
    Viewer,
    /// Reads everything, and requeues jobs.
    Support,
    /// Reads and writes everything.
    Admin,
}

/// Source of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MembershipSource {
    /// The `groups` claim of a token; later claims update it.
    Claim,
    /// Set through the API; claims do not change it.
    Local,
}

/// Membership of a user in a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// Role; missing on a tombstone of a removed membership.
    #[serde(default)]
    pub role: Option<Role>,
    /// Source.
    pub source: MembershipSource,
    /// Time of the last change. Only claims in tokens issued later apply.
    pub changed_at: DateTime,
    /// The member whose accounts belong to this membership; missing for a person known by a claim alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
}

/// Role of a user in a partner's team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerRole {
    /// Full access, including the team.
    Owner,
    /// Full access, except to the team.
    Manager,
    /// Read access, as `ReadOnly`: there are no support actions yet.
    Support,
    /// Read access.
    ReadOnly,
}

impl PartnerRole {
    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Manager => "manager",
            Self::Support => "support",
            Self::ReadOnly => "read-only",
        }
    }

    /// Whether the role may write the partner's tenants.
    pub fn may_write(self) -> bool {
        matches!(self, Self::Owner | Self::Manager)
    }
}

/// User, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Our id.
    #[serde(rename = "_id")]
    pub id: UserId,
    /// Id at the identity provider: the token's `sub`, and the only identity of a user.
    pub authentik_subject_id: String,
    /// E-mail address, for display only.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Whether the user is a platform operator with all rights.
    pub platform_admin: bool,
    /// Restricted role of an operator who has not all rights. Not of an admin: a build that does not know restricted roles
    /// gives none of their rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform_role: Option<PlatformRole>,
    /// Time of the last change of the operator flag. Only claims in tokens issued later apply.
    pub platform_admin_changed_at: DateTime,
    /// Source of the operator flag.
    pub platform_admin_source: MembershipSource,
    /// Partner whose team the user is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// Role in the partner's team; missing is read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_role: Option<PartnerRole>,
    /// Issue time of the newest token with a `groups` claim. Claims in older tokens are ignored; missing before the
    /// first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_at: Option<DateTime>,
    /// Deletion time of a previous user with this subject. Claims in tokens issued before are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_before: Option<DateTime>,
    /// Memberships by tenant.
    #[serde(default, with = "memberships")]
    pub memberships: BTreeMap<TenantId, Membership>,
    /// Time of the last request, to a few minutes; missing before the first. Not part of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<DateTime>,
    /// Result of the last MFA check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa: Option<MfaCheck>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time, or time of the first sign-in.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl User {
    /// A user without permissions, on the first sign-in. [`new_user`](crate::store::users::UserRepository::new_user)
    /// creates the stored one, because it finds the tombstone of an earlier deletion.
    pub fn first_seen(subject: &str, email: &str, name: &str, now: DateTime) -> Self {
        Self {
            id: UserId::new(),
            authentik_subject_id: subject.to_owned(),
            email: email.to_owned(),
            name: name.to_owned(),
            platform_admin: false,
            platform_role: None,
            // Older than any token, so that the first claim applies.
            platform_admin_changed_at: DateTime::from_millis(0),
            platform_admin_source: MembershipSource::Claim,
            partner_id: None,
            partner_role: None,
            claims_at: None,
            deleted_before: None,
            memberships: BTreeMap::new(),
            last_seen_at: None,
            mfa: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Current role in `tenant`.
    pub fn role_in(&self, tenant: TenantId) -> Option<Role> {
        self.memberships.get(&tenant)?.role
    }

    /// Whether the user has signed in, as opposed to only having been added by others.
    pub fn has_signed_in(&self) -> bool {
        self.last_seen_at.is_some() || self.claims_at.is_some()
    }

    /// Tenants in which the user has a role.
    pub fn tenant_ids(&self) -> Vec<TenantId> {
        self.memberships
            .iter()
            .filter(|(_, membership)| membership.role.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Role as an operator, if any.
    pub fn role_at_platform(&self) -> Option<PlatformRole> {
        if self.platform_admin {
            Some(PlatformRole::Admin)
        } else {
            self.platform_role
        }
    }

    /// Whether the user is an operator, with any role.
    pub fn is_platform_staff(&self) -> bool {
        self.role_at_platform().is_some()
    }

    /// Whether the user is an operator or in a partner's team.
    pub fn is_privileged(&self) -> bool {
        self.is_platform_staff() || self.partner_id.is_some()
    }

    /// Whether the user has a role in another tenant than `tenant`.
    pub fn has_role_outside(&self, tenant: TenantId) -> bool {
        self.tenant_ids().into_iter().any(|id| id != tenant)
    }

    /// Tenants the user owns.
    pub fn owns(&self) -> BTreeSet<TenantId> {
        self.memberships
            .iter()
            .filter(|(_, membership)| membership.role == Some(Role::Owner))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Sets the role in `tenant` through the API, after which claims no longer change it. Removing a missing role is no
    /// change. The link to a member is kept.
    pub fn set_role(&mut self, tenant: TenantId, role: Option<Role>, now: DateTime) {
        let known = self.memberships.get(&tenant);
        if known.is_some() || role.is_some() {
            let member_id = known.and_then(|known| known.member_id);
            self.set_membership(tenant, role, member_id, now);
        }
    }

    /// Links the membership in `tenant` to a member and sets its role, after which claims no longer change it.
    pub fn set_member(
        &mut self,
        tenant: TenantId,
        member: MemberId,
        role: Option<Role>,
        now: DateTime,
    ) {
        self.set_membership(tenant, role, Some(member), now);
    }

    /// Ends the link of the membership in `tenant` to a removed member. The role is unchanged.
    pub fn leave_member(&mut self, tenant: TenantId, member: MemberId) {
        if let Some(membership) = self.memberships.get_mut(&tenant)
            && membership.member_id == Some(member)
        {
            membership.member_id = None;
        }
    }

    fn set_membership(
        &mut self,
        tenant: TenantId,
        role: Option<Role>,
        member_id: Option<MemberId>,
        now: DateTime,
    ) {
        let is_set = self.memberships.get(&tenant).is_some_and(|known| {
            known.role == role
                && known.source == MembershipSource::Local
                && known.member_id == member_id
        });
        if !is_set {
            let membership = Membership {
                role,
                source: MembershipSource::Local,
                changed_at: now,
                member_id,
            };
            self.memberships.insert(tenant, membership);
        }
    }

    /// Sets the role as an operator through the API, after which claims no longer change it.
    pub fn set_platform_role(&mut self, role: Option<PlatformRole>, now: DateTime) {
        self.set_platform_admin(role == Some(PlatformRole::Admin), now);
        self.platform_role = role.filter(|role| *role != PlatformRole::Admin);
    }

    /// Sets the operator flag through the API, after which claims no longer change it.
    pub fn set_platform_admin(&mut self, flag: bool, now: DateTime) {
        if flag {
            self.platform_role = None;
        }
        if self.platform_admin != flag || self.platform_admin_source != MembershipSource::Local {
            self.platform_admin = flag;
            self.platform_admin_source = MembershipSource::Local;
            self.platform_admin_changed_at = now;
        }
    }
}

/// Stored as a list, so that it can be queried by tenant.
mod memberships {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Membership, TenantId};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        tenant_id: TenantId,
        #[serde(flatten)]
        membership: Membership,
    }

    pub(super) fn serialize<S: Serializer>(
        memberships: &BTreeMap<TenantId, Membership>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(memberships.iter().map(|(id, membership)| Entry {
            tenant_id: *id,
            membership: membership.clone(),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<TenantId, Membership>, D::Error> {
        let entries = Vec::<Entry>::deserialize(deserializer)?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.tenant_id, entry.membership))
            .collect())
    }
}
