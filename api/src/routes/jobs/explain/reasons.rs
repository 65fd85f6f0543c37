//! From facts to reasons: all that keeps a job from running, what has to happen first at the top.

use bson::DateTime;
use dezky_shared::{
    failure::Disposition,
    job::{Job, JobState, Lease, Step},
    pause::Pause,
    store::{upstreams::UpstreamHealth, workers::Worker},
    upstream::Upstream,
};

/// What is known.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) job: &'a Job,
    pub(super) now: DateTime,
    /// Another job that holds the job's lock.
    pub(super) holder: Option<&'a Job>,
    pub(super) queue_paused: Option<&'a Pause>,
    pub(super) upstreams: &'a [UpstreamHealth],
    pub(super) workers: &'a [Worker],
}

/// One thing that is so.
#[derive(Debug, PartialEq)]
pub(super) enum Reason<'a> {
    Final {
        state: JobState,
        at: Option<DateTime>,
    },
    Running {
        lease: Option<&'a Lease>,
        /// The steps that are still to end.
        steps: Vec<&'a str>,
        stopping: bool,
    },
    /// It was asked for with this time.
    Scheduled { until: DateTime },
    /// It failed, and is tried again.
    Retry { until: DateTime },
    /// It was put off through no fault of its own.
    Snoozed { until: DateTime },
    /// Its worker vanished.
    Rescued { until: DateTime },
    UpstreamPaused {
        upstream: Upstream,
        pause: &'a Pause,
    },
    CredentialsRefused {
        upstream: Upstream,
        since: DateTime,
        probe_at: Option<DateTime>,
    },
    CircuitOpen {
        upstream: Upstream,
        since: DateTime,
        probe_at: Option<DateTime>,
    },
    /// A step waits for its turn in its upstream's budget.
    Turn { upstream: Upstream, until: DateTime },
    LockHeld { holder: &'a Job },
    QueuePaused { pause: &'a Pause },
    NoWorker,
    /// Workers live, and none knows what such a job does.
    KindUnknown,
    /// Nothing is in its way.
    Next,
}

/// All that is so of a job. Never empty.
pub(super) fn reasons<'a>(facts: &Facts<'a>) -> Vec<Reason<'a>> {
    let job = facts.job;
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
    if job.run_at > facts.now {
        reasons.push(waits(job));
        let steps = job.steps.iter().filter(|step| is_open(step));
        reasons.extend(steps.filter_map(|step| of_upstream(step, facts)));
    }
    reasons.extend(facts.queue_paused.map(|pause| Reason::QueuePaused { pause }));
    reasons.extend(facts.holder.map(|holder| Reason::LockHeld { holder }));
    reasons.extend(of_workers(facts));
    if reasons.is_empty() {
        reasons.push(Reason::Next);
    }
    reasons
}

fn is_open(step: &Step) -> bool {
    !step.state.is_done() && !step.is_hopeless()
}

/// Why its time is not now.
fn waits(job: &Job) -> Reason<'static> {
    let until = job.run_at;
    if job.rescued {
        return Reason::Rescued { until };
    }
    if job.tries() == 0 {
        return Reason::Scheduled { until };
    }
    let charged = job
        .error
        .as_ref()
        .is_some_and(|error| error.code.disposition() == Disposition::Charged);
    if charged {
        Reason::Retry { until }
    } else {
        Reason::Snoozed { until }
    }
}

/// What keeps this step from its upstream.
fn of_upstream<'a>(step: &Step, facts: &Facts<'a>) -> Option<Reason<'a>> {
    let upstream: Upstream = step.name.parse().ok()?;
    let health = facts
        .upstreams
        .iter()
        .find(|health| health.upstream == upstream);
    if let Some(pause) = health.and_then(|health| health.paused.as_ref()) {
        return Some(Reason::UpstreamPaused { upstream, pause });
    }
    if let Some(health) = health
        && let Some(since) = health.refused_at
    {
        return Some(Reason::CredentialsRefused {
            upstream,
            since,
            probe_at: health.probe_at,
        });
    }
    if let Some(seen) = health.and_then(|health| health.seen.as_ref())
        && let Some(since) = seen.open_since
    {
        return Some(Reason::CircuitOpen {
            upstream,
            since,
            probe_at: seen.probe_at,
        });
    }
    let until = step.turn_at.filter(|at| *at > facts.now)?;
    Some(Reason::Turn { upstream, until })
}

fn of_workers(facts: &Facts<'_>) -> Option<Reason<'static>> {
    let serving = || {
        facts
            .workers
            .iter()
            .filter(|worker| worker.serves(facts.job.queue, facts.now))
    };
    if serving().next().is_none() {
        return Some(Reason::NoWorker);
    }
    let known = serving().any(|worker| worker.knows(&facts.job.kind));
    (!known).then_some(Reason::KindUnknown)
}

impl Reason<'_> {
    /// Its stable name.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Final { .. } => "final",
            Self::Running { .. } => "running",
            Self::Scheduled { .. } => "scheduled",
            Self::Retry { .. } => "retry",
            Self::Snoozed { .. } => "snoozed",
            Self::Rescued { .. } => "rescued",
            Self::UpstreamPaused { .. } => "upstream_paused",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::Turn { .. } => "turn",
            Self::LockHeld { .. } => "lock_held",
            Self::QueuePaused { .. } => "queue_paused",
            Self::NoWorker => "no_worker",
            Self::KindUnknown => "kind_unknown",
            Self::Next => "next",
        }
    }

    /// The same, for a person.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Final { state, .. } => format!("The job is {}.", state.name()),
            Self::Running { stopping: true, .. } => {
                "The job runs, and ends when its present step has ended.".to_owned()
            }
            Self::Running { .. } => "The job runs.".to_owned(),
            Self::Scheduled { .. } => "The job waits for the time it was asked for.".to_owned(),
            Self::Retry { .. } => "The job failed and is tried again.".to_owned(),
            Self::Snoozed { .. } => {
                "The job was put off, through no fault of its own.".to_owned()
            }
            Self::Rescued { .. } => "The job's worker vanished; it is begun again.".to_owned(),
            Self::UpstreamPaused { upstream, .. } => {
                format!("Work with the {} service is paused.", upstream.service())
            }
            Self::CredentialsRefused { upstream, .. } => format!(
                "The {} service does not accept our access; one job tries again from time to time.",
                upstream.service()
            ),
            Self::CircuitOpen { upstream, .. } => format!(
                "The {} service cannot be reached; one job tries again from time to time.",
                upstream.service()
            ),
            Self::Turn { upstream, .. } => format!(
                "The {} service has much to do; a step waits for its turn.",
                upstream.service()
            ),
            Self::LockHeld { .. } => {
                "Another job works on the same thing, and ends first.".to_owned()
            }
            Self::QueuePaused { .. } => "The job's queue is paused.".to_owned(),
            Self::NoWorker => "No worker that takes such jobs is alive.".to_owned(),
            Self::KindUnknown => "No worker that is alive knows this kind of job.".to_owned(),
            Self::Next => "The job is due and is begun as soon as there is room.".to_owned(),
        }
    }
}
