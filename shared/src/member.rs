//! Member of a tenant: a person whose accounts at the upstreams this service keeps.
//!
//! As with a tenant, callers write the desired state (and increment `generation`), and jobs write the actual state. The
//! document says what is provisioned, never what is allowed: permissions are read from the user's memberships
//! ([`User`]), which the same transactions change.

mod accounts;
mod address;
mod admission;
mod audited;
mod local_part;
mod mailbox;
mod new_member;
mod password;
mod sign_out;
mod status;

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    account,
    audit::words,
    id::{MemberId, TenantId, UserId},
    storage_report::PersonalSpace,
    tenant::{
        Condition, DesiredState, PerUpstream, ProvisioningMut, ProvisioningState, Tenant,
        condition_type,
    },
    upstream::Upstream,
    user::{Role, User},
};

pub use self::{
    accounts::{AccountOrigin, FilesAccount, SignInAccount},
    address::{AddressError, InvalidAddress, MailDomains},
    admission::{AddressHolder, AddressHolders, Admission, Rejection},
    local_part::{InvalidLocalPart, dot_atom, is_reserved, local_part},
    mailbox::{ALIASES_PER_MAILBOX, MailAddress, Mailbox},
    new_member::{Alias, NewMember},
    password::{MemberSecrets, PasswordScope, generate_password},
    sign_out::SignOut,
    status::MemberStatus,
};

/// Maximum number of members of a tenant, except removed ones.
pub const MEMBERS_PER_TENANT: usize = 10_000;
/// Maximum number of indexed words of a member.
const MAX_WORDS: usize = 64;

/// Member, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: MemberId,
    /// Tenant.
    pub tenant_id: TenantId,
    /// The person's user document, once the account at the identity provider is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Login in lower case: the username at the identity provider.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Role in the tenant while the member is neither suspended nor removed.
    pub role: Role,
    /// Mailbox; missing for a member without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<Mailbox>,
    /// Account at the identity provider, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentik: Option<SignInAccount>,
    /// User on the file server, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocis: Option<FilesAccount>,
    /// Whether a user was about to be created on the file server who is not known yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ocis_create_begun: bool,
    /// Personal space on the file server, as last seen. Missing before the first sign-in there, and for a user who existed
    /// before the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal_space: Option<PersonalSpace>,
    /// Current status.
    pub status: MemberStatus,
    /// Status before the removal was requested, brought back by a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_before: Option<MemberStatus>,
    /// User who suspended the member, while they are suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_by: Option<String>,
    /// Time of removal from the upstreams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<DateTime>,
    /// Time of issue of the latest one-time password. Only that password may be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_issued_at: Option<DateTime>,
    /// Result of the last requested end of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_out: Option<SignOut>,
    /// Generation for which the account has left the tenant's group and its tokens were ended since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_generation: Option<i64>,
    /// Time at which the first upstream began to delete: the member cannot be restored any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_started_at: Option<DateTime>,
    /// Words of the name and of all addresses, for the search.
    #[serde(default)]
    pub words: Vec<String>,
    /// Incremented by every write of a caller.
    pub generation: i64,
    /// Provisioning state in each upstream.
    pub provisioning_status: PerUpstream<ProvisioningState>,
    /// Last error in each upstream, safe to show.
    #[serde(default)]
    pub provisioning_errors: PerUpstream<Option<String>>,
    /// Conditions: the provisioning states in full.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Time until which an in-doubt write may still land; no further write is sent before.
    #[serde(default)]
    pub unknown_until: PerUpstream<Option<DateTime>>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl Member {
    /// A new member, pending in every upstream.
    pub fn new(
        tenant_id: TenantId,
        email: &str,
        name: &str,
        role: Role,
        mailbox: Option<Mailbox>,
        now: DateTime,
    ) -> Self {
        let mut member = Self {
            id: MemberId::new(),
            tenant_id,
            user_id: None,
            email: email.to_owned(),
            name: name.to_owned(),
            role,
            mailbox,
            authentik: None,
            ocis: None,
            ocis_create_begun: false,
            personal_space: None,
            status: MemberStatus::Pending,
            status_before: None,
            suspended_by: None,
            purge_at: None,
            password_issued_at: None,
            signed_out: None,
            left_generation: None,
            purge_started_at: None,
            words: Vec::new(),
            generation: 0,
            provisioning_status: PerUpstream::default(),
            provisioning_errors: PerUpstream::default(),
            conditions: Vec::new(),
            unknown_until: PerUpstream::default(),
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        member.begin_generation(now);
        member
    }

    /// Desired state at `now`, apart from the tenant's.
    pub fn desired_state(&self, now: DateTime) -> DesiredState {
        match self.status {
            MemberStatus::Pending | MemberStatus::Active => DesiredState::Active,
            MemberStatus::Removing if self.purge_at.is_some_and(|at| at <= now) => {
                DesiredState::Gone
            }
            MemberStatus::Suspended | MemberStatus::Removing => DesiredState::Suspended,
            MemberStatus::Removed => DesiredState::Gone,
        }
    }

    /// Desired state at `now` in `tenant`, whose suspension or removal covers all members.
    pub fn desired_state_in(&self, tenant: &Tenant, now: DateTime) -> DesiredState {
        match (self.desired_state(now), tenant.desired_state(now)) {
            (DesiredState::Gone, _) | (_, DesiredState::Gone) => DesiredState::Gone,
            (DesiredState::Suspended, _) | (_, DesiredState::Suspended) => DesiredState::Suspended,
            (DesiredState::Active, DesiredState::Active) => DesiredState::Active,
        }
    }

    /// The role that the person's membership has: none while the member is suspended or removed.
    pub fn granted_role(&self) -> Option<Role> {
        match self.status {
            MemberStatus::Pending | MemberStatus::Active => Some(self.role),
            MemberStatus::Suspended | MemberStatus::Removing | MemberStatus::Removed => None,
        }
    }

    /// Whether the tenant may set the password of the account at the identity provider, deactivate it and delete it, as
    /// far as it is known here: see [`account`]. `is_own_address` is whether the tenant owns the domain of the login,
    /// `user` the person's user document, and `is_elsewhere` whether another tenant has a member with this account
    /// ([`MemberRepository::is_elsewhere`](crate::store::members::MemberRepository::is_elsewhere)).
    pub fn owns_account(
        &self,
        is_own_address: bool,
        user: Option<&User>,
        is_elsewhere: bool,
    ) -> bool {
        let is_created = self
            .authentik
            .as_ref()
            .is_some_and(|account| account.origin == AccountOrigin::Created);
        let is_privileged = user.is_some_and(User::is_privileged);
        let has_role = user.is_some_and(|user| user.has_role_outside(self.tenant_id));
        is_created && account::owns(is_privileged, is_elsewhere || has_role, is_own_address)
    }

    /// Whether the upstreams should have the same state for `other`, another version of this member. The role, which no
    /// upstream holds, does not count.
    pub fn desires_same_as(&self, other: &Self) -> bool {
        fn desired(member: &Member) -> impl PartialEq + '_ {
            // What reports themselves change does not count: a pending member becomes active.
            let status = match member.status {
                MemberStatus::Pending => MemberStatus::Active,
                status => status,
            };
            let mailbox = member.mailbox.as_ref();
            (
                (status, member.purge_at, member.password_issued_at),
                (&member.email, &member.name),
                mailbox.map(|it| (&it.primary, &it.aliases, it.quota_bytes)),
            )
        }
        desired(self) == desired(other)
    }

    /// Whether the login is an address on a domain that `tenant` owns.
    pub fn has_address_of(&self, tenant: &Tenant) -> bool {
        tenant.owns_domain_of(&self.email)
    }

    /// Starts a new generation, pending in every upstream.
    pub fn begin_generation(&mut self, now: DateTime) {
        self.generation += 1;
        self.set_pending(&Upstream::ALL, now);
        self.index_words();
    }

    /// Starts a new generation that no upstream has to apply: the conditions hold for it, too.
    pub fn begin_generation_in_sync(&mut self) {
        let before = self.generation;
        self.generation += 1;
        for condition in &mut self.conditions {
            if condition.observed_generation == before {
                condition.observed_generation = self.generation;
            }
        }
    }

    /// Resets the state of `upstreams` to pending: a new desired state has to be applied there.
    pub fn set_pending(&mut self, upstreams: &[Upstream], now: DateTime) {
        self.provisioning_mut().set_pending(upstreams, now);
    }

    /// The provisioning states with their conditions.
    pub(crate) fn provisioning_mut(&mut self) -> ProvisioningMut<'_> {
        ProvisioningMut {
            generation: self.generation,
            status: &mut self.provisioning_status,
            errors: &mut self.provisioning_errors,
            conditions: &mut self.conditions,
        }
    }

    /// Replaces the condition of the same type. The transition time is kept if the status is unchanged.
    pub fn set_condition(&mut self, condition: Condition) {
        condition.set_in(&mut self.conditions);
    }

    /// The condition of `upstream`.
    pub fn condition(&self, upstream: Upstream) -> Option<&Condition> {
        let kind = condition_type(upstream);
        let mut conditions = self.conditions.iter();
        conditions.find(|condition| condition.kind == kind)
    }

    /// Whether the last attempt failed in any upstream.
    pub fn is_failing(&self) -> bool {
        Upstream::ALL
            .into_iter()
            .any(|upstream| *self.provisioning_status.get(upstream) == ProvisioningState::Error)
    }

    /// Marks the member as removed from every upstream, and releases the addresses.
    pub fn mark_removed(&mut self) {
        self.status = MemberStatus::Removed;
        self.status_before = None;
        self.suspended_by = None;
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.addresses.clear();
        }
        self.words.clear();
    }

    /// Computes the words of the search. Called after a change of the name or of an address.
    pub fn index_words(&mut self) {
        let addresses = self.mailbox.iter().flat_map(|mailbox| &mailbox.addresses);
        let mut found: Vec<String> = [&self.name, &self.email]
            .into_iter()
            .chain(addresses)
            .flat_map(|text| words(text))
            .collect();
        found.sort();
        found.dedup();
        found.truncate(MAX_WORDS);
        self.words = found;
    }
}

#[cfg(test)]
mod tests;
