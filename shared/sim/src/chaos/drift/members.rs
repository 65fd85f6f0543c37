//! Drift of members: differences between their documents and their accounts.

use std::collections::{BTreeMap, BTreeSet};

use bson::DateTime;
use dezky_shared::{
    member::{Member, MemberStatus},
    tenant::{DesiredState, Tenant},
    upstream::Upstream,
};
use serde_json::Value;

use super::{UpstreamSnapshot, is_done, of};
use crate::{authentik::User, ocis::Role};

/// Attribute with the member for whom an account was created.
const MARK: &str = "dezkyMember";

impl UpstreamSnapshot {
    /// Differences in the upstreams that `member` reports as `ok` or `skipped`.
    pub(in super::super) fn drift_of_member(
        &self,
        member: &Member,
        tenant: &Tenant,
        now: DateTime,
    ) -> Vec<String> {
        let accounts = Accounts {
            snapshot: self,
            member,
            tenant,
            desired_state: member.desired_state_in(tenant, now),
        };
        let mut wrong = Vec::new();
        for upstream in Upstream::ALL {
            // The removal of a tenant removes its members, and reports nothing to them.
            let is_reported = is_done(*member.provisioning_status.get(upstream))
                || member.status == MemberStatus::Removed;
            if !is_reported {
                continue;
            }
            let found = match upstream {
                Upstream::Authentik => accounts.check_sign_in(),
                Upstream::Stalwart => accounts.check_mailbox(),
                Upstream::Ocis => accounts.check_files(),
                Upstream::Stripe => continue,
            };
            if let Err(found) = found {
                wrong.push(format!(
                    "{} ({}) of {} ({}), {upstream}: {found}",
                    member.email, member.status, tenant.slug, tenant.status
                ));
            }
        }
        wrong
    }

    /// Accounts of members that do not exist or were removed, and second accounts of a member.
    pub(in super::super) fn orphaned_accounts(&self, members: &[Member]) -> Vec<String> {
        let is_present = |member: &&Member| member.status != MemberStatus::Removed;
        let logins: BTreeSet<&str> = members
            .iter()
            .filter(is_present)
            .map(|member| member.email.as_str())
            .collect();
        let mailboxes: BTreeSet<&str> = members
            .iter()
            .filter(is_present)
            .filter_map(|member| Some(member.mailbox.as_ref()?.primary.address.as_str()))
            .collect();
        let mut wrong = Vec::new();
        let mut marked: BTreeMap<&str, &str> = BTreeMap::new();
        for user in self.users.values() {
            let Some(member) = user.attributes.get(MARK).and_then(Value::as_str) else {
                continue;
            };
            if !logins.contains(user.username.as_str()) {
                wrong.push(format!("the account {} has no member", user.username));
            }
            if let Some(other) = marked.insert(member, &user.username) {
                let of_one = format!("{other} and {} belong to one member", user.username);
                wrong.push(of_one);
            }
        }
        let unknown = |address: &&String| !mailboxes.contains(address.as_str());
        let orphaned = self.mailboxes.keys().filter(unknown);
        wrong.extend(orphaned.map(|address| format!("the mailbox {address} has no member")));
        let unknown = |name: &&String| !logins.contains(name.as_str());
        let orphaned = self.files_users.keys().filter(unknown);
        wrong.extend(orphaned.map(|name| format!("the user {name} in oCIS has no member")));
        wrong
    }
}

/// The accounts of a member, with the state that they should have.
struct Accounts<'a> {
    snapshot: &'a UpstreamSnapshot,
    member: &'a Member,
    tenant: &'a Tenant,
    desired_state: DesiredState,
}

impl Accounts<'_> {
    fn check_sign_in(&self) -> Result<(), String> {
        let Some(user) = self.snapshot.users.get(&self.member.email) else {
            return self.may_be_missing("the account is missing");
        };
        let is_member = of(&self.snapshot.groups, self.tenant)
            .iter()
            .any(|group| user.groups.contains(&group.id));
        let is_right = match self.desired_state {
            DesiredState::Active => {
                user.is_active
                    && is_member
                    && user.name == self.member.name
                    && self.is_recorded(user)
            }
            // The account of a person who belongs to another tenant, too, only leaves the group.
            DesiredState::Suspended => !user.is_active || !is_member,
            DesiredState::Gone => false,
        };
        let (name, is_active) = (&user.name, user.is_active);
        let found = format!("account {name:?}, active: {is_active}, in the group: {is_member}");
        if is_right { Ok(()) } else { Err(found) }
    }

    fn is_recorded(&self, user: &User) -> bool {
        let recorded = self.member.authentik.as_ref();
        recorded.is_some_and(|it| it.pk == user.pk && it.subject == user.uuid.to_string())
    }

    fn check_mailbox(&self) -> Result<(), String> {
        let Some(mailbox) = &self.member.mailbox else {
            return Ok(());
        };
        let address = &mailbox.primary.address;
        let Some(account) = self.snapshot.mailboxes.get(address) else {
            return self.may_be_missing("the mailbox is missing");
        };
        let aliases = mailbox.aliases.iter().map(|alias| &alias.address);
        let is_right = match self.desired_state {
            DesiredState::Active => {
                account.can_sign_in
                    && mailbox.stalwart_account_id.as_ref() == Some(&account.id)
                    && account.aliases.iter().collect::<BTreeSet<_>>() == aliases.collect()
            }
            DesiredState::Suspended => !account.can_sign_in,
            DesiredState::Gone => false,
        };
        let found = format!("{account:?}, not {mailbox:?}");
        if is_right { Ok(()) } else { Err(found) }
    }

    fn check_files(&self) -> Result<(), String> {
        let Some(user) = self.snapshot.files_users.get(&self.member.email) else {
            return self.may_be_missing("the user is missing");
        };
        let spaces = of(&self.snapshot.spaces, self.tenant).iter();
        // The members of a disabled space cannot be changed.
        let grants = spaces
            .filter(|space| !space.trashed)
            .flat_map(|space| &space.grants);
        let roles: Vec<Role> = grants
            .filter(|grant| grant.id == *user)
            .map(|grant| grant.role)
            .collect();
        let recorded = self.member.ocis.as_ref();
        let is_right = match self.desired_state {
            DesiredState::Active => {
                roles == [Role::Editor] && recorded.is_some_and(|it| it.user_id == user.to_string())
            }
            DesiredState::Suspended => roles.is_empty(),
            DesiredState::Gone => false,
        };
        if is_right {
            return Ok(());
        }
        Err(format!(
            "roles in the space: {roles:?}, recorded: {recorded:?}"
        ))
    }

    /// An account may be missing unless the member should be able to use it.
    fn may_be_missing(&self, found: &str) -> Result<(), String> {
        match self.desired_state {
            DesiredState::Active => Err(found.to_owned()),
            DesiredState::Suspended | DesiredState::Gone => Ok(()),
        }
    }
}
