//! Checks of exactly-once effects: schedule instants, items of bulk operations, and domain ownership.

use std::collections::{BTreeMap, BTreeSet};

use dezky_shared::{
    domain::Domain,
    id::TenantId,
    store::schedule_ledger::{LedgerEntry, ScheduleState},
};

use super::{check::Check, stored::Stored};

/// A schedule with a short period.
const EVERY_MINUTE: &str = "recheck_domains";
/// The period of that schedule.
const MINUTE_MILLIS: i64 = 60_000;

/// Every instant of a schedule has a job, and skipped instants are counted as missed.
pub(super) fn every_schedule_instant_runs_once(stored: &Stored) -> Check {
    let jobs: BTreeSet<_> = stored.jobs.iter().map(|job| job.id).collect();
    let jobless = stored
        .instants
        .iter()
        .filter(|entry| !jobs.contains(&entry.job_id));
    let mut violations: Vec<String> = jobless
        .map(|entry| format!("{} has no job", entry.id))
        .collect();
    for state in &stored.schedules {
        violations.extend(gap(state, &stored.instants));
    }
    Check::new(
        "every schedule instant runs once",
        stored.instants.len(),
        violations,
    )
}

fn gap(state: &ScheduleState, instants: &[LedgerEntry]) -> Option<String> {
    let of_schedule = instants
        .iter()
        .filter(|entry| entry.schedule == state.name)
        .map(|entry| entry.instant.timestamp_millis());
    let minutes: BTreeSet<i64> = of_schedule.map(|at| at / MINUTE_MILLIS).collect();
    let (first, last) = (minutes.first()?, minutes.last()?);
    let come = last - first + 1;
    let run = i64::try_from(minutes.len()).unwrap_or(i64::MAX);
    (state.name == EVERY_MINUTE && run + state.missed < come).then(|| {
        format!(
            "{come} instants of {}: {run} run, {} missed",
            state.name, state.missed
        )
    })
}

/// No item of a bulk operation is processed twice.
pub(super) fn every_item_of_a_bulk_operation_runs_once(stored: &Stored) -> Check {
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for event in stored.item_events() {
        let operation = event.after.get("jobOperationId").map(ToString::to_string);
        let item = (operation.unwrap_or_default(), event.target.id.as_str());
        *counts.entry(item).or_default() += 1;
    }
    let checked = counts.len();
    let twice = counts.into_iter().filter(|(_, count)| *count > 1);
    let violations = twice.map(|((operation, job), count)| {
        format!("operation {operation} processed job {job} {count} times")
    });
    Check::new(
        "every item of a bulk operation runs once",
        checked,
        violations.collect(),
    )
}

/// A tenant's list of domains equals the domain documents that the tenant owns.
pub(super) fn each_tenant_lists_exactly_the_domains_it_owns(stored: &Stored) -> Check {
    let mut owned: BTreeMap<TenantId, Vec<&Domain>> = BTreeMap::new();
    for domain in stored.domains.iter().filter(|domain| domain.is_owned()) {
        owned.entry(domain.tenant_id).or_default().push(domain);
    }
    let mut violations = Vec::new();
    for tenant in &stored.tenants {
        let owned = owned.remove(&tenant.id).unwrap_or_default();
        let names: BTreeSet<&String> = owned.iter().map(|domain| &domain.name).collect();
        let primary = owned.iter().find(|domain| domain.primary);
        let is_shown = tenant.domains.iter().collect::<BTreeSet<_>>() == names
            && tenant.domains.len() == names.len()
            && tenant.primary_domain.as_ref() == primary.map(|domain| &domain.name);
        if !is_shown {
            violations.push(format!(
                "{} shows {:?}, primary {:?}, and owns {names:?}, primary {:?}",
                tenant.slug,
                tenant.domains,
                tenant.primary_domain,
                primary.map(|domain| &domain.name)
            ));
        }
    }
    let ownerless = owned.into_values().flatten();
    violations
        .extend(ownerless.map(|domain| format!("{} is owned by an unknown tenant", domain.name)));
    Check::new(
        "each tenant lists exactly the domains it owns",
        stored.domains.len(),
        violations,
    )
}
