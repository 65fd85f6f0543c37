//! Settlement: attempts charged, history kept, and jobs ended from outside their handler.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    id::{AppId, JobId},
    platform::clock,
    queue::{
        args::ProvisionApp,
        error_code::{ErrorCode, RetryPolicy},
        job::{Job, JobState, Queue},
        priority::Priority,
    },
    store::{TransactionError, jobs::RequeueError},
    tenant::{ProvisioningState, Tenant, reason},
    upstream::Upstream,
};
use dezky_worker::steps::{Registry, StepFailure, StepSuccess, Steps};

use crate::{
    harness::Harness,
    script::{Failing, Joining, Lone, Poison, Script, Scripted, Single},
};

const DAY: i64 = 24 * 60 * 60 * 1_000;

fn registry(script: &Script) -> Registry {
    let for_tenant = || Steps::parallel().upstream(Upstream::Authentik, script.step());
    let fail = Steps::parallel().step("fail", async |run| {
        let args: Failing = run.job.args().unwrap();
        Err::<StepSuccess, _>(StepFailure::new(args.code, "scripted failure"))
    });
    Registry::default()
        .register::<Lone>(Steps::parallel().step("work", script.step()))
        .register::<Single>(for_tenant())
        .register::<Joining>(for_tenant())
        .register::<Failing>(fail)
}

/// Whether no upstream of the tenant is pending.
fn nothing_is_pending(tenant: &Tenant) -> bool {
    Upstream::ALL.into_iter().all(|upstream| {
        *tenant.provisioning_status.get(upstream) != ProvisioningState::Pending
            && tenant
                .condition(upstream)
                .is_some_and(|condition| condition.next_attempt_at.is_none())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_class_is_charged_by_its_retry_policy() {
    let mut harness = Harness::new().await;
    harness.times.retry_base = Duration::from_mins(1);
    harness.times.hold_backoff = Duration::from_mins(1);
    let mut jobs = Vec::new();
    for code in ErrorCode::ALL {
        let first = harness.enqueue_unannounced(&Failing { code }).await;
        let last = harness.enqueue_unannounced(&Failing { code }).await;
        harness.edit_job(last.id, doc! { "attempt": 11 }).await;
        jobs.push((code, first.id, last.id));
    }

    let worker = harness.worker_of("worker", registry(&Script::new([])), 16);
    for (code, first, last) in jobs {
        let settled = |job: &Job| job.state != JobState::Running && job.error.is_some();
        let job = harness.job_until(first, settled).await;
        let last = harness.job_until(last, settled).await;

        let cost = |job: &Job| (job.state, job.attempt, job.snoozes);
        let (first_time, last_time) = match code {
            // Internal errors, conflicts, in-doubt writes, timeouts.
            ErrorCode::Internal
            | ErrorCode::UpstreamConflict
            | ErrorCode::UpstreamAnswerLost
            | ErrorCode::AttemptTimedOut => {
                ((JobState::Available, 1, 0), (JobState::Discarded, 12, 0))
            }
            // Upstream failures, and failures that need an operator.
            ErrorCode::UpstreamUnreachable
            | ErrorCode::UpstreamUnavailable
            | ErrorCode::UpstreamIdentityUnavailable
            | ErrorCode::UpstreamRateLimited
            | ErrorCode::UpstreamCircuitOpen
            | ErrorCode::UpstreamPaused
            | ErrorCode::UpstreamNotReady
            | ErrorCode::UpstreamStateChanged
            | ErrorCode::UpstreamResponseInvalid
            | ErrorCode::UpstreamCredentialsRefused
            | ErrorCode::UpstreamPermissionMissing
            | ErrorCode::SecretsUnreadable
            | ErrorCode::PaymentProviderMode
            | ErrorCode::RecoveryFlowMissing => {
                ((JobState::Available, 0, 1), (JobState::Available, 11, 1))
            }
            // Rejections, and failures that need the customer.
            _ => ((JobState::Discarded, 1, 0), (JobState::Discarded, 12, 0)),
        };
        assert_eq!(cost(&job), first_time, "{code:?}");
        assert_eq!(cost(&last), last_time, "{code:?}");
        assert_eq!(job.error.unwrap().code, code);
        let outcomes = job.attempts.iter().map(|it| it.outcome.as_str());
        let outcomes: Vec<&str> = outcomes.collect();
        assert_eq!(
            outcomes == ["snooze"],
            first_time.2 == 1,
            "{code:?}: {outcomes:?}"
        );
        assert_eq!(
            code.retry_policy() == RetryPolicy::Never,
            first_time.0 == JobState::Discarded
        );
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_twenty_attempts_are_listed() {
    let harness = Harness::new().await;
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let tries: Vec<_> = (1..=20)
        .map(|n| doc! { "n": n, "worker": "w", "startedAt": job.run_at, "finishedAt": job.run_at, "outcome": "retry" })
        .collect();
    harness
        .edit_job(
            job.id,
            doc! { "attempts": tries, "attempt": 5, "snoozes": 15 },
        )
        .await;

    let worker = harness.worker_of("worker", registry(&Script::new([])), 1);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    let listed: Vec<i32> = job.attempts.iter().map(|attempt| attempt.n).collect();
    assert_eq!(listed, (2..=21).collect::<Vec<i32>>());
    assert_eq!(job.attempts[19].outcome, "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_job_of_a_schedule_is_kept_for_a_day_unless_it_changed_something() {
    let harness = Harness::new().await;
    let script = Script::new([Scripted::Ok, Scripted::Ok]);
    let changing = Steps::parallel().step("work", async |_| {
        let changes = vec!["a change".to_owned()];
        Ok(StepSuccess::ok(reason::PROVISIONED, changes))
    });
    let registry = registry(&script).register::<Poison>(changing);
    let by_schedule = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let by_person = harness.enqueue_unannounced(&Lone { n: 2 }).await;
    let with_changes = harness.enqueue_unannounced(&Poison { n: 1 }).await;
    for job in [&by_schedule, &with_changes] {
        let set = doc! { "createdBy": "schedule:nightly_reconcile" };
        harness.edit_job(job.id, set).await;
    }

    let worker = harness.worker_of("worker", registry, 8);
    let mut kept = Vec::new();
    for job in [by_schedule, by_person, with_changes] {
        let job = harness.finished(job.id).await;
        let until = job.expire_at.unwrap().timestamp_millis();
        kept.push((until - job.finished_at.unwrap().timestamp_millis()) / DAY);
    }
    worker.stop().await;

    assert_eq!(kept, [1, 30, 30]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_job_has_a_deletion_time_and_no_secrets() {
    let harness = Harness::new().await;
    let script = Script::new([Scripted::Ok]);
    let sealed = doc! { "keyId": "k", "data": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1] } };
    let completed = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let discarded = harness
        .enqueue_unannounced(&Failing {
            code: ErrorCode::UpstreamRejected,
        })
        .await;
    let cancelled = harness.enqueue_unannounced(&Lone { n: 2 }).await;
    for job in [&completed, &discarded, &cancelled] {
        harness
            .edit_job(
                job.id,
                doc! { "sealed": sealed.clone(), "hadSecrets": true },
            )
            .await;
    }
    harness.cancel(cancelled.id).await;

    let worker = harness.worker_of("worker", registry(&script), 8);
    let completed = harness.finished(completed.id).await;
    let discarded = harness.finished(discarded.id).await;
    let cancelled = harness.finished(cancelled.id).await;
    worker.stop().await;

    for (job, days) in [(&completed, 30), (&discarded, 90), (&cancelled, 90)] {
        let finished = job.finished_at.unwrap().timestamp_millis();
        assert_eq!(
            job.expire_at.unwrap().timestamp_millis() - finished,
            days * DAY,
            "{:?}",
            job.state
        );
        assert_eq!(job.secrets, None);
        let again = harness.requeue(job.id).await;
        assert!(
            matches!(
                again,
                Err(TransactionError::Aborted(RequeueError::SecretsGone))
            ),
            "{again:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_job_is_discarded_and_the_tenant_reports_it() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue_unannounced(&Joining::of(&tenant)).await;
    harness
        .edit_job(job.id, doc! { "giveUpAt": job.run_at })
        .await;
    let script = Script::new([]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(
        (job.state, job.error.unwrap().code),
        (JobState::Discarded, ErrorCode::GaveUp)
    );
    assert!(script.runs().is_empty());
    assert!(nothing_is_pending(&harness.tenant(tenant.id).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_an_available_job_updates_the_tenant() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue_unannounced(&Joining::of(&tenant)).await;

    let job = harness.cancel(job.id).await;

    assert_eq!(
        (job.state, job.error.unwrap().code),
        (JobState::Cancelled, ErrorCode::Cancelled)
    );
    assert!(nothing_is_pending(&harness.tenant(tenant.id).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_about_an_app_does_not_report_for_the_cancelled_job_of_its_tenant() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue_unannounced(&Joining::of(&tenant)).await;
    let of_app = ProvisionApp {
        tenant_id: tenant.id,
        app_id: AppId::new(),
        secret_version: 0,
    };
    harness.enqueue_unannounced(&of_app).await;

    harness.cancel(job.id).await;

    assert!(nothing_is_pending(&harness.tenant(tenant.id).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_cancellations_leave_no_tenant_pending() {
    let harness = Harness::new().await;

    for n in 0..20 {
        let tenant = harness.add_tenant(&format!("acme-{n}"), &[]).await;
        let one = harness.enqueue_unannounced(&Single::of(&tenant)).await;
        let two = harness.enqueue_unannounced(&Single::of(&tenant)).await;

        tokio::join!(harness.cancel(one.id), harness.cancel(two.id));

        assert!(
            nothing_is_pending(&harness.tenant(tenant.id).await),
            "in round {n}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_when_its_step_ends() {
    let mut harness = Harness::new().await;
    harness.times.renew_every = Duration::from_secs(1);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let script = Script::blocking([Scripted::Fail(ErrorCode::UpstreamUnavailable)]);
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.until_runs(1).await;

    let requested = harness.cancel(job.id).await;
    script.release(1);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(requested.state, JobState::Running);
    assert_eq!(
        (job.state, job.error.unwrap().code),
        (JobState::Cancelled, ErrorCode::Cancelled)
    );
    assert_eq!((job.cancel_requested, script.runs().len()), (None, 1));
    assert!(nothing_is_pending(&harness.tenant(tenant.id).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_cancellation_ends_the_job_before_its_next_run() {
    let mut harness = Harness::new().await;
    // The only step of a job is recorded by its settlement, and this lease is not renewed meanwhile.
    harness.times.lease = Duration::from_mins(1);
    harness.times.renew_every = Duration::from_mins(1);
    harness.times.retry_base = Duration::from_mins(10);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::blocking([Scripted::FailFor(
        ErrorCode::UpstreamRateLimited,
        Duration::from_mins(10),
    )]);
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.until_runs(1).await;

    harness.cancel(job.id).await;
    script.release(2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!((job.state, script.runs().len()), (JobState::Cancelled, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_stores_the_exact_time_of_the_next_attempt() {
    let mut harness = Harness::new().await;
    harness.times.retry_base = Duration::from_mins(10);
    let tenant = harness.add_tenant("acme", &[]).await;
    for code in [ErrorCode::UpstreamUnavailable, ErrorCode::Internal] {
        let job = harness.enqueue(&Single::of(&tenant)).await;
        let worker = harness.worker_of("worker", registry(&Script::new([Scripted::Fail(code)])), 8);
        let job = harness.job_until(job.id, |job| job.error.is_some()).await;
        worker.stop().await;

        let tenant = harness.tenant(tenant.id).await;
        let next_attempt = tenant
            .condition(Upstream::Authentik)
            .unwrap()
            .next_attempt_at;
        assert_eq!(next_attempt, Some(job.run_at));
        harness.cancel(job.id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requeueing_an_available_job_makes_it_due_with_all_attempts() {
    let harness = Harness::new().await;
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let later = clock::later(job.run_at, Duration::from_hours(1));
    let progress = doc! { "done": 1_i64, "total": 2_i64, "note": "items", "cursor": "1" };
    let given_up = doc! { "name": "work", "state": "error", "attempts": 2, "progress": progress };
    let waiting = doc! { "runAt": later, "attempt": 11, "crashes": 2, "giveUpAt": job.run_at, "steps": [given_up], "cancelRequested": true };
    harness.edit_job(job.id, waiting).await;

    let bulk = doc! { "priority": Priority::Bulk };
    harness.edit_job(job.id, bulk).await;
    let requeued = harness.requeue(job.id).await.unwrap();
    assert_eq!(
        requeued.job.priority,
        Priority::Interactive,
        "a person waits"
    );
    let in_bulk = harness.requeue_in(job.id, Priority::Bulk).await.unwrap();
    assert_eq!(
        in_bulk.job.priority,
        Priority::Interactive,
        "it still waits"
    );

    let again = requeued.job;
    assert!(!requeued.is_new && again.id == job.id);
    assert!(again.run_at < later && again.give_up_at.unwrap() > later);
    assert_eq!(
        (again.attempt, again.crashes, again.cancel_requested),
        (0, 0, None)
    );
    assert_eq!(
        again.steps[0].next_at,
        Some(again.run_at),
        "a permanently failed step runs again"
    );
    let progress = again.steps[0].progress.as_ref().unwrap();
    assert_eq!(progress.cursor, None, "from its first item on");
}

#[tokio::test(flavor = "multi_thread")]
async fn requeueing_clones_a_final_job_and_rejects_a_running_one() {
    let harness = Harness::new().await;
    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    let job = harness
        .enqueue(&Failing {
            code: ErrorCode::UpstreamRejected,
        })
        .await;
    let over = harness.finished(job.id).await;
    worker.stop().await;
    let running = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    harness
        .edit_job(running.id, doc! { "state": "running" })
        .await;

    let requeued = harness.requeue(over.id).await.unwrap();
    let refused = harness.requeue(running.id).await;
    let unknown = harness.requeue(JobId::new()).await;

    assert!(requeued.is_new && requeued.job.id != over.id);
    assert_eq!(requeued.job.requeued_from, Some(over.id));
    assert_eq!(
        (requeued.job.state, requeued.job.attempt),
        (JobState::Available, 0)
    );
    assert!(requeued.job.attempts.is_empty() && requeued.job.expire_at.is_none());
    let after = harness.job(over.id).await;
    assert_eq!(after.requeued_to, Some(requeued.job.id));
    assert_eq!(
        (after.state, after.steps, after.attempts),
        (over.state, over.steps, over.attempts)
    );
    assert!(matches!(
        refused,
        Err(TransactionError::Aborted(RequeueError::Running))
    ));
    assert!(matches!(
        unknown,
        Err(TransactionError::Aborted(RequeueError::NotFound))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_fails_does_not_block_others() {
    let harness = Harness::new().await;
    let script = Script::blocking([]);
    let stuck = harness.enqueue(&Lone { n: 1 }).await;
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.until_runs(1).await;
    harness.block_settlement(stuck.id).await;

    script.release(4);
    let mut others = Vec::new();
    for n in 2..5 {
        others.push(harness.enqueue(&Lone { n }).await);
    }
    for job in &others {
        harness.finished(job.id).await;
    }
    let meanwhile = harness.job(stuck.id).await.state;
    harness.unblock_settlement().await;
    let stuck = harness.finished(stuck.id).await;
    worker.stop().await;

    assert_eq!(meanwhile, JobState::Running);
    assert_eq!(stuck.state, JobState::Completed);
    assert_eq!(script.runs().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_runs_its_next_job_while_a_settlement_is_written_and_unsettled_jobs_are_limited() {
    let harness = Harness::new().await;
    let script = Script::blocking([]);
    let mut jobs = Vec::new();
    for n in 0..3 {
        jobs.push(harness.enqueue_unannounced(&Lone { n }).await.id);
    }
    let running = doc! { "state": { "$in": ["available", "running"] } };
    harness.refuse_unless("jobs", running).await;

    let worker = harness.worker_of("worker", registry(&script), 1);
    script.release(3);
    script.until_runs(2).await;
    // Time in which a third job would be claimed.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (started, max_running) = (script.runs().len(), script.max_running());
    harness.unblock_settlement().await;
    for id in jobs {
        let job = harness.finished(id).await;
        assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
    }
    worker.stop().await;

    assert_eq!((started, max_running), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_set_is_notified_only_after_the_settlement() {
    let mut harness = Harness::new().await;
    harness.times.sweep_every = Duration::from_hours(1);
    let script = Script::blocking([]);
    let tenant_id = harness.add_tenant("acme", &[]).await.id;
    let first = harness.enqueue(&Single { tenant_id }).await;
    // A key added early would be popped and dropped, since its lock is held, and no sweep would find the second job.
    let worker = harness.worker_of("worker", registry(&script), 1);
    script.until_runs(1).await;
    let second = harness.enqueue_unannounced(&Single { tenant_id }).await;
    harness.block_settlement(first.id).await;

    script.release(2);
    let is_recorded = |job: &Job| job.steps.iter().all(|step| step.state.is_done());
    harness.job_until(first.id, is_recorded).await;
    // Time for several settlement attempts.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let meanwhile = harness.ready(Queue::Provisioning).await;
    harness.unblock_settlement().await;
    harness.finished(second.id).await;
    worker.stop().await;

    assert_eq!(meanwhile, []);
    assert_eq!(harness.job(first.id).await.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_does_not_rely_on_a_running_one_that_has_nothing_left_to_report() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::blocking([]);
    let running = harness.enqueue(&Joining::of(&tenant)).await;
    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    script.until_runs(3).await;
    harness.block_settlement(running.id).await;
    script.release(3);
    let is_recorded =
        |job: &Job| job.steps.len() == 3 && job.steps.iter().all(|step| step.state.is_done());
    harness.job_until(running.id, is_recorded).await;

    // The tenant changes; its job waits behind the lock, and is cancelled.
    harness.change_tenant(tenant.id, |_| {}).await;
    let next = harness.enqueue(&Joining::of(&tenant)).await;
    let next = harness.cancel(next.id).await;
    harness.unblock_settlement().await;
    let running = harness.finished(running.id).await;
    worker.stop().await;

    assert_eq!(
        (running.state, next.state),
        (JobState::Completed, JobState::Cancelled)
    );
    let tenant = harness.tenant(tenant.id).await;
    assert!(nothing_is_pending(&tenant), "{tenant:#?}");
}
