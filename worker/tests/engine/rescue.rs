//! Rescue: jobs of crashed workers are made available again, and jobs that crash workers are detected.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    id::LeaseToken,
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState},
    },
    tenant::ProvisioningState,
    upstream::Upstream,
};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    admission::pause_upstream,
    harness::{Harness, until},
    script::{Joining, Lone, Poison, Script, Scripted, Single},
};

fn registry(script: &Script) -> Registry {
    let steps = || Steps::parallel().step("work", script.step());
    Registry::default()
        .register::<Lone>(steps())
        .register::<Joining>(steps())
        .register::<Single>(steps())
}

fn with_poison(script: &Script, poison: &Script) -> Registry {
    registry(script).register::<Poison>(Steps::parallel().step("die", poison.step()))
}

fn rescued(job: &Job) -> bool {
    job.rescued
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescued_job_is_charged_a_crash_only_if_it_had_started() {
    let mut harness = Harness::new().await;
    harness.times.rescue_spread = Duration::from_mins(10);
    let started = harness.add_orphan(&Lone { n: 1 }, true).await;
    let claimed = harness.add_orphan(&Lone { n: 2 }, false).await;

    let leader = harness.leader();
    let started = harness.job_until(started.id, rescued).await;
    let claimed = harness.job_until(claimed.id, rescued).await;
    leader.stop().await;

    for (job, crashes) in [(&started, 1), (&claimed, 0)] {
        assert_eq!(
            (job.state, job.attempt, job.crashes),
            (JobState::Available, 0, crashes)
        );
        assert!(job.lease.is_none());
        assert_eq!(job.attempts[0].outcome, "rescue");
        assert_eq!(job.attempts[0].worker, "gone");
        let wait = clock::until(job.updated_at, job.run_at);
        assert!(
            wait <= Duration::from_mins(10) * 2_u32.pow(crashes.try_into().unwrap()),
            "{wait:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_rescues_the_jobs_of_any_number_of_crashed_workers() {
    let mut harness = Harness::new().await;
    harness.times.rescue_grace = Duration::ZERO;
    harness.times.rescue_every = Duration::from_hours(1);
    harness.times.rescue_spread = Duration::from_hours(1);
    let keys: Vec<String> = (0..2_300).map(|n| format!("lost:{n}")).collect();
    harness.clone_for_lock_keys(&Lone { n: 1 }, &keys).await;
    let past = clock::earlier(harness.context.store.now(), Duration::from_mins(1));
    let lease = doc! { "token": LeaseToken::new(), "worker": "gone", "until": past };
    let running = doc! { "$set": { "state": "running", "lease": lease } };
    harness.jobs().update_many(doc! {}, running).await.unwrap();

    let leader = harness.leader();
    let running = async || {
        let running = doc! { "state": "running" };
        harness.jobs().count_documents(running).await.unwrap()
    };
    until(running, |running| *running == 0).await;
    leader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_renewed_is_not_rescued() {
    let harness = Harness::new().await;
    let script = Script::blocking([]);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.until_runs(1).await;
    let witness = harness.add_orphan(&Lone { n: 2 }, false).await;
    let began = harness.job(job.id).await.lease.unwrap().until;

    harness
        .job_until(witness.id, |job| !job.attempts.is_empty())
        .await;
    harness
        .job_until(job.id, |job| {
            job.lease.as_ref().unwrap().until > clock::later(began, Duration::from_secs(2))
        })
        .await;
    script.release(2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(
        (job.crashes, job.rescued, job.attempts.len()),
        (0, false, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_crashed_three_workers_is_discarded_and_the_tenant_reports_it() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.add_orphan(&Joining::of(&tenant), true).await;
    harness.edit_job(job.id, doc! { "crashes": 2 }).await;

    let leader = harness.leader();
    let job = harness.finished(job.id).await;
    leader.stop().await;

    assert_eq!((job.state, job.crashes), (JobState::Discarded, 3));
    assert_eq!(job.error.unwrap().code, ErrorCode::WorkerCrashed);
    assert!(job.expire_at.is_some());
    let tenant = harness.tenant(tenant.id).await;
    assert_eq!(
        tenant.provisioning_status.authentik,
        ProvisioningState::Error
    );
    assert!(
        tenant
            .conditions
            .iter()
            .all(|condition| condition.next_attempt_at.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_handler_starts_is_not_charged() {
    let harness = Harness::new().await;
    let job = harness.add_orphan(&Lone { n: 1 }, false).await;
    harness.edit_job(job.id, doc! { "crashes": 2 }).await;

    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_are_reset_after_the_steps_have_ended() {
    let harness = Harness::new().await;
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    harness
        .edit_job(job.id, doc! { "crashes": 2, "rescued": true })
        .await;
    let script = Script::new([Scripted::FailFor(
        ErrorCode::UpstreamRateLimited,
        Duration::from_mins(10),
    )]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    let job = harness.job_until(job.id, |job| job.snoozes == 1).await;
    worker.stop().await;

    assert_eq!((job.crashes, job.rescued), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_are_not_reset_by_a_deferred_step() {
    let harness = Harness::new().await;
    pause_upstream(&harness, Upstream::Stalwart, true).await;
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let suspect = doc! { "crashes": 1, "rescued": true };
    harness.edit_job(job.id, suspect).await;
    let steps = Steps::parallel()
        .upstream(Upstream::Stalwart, Script::new([]).step())
        .step("die", Script::new([Scripted::Hang]).step());

    let worker = harness.crashable_worker(Registry::default().register::<Lone>(steps), 8);
    let job = harness
        .job_until(job.id, |job| {
            job.steps.iter().any(|step| step.error.is_some())
        })
        .await;
    worker.crash();

    assert_eq!((job.crashes, job.rescued), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_waits_until_the_writes_of_the_lost_worker_have_landed() {
    let mut harness = Harness::new().await;
    harness.times.in_doubt_wait = Duration::from_secs(2);
    let tenant = harness.add_tenant("acme", &[]).await;
    let lost = harness.add_orphan(&Single::of(&tenant), false).await;
    let expired = harness.context.store.now();
    harness
        .edit_job(lost.id, doc! { "lease.until": expired })
        .await;
    let script = Script::new([]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    // The lock covers the tenant's other jobs, too.
    let next = harness.enqueue(&Single::of(&tenant)).await;
    harness.finished(lost.id).await;
    harness.finished(next.id).await;
    worker.stop().await;

    // 2 s after the last possible end of a write, which both margins keep from the expiry; and the error of a clock.
    let landed = clock::later(expired, Duration::from_millis(1_500 - 100));
    let runs = script.runs();
    assert_eq!(runs.len(), 2);
    assert!(
        runs.iter().all(|run| run.at >= landed),
        "{landed} {runs:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn suspects_run_one_at_a_time_and_take_no_slot_from_other_jobs() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let suspect = doc! { "crashes": 1, "rescued": true };
    let mut suspects = Vec::new();
    for n in 0..10 {
        let job = harness.enqueue_unannounced(&Lone { n }).await;
        harness.edit_job(job.id, suspect.clone()).await;
        suspects.push(job.id);
    }
    let (slow, quick) = (Script::blocking([]), Script::new([]));
    let registry = registry(&slow).register::<Single>(Steps::parallel().step("work", quick.step()));

    let worker = harness.worker_of("worker", registry, 4);
    let put_off = doc! { "snoozes": { "$gt": 0 } };
    let put_off = async || {
        let jobs = harness.jobs();
        jobs.count_documents(put_off.clone()).await.unwrap()
    };
    until(put_off, |jobs| *jobs == 9).await;
    let innocent = harness.enqueue(&Single::of(&tenant)).await;
    let innocent = harness.finished(innocent.id).await;
    let meanwhile = slow.runs().len();
    slow.release(10);
    for id in suspects {
        harness.finished(id).await;
    }
    worker.stop().await;

    assert_eq!((innocent.state, meanwhile), (JobState::Completed, 1));
    assert_eq!((slow.max_running(), slow.runs().len()), (1, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_crashed_two_workers_runs_alone_in_its_process() {
    let harness = Harness::new().await;
    let suspect = harness.enqueue_unannounced(&Lone { n: 0 }).await;
    harness
        .edit_job(suspect.id, doc! { "crashes": 2, "rescued": true })
        .await;
    let mut innocents = Vec::new();
    for n in 1..6 {
        innocents.push(harness.enqueue(&Lone { n }).await);
    }
    let script = Script::blocking([]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    harness
        .job_until(suspect.id, |job| job.state == JobState::Running)
        .await;
    // One more job each time, until all have run.
    for _ in 0..6 {
        until(async || script.running(), |running| *running > 0).await;
        if script.running() > 1 {
            let running = script.runs();
            assert!(
                running
                    .iter()
                    .rev()
                    .take(script.running())
                    .all(|run| run.job != suspect.id)
            );
        }
        script.release(1);
    }
    for job in innocents.iter().chain([&suspect]) {
        harness.finished(job.id).await;
    }
    worker.stop().await;

    assert_eq!(script.runs().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn rescued_jobs_without_a_crash_record_their_start_and_run_in_parallel() {
    let mut harness = Harness::new().await;
    harness.times.renew_every = Duration::from_mins(1);
    let mut jobs = Vec::new();
    for n in 0..4 {
        let job = harness.enqueue_unannounced(&Lone { n }).await;
        harness.edit_job(job.id, doc! { "rescued": true }).await;
        jobs.push(job.id);
    }
    let script = Script::blocking([]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    until(async || script.running(), |running| *running == 4).await;
    for id in &jobs {
        let lease = harness.job(*id).await.lease.unwrap();
        assert!(lease.started_at.is_some());
    }
    script.release(4);
    for id in jobs {
        harness.finished(id).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_is_discarded_and_no_other_job_is() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    harness.times.renew_every = Duration::from_millis(100);
    let innocent = Script::blocking([]);
    let poison = Script::new((0..9).map(|_| Scripted::Hang));
    let dying = harness.enqueue(&Poison { n: 0 }).await;
    let mut innocents = Vec::new();
    for n in 1..4 {
        innocents.push(harness.enqueue(&Lone { n }).await);
    }

    // Crashes its worker after its handler has started.
    let mut crashes = 0;
    let over = loop {
        let worker = harness.crashable_worker(with_poison(&innocent, &poison), 8);
        let job = harness
            .job_until(dying.id, |job| {
                job.state.is_final()
                    || job
                        .lease
                        .as_ref()
                        .is_some_and(|lease| lease.started_at.is_some())
                        && poison.runs().len() > crashes
            })
            .await;
        if job.state.is_final() {
            break job;
        }
        if crashes == 0 {
            // The first crash affects all of them.
            for job in &innocents {
                harness
                    .job_until(job.id, |job| {
                        job.lease
                            .as_ref()
                            .is_some_and(|lease| lease.started_at.is_some())
                    })
                    .await;
            }
        }
        innocent.release(8);
        worker.crash();
        crashes = poison.runs().len();
        assert!(crashes <= 4);
    };
    let worker = harness.worker_of("well", with_poison(&innocent, &poison), 8);
    innocent.release(8);
    for job in &innocents {
        let job = harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Completed, "{job:#?}");
    }
    worker.stop().await;

    assert_eq!(
        (over.state, over.error.unwrap().code),
        (JobState::Discarded, ErrorCode::WorkerCrashed)
    );
    assert_eq!(crashes, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_that_crashes_before_the_first_renewal_is_detected() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    harness.times.renew_every = Duration::from_secs(30);
    let poison = Script::new((0..9).map(|_| Scripted::Hang));
    let dying = harness.enqueue(&Poison { n: 0 }).await;

    let mut crashes = 0;
    let over = loop {
        let worker = harness.crashable_worker(with_poison(&Script::new([]), &poison), 8);
        let job = until(
            async || harness.job(dying.id).await,
            |job| job.state.is_final() || poison.runs().len() > crashes,
        )
        .await;
        if job.state.is_final() {
            break job;
        }
        worker.crash();
        crashes = poison.runs().len();
        assert!(crashes <= 5, "the poison job is not detected");
    };

    assert_eq!(
        (over.state, over.error.unwrap().code),
        (JobState::Discarded, ErrorCode::WorkerCrashed)
    );
    assert_eq!(
        crashes, 4,
        "the first crash is not counted, but isolates the job"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rescued_while_leases_may_have_expired_due_to_a_mongodb_outage() {
    let mut harness = Harness::new().await;
    harness.times.rescue_grace = Duration::from_secs(2);
    let job = harness.add_orphan(&Lone { n: 1 }, true).await;
    let began = clock::boot_time();

    let leader = harness.leader();
    harness.job_until(job.id, rescued).await;
    let waited = clock::boot_time().checked_sub(began).unwrap();
    leader.stop().await;

    assert!(waited >= Duration::from_secs(2), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescued_job_holds_no_lock_while_another_has_its_turn() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::blocking([]);
    let first = harness.add_orphan(&Lone { n: 1 }, true).await;
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.until_runs(1).await;
    let second = harness.add_orphan(&Single::of(&tenant), true).await;
    harness.job_until(second.id, |job| job.snoozes > 0).await;

    let urgent = harness.enqueue(&Joining::of(&tenant)).await;
    let runs = script.until_runs(2).await;
    script.release(3);
    let mut ended = Vec::new();
    for job in [first.id, second.id, urgent.id] {
        let job = harness.finished(job).await;
        ended.push((job.state, job.attempt));
    }
    worker.stop().await;

    assert_eq!(runs[1].job, urgent.id);
    assert_eq!(ended, [(JobState::Completed, 1); 3]);
}
