//! An upstream that is away, paused or asked too much of holds its own steps and nothing else.

use std::time::Duration;

use dezky_shared::{
    id::JobId,
    platform::clock,
    queue::{
        args::ProvisionTenant,
        error_code::ErrorCode,
        job::{Job, JobState, Queue},
        pause::Pause,
    },
    store::TransactionError,
    tenant::{ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_sim::faults::{Fault, FaultRule};
use dezky_upstreams::circuit_breaker::{CallResult, CircuitTimes, RESERVATION_HORIZON, RateBudget};
use dezky_worker::steps::{Registry, Steps};
use futures::FutureExt as _;

use crate::{
    harness::{Harness, until},
    script::{Lone, Say, Script},
    upstreams::Upstreams,
    world::step,
};

async fn add(harness: &Harness, count: usize) -> Vec<(Tenant, JobId)> {
    let mut added = Vec::new();
    for n in 0..count {
        let tenant = harness
            .add_tenant(&format!("acme-{n}"), &[&format!("acme-{n}.test")])
            .await;
        let tenant_id = tenant.id;
        let job = harness.enqueue(&ProvisionTenant { tenant_id }).await;
        added.push((tenant, job.id));
    }
    added
}

/// Waits until each waits for the mail server alone.
async fn only_mail_waits(harness: &Harness, jobs: &[(Tenant, JobId)]) {
    for (tenant, _) in jobs {
        let tenant = harness
            .tenant_until(tenant.id, |tenant| {
                let status = &tenant.provisioning_status;
                status.authentik == ProvisioningState::Ok
                    && status.ocis == ProvisioningState::Ok
                    && status.stalwart == ProvisioningState::Error
            })
            .await;
        let condition = tenant.condition(Upstream::Stalwart).unwrap();
        assert!(condition.next_attempt_at.is_some());
    }
}

async fn all_active(harness: &Harness, jobs: &[(Tenant, JobId)]) {
    for (tenant, job) in jobs {
        harness
            .tenant_until(tenant.id, |tenant| tenant.status == TenantStatus::Active)
            .await;
        let job = harness.finished(*job).await;
        let outcome = (job.state, job.attempt);
        assert_eq!(outcome, (JobState::Completed, 1), "waiting costs nothing");
    }
}

fn asked(upstreams: &Upstreams) -> u64 {
    upstreams.stalwart.server.faults.requests().values().sum()
}

pub(crate) async fn pause_upstream(harness: &Harness, upstream: Upstream, paused: bool) {
    let (context, now) = (&harness.context, harness.context.store.now());
    let pause = Pause {
        at: now,
        by: "operator".to_owned(),
    };
    let changed: Result<(), TransactionError<()>> = context
        .store
        .transaction(
            (&context.upstreams, pause),
            |session, (upstreams, pause)| {
                async move {
                    if paused {
                        upstreams.pause(session, upstream, pause).await?;
                    } else {
                        upstreams.resume(session, upstream, now).await?;
                    }
                    Ok(())
                }
                .boxed()
            },
        )
        .await;
    changed.unwrap();
}

async fn pause_queue(harness: &Harness, queue: Queue, paused: bool) {
    let context = &harness.context;
    let pause = paused.then(|| Pause {
        at: context.store.now(),
        by: "operator".to_owned(),
    });
    let changed: Result<(), TransactionError<()>> = context
        .store
        .transaction((&context.queues, pause), |session, (queues, pause)| {
            async move {
                queues.set_pause(session, queue, pause.as_ref()).await?;
                Ok(())
            }
            .boxed()
        })
        .await;
    changed.unwrap();
}

/// A circuit that nobody tries for a while.
fn slow_circuit() -> CircuitTimes {
    CircuitTimes {
        first_probe: Duration::from_hours(1),
        last_probe: Duration::from_hours(1),
        ..CircuitTimes::default()
    }
}

fn scripted(script: &Script) -> Registry {
    let steps = Steps::parallel().upstream(Upstream::Stalwart, script.step());
    Registry::default().register::<Lone>(steps)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_upstream_is_away_one_job_tries_and_then_all_go_on() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.circuit = slow_circuit();
    upstreams
        .stalwart
        .server
        .faults
        .add(FaultRule::every(Fault::Status {
            status: 503,
            retry_after: None,
        }));
    let worker = harness.worker();
    let jobs = add(&harness, 12).await;
    let held = |job: &Job| {
        let error = job.steps.iter().find_map(|step| step.error.as_ref());
        job.state == JobState::Available
            && error.is_some_and(|error| error.code == ErrorCode::UpstreamCircuitOpen)
    };

    only_mail_waits(&harness, &jobs).await;
    for (_, job) in &jobs {
        harness.job_until(*job, held).await;
    }
    let knocked = asked(&upstreams);
    upstreams.stalwart.server.faults.clear();
    let away = until(
        async || {
            harness
                .context
                .upstreams
                .find(Upstream::Stalwart)
                .await
                .unwrap()
        },
        |health| health.open_since().is_some(),
    )
    .await;
    // As an operator does who knows that it is back.
    pause_upstream(&harness, Upstream::Stalwart, false).await;
    all_active(&harness, &jobs).await;
    let back = until(
        async || {
            harness
                .context
                .upstreams
                .find(Upstream::Stalwart)
                .await
                .unwrap()
        },
        |health| health.open_since().is_none() && health.let_go_at.is_none(),
    )
    .await;
    worker.stop().await;

    assert!(knocked < 12 + 8, "held jobs do not knock: {knocked}");
    assert!(away.seen.unwrap().probe_at.unwrap() > harness.context.store.now());
    assert_eq!(back.seen.unwrap().failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_let_go_keep_the_turns_that_a_small_budget_gives_them() {
    let mut harness = Harness::new().await;
    let budget = RateBudget {
        per_second: 5.0,
        burst: 2,
    };
    harness.budgets.insert(Upstream::Stalwart, budget);
    let circuits = &harness.context.circuits;
    circuits
        .record(
            Upstream::Stalwart,
            slow_circuit(),
            false,
            CallResult::TimedOut,
        )
        .await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 16);
    let mut jobs = Vec::new();
    for n in 0..20 {
        jobs.push(harness.enqueue(&Lone { n }).await.id);
    }
    for job in &jobs {
        harness.job_until(*job, |job| job.snoozes > 0).await;
    }

    pause_upstream(&harness, Upstream::Stalwart, false).await;
    let mut snoozes = 0;
    for job in jobs {
        let job = harness.finished(job).await;
        assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
        snoozes += job.snoozes;
    }
    let all_let_go = until(
        async || {
            let upstreams = &harness.context.upstreams;
            upstreams.find(Upstream::Stalwart).await.unwrap()
        },
        |health| health.let_go_at.is_none(),
    )
    .await;
    worker.stop().await;

    assert_eq!(all_let_go.let_go_at, None);
    // Held, perhaps once more before the probe was answered, and put off until a turn.
    assert!(snoozes <= 20 * 4, "{snoozes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_comes_back_is_found_by_a_probe() {
    let harness = Harness::new().await;
    let away = ErrorCode::UpstreamUnreachable;
    let script = Script::new(vec![Say::Fail(away); 7]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    let mut jobs = Vec::new();
    for n in 0..8 {
        jobs.push(harness.enqueue(&Lone { n }).await.id);
    }

    for job in jobs {
        let job = harness.finished(job).await;
        assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
    }
    worker.stop().await;

    assert_eq!(script.runs().len(), 8 + 7, "each failure is one knock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_takes_the_whole_attempt_opens_the_circuit() {
    let mut harness = Harness::new().await;
    harness.times.attempt_timeout = Duration::from_millis(300);
    harness.times.circuit.first_probe = Duration::from_hours(1);
    let script = Script::new([Say::Hang]);
    let worker = harness.worker_of("worker", scripted(&script), 4);

    harness.enqueue(&Lone { n: 1 }).await;
    script.ran(1).await;
    until(
        async || {
            let circuits = &harness.context.circuits;
            circuits
                .snapshot(Upstream::Stalwart, RateBudget::default())
                .await
        },
        |standing| standing.open_for.is_some(),
    )
    .await;
    let next = harness.enqueue(&Lone { n: 2 }).await;
    let next = harness.job_until(next.id, |job| job.snoozes > 0).await;
    worker.stop().await;

    let error = step(&next, "stalwart").error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::UpstreamCircuitOpen);
    assert_eq!(script.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_takes_the_whole_attempt_makes_the_next_one_later() {
    let mut harness = Harness::new().await;
    harness.times.attempt_timeout = Duration::from_millis(300);
    let minute = Duration::from_mins(1);
    harness.times.circuit = CircuitTimes {
        first_probe: minute,
        ..slow_circuit()
    };
    let circuits = &harness.context.circuits;
    let times = harness.times.circuit;
    circuits
        .record(Upstream::Stalwart, times, false, CallResult::TimedOut)
        .await;
    circuits.force_half_open(Upstream::Stalwart).await;
    let script = Script::new([Say::Hang]);
    let worker = harness.worker_of("worker", scripted(&script), 4);

    harness.enqueue(&Lone { n: 1 }).await;
    script.ran(1).await;

    until(
        async || {
            circuits
                .snapshot(Upstream::Stalwart, RateBudget::default())
                .await
        },
        |standing| standing.probe_in.unwrap() > minute,
    )
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_upstream_holds_only_its_own_steps() {
    let upstreams = Upstreams::start().await;
    let harness = Harness::with_upstreams(&upstreams).await;
    pause_upstream(&harness, Upstream::Stalwart, true).await;
    let worker = harness.worker();
    let jobs = add(&harness, 5).await;

    only_mail_waits(&harness, &jobs).await;
    let knocked = asked(&upstreams);
    pause_upstream(&harness, Upstream::Stalwart, false).await;
    all_active(&harness, &jobs).await;
    worker.stop().await;

    assert_eq!(knocked, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_followed_while_the_worker_runs() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    let before = harness.enqueue(&Lone { n: 0 }).await;
    harness.finished(before.id).await;

    pause_upstream(&harness, Upstream::Stalwart, true).await;
    let mut n = 0;
    let held = loop {
        n += 1;
        assert!(n < 200, "the pause is not followed");
        let job = harness.enqueue(&Lone { n }).await;
        let job = harness
            .job_until(job.id, |job| job.state.is_final() || job.snoozes > 0)
            .await;
        if job.snoozes > 0 {
            break job;
        }
    };
    pause_upstream(&harness, Upstream::Stalwart, false).await;
    let done = harness.finished(held.id).await;
    worker.stop().await;

    assert_eq!(held.error.unwrap().code, ErrorCode::UpstreamPaused);
    assert_eq!((done.state, done.attempt), (JobState::Completed, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_paused_queue_is_begun_and_nothing_is_lost() {
    let harness = Harness::new().await;
    pause_queue(&harness, Queue::Provisioning, true).await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    harness.until_led().await;
    let announced = harness.enqueue(&Lone { n: 1 }).await;
    let silent = harness.enqueue_silently(&Lone { n: 2 }).await;

    // Ten sweeps.
    tokio::time::sleep(10 * harness.times.sweep_every).await;
    let begun = script.runs().len();
    pause_queue(&harness, Queue::Provisioning, false).await;
    let states = [
        harness.finished(announced.id).await.state,
        harness.finished(silent.id).await.state,
    ];
    worker.stop().await;

    assert_eq!(begun, 0);
    assert_eq!(states, [JobState::Completed; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_beyond_the_budget_wait_for_their_turn_at_no_cost() {
    let mut harness = Harness::new().await;
    let budget = RateBudget {
        per_second: 10.0,
        burst: 2,
    };
    harness.budgets.insert(Upstream::Stalwart, budget);
    let script = Script::new([]);
    let mut jobs = Vec::new();
    for n in 0..8 {
        jobs.push(harness.enqueue(&Lone { n }).await.id);
    }

    let worker = harness.worker_of("worker", scripted(&script), 16);
    let mut put_off = 0;
    for job in jobs {
        let job = harness.finished(job).await;
        assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
        assert!(job.snoozes <= 2, "a turn is taken when it comes");
        put_off += job.snoozes;
    }
    worker.stop().await;

    assert!(put_off >= 4, "{put_off}");
    let runs = script.runs();
    let took = runs[7].at.timestamp_millis() - runs[0].at.timestamp_millis();
    assert!(took >= 500, "six turns take at least half a second: {took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_jobs_does_not_book_the_budget_of_those_that_come_later() {
    let mut harness = Harness::new().await;
    let budget = RateBudget {
        per_second: 2.0,
        burst: 1,
    };
    harness.budgets.insert(Upstream::Stalwart, budget);
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 16);
    let mut flood = Vec::new();
    for n in 0..60 {
        flood.push(harness.enqueue(&Lone { n }).await.id);
    }
    for job in flood {
        harness
            .job_until(job, |job| job.snoozes > 0 || job.state.is_final())
            .await;
    }

    let circuits = &harness.context.circuits;
    let turn = circuits.snapshot(Upstream::Stalwart, budget).await.turn_in;
    let late = harness.enqueue(&Lone { n: 60 }).await;
    let late = harness
        .job_until(late.id, |job| job.snoozes > 0 || job.state.is_final())
        .await;
    worker.stop().await;

    assert!(turn.unwrap() < 2 * RESERVATION_HORIZON, "{turn:?}");
    let wait = clock::until(harness.context.store.now(), late.run_at);
    assert!(wait < 2 * RESERVATION_HORIZON, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_before_the_time_that_an_upstream_asked_for() {
    let mut harness = Harness::new().await;
    harness.times.retry_base = Duration::ZERO;
    let wait = Duration::from_secs(2);
    let script = Script::new([Say::FailFor(ErrorCode::UpstreamRateLimited, wait)]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    let first = harness.enqueue(&Lone { n: 1 }).await;
    let told = script.ran(1).await[0].at;
    harness.job_until(first.id, |job| job.snoozes > 0).await;

    let second = harness.enqueue(&Lone { n: 2 }).await;
    harness.finished(first.id).await;
    let second = harness.finished(second.id).await;
    worker.stop().await;

    let runs = script.runs();
    assert_eq!(runs.len(), 3);
    for run in &runs[1..] {
        let waited = run.at.timestamp_millis() - told.timestamp_millis();
        assert!(waited >= 1_990, "{waited}");
    }
    assert!(second.snoozes >= 1);
}
