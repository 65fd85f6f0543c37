//! Convergence: tenants, jobs and upstreams agree at the end of a run.

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::job::JobState,
    tenant::{ProvisioningState, Tenant},
    upstream::Upstream,
};

use super::{
    check::Check,
    drift::UpstreamSnapshot,
    stack::Upstreams,
    stored::{Stored, describe},
};

/// No drift: steps reported as done are done upstream, no upstream object is orphaned, and completed jobs have no
/// open step.
pub(super) fn tenants_jobs_and_upstreams_agree(stored: &Stored, upstreams: &Upstreams) -> Check {
    let now: DateTime = clock::now();
    let snapshot = UpstreamSnapshot::take(upstreams);
    let removing = stored.removing();
    let mut violations = snapshot.orphans(&stored.tenants);
    for tenant in &stored.tenants {
        violations.extend(snapshot.drift_of(tenant, &removing, now));
    }
    let unfinished = stored.jobs.iter().filter(|job| {
        job.state == JobState::Completed && job.steps.iter().any(|step| !step.state.is_done())
    });
    violations.extend(unfinished.map(describe));
    Check::new(
        "tenants, jobs and upstreams agree",
        stored.tenants.len() + stored.jobs.len(),
        violations,
    )
}

/// No tenant waits for a job that does not exist. All jobs are final.
pub(super) fn no_tenant_is_pending_without_a_job(stored: &Stored) -> Check {
    let is_pending = |tenant: &&Tenant| {
        let state = |upstream| *tenant.provisioning_status.get(upstream);
        let mut states = Upstream::ALL.into_iter().map(state);
        states.any(|state| state == ProvisioningState::Pending)
    };
    let pending = stored.tenants.iter().filter(is_pending);
    let violations = pending.map(|tenant| {
        format!(
            "{} ({}): {:?}",
            tenant.slug, tenant.status, tenant.provisioning_status
        )
    });
    Check::new(
        "no tenant is pending without a job",
        stored.tenants.len(),
        violations.collect(),
    )
}

/// One reconcile repairs tenants for which no job was due.
pub(super) fn one_reconcile_repairs_the_remaining_drift(
    left: usize,
    stored: &Stored,
    upstreams: &Upstreams,
) -> Check {
    let remaining = stored.unconverged();
    let unrepaired = remaining
        .iter()
        .map(|slug| format!("{slug} is not in its desired state"));
    let drift_of = tenants_jobs_and_upstreams_agree(stored, upstreams).violations;
    let violations = unrepaired.chain(drift_of).collect();
    Check::new(
        "one reconcile repairs the remaining drift",
        left,
        violations,
    )
}
