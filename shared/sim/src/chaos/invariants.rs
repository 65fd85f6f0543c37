//! The promises of the system, one function each. They hold at the end of a run, regardless of the injected faults.

use std::collections::{BTreeMap, HashMap};

use dezky_shared::{
    audit::{Action, ActorKind, AuditEvent},
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState},
    },
    upstream::Upstream,
};

use super::{
    billing,
    check::Check,
    convergence, exactly_once,
    fault_injector::Injections,
    fault_kind::FaultKind,
    load::{RequestLog, RequestRecord},
    observations::Observations,
    secrets,
    stack::Upstreams,
    stored::{Stored, describe, is_item_event},
};
use crate::effects::Effects;

/// Crashes after which a job is discarded.
const MAX_CRASHES: i32 = 3;
/// Maximum length of a job's list of attempts.
const MAX_LISTED_ATTEMPTS: usize = 20;
/// Effects that can happen only once per natural key.
const NON_REPEATABLE: [&str; 17] = [
    "create_group",
    "delete_group",
    "create_user",
    "delete_user",
    "add_member",
    "create_provider",
    "delete_provider",
    "create_application",
    "delete_application",
    "create_binding",
    "delete_binding",
    "create_domain",
    "destroy_domain",
    "create_account",
    "destroy_accounts",
    "create_space",
    "purge_space",
];
/// Problem codes of requests that come too late, too early or twice.
const DOCUMENTED_CODES: [&str; 17] = [
    "tenant_terminating",
    "tenant_terminated",
    "not_terminating",
    "purge_started",
    "job_final",
    "job_running",
    "purge_scheduled",
    "secrets_gone",
    "domain_is_primary",
    "domain_in_use",
    "domain_removing",
    "no_mail_domain",
    "no_mailbox",
    "member_removing",
    "not_removing",
    "app_removing",
    "public_client",
];
/// Error codes that no injected fault explains: a permanent rejection by an upstream, or a bug.
const UNEXPECTED_CODES: [ErrorCode; 10] = [
    ErrorCode::UpstreamRejected,
    ErrorCode::UpstreamCredentialsRefused,
    ErrorCode::UpstreamPermissionMissing,
    ErrorCode::UpstreamConflict,
    ErrorCode::DomainInvalid,
    ErrorCode::DomainInUse,
    ErrorCode::PaymentProviderMode,
    ErrorCode::IdempotencyMisused,
    ErrorCode::GaveUp,
    ErrorCode::Internal,
];

/// Input of the checks: everything a run leaves behind.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) hits: &'a BTreeMap<FaultKind, Injections>,
    pub(super) requests: &'a RequestLog,
    pub(super) stored: &'a Stored,
    pub(super) observed: &'a Observations,
    pub(super) unexpected_exits: &'a [String],
    pub(super) upstreams: &'a Upstreams,
    /// Number of tenants that an operator had to reconcile, because no job was due for them.
    pub(super) reconciled: usize,
}

/// Checks every promise on the final state.
pub(super) fn check_all(evidence: &Evidence<'_>) -> Vec<Check> {
    let Evidence {
        hits,
        requests,
        stored,
        observed,
        unexpected_exits,
        upstreams,
        reconciled,
    } = *evidence;
    vec![
        every_fault_kind_hit_something(hits),
        no_process_exited_unexpectedly(unexpected_exits),
        every_request_gets_a_valid_response(requests),
        a_repeated_request_gets_an_identical_response(requests),
        every_accepted_change_has_a_final_outcome(requests, stored),
        the_audit_trail_matches_the_accepted_changes(requests, stored),
        every_change_was_observed(observed, stored),
        at_most_one_live_lease_per_lock_key(observed),
        no_job_is_rescued_before_its_last_write_has_landed(observed),
        a_final_job_never_changes(observed),
        every_open_job_has_a_next_run_time(observed),
        no_job_spins(observed),
        exactly_once::every_schedule_instant_runs_once(stored),
        exactly_once::every_item_of_a_bulk_operation_runs_once(stored),
        attempts_and_crashes_stay_within_their_limits(stored),
        no_failure_is_misclassified(stored),
        no_upstream_side_effect_happens_twice(upstreams),
        no_app_is_open_to_other_tenants_at_any_time(upstreams),
        convergence::the_rights_of_members_follow_their_status(stored),
        secrets::the_latest_secret_is_in_force(requests, stored, upstreams),
        exactly_once::each_tenant_lists_exactly_the_domains_it_owns(stored),
        convergence::one_reconcile_repairs_the_remaining_drift(reconciled, stored, upstreams),
    ]
}

/// A fault without a hit tests nothing. Stripe has few requests, and none for a while if it is paused: there, one kind may
/// miss as long as another hits.
pub(super) fn every_fault_kind_hit_something(hits: &BTreeMap<FaultKind, Injections>) -> Check {
    let is_of_stripe =
        |fault: &FaultKind| matches!(fault, FaultKind::Upstream(Upstream::Stripe, _));
    let is_stripe_hit = hits
        .iter()
        .any(|(fault, hits)| is_of_stripe(fault) && hits.hit > 0);
    let idle = hits.iter().filter(|(fault, hits)| {
        let may_miss = is_stripe_hit && is_of_stripe(fault);
        hits.hit == 0 && !may_miss
    });
    let violations = idle.map(|(fault, _)| format!("{fault} hit nothing"));
    Check::new(
        "every kind of fault hit something",
        hits.len(),
        violations.collect(),
    )
}

/// Processes exit only when they are killed.
pub(super) fn no_process_exited_unexpectedly(unexpected_exits: &[String]) -> Check {
    Check::new(
        "no process exited unexpectedly",
        unexpected_exits.len(),
        unexpected_exits.to_vec(),
    )
}

/// Every request has a final response: accepted, or refused with a documented problem code.
pub(super) fn every_request_gets_a_valid_response(requests: &RequestLog) -> Check {
    let is_documented =
        |code: &str| DOCUMENTED_CODES.contains(&code) || billing::DOCUMENTED_CODES.contains(&code);
    let is_about_removable = |record: &RequestRecord| {
        let mut words = record.action.split(' ');
        words.any(|word| {
            matches!(
                word,
                "domain" | "member" | "members" | "password" | "app" | "secret"
            )
        })
    };
    let problem = |record: &RequestRecord| match &record.reply {
        None => Some("has no response".to_owned()),
        Some(reply) if reply.is_accepted() || reply.code.as_deref().is_some_and(is_documented) => {
            None
        }
        // It was removed by another change, or with its tenant.
        Some(reply) if is_about_removable(record) && reply.code.as_deref() == Some("not_found") => {
            None
        }
        Some(reply) => Some(format!("got {reply:?}")),
    };
    let violations = requests.records.iter().filter_map(|record| {
        let problem = problem(record)?;
        Some(format!("{} ({}) {problem}", record.id, record.action))
    });
    Check::new(
        "every request gets a valid response",
        requests.records.len(),
        violations.collect(),
    )
}

/// A replay with the same idempotency key returns the original response.
pub(super) fn a_repeated_request_gets_an_identical_response(requests: &RequestLog) -> Check {
    let mut check = Check::new(
        "a repeated request gets an identical response",
        0,
        requests.replay_mismatches.clone(),
    );
    check.checked = requests.replays;
    check
}

/// The job of every accepted change becomes final.
pub(super) fn every_accepted_change_has_a_final_outcome(
    requests: &RequestLog,
    stored: &Stored,
) -> Check {
    let jobs = stored.jobs_by_id();
    let accepted: Vec<(&RequestRecord, &String)> = requests
        .records
        .iter()
        .filter_map(|record| {
            let reply = record.reply.as_ref()?;
            Some((record, reply.job.as_ref().filter(|_| reply.is_accepted())?))
        })
        .collect();
    let unfinished = accepted
        .iter()
        .filter(|(_, id)| !jobs.outcome(id).is_some_and(JobState::is_final));
    let violations = unfinished
        .map(|(record, id)| {
            let found = jobs.get(id).map(describe);
            format!("{} ({}): job {id}: {found:?}", record.id, record.action)
        })
        .collect();
    Check::new(
        "every accepted change has a final outcome",
        accepted.len(),
        violations,
    )
}

/// Effects that are not repeatable happen at most once per key.
pub(super) fn no_upstream_side_effect_happens_twice(upstreams: &Upstreams) -> Check {
    let logs: [(Upstream, &Effects); 3] = [
        (Upstream::Authentik, &upstreams.authentik.server.effects),
        (Upstream::Stalwart, &upstreams.stalwart.server.effects),
        (Upstream::Ocis, &upstreams.ocis.server.effects),
    ];
    let mut counts: BTreeMap<(Upstream, &str, String), u64> = BTreeMap::new();
    let mut checked = 0;
    for (upstream, effects) in logs {
        for effect in effects.all() {
            checked += 1;
            if NON_REPEATABLE.contains(&effect.operation) {
                let counted = (upstream, effect.operation, effect.key);
                *counts.entry(counted).or_default() += 1;
            }
        }
    }
    let twice = counts.into_iter().filter(|(_, count)| *count > 1);
    let violations = twice.map(|((upstream, operation, key), count)| {
        format!("{upstream}: {operation} of {key} happened {count} times")
    });
    Check::new(
        "no upstream side effect happens twice",
        checked,
        violations.collect(),
    )
}

/// An app is attached only once it is restricted, and as long as it is.
pub(super) fn no_app_is_open_to_other_tenants_at_any_time(upstreams: &Upstreams) -> Check {
    let openings = upstreams.authentik.openings();
    let violations = openings.iter().map(|opening| format!("{opening:?}"));
    Check::new(
        "no app is open to other tenants at any time",
        upstreams.authentik.server.effects.count("attach_provider"),
        violations.collect(),
    )
}

/// At most one job per lock key runs at a time.
pub(super) fn at_most_one_live_lease_per_lock_key(observed: &Observations) -> Check {
    let mut check = Check::new(
        "at most one live lease per lock key",
        0,
        observed.lease_conflicts.clone(),
    );
    check.checked = observed.claims;
    check
}

/// Another worker takes a job over only once the last write of the lost one has landed: before, it would not see it.
pub(super) fn no_job_is_rescued_before_its_last_write_has_landed(observed: &Observations) -> Check {
    let mut check = Check::new(
        "no job is rescued before its last write has landed",
        0,
        observed.early_rescues.clone(),
    );
    check.checked = observed.rescues;
    check
}

/// Final jobs are immutable, but for the marks of operators: the job that a requeue made of it, and a dismissal.
pub(super) fn a_final_job_never_changes(observed: &Observations) -> Check {
    let mut check = Check::new(
        "a final job never changes",
        0,
        observed.changed_when_final.clone(),
    );
    check.checked = observed.changes;
    check
}

/// No job waits forever.
pub(super) fn every_open_job_has_a_next_run_time(observed: &Observations) -> Check {
    let mut check = Check::new(
        "every open job has a next run time",
        0,
        observed.without_run_time.clone(),
    );
    check.checked = observed.changes;
    check
}

/// No job is claimed again and again without a growing delay.
pub(super) fn no_job_spins(observed: &Observations) -> Check {
    let violations = observed.pace.spinning.clone();
    Check::new("no job spins", observed.jobs(), violations)
}

/// The watcher observed every job and its end.
pub(super) fn every_change_was_observed(observed: &Observations, stored: &Stored) -> Check {
    let unseen = stored.jobs.iter().filter(|job| !observed.saw_end_of(job));
    let violations = unseen
        .map(|job| format!("not observed: the end of {}", describe(job)))
        .collect();
    Check::new("every change was observed", observed.jobs(), violations)
}

/// Jobs respect their limits of attempts and crashes.
pub(super) fn attempts_and_crashes_stay_within_their_limits(stored: &Stored) -> Check {
    let exceeds = |job: &&Job| {
        job.max_attempts.is_some_and(|max| job.attempt > max)
            || !(0..=MAX_CRASHES).contains(&job.crashes)
            || job.attempt < 0
            || job.attempts.len() > MAX_LISTED_ATTEMPTS
    };
    let exceeding = stored.jobs.iter().filter(exceeds);
    let violations = exceeding.map(|job| {
        format!(
            "{} {}: attempt {} of {:?}, {} crashes, {} attempts listed",
            job.kind,
            job.id,
            job.attempt,
            job.max_attempts,
            job.crashes,
            job.attempts.len()
        )
    });
    Check::new(
        "attempts and crashes stay within their limits",
        stored.jobs.len(),
        violations.collect(),
    )
}

/// Every error code is explained by an injected fault.
pub(super) fn no_failure_is_misclassified(stored: &Stored) -> Check {
    let mut violations = Vec::new();
    for job in &stored.jobs {
        let of_steps = job.steps.iter().filter_map(|step| step.error.as_ref());
        let unexpected = job
            .error
            .iter()
            .chain(of_steps)
            .find(|failure| UNEXPECTED_CODES.contains(&failure.code));
        if let Some(failure) = unexpected {
            violations.push(format!(
                "{} {}: {:?}, {}",
                job.kind, job.id, failure.code, failure.detail
            ));
        }
    }
    Check::new("no failure is misclassified", stored.jobs.len(), violations)
}

/// Every accepted change has exactly one audit event, and there are no others.
pub(super) fn the_audit_trail_matches_the_accepted_changes(
    requests: &RequestLog,
    stored: &Stored,
) -> Check {
    let mut events: HashMap<&str, u64> = HashMap::new();
    // Items of bulk operations and lost domains are recorded under the request of another caller, and so are, by the system,
    // the ends of jobs.
    let is_direct = |event: &&AuditEvent| {
        !is_item_event(event)
            && event.action != Action::DomainLost
            && event.actor.kind != ActorKind::System
    };
    for event in stored.events.iter().filter(is_direct) {
        if let Some(id) = &event.origin.request_id {
            *events.entry(id).or_default() += 1;
        }
    }
    let mut violations = Vec::new();
    for record in &requests.records {
        let found = events.get(record.id.as_str()).copied().unwrap_or(0);
        let is_right = match (&record.reply, record.recorded_change()) {
            // An upstream that another operator has paused already stays as it is.
            // So does a subscription that the invoice run has ended.
            (Some(_), true)
                if ["pause upstream", "cancel subscription"].contains(&record.action) =>
            {
                found <= 1
            }
            (_, true) => found == 1,
            (Some(reply), false) if reply.is_accepted() => found == 0,
            // An earlier attempt whose response was lost may have been accepted.
            _ => found <= u64::from(record.attempts > 1),
        };
        if !is_right {
            violations.push(format!("{record:?} has {found} audit events"));
        }
    }
    Check::new(
        "the audit trail matches the accepted changes",
        stored.events.len(),
        violations,
    )
}
