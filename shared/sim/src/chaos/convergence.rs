//! Convergence: tenants, their members and apps, jobs and upstreams agree at the end of a run.

use std::collections::HashMap;

use bson::DateTime;
use dezky_shared::{
    id::UserId,
    member::Member,
    platform::clock,
    queue::job::JobState,
    tenant::{DesiredState, PerUpstream, ProvisioningState},
    upstream::Upstream,
    user::User,
};

use super::{
    check::Check,
    drift::UpstreamSnapshot,
    stack::Upstreams,
    stored::{Stored, describe},
};

/// No drift: steps reported as done are done upstream, no upstream object is orphaned, and completed jobs have no
/// open step.
pub(super) fn documents_jobs_and_upstreams_agree(stored: &Stored, upstreams: &Upstreams) -> Check {
    let now: DateTime = clock::now();
    let snapshot = UpstreamSnapshot::take(upstreams);
    let removing = stored.removing();
    let (tenants, members, apps) = (&stored.tenants, &stored.members, &stored.apps);
    let mut violations = snapshot.orphans(tenants);
    violations.extend(snapshot.orphaned_accounts(members));
    violations.extend(snapshot.orphaned_app_objects(apps, tenants));
    for tenant in tenants {
        violations.extend(snapshot.drift_of(tenant, &removing, now));
    }
    let tenant_of = stored.tenants_by_id();
    for member in members {
        let tenant = tenant_of[&member.tenant_id];
        violations.extend(snapshot.drift_of_member(member, tenant, now));
    }
    for app in apps {
        violations.extend(snapshot.drift_of_app(app, tenant_of[&app.tenant_id]));
    }
    let unfinished = stored.jobs.iter().filter(|job| {
        job.state == JobState::Completed && job.steps.iter().any(|step| !step.state.is_done())
    });
    violations.extend(unfinished.map(describe));
    Check::new(
        "tenants, members, apps, jobs and upstreams agree",
        tenants.len() + members.len() + apps.len() + stored.jobs.len(),
        violations,
    )
}

/// No tenant and no member waits for a job that does not exist. All jobs are final.
pub(super) fn no_tenant_or_member_is_pending_without_a_job(stored: &Stored) -> Check {
    let is_pending = |status: &PerUpstream<ProvisioningState>| {
        let mut states = Upstream::ALL.into_iter().map(|it| *status.get(it));
        states.any(|state| state == ProvisioningState::Pending)
    };
    let tenants = stored
        .tenants
        .iter()
        .map(|it| (&it.slug, it.status.to_string(), &it.provisioning_status));
    let members = stored.present_members();
    let members = members.map(|it| (&it.email, it.status.to_string(), &it.provisioning_status));
    let all: Vec<_> = tenants.chain(members).collect();
    let pending = all.iter().filter(|(.., status)| is_pending(status));
    let violations = pending.map(|(name, status, states)| format!("{name} ({status}): {states:?}"));
    Check::new(
        "no tenant or member is pending without a job",
        all.len(),
        violations.collect(),
    )
}

/// A member's user has the role of the member, and none while the member is suspended or removed.
pub(super) fn the_rights_of_members_follow_their_status(stored: &Stored) -> Check {
    let now = clock::now();
    let users = stored.users.iter().map(|user| (user.id, user));
    let users: HashMap<UserId, &User> = users.collect();
    let tenant_of = stored.tenants_by_id();
    let is_in_service = |member: &&Member| {
        let tenant = tenant_of[&member.tenant_id];
        tenant.desired_state(now) != DesiredState::Gone
    };
    let mut checked = 0;
    let mut violations = Vec::new();
    for member in stored.members.iter().filter(is_in_service) {
        let Some(id) = member.user_id else { continue };
        checked += 1;
        let held = users.get(&id).map(|user| user.role_in(member.tenant_id));
        let granted = member.granted_role();
        if held != Some(granted) {
            violations.push(format!(
                "{} ({}): the user has {held:?}, not {granted:?}",
                member.email, member.status
            ));
        }
    }
    Check::new(
        "the rights of members follow their status",
        checked,
        violations,
    )
}

/// One reconcile repairs tenants, members and apps for which no job was due.
pub(super) fn one_reconcile_repairs_the_remaining_drift(
    left: usize,
    stored: &Stored,
    upstreams: &Upstreams,
) -> Check {
    let drift = documents_jobs_and_upstreams_agree(stored, upstreams).violations;
    let violations = stored.unconverged().into_values().flatten().chain(drift);
    Check::new(
        "one reconcile repairs the remaining drift",
        left,
        violations.collect(),
    )
}
