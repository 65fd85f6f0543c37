//! Admission: an unavailable, paused or rate-limited upstream defers only its own steps.

use std::time::Duration;

use dezky_shared::{
    id::JobId,
    platform::{clock, tls::TrustRoots},
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState, Queue},
        pause::Pause,
    },
    store::TransactionError,
    tenant::{ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_sim::faults::{Fault, FaultRule};
use dezky_upstreams::{
    circuit_breaker::{BreakerSnapshot, CallResult, CircuitTimes, RateBudget},
    clients::UpstreamHttp,
};
use dezky_worker::steps::{Registry, Steps};
use futures::FutureExt as _;

use crate::{
    harness::{Harness, until},
    script::{Lone, Script, Scripted},
    upstreams::Upstreams,
};

/// Waits until the mail server's step is the only deferred one of each job.
async fn until_only_mail_is_deferred(harness: &Harness, jobs: &[(Tenant, JobId)]) {
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

async fn until_active(harness: &Harness, jobs: &[(Tenant, JobId)]) {
    for (tenant, job) in jobs {
        harness
            .tenant_until(tenant.id, |tenant| tenant.status == TenantStatus::Active)
            .await;
        let job = harness.finished(*job).await;
        let outcome = (job.state, job.attempt);
        assert_eq!(
            outcome,
            (JobState::Completed, 1),
            "a deferred step is not charged"
        );
    }
}

fn requests(upstreams: &Upstreams) -> u64 {
    upstreams.stalwart.server.faults.requests().values().sum()
}

pub(crate) async fn pause_upstream(harness: &Harness, upstream: Upstream, paused: bool) {
    let (context, now) = (&harness.context, harness.context.store.now());
    let pause = Pause::new(now, "operator".to_owned());
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

pub(crate) async fn pause_queue(harness: &Harness, queue: Queue, paused: bool) {
    let context = &harness.context;
    let pause = paused.then(|| Pause::new(context.store.now(), "operator".to_owned()));
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

/// A circuit breaker without an early half-open probe.
fn slow_breaker() -> CircuitTimes {
    CircuitTimes {
        first_probe: Duration::from_hours(1),
        last_probe: Duration::from_hours(1),
        ..CircuitTimes::default()
    }
}

pub(crate) fn scripted(script: &Script) -> Registry {
    let steps = Steps::parallel().upstream(Upstream::Stalwart, script.step());
    Registry::default().register::<Lone>(steps)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_probes_an_unavailable_upstream_and_its_success_releases_all_jobs() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.circuit = slow_breaker();
    upstreams
        .stalwart
        .server
        .faults
        .add(FaultRule::every(Fault::Status {
            status: 503,
            retry_after: None,
        }));
    let worker = harness.worker();
    let jobs = harness.add_provisioning(12).await;
    // Until the breaker's probe, and not for the delay of a retry.
    let held = |job: &Job| {
        let soon = clock::later(clock::now(), Duration::from_mins(30));
        job.state == JobState::Available && job.run_at > soon
    };

    until_only_mail_is_deferred(&harness, &jobs).await;
    for (_, job) in &jobs {
        harness.job_until(*job, held).await;
    }
    let requested = requests(&upstreams);
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
    // As an operator who resumes the upstream.
    pause_upstream(&harness, Upstream::Stalwart, false).await;
    until_active(&harness, &jobs).await;
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

    assert!(
        requested < 12 + 8,
        "deferred jobs make no requests: {requested}"
    );
    assert!(away.seen.unwrap().probe_at.unwrap() > harness.context.store.now());
    assert_eq!(back.seen.unwrap().failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn released_jobs_keep_their_reservations_in_a_small_budget() {
    let mut harness = Harness::new().await;
    let budget = RateBudget {
        per_second: 5.0,
        burst: 2,
    };
    harness.budgets.insert(Upstream::Stalwart, budget);
    let breakers = &harness.context.circuits;
    breakers
        .record(
            Upstream::Stalwart,
            slow_breaker(),
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
    // Deferred, possibly again before the probe was answered, then until the reservation.
    assert!(snoozes <= 20 * 4, "{snoozes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_check_detects_a_recovered_upstream() {
    let harness = Harness::new().await;
    let away = ErrorCode::UpstreamUnreachable;
    let script = Script::new(vec![Scripted::Fail(away); 7]);
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

    assert_eq!(script.runs().len(), 8 + 7, "one request per failure");
}

/// A step that calls Stalwart again and again, until its attempt is over.
fn calls_without_end(upstreams: &Upstreams) -> Registry {
    let url = upstreams.stalwart.server.url.clone();
    let steps = Steps::parallel().upstream(Upstream::Stalwart, move |run| {
        let url = url.clone();
        async move {
            let timeout = Duration::from_mins(5);
            let http = UpstreamHttp::new(Upstream::Stalwart, &url, timeout, &TrustRoots::default());
            let http = http.unwrap().with_deadline(&run.deadline);
            loop {
                http.probe(&url, "/healthz/live").await?;
            }
        }
    });
    Registry::default().register::<Lone>(steps)
}

/// The breaker of Stalwart once the attempt of a new job is over.
async fn breaker_after_a_timeout(harness: &Harness, registry: Registry) -> BreakerSnapshot {
    let worker = harness.worker_of("worker", registry, 4);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let job = harness
        .job_until(job.id, |job| !job.attempts.is_empty())
        .await;
    worker.stop().await;
    assert_eq!(
        (job.attempts[0].outcome.as_str(), job.attempt),
        ("timeout", 1)
    );
    let breakers = &harness.context.circuits;
    breakers
        .snapshot(Upstream::Stalwart, RateBudget::default())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_attempt_without_an_answer_opens_the_breaker() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.attempt_timeout = Duration::from_millis(500);
    harness.times.retry_base = Duration::from_hours(1);
    harness.times.circuit = slow_breaker();
    let never = Fault::SlowAnswer { millis: 600_000 };
    upstreams
        .stalwart
        .server
        .faults
        .add(FaultRule::every(never));

    let breaker = breaker_after_a_timeout(&harness, calls_without_end(&upstreams)).await;

    assert!(breaker.open_for.is_some(), "{breaker:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_step_whose_calls_are_answered_opens_no_breaker_and_closes_an_open_one() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.attempt_timeout = Duration::from_millis(500);
    harness.times.retry_base = Duration::from_hours(1);
    harness.times.circuit = slow_breaker();

    let breaker = breaker_after_a_timeout(&harness, calls_without_end(&upstreams)).await;
    let breakers = &harness.context.circuits;
    let (stalwart, times) = (Upstream::Stalwart, slow_breaker());
    breakers
        .record(stalwart, times, false, CallResult::TimedOut)
        .await;
    breakers.force_half_open(stalwart).await;
    let probed = breaker_after_a_timeout(&harness, calls_without_end(&upstreams)).await;

    assert_eq!((breaker.open_for, breaker.failures), (None, 0));
    assert_eq!(probed.open_for, None);
}

/// The breaker of Stalwart after steps of ten jobs have failed with this code.
async fn breaker_after_ten_failures(code: ErrorCode) -> BreakerSnapshot {
    let mut harness = Harness::new().await;
    harness.times.retry_base = Duration::from_hours(1);
    harness.times.circuit = slow_breaker();
    let script = Script::new(vec![Scripted::Fail(code); 10]);
    let worker = harness.worker_of("worker", scripted(&script), 1);
    for n in 0..10 {
        let job = harness.enqueue(&Lone { n }).await;
        let has_failed = |job: &Job| job.state != JobState::Running && job.error.is_some();
        harness.job_until(job.id, has_failed).await;
    }
    worker.stop().await;
    let breakers = &harness.context.circuits;
    breakers
        .snapshot(Upstream::Stalwart, RateBudget::default())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_one_object_open_no_breaker() {
    for code in [
        ErrorCode::UpstreamStateChanged,
        ErrorCode::UpstreamResponseInvalid,
    ] {
        let breaker = breaker_after_ten_failures(code).await;

        assert_eq!((breaker.open_for, breaker.failures), (None, 0), "{code:?}");
    }
    let breaker = breaker_after_ten_failures(ErrorCode::UpstreamUnavailable).await;
    assert!(breaker.open_for.is_some(), "{breaker:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_step_without_a_call_reveals_nothing_about_its_upstream() {
    let mut harness = Harness::new().await;
    harness.times.attempt_timeout = Duration::from_millis(500);
    harness.times.retry_base = Duration::from_hours(1);
    harness.times.circuit = slow_breaker();
    let script = Script::new([Scripted::Hang]);

    let breaker = breaker_after_a_timeout(&harness, scripted(&script)).await;

    assert_eq!((breaker.open_for, breaker.failures), (None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_probe_that_is_never_answered_increases_the_probe_delay() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.attempt_timeout = Duration::from_millis(500);
    harness.times.retry_base = Duration::from_hours(1);
    let minute = Duration::from_mins(1);
    let times = CircuitTimes {
        first_probe: minute,
        ..slow_breaker()
    };
    harness.times.circuit = times;
    let never = Fault::SlowAnswer { millis: 600_000 };
    upstreams
        .stalwart
        .server
        .faults
        .add(FaultRule::every(never));
    let breakers = &harness.context.circuits;
    breakers
        .record(Upstream::Stalwart, times, false, CallResult::TimedOut)
        .await;
    breakers.force_half_open(Upstream::Stalwart).await;

    let breaker = breaker_after_a_timeout(&harness, calls_without_end(&upstreams)).await;

    assert!(breaker.probe_in.unwrap() > minute, "{breaker:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_upstream_defers_only_its_own_steps() {
    let upstreams = Upstreams::start().await;
    let harness = Harness::with_upstreams(&upstreams).await;
    pause_upstream(&harness, Upstream::Stalwart, true).await;
    let worker = harness.worker();
    let jobs = harness.add_provisioning(5).await;

    until_only_mail_is_deferred(&harness, &jobs).await;
    let requested = requests(&upstreams);
    pause_upstream(&harness, Upstream::Stalwart, false).await;
    until_active(&harness, &jobs).await;
    worker.stop().await;

    assert_eq!(requested, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_observes_a_pause() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    let before = harness.enqueue(&Lone { n: 0 }).await;
    harness.finished(before.id).await;

    pause_upstream(&harness, Upstream::Stalwart, true).await;
    let mut n = 0;
    let held = loop {
        n += 1;
        assert!(n < 200, "the pause is not observed");
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
async fn a_paused_queue_starts_no_job_and_loses_none() {
    let harness = Harness::new().await;
    pause_queue(&harness, Queue::Provisioning, true).await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    harness.until_leader().await;
    let announced = harness.enqueue(&Lone { n: 1 }).await;
    let silent = harness.enqueue_unannounced(&Lone { n: 2 }).await;

    // Ten sweep intervals.
    tokio::time::sleep(10 * harness.times.sweep_every).await;
    let started = script.runs().len();
    pause_queue(&harness, Queue::Provisioning, false).await;
    let states = [
        harness.finished(announced.id).await.state,
        harness.finished(silent.id).await.state,
    ];
    worker.stop().await;

    assert_eq!(started, 0);
    assert_eq!(states, [JobState::Completed; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_runs_before_the_retry_after_of_the_upstream() {
    let mut harness = Harness::new().await;
    harness.times.retry_base = Duration::ZERO;
    let wait = Duration::from_secs(2);
    let script = Script::new([Scripted::FailFor(ErrorCode::UpstreamRateLimited, wait)]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    let first = harness.enqueue(&Lone { n: 1 }).await;
    let rate_limited_at = script.until_runs(1).await[0].at;
    harness.job_until(first.id, |job| job.snoozes > 0).await;

    let second = harness.enqueue(&Lone { n: 2 }).await;
    harness.finished(first.id).await;
    let second = harness.finished(second.id).await;
    worker.stop().await;

    let runs = script.runs();
    assert_eq!(runs.len(), 3);
    for run in &runs[1..] {
        let waited = run.at.timestamp_millis() - rate_limited_at.timestamp_millis();
        assert!(waited >= 1_990, "{waited}");
    }
    assert!(second.snoozes >= 1);
}
