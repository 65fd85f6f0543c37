//! Whether the upstreams hold what the tenants' documents say.

use std::collections::{BTreeMap, BTreeSet};

use bson::DateTime;
use dezky_shared::{
    tenant::{DesiredState, ProvisioningState, Tenant},
    upstream::Upstream,
};
use dezky_upstreams::clients::ocis::space_name;
use serde_json::Value;

use super::stack::Upstreams;
use crate::{
    authentik::{Group, User},
    ocis::SimSpace,
};

/// What the upstreams hold, by tenant.
#[derive(Debug)]
pub(super) struct Held {
    groups: BTreeMap<String, Vec<Group>>,
    users: BTreeMap<String, User>,
    spaces: BTreeMap<String, Vec<SimSpace>>,
    domains: BTreeMap<String, BTreeSet<String>>,
}

impl Held {
    /// What they hold now.
    pub(super) fn look(upstreams: &Upstreams) -> Self {
        let mut held = Self {
            groups: BTreeMap::new(),
            users: BTreeMap::new(),
            spaces: BTreeMap::new(),
            domains: BTreeMap::new(),
        };
        for group in upstreams.authentik.groups() {
            if let Some(tenant) = group.attributes.get("tenantId").and_then(Value::as_str) {
                held.groups
                    .entry(tenant.to_owned())
                    .or_default()
                    .push(group);
            }
        }
        for user in upstreams.authentik.users() {
            held.users.insert(user.username.clone(), user);
        }
        for space in upstreams.ocis.spaces() {
            let tenant = space.alias.trim_start_matches("project/").to_owned();
            held.spaces.entry(tenant).or_default().push(space);
        }
        let mail = upstreams.stalwart.snapshot();
        for domain in mail["domains"].as_array().into_iter().flatten() {
            let text = |name: &str| domain[name].as_str().unwrap_or_default();
            if let Some(tenant) = text("description").strip_prefix("dezky:") {
                let names = held.domains.entry(tenant.to_owned()).or_default();
                names.insert(text("name").to_owned());
            }
        }
        held
    }

    /// What belongs to a tenant that does not exist.
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

    /// In which upstreams that `tenant` calls `ok` or `skipped` there is something else.
    pub(super) fn disagreements(
        &self,
        tenant: &Tenant,
        removing: &BTreeSet<String>,
        now: DateTime,
    ) -> Vec<String> {
        let intent = tenant.intent(now);
        let mut wrong = Vec::new();
        for upstream in Upstream::ALL {
            let state = tenant.provisioning_status.get(upstream);
            if !matches!(state, ProvisioningState::Ok | ProvisioningState::Skipped) {
                continue;
            }
            let found = match upstream {
                Upstream::Authentik => self.in_authentik(tenant, intent),
                Upstream::Stalwart => self.in_stalwart(tenant, removing, intent),
                Upstream::Ocis => self.in_ocis(tenant, intent),
            };
            if let Err(found) = found {
                let status = tenant.status;
                wrong.push(format!("{} ({status}), {upstream}: {found}", tenant.slug));
            }
        }
        wrong
    }

    fn in_authentik(&self, tenant: &Tenant, intent: DesiredState) -> Result<(), String> {
        let groups = of(&self.groups, tenant);
        match (intent, groups) {
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
        if may_sign_in == Some(intent == DesiredState::Active) {
            return Ok(());
        }
        Err(format!("the owner may sign in: {may_sign_in:?}"))
    }

    fn in_ocis(&self, tenant: &Tenant, intent: DesiredState) -> Result<(), String> {
        let spaces = of(&self.spaces, tenant);
        let is_the_stored = |space: &SimSpace| tenant.ocis_space_id.as_ref() == Some(&space.id);
        let is_right = match (intent, spaces) {
            (DesiredState::Active, [space]) => {
                is_the_stored(space)
                    && !space.trashed
                    && space.name == space_name(&tenant.name, &tenant.slug)
                    && u64::try_from(space.quota) == Ok(tenant.plan.space_quota())
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

    fn in_stalwart(
        &self,
        tenant: &Tenant,
        removing: &BTreeSet<String>,
        intent: DesiredState,
    ) -> Result<(), String> {
        let held = self
            .domains
            .get(&tenant.id.to_string())
            .cloned()
            .unwrap_or_default();
        let wanted: BTreeSet<String> = match intent {
            DesiredState::Gone => BTreeSet::new(),
            DesiredState::Active | DesiredState::Suspended => {
                tenant.domains.iter().cloned().collect()
            }
        };
        if held.difference(removing).eq(wanted.difference(removing)) {
            return Ok(());
        }
        Err(format!("holds {held:?}, not {wanted:?}"))
    }
}

fn of<'a, T>(all: &'a BTreeMap<String, Vec<T>>, tenant: &Tenant) -> &'a [T] {
    all.get(&tenant.id.to_string()).map_or(&[], Vec::as_slice)
}
