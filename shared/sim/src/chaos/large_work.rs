//! Large work: tenants with thousands of members that are suspended, and reconciles of all tenants at once.

use std::{collections::BTreeMap, time::Duration};

use dezky_shared::{id::TenantId, tenant::TenantStatus};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    check::Check, fault_injector::InjectionLog, fault_kind::FaultKind, load::LoadGenerator,
    operator::CreatedTenant, schedule::PlannedFault, stack::Upstreams, stored::Stored,
};
use crate::authentik::AuthentikSim;

/// Members of a large tenant: more than one attempt of 15 s can suspend.
const MEMBERS: usize = 2_000;
/// Slugs of large tenants.
const LARGE: &str = "large";
/// Time limit for the group of a new tenant, under faults.
const GROUP_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl LoadGenerator {
    /// Requests the large work of the schedule.
    pub(super) async fn request_large_work(
        &self,
        authentik: &AuthentikSim,
        track: &[PlannedFault],
        log: &InjectionLog,
    ) {
        for planned in track {
            log.until(planned.at).await;
            let is_accepted = match planned.fault {
                FaultKind::LargeTenantSuspended => {
                    self.suspend_large_tenant(authentik).await.is_some()
                }
                _ => self.reconcile_all().await,
            };
            log.record(planned.fault, u64::from(is_accepted));
        }
    }

    /// Creates a tenant, adds its members once it has a group, and suspends it. Returns the id of the job.
    pub(super) async fn suspend_large_tenant(&self, authentik: &AuthentikSim) -> Option<String> {
        let (tenant, group) = self.create_tenant_with_group(LARGE, authentik).await?;
        for number in 0..MEMBERS {
            authentik.add_user(&format!("{number}@{}.test", tenant.slug), &[group]);
        }
        self.suspend(&tenant.slug).await
    }

    /// Creates a tenant, and waits for its group; `None` if the request was refused, or there is no group in time.
    pub(super) async fn create_tenant_with_group(
        &self,
        prefix: &str,
        authentik: &AuthentikSim,
    ) -> Option<(CreatedTenant, Uuid)> {
        let tenant = self.create_tenant(prefix).await?;
        let deadline = Instant::now() + GROUP_TIMEOUT;
        loop {
            match authentik.group_named(&tenant.slug) {
                Some(group) => return Some((tenant, group.id)),
                None if Instant::now() > deadline => return None,
                None => sleep(POLL_INTERVAL).await,
            }
        }
    }
}

/// Whether a member of each group may sign in.
type Members = BTreeMap<Uuid, Vec<bool>>;

/// However many members a tenant has, its suspension reaches all of them.
pub(super) fn every_member_of_a_suspended_tenant_is_suspended(
    stored: &Stored,
    upstreams: &Upstreams,
) -> Check {
    let mut members = Members::new();
    for user in upstreams.authentik.users() {
        for group in user.groups {
            members.entry(group).or_default().push(user.is_active);
        }
    }
    let groups: BTreeMap<String, Uuid> = upstreams
        .authentik
        .groups()
        .into_iter()
        .filter_map(|group| {
            let tenant = group.attributes.get("tenantId")?.as_str()?;
            Some((tenant.to_owned(), group.id))
        })
        .collect();
    let members_of = |tenant: TenantId| {
        let group = groups.get(&tenant.to_string());
        group.and_then(|group| members.get(group)).cloned()
    };
    let is_large = |slug: &str| slug.starts_with(&format!("{LARGE}-"));
    let mut checked = 0;
    let mut violations = Vec::new();
    for tenant in stored
        .tenants
        .iter()
        .filter(|tenant| is_large(&tenant.slug))
    {
        let members = members_of(tenant.id).unwrap_or_default();
        checked += members.len();
        let active = members.iter().filter(|is_active| **is_active).count();
        if tenant.status == TenantStatus::Suspended && active > 0 {
            violations.push(format!(
                "{} of {} members of {} may sign in",
                active,
                members.len(),
                tenant.slug
            ));
        }
    }
    Check::new(
        "every member of a suspended tenant is suspended",
        checked,
        violations,
    )
}
