//! From facts to reasons: all that keeps a job from running, what has to happen first at the top.

use bson::DateTime;
use dezky_shared::{
    queue::{
        error_code::RetryPolicy,
        job::{Job, JobState, Lease, Step},
        pause::Pause,
    },
    store::{upstreams::UpstreamState, workers::Worker},
    upstream::Upstream,
};

/// What is known.
#[derive(Debug)]
pub(super) struct ExplainInputs<'a> {
    pub(super) job: &'a Job,
    pub(super) now: DateTime,
    /// Another job that holds the job's lock.
    pub(super) holder: Option<&'a Job>,
    pub(super) queue_paused: Option<&'a Pause>,
    pub(super) upstreams: &'a [UpstreamState],
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
    Scheduled {
        until: DateTime,
    },
    /// It failed, and is tried again.
    Retry {
        until: DateTime,
    },
    /// It was put off through no fault of its own.
    Snoozed {
        until: DateTime,
    },
    /// Its worker vanished.
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
    CircuitOpen {
        upstream: Upstream,
        since: DateTime,
        probe_at: Option<DateTime>,
    },
    /// A step waits for its turn in its upstream's budget.
    Turn {
        upstream: Upstream,
        until: DateTime,
    },
    LockHeld {
        holder: &'a Job,
    },
    QueuePaused {
        pause: &'a Pause,
    },
    NoWorker,
    /// Workers live, and none knows what such a job does.
    KindUnknown,
    /// Nothing is in its way.
    Next,
}

/// All that is so of a job. Never empty.
pub(super) fn reasons<'a>(facts: &ExplainInputs<'a>) -> Vec<Reason<'a>> {
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
    reasons.extend(
        facts
            .queue_paused
            .map(|pause| Reason::QueuePaused { pause }),
    );
    reasons.extend(facts.holder.map(|holder| Reason::LockHeld { holder }));
    reasons.extend(of_workers(facts));
    if reasons.is_empty() {
        reasons.push(Reason::Next);
    }
    reasons
}

fn is_open(step: &Step) -> bool {
    !step.state.is_done() && !step.is_permanently_failed()
}

/// Why its time is not now.
fn waits(job: &Job) -> Reason<'static> {
    let until = job.run_at;
    if job.rescued {
        return Reason::Rescued { until };
    }
    if job.total_attempts() == 0 {
        return Reason::Scheduled { until };
    }
    let charged = job
        .error
        .as_ref()
        .is_some_and(|error| error.code.retry_policy() == RetryPolicy::Counted);
    if charged {
        Reason::Retry { until }
    } else {
        Reason::Snoozed { until }
    }
}

/// What keeps this step from its upstream.
fn of_upstream<'a>(step: &Step, facts: &ExplainInputs<'a>) -> Option<Reason<'a>> {
    let upstream = Upstream::of_step(&step.name)?;
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
    let until = step.reserved_at.filter(|at| *at > facts.now)?;
    Some(Reason::Turn { upstream, until })
}

fn of_workers(facts: &ExplainInputs<'_>) -> Option<Reason<'static>> {
    let serving = || {
        facts
            .workers
            .iter()
            .filter(|worker| worker.serves(facts.job.queue, facts.now))
    };
    if serving().next().is_none() {
        return Some(Reason::NoWorker);
    }
    let known = serving().any(|worker| worker.handles(&facts.job.kind));
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
            Self::Snoozed { .. } => "The job was put off, through no fault of its own.".to_owned(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bson::{Document, doc};
    use dezky_shared::{
        id::{JobId, WorkerId},
        queue::job::Queue,
        store::upstreams::BreakerStatus,
    };

    use super::*;

    /// So many seconds after now.
    fn at(seconds: i64) -> DateTime {
        DateTime::from_millis(1_795_339_800_000 + seconds * 1_000)
    }

    fn job(set: Document) -> Job {
        let mut stored = doc! {
            "_id": JobId::new(), "kind": "provision_tenant", "args": {}, "queue": "provisioning", "priority": 1,
            "state": "available", "runAt": at(-1), "attempt": 0, "lockKey": "tenant:1", "createdBy": "test",
            "createdAt": at(-9), "updatedAt": at(-9), "revision": 1_i64,
        };
        stored.extend(set);
        bson::deserialize_from_document(stored).unwrap()
    }

    fn error(code: &str, class: &str) -> Document {
        doc! { "code": code, "class": class, "message": "", "detail": "", "retryable": true }
    }

    /// One that waits because of the mail server.
    fn held() -> Job {
        let error = error("upstream_circuit_open", "upstream");
        job(doc! {
            "runAt": at(20), "snoozes": 1, "error": error.clone(),
            "steps": [
                { "name": "authentik", "state": "ok" },
                { "name": "stalwart", "state": "error", "nextAt": at(20), "error": error },
            ],
        })
    }

    fn worker() -> Worker {
        Worker {
            id: WorkerId::new(),
            name: "one".to_owned(),
            host: "here".to_owned(),
            slots: BTreeMap::from([(Queue::Provisioning, 4)]),
            kinds: vec!["provision_tenant".to_owned()],
            started_at: at(-60),
            seen_at: at(-2),
            stopping: false,
        }
    }

    fn open() -> UpstreamState {
        UpstreamState {
            seen: Some(BreakerStatus {
                at: at(-1),
                failures: 5,
                open_since: Some(at(-40)),
                probe_at: Some(at(15)),
                slow_until: None,
                next_turn_at: None,
            }),
            ..UpstreamState::unknown(Upstream::Stalwart)
        }
    }

    fn codes(facts: &ExplainInputs<'_>) -> Vec<&'static str> {
        reasons(facts).iter().map(Reason::code).collect()
    }

    fn alone<'a>(job: &'a Job, workers: &'a [Worker]) -> ExplainInputs<'a> {
        ExplainInputs {
            job,
            now: at(0),
            holder: None,
            queue_paused: None,
            upstreams: &[],
            workers,
        }
    }

    #[test]
    fn a_job_that_is_over_waits_for_nothing() {
        for state in ["completed", "discarded", "cancelled"] {
            let job = job(doc! { "state": state, "finishedAt": at(-3) });

            let reasons = reasons(&alone(&job, &[]));

            let at = Some(at(-3));
            assert_eq!(
                reasons,
                [Reason::Final {
                    state: job.state,
                    at
                }]
            );
        }
    }

    #[test]
    fn a_job_that_runs_says_which_steps_are_still_to_end() {
        let steps = [
            doc! { "name": "authentik", "state": "ok" },
            doc! { "name": "ocis", "state": "error" },
            doc! { "name": "stalwart", "state": "pending" },
        ];
        let running = job(doc! { "state": "running", "steps": steps.to_vec() });
        let stopping = job(doc! { "state": "running", "cancelRequested": true });

        let of_running = reasons(&alone(&running, &[]));
        let of_stopping = reasons(&alone(&stopping, &[]));

        assert!(matches!(
            &of_running[..],
            [Reason::Running { steps, stopping: false, .. }] if steps == &["stalwart"]
        ));
        assert!(matches!(
            &of_stopping[..],
            [Reason::Running { stopping: true, .. }]
        ));
    }

    #[test]
    fn a_job_waits_for_its_time_for_one_of_four_reasons() {
        let workers = [worker()];
        let failed = error("internal", "bug");
        let away = error("upstream_unreachable", "upstream");
        let of = |set: Document| {
            let mut later = doc! { "runAt": at(30) };
            later.extend(set);
            codes(&alone(&job(later), &workers))
        };

        assert_eq!(of(doc! {}), ["scheduled"]);
        assert_eq!(of(doc! { "attempt": 1, "error": failed }), ["retry"]);
        assert_eq!(of(doc! { "snoozes": 1, "error": away }), ["snoozed"]);
        assert_eq!(of(doc! { "crashes": 1, "rescued": true }), ["rescued"]);
    }

    #[test]
    fn an_upstream_in_the_way_is_named_with_its_next_probe() {
        let (job, workers) = (held(), [worker()]);
        let pause = Pause {
            at: at(-5),
            by: "ada".to_owned(),
        };
        let refused = UpstreamState {
            refused_at: Some(at(-50)),
            probe_at: Some(at(600)),
            ..open()
        };
        let paused = UpstreamState {
            paused: Some(pause.clone()),
            ..refused.clone()
        };
        let of = |health: &UpstreamState| {
            let upstreams = [health.clone()];
            let facts = ExplainInputs {
                upstreams: &upstreams,
                ..alone(&job, &workers)
            };
            format!("{:?}", reasons(&facts)[1..].first())
        };
        let shown = |reason: Reason<'_>| format!("{:?}", Some(reason));
        let upstream = Upstream::Stalwart;

        let circuit_open = shown(Reason::CircuitOpen {
            upstream,
            since: at(-40),
            probe_at: Some(at(15)),
        });
        let credentials_refused = shown(Reason::CredentialsRefused {
            upstream,
            since: at(-50),
            probe_at: Some(at(600)),
        });
        let upstream_paused = shown(Reason::UpstreamPaused {
            upstream,
            pause: &pause,
        });
        assert_eq!(of(&open()), circuit_open);
        assert_eq!(of(&refused), credentials_refused);
        assert_eq!(of(&paused), upstream_paused);
        assert_eq!(of(&UpstreamState::unknown(upstream)), "None");
    }

    #[test]
    fn an_upstream_that_is_away_is_no_reason_for_a_step_that_is_done() {
        let upstreams = [UpstreamState {
            upstream: Upstream::Authentik,
            ..open()
        }];
        let (job, workers) = (held(), [worker()]);
        let facts = ExplainInputs {
            upstreams: &upstreams,
            ..alone(&job, &workers)
        };

        assert_eq!(codes(&facts), ["snoozed"]);
    }

    #[test]
    fn a_step_waits_for_its_turn() {
        let workers = [worker()];
        let step = doc! { "name": "ocis", "state": "pending", "nextAt": at(7), "turnAt": at(7) };
        let job = job(doc! { "runAt": at(7), "snoozes": 1, "steps": [step] });

        let facts = alone(&job, &workers);

        assert_eq!(codes(&facts), ["snoozed", "turn"]);
    }

    #[test]
    fn a_job_that_is_due_is_next_unless_something_is_in_its_way() {
        let (waiting, holder, workers) = (job(doc! {}), job(doc! {}), [worker()]);
        let pause = Pause {
            at: at(-5),
            by: "ada".to_owned(),
        };
        let free = alone(&waiting, &workers);
        let locked = ExplainInputs {
            holder: Some(&holder),
            ..alone(&waiting, &workers)
        };
        let everything = ExplainInputs {
            holder: Some(&holder),
            queue_paused: Some(&pause),
            ..alone(&waiting, &[])
        };

        assert_eq!(codes(&free), ["next"]);
        assert_eq!(codes(&locked), ["lock_held"]);
        assert_eq!(
            codes(&everything),
            ["queue_paused", "lock_held", "no_worker"]
        );
    }

    #[test]
    fn only_a_worker_that_lives_serves_the_queue_and_knows_the_kind_counts() {
        let job = job(doc! {});
        let of = |worker: Worker| codes(&alone(&job, &[worker]));
        let vanished = Worker {
            seen_at: at(-21),
            ..worker()
        };
        let stopping = Worker {
            stopping: true,
            ..worker()
        };
        let of_another_queue = Worker {
            slots: BTreeMap::from([(Queue::Dns, 4)]),
            ..worker()
        };
        let older = Worker {
            kinds: vec![],
            ..worker()
        };

        assert_eq!(of(vanished), ["no_worker"]);
        assert_eq!(of(stopping), ["no_worker"]);
        assert_eq!(of(of_another_queue), ["no_worker"]);
        assert_eq!(of(older), ["kind_unknown"]);
        assert_eq!(of(worker()), ["next"]);
    }
}
