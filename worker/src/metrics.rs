//! What a worker measures. Each metric is named, described and begun here, so that a dashboard finds it at zero before
//! anything happened; labels take few values, and never a tenant's or a job's name.

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

/// What this service is called in health, traces and metrics.
pub const SERVICE: &str = "dezky-worker";

const CLAIMED: &str = "dezky_jobs_claimed_total";
const START_DELAY: &str = "dezky_job_start_delay_seconds";
const ATTEMPTS: &str = "dezky_job_attempts_total";
const ATTEMPT_DURATION: &str = "dezky_job_attempt_duration_seconds";
const STEP_DURATION: &str = "dezky_step_duration_seconds";
const UNKNOWN_KIND: &str = "dezky_jobs_unknown_kind_total";
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
const AUDIT_SEALED: &str = "dezky_audit_sealed_total";
const AUDIT_UNSEALED: &str = "dezky_audit_unsealed_events";
const AUDIT_LAG: &str = "dezky_audit_seal_lag_seconds";
const PROBE_FAILED: &str = "dezky_probe_failed";
const PROBE_LATENCY: &str = "dezky_probe_latency_seconds";

/// From a wake-up to a backlog.
const DELAYS: [f64; 10] = [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3_600.0];
/// An attempt may take five minutes.
const DURATIONS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0];

/// Begins to measure.
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
    begin();
    Ok(handle)
}

fn describe() {
    let count = |name, text: &'static str| describe_counter!(name, Unit::Count, text);
    count(CLAIMED, "Jobs claimed, by queue.");
    count(
        ATTEMPTS,
        "Attempts that ended, by kind, outcome and, where one failed, the class that says who has to act.",
    );
    count(
        UNKNOWN_KIND,
        "Jobs left alone because this build does not know their kind.",
    );
    count(
        LEASES_LOST,
        "Attempts that ended because somebody else had the job.",
    );
    count(
        RESCUED,
        "Jobs taken back from workers that are gone, by what became of them.",
    );
    count(
        SWEPT,
        "Lock keys with due work that no ready set held: wake-ups that were lost, and runs put off for more than a minute.",
    );
    count(DATABASE_ERRORS, "Commands that MongoDB did not carry out.");
    count(
        AUDIT_SEALED,
        "Audit events that this worker sealed into their chains.",
    );

    let seconds = |name, text: &'static str| describe_histogram!(name, Unit::Seconds, text);
    seconds(
        START_DELAY,
        "From when a job was due until it was claimed, by queue.",
    );
    seconds(
        ATTEMPT_DURATION,
        "How long attempts took, by kind and outcome.",
    );
    seconds(
        STEP_DURATION,
        "How long steps took, by step and the state they ended in.",
    );

    let level = |name, text: &'static str| describe_gauge!(name, Unit::Count, text);
    level(REDIS_CONNECTED, "Whether Redis answers this worker.");
    level(LEADER, "Whether this worker leads.");
    level(SLOTS, "How many jobs this worker runs at once, by queue.");
    level(
        QUEUE_DEPTH,
        "Jobs that are due and wait, by queue; told by the leader, 0 elsewhere.",
    );
    describe_gauge!(
        OLDEST_DUE,
        Unit::Seconds,
        "How long the longest has waited of the jobs that are due, by queue; told by the leader, 0 elsewhere."
    );
    level(
        CREDENTIALS_REFUSED,
        "Whether an upstream refuses our credentials; told by the leader, 0 elsewhere.",
    );
    level(
        AUDIT_UNSEALED,
        "Audit events that wait to be sealed; told by the leader, 0 elsewhere.",
    );
    describe_gauge!(
        AUDIT_LAG,
        Unit::Seconds,
        "How long the oldest audit event has waited to be sealed; told by the leader, 0 elsewhere."
    );
    describe_gauge!(
        PROBE_FAILED,
        "Whether a store, an upstream or a resolver did not answer the last look at it; told by the leader, 0 elsewhere.",
    );
    describe_gauge!(
        PROBE_LATENCY,
        Unit::Seconds,
        "How long the answer to the last look took; told by the leader, 0 elsewhere and where there was none."
    );
}

fn begin() {
    for name in [UNKNOWN_KIND, LEASES_LOST, DATABASE_ERRORS, AUDIT_SEALED] {
        counter!(name).increment(0);
    }
    for outcome in RESCUES {
        counter!(RESCUED, "outcome" => outcome).increment(0);
    }
    for queue in Queue::ALL {
        counter!(CLAIMED, "queue" => queue.name()).increment(0);
        counter!(SWEPT, "queue" => queue.name()).increment(0);
    }
    for subject in [Dependency::Mongodb, Dependency::Redis] {
        probed(&subject, None);
    }
    redis_connected(false);
    leads(false);
}

const RESCUES: [&str; 2] = ["released", "discarded"];

/// How many jobs of each queue run at once.
pub fn slots(slots: &std::collections::BTreeMap<Queue, usize>) {
    for (queue, slots) in slots {
        let slots = u32::try_from(*slots).unwrap_or(u32::MAX);
        gauge!(SLOTS, "queue" => queue.name()).set(slots);
    }
}

/// A job was claimed.
pub(crate) fn claimed(job: &Job, at: DateTime) {
    counter!(CLAIMED, "queue" => job.queue.name()).increment(1);
    let waited = clock::until(job.run_at, at);
    histogram!(START_DELAY, "queue" => job.queue.name()).record(waited);
}

/// An attempt at a job of a known kind ended.
pub(crate) fn attempted(kind: &str, outcome: &str, failure: Option<ErrorClass>, took: Duration) {
    let labels = [("kind", kind.to_owned()), ("outcome", outcome.to_owned())];
    histogram!(ATTEMPT_DURATION, &labels).record(took);
    let class = failure.map_or("none", ErrorClass::name);
    let [kind, outcome] = labels;
    counter!(ATTEMPTS, &[kind, outcome, ("class", class.to_owned())]).increment(1);
}

/// A step ended.
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

/// A job was left alone because its kind is of another build.
pub(crate) fn unknown_kind() {
    counter!(UNKNOWN_KIND).increment(1);
}

/// An attempt found that somebody else has its job.
pub(crate) fn lease_lost() {
    counter!(LEASES_LOST).increment(1);
}

/// So many jobs were taken back: put off, or discarded because workers died of them.
pub(crate) fn rescued(released: usize, discarded: usize) {
    for (outcome, jobs) in RESCUES.into_iter().zip([released, discarded]) {
        counter!(RESCUED, "outcome" => outcome).increment(jobs as u64);
    }
}

/// The sweep found so many keys that the ready set of `queue` did not hold.
pub(crate) fn swept(queue: Queue, keys: u64) {
    counter!(SWEPT, "queue" => queue.name()).increment(keys);
}

/// MongoDB did not do as asked.
pub(crate) fn database_failed() {
    counter!(DATABASE_ERRORS).increment(1);
}

/// Whether Redis answered.
pub(crate) fn redis_connected(connected: bool) {
    gauge!(REDIS_CONNECTED).set(u8::from(connected));
}

/// What the leader sees of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// How many jobs are due.
    pub(crate) depth: u32,
    /// For how long the first of them has been.
    pub(crate) oldest: Duration,
}

/// Says how a queue stands.
pub(crate) fn backlog(queue: Queue, Backlog { depth, oldest }: Backlog) {
    gauge!(QUEUE_DEPTH, "queue" => queue.name()).set(depth);
    gauge!(OLDEST_DUE, "queue" => queue.name()).set(oldest.as_secs_f64());
}

/// Whether `upstream` refuses our credentials.
pub(crate) fn credentials_refused(upstream: Upstream, refused: bool) {
    gauge!(CREDENTIALS_REFUSED, "upstream" => upstream.name()).set(u8::from(refused));
}

/// So many audit events were sealed.
pub(crate) fn sealed(events: usize) {
    counter!(AUDIT_SEALED).increment(events as u64);
}

/// So many audit events wait to be sealed, the oldest of them for so long.
pub(crate) fn unsealed(events: u32, oldest: Duration) {
    gauge!(AUDIT_UNSEALED).set(events);
    gauge!(AUDIT_LAG).set(oldest.as_secs_f64());
}

/// What the last look at `subject` found; nothing where this worker does not look.
pub(crate) fn probed(subject: &Dependency, finding: Option<&CheckResult>) {
    let latency = match finding {
        Some(CheckResult::Answered(latency)) => latency.as_secs_f64(),
        _ => 0.0,
    };
    let failed = matches!(finding, Some(CheckResult::Failed(_)));
    gauge!(PROBE_FAILED, "subject" => subject.to_string()).set(u8::from(failed));
    gauge!(PROBE_LATENCY, "subject" => subject.to_string()).set(latency);
}

/// Whether this worker leads. One that does not says nothing about what only the leader looks at: of what all workers
/// say, the greatest counts.
pub(crate) fn leads(leads: bool) {
    gauge!(LEADER).set(u8::from(leads));
    if !leads {
        for queue in Queue::ALL {
            let nothing = Backlog {
                depth: 0,
                oldest: Duration::ZERO,
            };
            backlog(queue, nothing);
        }
        for upstream in Upstream::ALL {
            credentials_refused(upstream, false);
        }
        unsealed(0, Duration::ZERO);
    }
}
