//! Drift: differences between the documents of tenants, members and apps, and the upstreams.

mod apps;
mod members;

use std::collections::{BTreeMap, BTreeSet};

use bson::DateTime;
use dezky_shared::{
    allowance::Allowance,
    billing::Plan,
    tenant::{DesiredState, ProvisioningState, Tenant},
    upstream::Upstream,
};
use dezky_upstreams::clients::ocis::space_name;
use serde_json::Value;
use uuid::Uuid;

use self::apps::AppObjects;
use super::stack::Upstreams;
use crate::{
    authentik::{Group, User},
    ocis::SimSpace,
    stalwart::SimAccount,
};

/// State of the upstreams.
#[derive(Debug)]
pub(super) struct UpstreamSnapshot {
    /// By tenant.
    groups: BTreeMap<String, Vec<Group>>,
    /// By username.
    users: BTreeMap<String, User>,
    /// By tenant.
    spaces: BTreeMap<String, Vec<SimSpace>>,
    /// By tenant.
    domains: BTreeMap<String, BTreeSet<String>>,
    /// By address.
    mailboxes: BTreeMap<String, SimAccount>,
    /// Ids of the users on the file server, by username.
    files_users: BTreeMap<String, Uuid>,
    apps: AppObjects,
}

impl UpstreamSnapshot {
    /// Reads the current state.
    pub(super) fn take(upstreams: &Upstreams) -> Self {
        let mut snapshot = Self {
            groups: BTreeMap::new(),
            users: BTreeMap::new(),
            spaces: BTreeMap::new(),
            domains: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            files_users: BTreeMap::new(),
            apps: AppObjects::take(&upstreams.authentik),
        };
        for group in upstreams.authentik.groups() {
            if let Some(tenant) = group.attributes.get("tenantId").and_then(Value::as_str) {
                snapshot
                    .groups
                    .entry(tenant.to_owned())
                    .or_default()
                    .push(group);
            }
        }
        for user in upstreams.authentik.users() {
            snapshot.users.insert(user.username.clone(), user);
        }
        for space in upstreams.ocis.spaces() {
            let tenant = space.alias.trim_start_matches("project/").to_owned();
            snapshot.spaces.entry(tenant).or_default().push(space);
        }
        for account in upstreams.stalwart.accounts() {
            snapshot.mailboxes.insert(account.email.clone(), account);
        }
        for name in upstreams.ocis.accounts() {
            let id = upstreams.ocis.account(&name);
            snapshot.files_users.extend(id.map(|id| (name, id)));
        }
        let mail = upstreams.stalwart.snapshot();
        for domain in mail["domains"].as_array().into_iter().flatten() {
            let text = |name: &str| domain[name].as_str().unwrap_or_default();
            if let Some(tenant) = text("description").strip_prefix("dezky:") {
                let names = snapshot.domains.entry(tenant.to_owned()).or_default();
                names.insert(text("name").to_owned());
            }
        }
        snapshot
    }

    /// Upstream objects of tenants that do not exist.
    pub(super) fn orphans(&self, tenants: &[Tenant]) -> Vec<String> {
        let known: BTreeSet<String> = tenants.iter().map(|tenant| tenant.id.to_string()).collect();
        let groups = self.groups.keys().map(|id| ("a group", id));
        let spaces = self.spaces.keys().map(|id| ("a space", id));
        let domains = self.domains.keys().map(|id| ("a domain", id));
        groups
            .chain(spaces)
            .chain(domains)
            .filter(|(_, id)| !known.contains(*id))
            .map(|(what, id)| format!("{what} of tenant {id}, which does not exist"))
            .collect()
    }

    /// Differences in the upstreams that `tenant` reports as `ok` or `skipped`.
    pub(super) fn drift_of(
        &self,
        tenant: &Tenant,
        removing: &BTreeSet<String>,
        now: DateTime,
    ) -> Vec<String> {
        let desired_state = tenant.desired_state(now);
        let mut wrong = Vec::new();
        for upstream in Upstream::ALL {
            if !is_done(*tenant.provisioning_status.get(upstream)) {
                continue;
            }
            let found = match upstream {
                Upstream::Authentik => self.check_authentik(tenant, desired_state),
                Upstream::Stalwart => self.check_stalwart(tenant, removing, desired_state),
                Upstream::Ocis => self.check_ocis(tenant, desired_state),
                Upstream::Stripe => continue,
            };
            if let Err(found) = found {
                let status = tenant.status;
                wrong.push(format!("{} ({status}), {upstream}: {found}", tenant.slug));
            }
        }
        wrong
    }

    fn check_authentik(&self, tenant: &Tenant, desired_state: DesiredState) -> Result<(), String> {
        let groups = of(&self.groups, tenant);
        match (desired_state, groups) {
            (DesiredState::Gone, []) => return Ok(()),
            (DesiredState::Active | DesiredState::Suspended, [group])
                if group.name == tenant.slug
                    && tenant.authentik_group_id == Some(group.id.to_string()) => {}
            _ => return Err(format!("holds {groups:?}")),
        }
        let Some(owner) = &tenant.owner else {
            return Ok(());
        };
        let user = self.users.get(&owner.email);
        let may_sign_in = user.map(|user| user.is_active);
        if may_sign_in == Some(desired_state == DesiredState::Active) {
            return Ok(());
        }
        Err(format!("the owner may sign in: {may_sign_in:?}"))
    }

    fn check_ocis(&self, tenant: &Tenant, desired_state: DesiredState) -> Result<(), String> {
        let spaces = of(&self.spaces, tenant);
        let is_the_stored = |space: &SimSpace| tenant.ocis_space_id.as_ref() == Some(&space.id);
        let is_right = match (desired_state, spaces) {
            (DesiredState::Active, [space]) => {
                is_the_stored(space)
                    && !space.trashed
                    && space.name == space_name(&tenant.name, &tenant.slug)
                    && u64::try_from(space.quota) == Ok(space_quota(tenant.plan))
            }
            (DesiredState::Suspended, [space]) => is_the_stored(space) && space.trashed,
            (DesiredState::Suspended, []) => tenant.ocis_space_id.is_none(),
            (DesiredState::Gone, []) => true,
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        Err(format!("holds {spaces:?}"))
    }

    fn check_stalwart(
        &self,
        tenant: &Tenant,
        removing: &BTreeSet<String>,
        desired_state: DesiredState,
    ) -> Result<(), String> {
        let snapshot = self
            .domains
            .get(&tenant.id.to_string())
            .cloned()
            .unwrap_or_default();
        let expected: BTreeSet<String> = match desired_state {
            DesiredState::Gone => BTreeSet::new(),
            DesiredState::Active | DesiredState::Suspended => {
                tenant.domains.iter().cloned().collect()
            }
        };
        if snapshot
            .difference(removing)
            .eq(expected.difference(removing))
        {
            return Ok(());
        }
        Err(format!("holds {snapshot:?}, not {expected:?}"))
    }
}

/// Whether the state says that the upstream is as desired.
pub(super) fn is_done(state: ProvisioningState) -> bool {
    matches!(state, ProvisioningState::Ok | ProvisioningState::Skipped)
}

fn of<'a, T>(all: &'a BTreeMap<String, Vec<T>>, tenant: &Tenant) -> &'a [T] {
    all.get(&tenant.id.to_string()).map_or(&[], Vec::as_slice)
}

/// Quota of a plan's spaces. The load changes no allowance.
fn space_quota(plan: Plan) -> u64 {
    Allowance::default_of(plan, DateTime::from_millis(0)).space_quota()
}
