//! A person who signs in, and what they may do. Rights are read from here on every request, never from a token.

use std::collections::{BTreeMap, BTreeSet};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::id::{PartnerId, TenantId, UserId};

/// What a person may do in a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads what is meant for members.
    Member,
    /// Reads and writes the tenant.
    Admin,
    /// The same; a tenant that has one keeps one.
    Owner,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Whether the role may change the tenant.
    pub fn may_write(self) -> bool {
        self >= Self::Admin
    }
}

/// Where a membership came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MembershipSource {
    /// The `groups` claim of a token, which it follows.
    Claim,
    /// Set here, and left alone by claims.
    Local,
}

/// A person's place in a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The role; missing on a tombstone: once a member, and removed.
    #[serde(default)]
    pub role: Option<Role>,
    /// Where it came from.
    pub source: MembershipSource,
    /// When it last changed. A claim counts only if its token was issued later.
    pub changed_at: DateTime,
}

/// What partner staff may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerRole {
    /// Everything, the team included.
    Owner,
    /// Everything but the team.
    Manager,
    /// Reads, and helps.
    Support,
    /// Reads.
    ReadOnly,
}

impl PartnerRole {
    /// The name used in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Manager => "manager",
            Self::Support => "support",
            Self::ReadOnly => "read-only",
        }
    }

    /// Whether the role may change the partner's tenants.
    pub fn may_write(self) -> bool {
        matches!(self, Self::Owner | Self::Manager)
    }
}

/// What a job found when it looked for somebody's MFA devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MfaCheck {
    /// Devices they can sign in with; codes for recovery do not count.
    pub devices: i32,
    /// When it looked.
    pub looked_up_at: DateTime,
}

/// A person, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Our id.
    #[serde(rename = "_id")]
    pub id: UserId,
    /// The identity provider's id: the token's `sub`. A user is found by this alone.
    pub authentik_subject_id: String,
    /// Their address, for people; never an identity.
    pub email: String,
    /// Their name, for people.
    pub name: String,
    /// Whether they are an operator of ours.
    pub platform_admin: bool,
    /// When that last changed. A claim counts only if its token was issued later.
    pub platform_admin_changed_at: DateTime,
    /// Where the flag came from.
    pub platform_admin_source: MembershipSource,
    /// The partner they work for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// What they may do there; missing is read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_role: Option<PartnerRole>,
    /// When the newest token with a `groups` claim was issued. An older token has nothing to say, whatever this one
    /// changed; missing before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_at: Option<DateTime>,
    /// When a user of the same subject was deleted. A token that was issued before has nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_before: Option<DateTime>,
    /// Their places in tenants, by tenant.
    #[serde(default, with = "memberships")]
    pub memberships: BTreeMap<TenantId, Membership>,
    /// When they were last seen, to a few minutes; missing before the first time. No version of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<DateTime>,
    /// Their MFA devices, once a job has looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfa: Option<MfaCheck>,
    /// + 1 with every write.
    pub revision: i64,
    /// When they were added, or first seen.
    pub created_at: DateTime,
    /// When the document last changed.
    pub updated_at: DateTime,
}

impl User {
    /// Somebody without any right, seen for the first time. What is stored is made by
    /// [`first_seen`](crate::store::users::UserRepository::first_seen), which knows whether they were deleted before.
    pub fn first_seen(subject: &str, email: &str, name: &str, now: DateTime) -> Self {
        Self {
            id: UserId::new(),
            authentik_subject_id: subject.to_owned(),
            email: email.to_owned(),
            name: name.to_owned(),
            platform_admin: false,
            // Older than any token, so that the first claim counts.
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

    /// Their role in `tenant`, if they have one now.
    pub fn role_in(&self, tenant: TenantId) -> Option<Role> {
        self.memberships.get(&tenant)?.role
    }

    /// Whether they have signed in with us, not only been added by others.
    pub fn has_signed_in(&self) -> bool {
        self.last_seen_at.is_some() || self.claims_at.is_some()
    }

    /// The tenants they have a role in.
    pub fn tenant_ids(&self) -> Vec<TenantId> {
        self.memberships
            .iter()
            .filter(|(_, membership)| membership.role.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    /// The tenants they own.
    pub fn owns(&self) -> BTreeSet<TenantId> {
        self.memberships
            .iter()
            .filter(|(_, membership)| membership.role == Some(Role::Owner))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Sets here what they may do in `tenant`, which claims then leave alone. To take away nothing is no change.
    pub fn set_role(&mut self, tenant: TenantId, role: Option<Role>, now: DateTime) {
        let is_set = match self.memberships.get(&tenant) {
            Some(known) => known.role == role && known.source == MembershipSource::Local,
            None => role.is_none(),
        };
        if !is_set {
            let membership = Membership {
                role,
                source: MembershipSource::Local,
                changed_at: now,
            };
            self.memberships.insert(tenant, membership);
        }
    }

    /// Sets here whether they are an operator, which claims then leave alone.
    pub fn set_platform_admin(&mut self, flag: bool, now: DateTime) {
        if self.platform_admin != flag || self.platform_admin_source != MembershipSource::Local {
            self.platform_admin = flag;
            self.platform_admin_source = MembershipSource::Local;
            self.platform_admin_changed_at = now;
        }
    }
}

/// Stored as a list, so that it can be searched by tenant.
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
