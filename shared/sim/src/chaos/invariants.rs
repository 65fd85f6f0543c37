//! What must hold once all is over, whatever went wrong: one function for each promise.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, AuditEvent},
    domain::Domain,
    id::TenantId,
    platform::clock,
    queue::{
        args::RecheckDomain,
        error_code::ErrorCode,
        job::{Job, JobArgs as _, JobState},
    },
    store::schedule_ledger::{LedgerEntry, ScheduleState},
    tenant::{ProvisioningState, Tenant},
    upstream::Upstream,
};
use futures::TryStreamExt as _;
use mongodb::{Client, Collection, Database};
use serde::de::DeserializeOwned;

use super::{
    agreement::Held,
    load::{Entry, Ledger},
    schedule::Mishap,
    stack::{DATABASE, Upstreams},
    strike::Hits,
    watcher::Seen,
};
use crate::effects::Effects;

/// Workers that may die of a job before it is discarded.
const CRASHES: i32 = 3;
/// Tries that a job lists.
const LISTED: usize = 20;
/// What can only happen once to a thing that has a name of its own: made once, removed once.
const ONCE: [&str; 8] = [
    "create_group",
    "delete_group",
    "create_user",
    "add_member",
    "create_domain",
    "destroy_domain",
    "create_space",
    "purge_space",
];
/// What no fault of this run explains: an upstream that refuses us, or a bug of ours.
const UNEXPLAINED: [ErrorCode; 8] = [
    ErrorCode::UpstreamRejected,
    ErrorCode::UpstreamCredentialsRefused,
    ErrorCode::UpstreamPermissionMissing,
    ErrorCode::UpstreamConflict,
    ErrorCode::DomainInvalid,
    ErrorCode::DomainInUse,
    ErrorCode::GaveUp,
    ErrorCode::Internal,
];

/// A promise, and what was found against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The promise.
    pub promise: &'static str,
    /// How many things were looked at.
    pub looked_at: u64,
    /// Where it does not hold.
    pub violations: Vec<String>,
}

impl Check {
    pub(super) fn new(promise: &'static str, looked_at: usize, violations: Vec<String>) -> Self {
        Self {
            promise,
            looked_at: looked_at as u64,
            violations,
        }
    }
}

/// What MongoDB holds.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) jobs: Vec<Job>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) domains: Vec<Domain>,
    pub(super) schedules: Vec<ScheduleState>,
    pub(super) instants: Vec<LedgerEntry>,
    events: Vec<AuditEvent>,
}

impl Stored {
    /// Reads it from the primary, past the proxies.
    pub(super) async fn read(primary: &Client) -> mongodb::error::Result<Self> {
        let database = primary.database(DATABASE);
        Ok(Self {
            jobs: all(&database, "jobs").await?,
            tenants: all(&database, "tenants").await?,
            domains: all(&database, "domains").await?,
            schedules: all(&database, "schedules").await?,
            instants: all(&database, "schedule_instants").await?,
            events: all(&database, "audit_events").await?,
        })
    }

    /// The jobs that are not final, each with what it waits for. Looks at domains that come in their own time are left
    /// out: there is always a next one.
    pub(super) async fn open_jobs(primary: &Client) -> mongodb::error::Result<Vec<String>> {
        let is_due = doc! { "runAt": { "$lte": clock::now() } };
        let is_no_look = doc! { "kind": { "$ne": RecheckDomain::KIND } };
        let open = doc! { "$or": [
            { "state": "running" },
            { "state": "available", "$or": [is_due, is_no_look] },
        ] };
        let jobs: Collection<Job> = primary.database(DATABASE).collection("jobs");
        let jobs: Vec<Job> = jobs.find(open).await?.try_collect().await?;
        Ok(jobs.iter().map(describe).collect())
    }

    /// The tenants that an upstream does not hold as they are wanted, though nothing is on its way.
    pub(super) fn left_over(&self) -> Vec<String> {
        let removing: BTreeSet<TenantId> = self
            .domains
            .iter()
            .filter(|domain| domain.removing)
            .map(|domain| domain.tenant_id)
            .collect();
        let is_left = |tenant: &&Tenant| {
            let is_done = |upstream| {
                let state = tenant.provisioning_status.get(upstream);
                matches!(state, ProvisioningState::Ok | ProvisioningState::Skipped)
            };
            removing.contains(&tenant.id) || !Upstream::ALL.into_iter().all(is_done)
        };
        let left = self.tenants.iter().filter(is_left);
        left.map(|tenant| tenant.slug.clone()).collect()
    }

    /// The domains that are about to be removed: they may still be upstream, or not any more.
    fn removing(&self) -> BTreeSet<String> {
        let removing = self.domains.iter().filter(|domain| domain.removing);
        removing.map(|domain| domain.name.clone()).collect()
    }

    /// What operations did to many jobs, each for itself.
    pub(super) fn events_of_items(&self) -> impl Iterator<Item = &AuditEvent> {
        self.events.iter().filter(|event| is_of_item(event))
    }
}

fn is_of_item(event: &AuditEvent) -> bool {
    event.after.contains_key("jobOperationId")
}

async fn all<T: DeserializeOwned + Send + Sync>(
    database: &Database,
    collection: &str,
) -> mongodb::error::Result<Vec<T>> {
    let collection: Collection<T> = database.collection(collection);
    collection.find(Document::new()).await?.try_collect().await
}

fn describe(job: &Job) -> String {
    let steps: Vec<String> = job
        .steps
        .iter()
        .map(|step| format!("{} {:?}", step.name, step.state).to_lowercase())
        .collect();
    format!(
        "{} {} is {}, tried {} times, next at {} ({})",
        job.kind,
        job.id,
        job.state.name(),
        job.total_attempts(),
        job.run_at,
        steps.join(", ")
    )
}

/// A fault that hits nothing tests nothing.
pub(super) fn every_kind_of_mishap_has_hit(hits: &BTreeMap<Mishap, Hits>) -> Check {
    let idle = hits.iter().filter(|(_, hits)| hits.hit == 0);
    let violations = idle.map(|(mishap, _)| format!("{mishap} hit nothing"));
    Check::new(
        "every kind of mishap has hit something",
        hits.len(),
        violations.collect(),
    )
}

/// No process ends unless it is killed.
pub(super) fn no_process_ended_by_itself(fallen: &[String]) -> Check {
    Check::new("no process ended by itself", fallen.len(), fallen.to_vec())
}

/// Once all is well, whoever asks is answered, and nobody is refused without a reason that callers know.
pub(super) fn every_request_is_answered(ledger: &Ledger) -> Check {
    let explained = |code: &str| {
        [
            "tenant_terminating",
            "tenant_terminated",
            "not_terminating",
            "purge_started",
            "job_final",
            "job_running",
            "purge_scheduled",
            "domain_is_primary",
        ]
        .contains(&code)
    };
    let is_about_domain =
        |entry: &Entry| matches!(entry.action, "look at domain" | "remove domain");
    let problem = |entry: &Entry| match &entry.answer {
        None => Some("was not answered".to_owned()),
        Some(answer) if answer.is_accepted() || answer.code.as_deref().is_some_and(explained) => {
            None
        }
        // It was given up by another change, or its tenant was removed.
        Some(answer) if is_about_domain(entry) && answer.code.as_deref() == Some("not_found") => {
            None
        }
        Some(answer) => Some(format!("was answered {answer:?}")),
    };
    let violations = ledger.entries.iter().filter_map(|entry| {
        let problem = problem(entry)?;
        Some(format!("{} ({}) {problem}", entry.id, entry.action))
    });
    Check::new(
        "every request is answered, and refused only for a reason",
        ledger.entries.len(),
        violations.collect(),
    )
}

/// The same request with the same key is answered as before.
pub(super) fn a_repeated_request_is_answered_alike(ledger: &Ledger) -> Check {
    let mut check = Check::new(
        "a repeated request is answered alike",
        0,
        ledger.answered_otherwise.clone(),
    );
    check.looked_at = ledger.repeated;
    check
}

/// An intent answered with 2xx reaches a final state that can be looked up.
pub(super) fn every_accepted_intent_has_a_fate(ledger: &Ledger, stored: &Stored) -> Check {
    let jobs: HashMap<String, &Job> = stored
        .jobs
        .iter()
        .map(|job| (job.id.to_string(), job))
        .collect();
    let accepted: Vec<(&Entry, &String)> = ledger
        .entries
        .iter()
        .filter_map(|entry| {
            let answer = entry.answer.as_ref()?;
            Some((entry, answer.job.as_ref().filter(|_| answer.is_accepted())?))
        })
        .collect();
    let fateless = accepted
        .iter()
        .filter(|(_, id)| !fate(&jobs, id).is_some_and(JobState::is_final));
    let violations = fateless
        .map(|(entry, id)| {
            let found = jobs.get(*id).map(|job| describe(job));
            format!("{} ({}): job {id}: {found:?}", entry.id, entry.action)
        })
        .collect();
    Check::new(
        "every accepted intent has a fate",
        accepted.len(),
        violations,
    )
}

/// How a job ended, or the one that did its work instead.
fn fate(jobs: &HashMap<String, &Job>, id: &str) -> Option<JobState> {
    let mut job = jobs.get(id)?;
    while let Some(by) = job.superseded_by {
        job = jobs.get(&by.to_string())?;
    }
    Some(job.state)
}

/// No effect upstream happens twice.
pub(super) fn nothing_happens_twice_upstream(upstreams: &Upstreams) -> Check {
    let logs: [(Upstream, &Effects); 3] = [
        (Upstream::Authentik, &upstreams.authentik.server.effects),
        (Upstream::Stalwart, &upstreams.stalwart.server.effects),
        (Upstream::Ocis, &upstreams.ocis.server.effects),
    ];
    let mut counts: BTreeMap<(Upstream, &str, String), u64> = BTreeMap::new();
    let mut looked_at = 0;
    for (upstream, effects) in logs {
        for effect in effects.all() {
            looked_at += 1;
            if ONCE.contains(&effect.operation) {
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
        "nothing happens twice upstream",
        looked_at,
        violations.collect(),
    )
}

/// At most one job of a tenant runs at a time, and nobody takes a lease from who still has it.
pub(super) fn never_two_live_leases_on_one_lock(seen: &Seen) -> Check {
    let mut check = Check::new(
        "never two live leases on one lock",
        0,
        seen.shared_locks.clone(),
    );
    check.looked_at = seen.claims;
    check
}

/// A job that is over is never touched again.
pub(super) fn final_is_final(seen: &Seen) -> Check {
    let mut check = Check::new("final is final", 0, seen.changed_when_final.clone());
    check.looked_at = seen.changes;
    check
}

/// Nothing waits for ever.
pub(super) fn every_open_job_has_a_next_time(seen: &Seen) -> Check {
    let mut check = Check::new(
        "every job that is not final has a next time",
        0,
        seen.without_next_time.clone(),
    );
    check.looked_at = seen.changes;
    check
}

/// The watcher saw every job, and each to its end.
pub(super) fn the_watcher_saw_all(seen: &Seen, stored: &Stored) -> Check {
    let unseen = stored.jobs.iter().filter(|job| !seen.knows_end_of(job));
    let violations = unseen
        .map(|job| format!("it did not see the end of {}", describe(job)))
        .collect();
    Check::new("every change was watched", seen.jobs(), violations)
}

/// No job is tried more often than it may be.
pub(super) fn attempts_and_crashes_stay_within_their_limits(stored: &Stored) -> Check {
    let exceeds = |job: &&Job| {
        job.max_attempts.is_some_and(|most| job.attempt > most)
            || !(0..=CRASHES).contains(&job.crashes)
            || job.attempt < 0
            || job.attempts.len() > LISTED
    };
    let exceeding = stored.jobs.iter().filter(exceeds);
    let violations = exceeding.map(|job| {
        format!(
            "{} {}: attempt {} of {:?}, {} crashes, {} tries listed",
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

/// Nothing fails for a reason that was not there.
pub(super) fn no_failure_is_mistaken_for_another(stored: &Stored) -> Check {
    let mut violations = Vec::new();
    for job in &stored.jobs {
        let of_steps = job.steps.iter().filter_map(|step| step.error.as_ref());
        let unexplained = job
            .error
            .iter()
            .chain(of_steps)
            .find(|failure| UNEXPLAINED.contains(&failure.code));
        if let Some(failure) = unexplained {
            violations.push(format!(
                "{} {}: {:?}, {}",
                job.kind, job.id, failure.code, failure.detail
            ));
        }
    }
    Check::new(
        "no failure is mistaken for another",
        stored.jobs.len(),
        violations,
    )
}

/// Every mutation that was accepted is in the audit trail once, and nothing else is.
pub(super) fn the_audit_trail_is_what_was_accepted(ledger: &Ledger, stored: &Stored) -> Check {
    let mut events: HashMap<&str, u64> = HashMap::new();
    // What an operation does, and what others lose, is in the name of who asked for it.
    let is_own = |event: &&AuditEvent| !is_of_item(event) && event.action != Action::DomainLost;
    for event in stored.events.iter().filter(is_own) {
        if let Some(id) = &event.origin.request_id {
            *events.entry(id).or_default() += 1;
        }
    }
    let mut violations = Vec::new();
    for entry in &ledger.entries {
        let found = events.get(entry.id.as_str()).copied().unwrap_or(0);
        let is_right = match (&entry.answer, entry.has_changed()) {
            (_, true) => found == 1,
            (Some(answer), false) if answer.is_accepted() => found == 0,
            // An earlier try whose answer was lost may have been accepted later.
            _ => found <= u64::from(entry.tries > 1),
        };
        if !is_right {
            violations.push(format!("{entry:?} has {found} audit events"));
        }
    }
    Check::new(
        "the audit trail is what was accepted",
        stored.events.len(),
        violations,
    )
}

/// What a tenant says is done, is done upstream; nothing upstream belongs to nobody; a completed job has no step left.
pub(super) fn tenants_jobs_and_upstreams_agree(stored: &Stored, upstreams: &Upstreams) -> Check {
    let now: DateTime = clock::now();
    let held = Held::look(upstreams);
    let removing = stored.removing();
    let mut violations = held.orphans(&stored.tenants);
    for tenant in &stored.tenants {
        violations.extend(held.disagreements(tenant, &removing, now));
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

/// What a person had left open is mended by one reconcile.
pub(super) fn one_reconcile_mends_what_was_left(
    left: usize,
    stored: &Stored,
    upstreams: &Upstreams,
) -> Check {
    let still = stored.left_over();
    let unmended = still
        .iter()
        .map(|slug| format!("{slug} is not as it is wanted"));
    let disagreements = tenants_jobs_and_upstreams_agree(stored, upstreams).violations;
    let violations = unmended.chain(disagreements).collect();
    Check::new("one reconcile mends what was left", left, violations)
}
