//! The worker's metrics. Each is described and initialised here, so that a dashboard shows zero before the first event.
//! Labels have few values, and never contain a tenant or a job.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    dependency::{CheckResult, Dependency},
    platform::{clock, metrics::PrometheusHandle},
    queue::{
        error_code::ErrorClass,
        job::{Job, Queue, Step, StepState},
    },
    upstream::Upstream,
};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// The name of this service in health, traces and metrics.
pub const SERVICE: &str = "dezky-worker";

const CLAIMED: &str = "dezky_jobs_claimed_total";
const START_DELAY: &str = "dezky_job_start_delay_seconds";
const ATTEMPTS: &str = "dezky_job_attempts_total";
const ATTEMPT_DURATION: &str = "dezky_job_attempt_duration_seconds";
const STEP_DURATION: &str = "dezky_step_duration_seconds";
const UNKNOWN_KIND: &str = "dezky_jobs_unknown_kind_total";
const UNDECODABLE: &str = "dezky_jobs_undecodable_total";
const LEASES_LOST: &str = "dezky_leases_lost_total";
const RESCUED: &str = "dezky_jobs_rescued_total";
const SWEPT: &str = "dezky_sweep_found_total";
const DATABASE_ERRORS: &str = "dezky_database_errors_total";
const REDIS_CONNECTED: &str = "dezky_redis_connected";
const LEADER: &str = "dezky_leader";
const SLOTS: &str = "dezky_worker_slots";
const QUEUE_DEPTH: &str = "dezky_queue_depth";
const OLDEST_DUE: &str = "dezky_queue_oldest_due_age_seconds";
const CREDENTIALS_REFUSED: &str = "dezky_upstream_credentials_refused";
const PAUSE_AGE: &str = "dezky_pause_age_seconds";
const CIRCUIT_OPEN: &str = "dezky_upstream_circuit_open";
const PERMISSION_MISSING: &str = "dezky_upstream_permission_missing_jobs";
const AUDIT_SEALED: &str = "dezky_audit_sealed_total";
const AUDIT_UNSEALED: &str = "dezky_audit_unsealed_events";
const AUDIT_LAG: &str = "dezky_audit_seal_lag_seconds";
const APPS_OPEN: &str = "dezky_apps_open";
const STRAY_SPACES: &str = "dezky_stray_spaces_found_total";
const PROBE_FAILED: &str = "dezky_probe_failed";
const PROBE_LATENCY: &str = "dezky_probe_latency_seconds";
const SETUP_PROBLEMS: &str = "dezky_setup_problems";

/// Buckets from a wake-up to a backlog.
const DELAYS: [f64; 10] = [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0];
/// Buckets up to the attempt timeout.
const DURATIONS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0];

/// Installs the recorder, and initialises every metric.
pub fn start() -> anyhow::Result<PrometheusHandle> {
    let handle = dezky_shared::platform::metrics::install(
        SERVICE,
        env!("CARGO_PKG_VERSION"),
        &[
            (START_DELAY, &DELAYS),
            (ATTEMPT_DURATION, &DURATIONS),
            (STEP_DURATION, &DURATIONS),
        ],
    )?;
    describe();
    initialize();
    Ok(handle)
}

fn describe() {
    let count = |name, text: &'static str| describe_counter!(name, Unit::Count, text);
    count(CLAIMED, "Jobs claimed, by queue.");
    count(
        ATTEMPTS,
        "Attempts, by kind, outcome and the class of the error.",
    );
    count(
        UNKNOWN_KIND,
        "Claims of jobs with a kind or a step that is not registered in this build.",
    );
    count(
        UNDECODABLE,
        "Jobs released because this build cannot decode them.",
    );
    count(
        LEASES_LOST,
        "Attempts that ended because the lease was lost.",
    );
    count(
        RESCUED,
        "Jobs whose lease expired, by outcome of the rescue.",
    );
    count(
        SWEPT,
        "Lock keys that the sweep added to a ready set: lost wake-ups, and runs scheduled beyond the wake-up horizon.",
    );
    count(DATABASE_ERRORS, "MongoDB commands that failed.");
    count(
        AUDIT_SEALED,
        "Audit events appended to their hash chains by this worker.",
    );
    count(
        STRAY_SPACES,
        "Spaces of the file server that a daily check reported: duplicates, and spaces of no tenant.",
    );

    let seconds = |name, text: &'static str| describe_histogram!(name, Unit::Seconds, text);
    seconds(
        START_DELAY,
        "Time between a job being due and its claim, by queue.",
    );
    seconds(
        ATTEMPT_DURATION,
        "Duration of attempts, by kind and outcome.",
    );
    seconds(STEP_DURATION, "Duration of steps, by step and final state.");

    let level = |name, text: &'static str| describe_gauge!(name, Unit::Count, text);
    level(REDIS_CONNECTED, "Whether this worker reaches Redis.");
    level(LEADER, "Whether this worker is the leader.");
    level(SLOTS, "Concurrent jobs of this worker, by queue.");
    level(
        QUEUE_DEPTH,
        "Due jobs, by queue. Reported by the leader, 0 elsewhere.",
    );
    describe_gauge!(
        OLDEST_DUE,
        Unit::Seconds,
        "Age of the oldest due job, by queue. Reported by the leader, 0 elsewhere."
    );
    level(
        CREDENTIALS_REFUSED,
        "Whether an upstream refuses our credentials. Reported by the leader, 0 elsewhere.",
    );
    describe_gauge!(
        PAUSE_AGE,
        Unit::Seconds,
        "Age of the pause of a queue or an upstream, 0 if it is not paused. Reported by the leader, 0 elsewhere."
    );
    level(
        CIRCUIT_OPEN,
        "Whether the circuit breaker of an upstream is open. Reported by the leader, 0 elsewhere.",
    );
    level(
        PERMISSION_MISSING,
        "Jobs held because our account lacks a permission in an upstream, at most 1,000. Reported by the leader, 0 elsewhere.",
    );
    level(
        APPS_OPEN,
        "Sign-on apps that a job found without their binding: every user of the identity provider can sign in. Reported by the leader, 0 elsewhere.",
    );
    level(
        AUDIT_UNSEALED,
        "Audit events to be sealed. Reported by the leader, 0 elsewhere.",
    );
    describe_gauge!(
        AUDIT_LAG,
        Unit::Seconds,
        "Age of the oldest unsealed audit event. Reported by the leader, 0 elsewhere."
    );
    describe_gauge!(
        PROBE_FAILED,
        "Whether the last check of a store, an upstream or a resolver failed. Reported by the leader, 0 elsewhere.",
    );
    describe_gauge!(
        PROBE_LATENCY,
        Unit::Seconds,
        "Latency of the last check of a dependency. Reported by the leader, 0 elsewhere and after a failure."
    );
    describe_gauge!(
        SETUP_PROBLEMS,
        "Failed setup checks of an upstream. Reported by the leader, 0 elsewhere.",
    );
}

fn initialize() {
    let counters = [
        UNKNOWN_KIND,
        UNDECODABLE,
        LEASES_LOST,
        DATABASE_ERRORS,
        AUDIT_SEALED,
        STRAY_SPACES,
    ];
    for name in counters {
        counter!(name).increment(0);
    }
    for outcome in RESCUES {
        counter!(RESCUED, "outcome" => outcome).increment(0);
    }
    for queue in Queue::ALL {
        counter!(CLAIMED, "queue" => queue.name()).increment(0);
        counter!(SWEPT, "queue" => queue.name()).increment(0);
    }
    for dependency in [Dependency::Mongodb, Dependency::Redis] {
        dependency_checked(&dependency, None);
    }
    for upstream in Upstream::ALL {
        setup_problems(upstream, 0);
    }
    redis_connected(false);
    leads(false);
    clear_backlogs();
    clear_missing_permissions();
}

const RESCUES: [&str; 2] = ["released", "discarded"];
/// Outcomes of an attempt that failed.
const FAILURES: [&str; 3] = ["retry", "snooze", "discard"];
/// Outcomes of an attempt without an error.
const OTHERS: [&str; 4] = ["complete", "snooze", "release", "restart"];

/// Initialises the counters of attempts of these kinds, so that the first of each outcome is an increase.
pub fn kinds(kinds: impl Iterator<Item = &'static str>) {
    for kind in kinds {
        for outcome in FAILURES {
            for class in ErrorClass::ALL.map(ErrorClass::name) {
                let labels = [("kind", kind), ("outcome", outcome), ("class", class)];
                counter!(ATTEMPTS, &labels).increment(0);
            }
        }
        for outcome in OTHERS {
            let labels = [("kind", kind), ("outcome", outcome), ("class", "none")];
            counter!(ATTEMPTS, &labels).increment(0);
        }
    }
}

/// Records the number of concurrent jobs of each queue.
pub fn slots(slots: &std::collections::BTreeMap<Queue, usize>) {
    for (queue, slots) in slots {
        let slots = u32::try_from(*slots).unwrap_or(u32::MAX);
        gauge!(SLOTS, "queue" => queue.name()).set(slots);
    }
}

/// Records a claim.
pub(crate) fn claimed(job: &Job, at: DateTime) {
    counter!(CLAIMED, "queue" => job.queue.name()).increment(1);
    let delay = clock::until(job.run_at, at);
    histogram!(START_DELAY, "queue" => job.queue.name()).record(delay);
}

/// Records the end of an attempt of a registered kind.
pub(crate) fn attempted(kind: &str, outcome: &str, failure: Option<ErrorClass>, took: Duration) {
    let labels = [("kind", kind.to_owned()), ("outcome", outcome.to_owned())];
    histogram!(ATTEMPT_DURATION, &labels).record(took);
    let class = failure.map_or("none", ErrorClass::name);
    let [kind, outcome] = labels;
    counter!(ATTEMPTS, &[kind, outcome, ("class", class.to_owned())]).increment(1);
}

/// Records the end of a step.
pub(crate) fn stepped(step: &Step) {
    let (Some(began), Some(ended)) = (step.started_at, step.finished_at) else {
        return;
    };
    let state = match step.state {
        StepState::Pending => "pending",
        StepState::Ok => "ok",
        StepState::Skipped => "skipped",
        StepState::Error => "error",
        StepState::Unknown => "unknown",
    };
    let labels = [("step", step.name.clone()), ("state", state.to_owned())];
    histogram!(STEP_DURATION, &labels).record(clock::until(began, ended));
}

/// Records the claim of a job with a kind or a step that is not registered in this build.
pub(crate) fn unknown_kind() {
    counter!(UNKNOWN_KIND).increment(1);
}

/// Records jobs that this build cannot decode.
pub(crate) fn undecodable(jobs: usize) {
    counter!(UNDECODABLE).increment(u64::try_from(jobs).unwrap_or(u64::MAX));
}

/// Records an attempt that lost its lease.
pub(crate) fn lease_lost() {
    counter!(LEASES_LOST).increment(1);
}

/// Records a run of the rescue: jobs made available, and jobs discarded after too many crashes.
pub(crate) fn rescued(released: usize, discarded: usize) {
    for (outcome, jobs) in RESCUES.into_iter().zip([released, discarded]) {
        counter!(RESCUED, "outcome" => outcome).increment(jobs as u64);
    }
}

/// Records keys that the sweep added to the ready set of `queue`.
pub(crate) fn swept(queue: Queue, keys: u64) {
    counter!(SWEPT, "queue" => queue.name()).increment(keys);
}

/// Records a failed MongoDB command.
pub(crate) fn database_failed() {
    counter!(DATABASE_ERRORS).increment(1);
}

/// Records whether Redis answered.
pub(crate) fn redis_connected(connected: bool) {
    gauge!(REDIS_CONNECTED).set(u8::from(connected));
}

/// The backlog of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// The number of due jobs.
    pub(crate) depth: u32,
    /// The age of the oldest.
    pub(crate) oldest: Duration,
}

/// Records the backlog of a queue.
pub(crate) fn backlog(queue: Queue, Backlog { depth, oldest }: Backlog) {
    gauge!(QUEUE_DEPTH, "queue" => queue.name()).set(depth);
    gauge!(OLDEST_DUE, "queue" => queue.name()).set(oldest.as_secs_f64());
}

/// Records whether `upstream` refuses our credentials.
pub(crate) fn credentials_refused(upstream: Upstream, refused: bool) {
    gauge!(CREDENTIALS_REFUSED, "upstream" => upstream.name()).set(u8::from(refused));
}

/// Records the age of the pause of a queue (`queue:dns`) or an upstream (`upstream:ocis`); zero if it is not paused.
pub(crate) fn pause_age(subject: String, age: Duration) {
    gauge!(PAUSE_AGE, "subject" => subject).set(age.as_secs_f64());
}

/// Records whether the circuit breaker of `upstream` is open.
pub(crate) fn circuit_open(upstream: Upstream, open: bool) {
    gauge!(CIRCUIT_OPEN, "upstream" => upstream.name()).set(u8::from(open));
}

/// Records the number of jobs that are held because our account lacks a permission in `upstream`.
pub(crate) fn missing_permission(upstream: Upstream, jobs: usize) {
    let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
    gauge!(PERMISSION_MISSING, "upstream" => upstream.name()).set(jobs);
}

/// Resets this metric of a worker that does not lead.
pub(crate) fn clear_missing_permissions() {
    for upstream in Upstream::ALL {
        missing_permission(upstream, 0);
    }
}

/// Records sealed audit events.
pub(crate) fn sealed(events: usize) {
    counter!(AUDIT_SEALED).increment(events as u64);
}

/// Records the findings of a check of all spaces.
pub(crate) fn stray_spaces(found: usize) {
    counter!(STRAY_SPACES).increment(found as u64);
}

/// Records the number of sign-on apps that every user of the identity provider can sign in to.
pub(crate) fn apps_open(apps: u64) {
    gauge!(APPS_OPEN).set(u32::try_from(apps).unwrap_or(u32::MAX));
}

/// Records the number of unsealed audit events, and the age of the oldest.
pub(crate) fn unsealed(events: u32, oldest: Duration) {
    gauge!(AUDIT_UNSEALED).set(events);
    gauge!(AUDIT_LAG).set(oldest.as_secs_f64());
}

/// Records the last check of a dependency; `None` where this worker runs no checks.
pub(crate) fn dependency_checked(dependency: &Dependency, result: Option<&CheckResult>) {
    let latency = match result {
        Some(CheckResult::Answered(latency)) => latency.as_secs_f64(),
        _ => 0.0,
    };
    let failed = matches!(result, Some(CheckResult::Failed(_)));
    gauge!(PROBE_FAILED, "subject" => dependency.to_string()).set(u8::from(failed));
    gauge!(PROBE_LATENCY, "subject" => dependency.to_string()).set(latency);
}

/// Records how many setup checks of an upstream failed.
pub(crate) fn setup_problems(upstream: Upstream, problems: usize) {
    let subject = Dependency::Upstream(upstream).to_string();
    gauge!(SETUP_PROBLEMS, "subject" => subject).set(u32::try_from(problems).unwrap_or(u32::MAX));
}

/// Records whether this worker is the leader.
pub(crate) fn leads(leads: bool) {
    gauge!(LEADER).set(u8::from(leads));
}

/// Resets the backlog metrics of a worker that does not lead: across workers, the maximum counts.
pub(crate) fn clear_backlogs() {
    for queue in Queue::ALL {
        let none = Backlog {
            depth: 0,
            oldest: Duration::ZERO,
        };
        backlog(queue, none);
        pause_age(format!("queue:{queue}"), Duration::ZERO);
    }
    for upstream in Upstream::ALL {
        credentials_refused(upstream, false);
        circuit_open(upstream, false);
        pause_age(format!("upstream:{upstream}"), Duration::ZERO);
    }
    unsealed(0, Duration::ZERO);
    apps_open(0);
}
