use std::collections::BTreeMap;

use bson::{Document, doc};
use dezky_shared::{
    id::{JobId, WorkerId},
    queue::job::Queue,
    store::upstreams::BreakerStatus,
};

use super::*;
use crate::validate::name_of;

/// A time relative to now, in seconds.
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

/// A job delayed by an open circuit of Stalwart.
fn deferred() -> Job {
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

fn codes(inputs: &ExplainInputs<'_>) -> Vec<String> {
    let reasons = reasons(inputs);
    reasons
        .iter()
        .map(|reason| name_of(&reason.code()))
        .collect()
}

fn inputs<'a>(job: &'a Job, workers: &'a [Worker]) -> ExplainInputs<'a> {
    ExplainInputs {
        job,
        now: at(0),
        holder: None,
        queue_paused: None,
        upstreams: &[],
        workers,
        jobs_ahead: 0,
    }
}

#[test]
fn a_finished_job_has_one_reason() {
    for state in ["completed", "discarded", "cancelled"] {
        let job = job(doc! { "state": state, "finishedAt": at(-3) });

        let reasons = reasons(&inputs(&job, &[]));

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
fn a_running_job_lists_its_unfinished_steps() {
    let steps = [
        doc! { "name": "authentik", "state": "ok" },
        doc! { "name": "ocis", "state": "error" },
        doc! { "name": "stalwart", "state": "pending" },
    ];
    let running = job(doc! { "state": "running", "steps": steps.to_vec() });
    let stopping = job(doc! { "state": "running", "cancelRequested": true });

    let of_running = reasons(&inputs(&running, &[]));
    let of_stopping = reasons(&inputs(&stopping, &[]));

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
fn a_job_is_not_due_for_one_of_four_reasons() {
    let workers = [worker()];
    let failed = error("internal", "bug");
    let away = error("upstream_unreachable", "upstream");
    let of = |set: Document| {
        let mut later = doc! { "runAt": at(30) };
        later.extend(set);
        codes(&inputs(&job(later), &workers))
    };

    assert_eq!(of(doc! {}), ["scheduled"]);
    assert_eq!(of(doc! { "attempt": 1, "error": failed }), ["retry"]);
    assert_eq!(of(doc! { "snoozes": 1, "error": away }), ["snoozed"]);
    assert_eq!(of(doc! { "crashes": 1, "rescued": true }), ["rescued"]);
}

#[test]
fn a_blocking_upstream_is_reported_with_its_next_probe() {
    let (job, workers) = (deferred(), [worker()]);
    let pause = Pause::new(at(-5), "ada".to_owned());
    let refused = UpstreamState {
        refused_at: Some(at(-50)),
        probe_at: Some(at(600)),
        ..open()
    };
    let paused = UpstreamState {
        paused: Some(pause.clone()),
        ..refused.clone()
    };
    let of = |state: &UpstreamState| {
        let upstreams = [state.clone()];
        let inputs = ExplainInputs {
            upstreams: &upstreams,
            ..inputs(&job, &workers)
        };
        format!("{:?}", reasons(&inputs)[1..].first())
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
fn an_open_circuit_is_no_reason_for_a_finished_step() {
    let upstreams = [UpstreamState {
        upstream: Upstream::Authentik,
        ..open()
    }];
    let (job, workers) = (deferred(), [worker()]);
    let inputs = ExplainInputs {
        upstreams: &upstreams,
        ..inputs(&job, &workers)
    };

    assert_eq!(codes(&inputs), ["snoozed"]);
}

#[test]
fn a_step_waits_for_its_rate_reservation() {
    let workers = [worker()];
    let step = doc! { "name": "ocis", "state": "pending", "nextAt": at(7), "turnAt": at(7) };
    let job = job(doc! { "runAt": at(7), "snoozes": 1, "steps": [step] });

    let inputs = inputs(&job, &workers);

    assert_eq!(codes(&inputs), ["snoozed", "turn"]);
}

#[test]
fn a_step_that_queues_for_a_reservation_has_no_time_yet() {
    let workers = [worker()];
    let step = doc! { "name": "ocis", "state": "pending", "nextAt": at(900), "turnAt": at(900), "asksAgain": true };
    let job = job(doc! { "runAt": at(900), "snoozes": 1, "steps": [step] });

    let inputs = inputs(&job, &workers);

    let upstream = Upstream::Ocis;
    assert_eq!(reasons(&inputs), [Reason::RateQueued { upstream }]);
    assert!(is_queued(&job));
}

#[test]
fn a_due_job_is_next_unless_it_is_blocked() {
    let (waiting, holder, workers) = (job(doc! {}), job(doc! {}), [worker()]);
    let pause = Pause::new(at(-5), "ada".to_owned());
    let free = inputs(&waiting, &workers);
    let behind = ExplainInputs {
        jobs_ahead: 12,
        ..inputs(&waiting, &workers)
    };
    let locked = ExplainInputs {
        holder: Some(&holder),
        ..inputs(&waiting, &workers)
    };
    let everything = ExplainInputs {
        holder: Some(&holder),
        queue_paused: Some(&pause),
        ..inputs(&waiting, &[])
    };

    assert_eq!(codes(&free), ["next"]);
    assert_eq!(codes(&behind), ["backlog"]);
    assert_eq!(codes(&locked), ["lock_held"]);
    assert_eq!(
        codes(&everything),
        ["queue_paused", "lock_held", "no_worker"]
    );
}

#[test]
fn only_a_live_worker_that_serves_the_queue_and_handles_the_kind_counts() {
    let job = job(doc! {});
    let of = |worker: Worker| codes(&inputs(&job, &[worker]));
    let lost = Worker {
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

    assert_eq!(of(lost), ["no_worker"]);
    assert_eq!(of(stopping), ["no_worker"]);
    assert_eq!(of(of_another_queue), ["no_worker"]);
    assert_eq!(of(older), ["kind_unknown"]);
    assert_eq!(of(worker()), ["next"]);
}
