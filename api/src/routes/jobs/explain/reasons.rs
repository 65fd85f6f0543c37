//! Reasons for a job's state, as a pure function. The first to resolve is on top.

use bson::DateTime;
use dezky_shared::{
    queue::{
        error_code::{ErrorCode, RetryPolicy},
        job::{Job, JobState, Lease, Step},
        pause::Pause,
    },
    store::{upstreams::UpstreamState, workers::Worker},
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;

/// The job and the state of its environment.
#[derive(Debug)]
pub(super) struct ExplainInputs<'a> {
    pub(super) job: &'a Job,
    pub(super) now: DateTime,
    /// Another job that holds the job's lock key.
    pub(super) holder: Option<&'a Job>,
    pub(super) queue_paused: Option<&'a Pause>,
    pub(super) upstreams: &'a [UpstreamState],
    pub(super) workers: &'a [Worker],
    /// Number of due jobs that are served before it.
    pub(super) jobs_ahead: u64,
}

/// A reason for a job's state.
#[derive(Debug, PartialEq)]
pub(super) enum Reason<'a> {
    Final {
        state: JobState,
        at: Option<DateTime>,
    },
    Running {
        lease: Option<&'a Lease>,
        /// Steps that have not finished.
        steps: Vec<&'a str>,
        stopping: bool,
    },
    /// Enqueued for this time.
    Scheduled {
        until: DateTime,
    },
    /// Failed; a retry is scheduled.
    Retry {
        until: DateTime,
    },
    /// Snoozed: delayed without counting an attempt.
    Snoozed {
        until: DateTime,
    },
    /// Rescued from a lost worker.
    Rescued {
        until: DateTime,
    },
    UpstreamPaused {
        upstream: Upstream,
        pause: &'a Pause,
    },
    CredentialsRefused {
        upstream: Upstream,
        since: DateTime,
        probe_at: Option<DateTime>,
    },
    /// The upstream refused an operation of the step.
    PermissionMissing {
        upstream: Upstream,
        step: &'a Step,
    },
    CircuitOpen {
        upstream: Upstream,
        since: DateTime,
        probe_at: Option<DateTime>,
    },
    /// A step has a reservation in its upstream's rate budget.
    RateReserved {
        upstream: Upstream,
        until: DateTime,
    },
    /// A step queues for a reservation in its upstream's rate budget.
    RateQueued {
        upstream: Upstream,
    },
    LockHeld {
        holder: &'a Job,
    },
    QueuePaused {
        pause: &'a Pause,
    },
    NoWorker,
    /// Live workers serve the queue, but none handles the job's kind.
    KindUnknown,
    /// Due, with others before it.
    Backlog {
        jobs_ahead: u64,
    },
    /// Due and not blocked.
    Next,
}

/// Stable code of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = JobReasonCode)]
pub(super) enum ReasonCode {
    /// Finished.
    Final,
    /// Running.
    Running,
    /// Scheduled for later.
    Scheduled,
    /// Failed, and retried later.
    Retry,
    /// Delayed without counting an attempt.
    Snoozed,
    /// Its worker was lost.
    Rescued,
    /// An upstream is paused.
    UpstreamPaused,
    /// An upstream rejects our credentials.
    CredentialsRefused,
    /// An upstream denies an operation to our account.
    PermissionMissing,
    /// The circuit breaker of an upstream is open.
    CircuitOpen,
    /// The rate limit of an upstream is reached.
    Turn,
    /// Another job holds the lock.
    LockHeld,
    /// The queue is paused.
    QueuePaused,
    /// No live worker serves the queue.
    NoWorker,
    /// No live worker handles the kind.
    KindUnknown,
    /// Others are served first.
    Backlog,
    /// Starts when a worker has a free slot.
    #[default]
    Next,
}

/// All reasons that apply to a job. Never empty.
pub(super) fn reasons<'a>(inputs: &ExplainInputs<'a>) -> Vec<Reason<'a>> {
    let job = inputs.job;
    if job.state.is_final() {
        return vec![Reason::Final {
            state: job.state,
            at: job.finished_at,
        }];
    }
    if job.state == JobState::Running {
        let open = job.steps.iter().filter(|step| is_open(step));
        return vec![Reason::Running {
            lease: job.lease.as_ref(),
            steps: open.map(|step| step.name.as_str()).collect(),
            stopping: job.cancel_requested == Some(true),
        }];
    }
    let mut reasons = Vec::new();
    if job.run_at > inputs.now {
        if !is_queued(job) {
            reasons.push(not_due(job));
        }
        let steps = job.steps.iter().filter(|step| is_open(step));
        reasons.extend(steps.filter_map(|step| of_upstream(step, inputs)));
    }
    reasons.extend(
        inputs
            .queue_paused
            .map(|pause| Reason::QueuePaused { pause }),
    );
    reasons.extend(inputs.holder.map(|holder| Reason::LockHeld { holder }));
    reasons.extend(of_workers(inputs));
    if reasons.is_empty() {
        reasons.push(match inputs.jobs_ahead {
            0 => Reason::Next,
            jobs_ahead => Reason::Backlog { jobs_ahead },
        });
    }
    reasons
}

/// Whether the job waits for nothing but a reservation, whose time is not known yet.
pub(super) fn is_queued(job: &Job) -> bool {
    let mut steps = job.steps.iter();
    steps.any(|step| step.queue_full && step.next_at == Some(job.run_at))
}

fn is_open(step: &Step) -> bool {
    !step.state.is_done() && !step.is_permanently_failed()
}

/// Reason why the job is not due yet.
fn not_due(job: &Job) -> Reason<'static> {
    let until = job.run_at;
    if job.rescued {
        return Reason::Rescued { until };
    }
    if job.total_attempts() == 0 {
        return Reason::Scheduled { until };
    }
    let policy = job.error.as_ref().map(|error| error.code.retry_policy());
    if policy == Some(RetryPolicy::Counted) {
        Reason::Retry { until }
    } else {
        Reason::Snoozed { until }
    }
}

/// Reason why a step cannot call its upstream.
fn of_upstream<'a>(step: &'a Step, inputs: &ExplainInputs<'a>) -> Option<Reason<'a>> {
    let upstream = Upstream::of_step(&step.name)?;
    let mut states = inputs.upstreams.iter();
    let state = states.find(|state| state.upstream == upstream);
    if let Some(pause) = state.and_then(|state| state.paused.as_ref()) {
        return Some(Reason::UpstreamPaused { upstream, pause });
    }
    if let Some(state) = state
        && let Some(since) = state.refused_at
    {
        return Some(Reason::CredentialsRefused {
            upstream,
            since,
            probe_at: state.probe_at,
        });
    }
    let code = step.error.as_ref().map(|error| error.code);
    if code == Some(ErrorCode::UpstreamPermissionMissing) {
        return Some(Reason::PermissionMissing { upstream, step });
    }
    if let Some(breaker) = state.and_then(|state| state.seen.as_ref())
        && let Some(since) = breaker.open_since
    {
        return Some(Reason::CircuitOpen {
            upstream,
            since,
            probe_at: breaker.probe_at,
        });
    }
    if step.queue_full {
        return Some(Reason::RateQueued { upstream });
    }
    let until = step.reserved_at.filter(|at| *at > inputs.now)?;
    Some(Reason::RateReserved { upstream, until })
}

fn of_workers(inputs: &ExplainInputs<'_>) -> Option<Reason<'static>> {
    let (job, workers) = (inputs.job, inputs.workers.iter());
    let mut serving = workers.filter(|worker| worker.serves(job.queue, inputs.now));
    if serving.clone().next().is_none() {
        return Some(Reason::NoWorker);
    }
    let is_handled = serving.any(|worker| worker.handles(&job.kind));
    (!is_handled).then_some(Reason::KindUnknown)
}

impl Reason<'_> {
    /// Stable code.
    pub(super) fn code(&self) -> ReasonCode {
        match self {
            Self::Final { .. } => ReasonCode::Final,
            Self::Running { .. } => ReasonCode::Running,
            Self::Scheduled { .. } => ReasonCode::Scheduled,
            Self::Retry { .. } => ReasonCode::Retry,
            Self::Snoozed { .. } => ReasonCode::Snoozed,
            Self::Rescued { .. } => ReasonCode::Rescued,
            Self::UpstreamPaused { .. } => ReasonCode::UpstreamPaused,
            Self::CredentialsRefused { .. } => ReasonCode::CredentialsRefused,
            Self::PermissionMissing { .. } => ReasonCode::PermissionMissing,
            Self::CircuitOpen { .. } => ReasonCode::CircuitOpen,
            Self::RateReserved { .. } | Self::RateQueued { .. } => ReasonCode::Turn,
            Self::LockHeld { .. } => ReasonCode::LockHeld,
            Self::QueuePaused { .. } => ReasonCode::QueuePaused,
            Self::NoWorker => ReasonCode::NoWorker,
            Self::KindUnknown => ReasonCode::KindUnknown,
            Self::Backlog { .. } => ReasonCode::Backlog,
            Self::Next => ReasonCode::Next,
        }
    }

    /// Human-readable message.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Final { state, .. } => format!("The job is {}.", state.name()),
            Self::Running { stopping: true, .. } => {
                "The job is running and stops after its current step.".to_owned()
            }
            Self::Running { .. } => "The job is running.".to_owned(),
            Self::Scheduled { .. } => "The job is scheduled for a later time.".to_owned(),
            Self::Retry { .. } => "The job failed and will be retried.".to_owned(),
            Self::Snoozed { .. } => {
                "The job is delayed by its last error. The delay does not count as an attempt."
                    .to_owned()
            }
            Self::Rescued { .. } => {
                "The worker of the job was lost; the job will be run again.".to_owned()
            }
            Self::UpstreamPaused { upstream, .. } => {
                format!("Calls to the {} service are paused.", upstream.service())
            }
            Self::CredentialsRefused { upstream, .. } => format!(
                "The {} service rejects the credentials. One job probes it periodically.",
                upstream.service()
            ),
            Self::PermissionMissing { upstream, .. } => format!(
                "The {} service denies an operation to our account. Our operators have to grant the permission and resume the service.",
                upstream.service()
            ),
            Self::CircuitOpen { upstream, .. } => format!(
                "The {} service is unreachable. One job probes it periodically.",
                upstream.service()
            ),
            Self::RateReserved { upstream, .. } => format!(
                "The rate limit of the {} service is reached. A step waits for its reservation.",
                upstream.service()
            ),
            Self::RateQueued { upstream } => format!(
                "The rate limit of the {} service is reached. A step queues for a reservation, behind more urgent and older jobs.",
                upstream.service()
            ),
            Self::LockHeld { .. } => {
                "Another job holds the lock on the same object and must finish first.".to_owned()
            }
            Self::QueuePaused { .. } => "The queue of the job is paused.".to_owned(),
            Self::NoWorker => "No live worker serves the queue of the job.".to_owned(),
            Self::KindUnknown => "No live worker handles this kind of job.".to_owned(),
            Self::Backlog { .. } => {
                "The job is due and waits for a free slot behind due jobs of its priority or a higher one."
                    .to_owned()
            }
            Self::Next => "The job is due and starts when a worker has a free slot.".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
