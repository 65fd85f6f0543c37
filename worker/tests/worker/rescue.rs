//! Jobs of workers that are gone are taken back, and what brings workers down is found out.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
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
    gate::pause_upstream,
    harness::{Harness, until},
    script::{Joining, Lone, Poison, Say, Script},
};

fn registry(script: &Script) -> Registry {
    let steps = || Steps::parallel().step("work", script.step());
    Registry::default()
        .register::<Lone>(steps())
        .register::<Joining>(steps())
}

fn with_poison(script: &Script, poison: &Script) -> Registry {
    registry(script).register::<Poison>(Steps::parallel().step("die", poison.step()))
}

fn rescued(job: &Job) -> bool {
    job.rescued
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_left_behind_is_taken_back_and_charged_only_a_crash_it_may_have_caused() {
    let mut harness = Harness::new().await;
    harness.times.rescue_spread = Duration::from_mins(10);
    let started = harness.leave_behind(&Lone { n: 1 }, true).await;
    let claimed = harness.leave_behind(&Lone { n: 2 }, false).await;

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
async fn a_lease_that_is_renewed_is_not_rescued() {
    let harness = Harness::new().await;
    let script = Script::held([]);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let worker = harness.worker_of("worker", registry(&script), 8);
    script.ran(1).await;
    let witness = harness.leave_behind(&Lone { n: 2 }, false).await;
    let began = harness.job(job.id).await.lease.unwrap().until;

    harness
        .job_until(witness.id, |job| !job.attempts.is_empty())
        .await;
    harness
        .job_until(job.id, |job| {
            job.lease.as_ref().unwrap().until > clock::later(began, Duration::from_secs(2))
        })
        .await;
    script.let_go(2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(
        (job.crashes, job.rescued, job.attempts.len()),
        (0, false, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_three_workers_died_of_is_discarded_and_its_tenant_told() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness
        .leave_behind(
            &Joining {
                tenant_id: tenant.id,
            },
            true,
        )
        .await;
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
async fn a_worker_that_dies_before_its_handler_starts_discards_nothing() {
    let harness = Harness::new().await;
    let job = harness.leave_behind(&Lone { n: 1 }, false).await;
    harness.edit_job(job.id, doc! { "crashes": 2 }).await;

    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_are_forgotten_once_the_steps_have_ended() {
    let harness = Harness::new().await;
    let job = harness.enqueue_silently(&Lone { n: 1 }).await;
    harness
        .edit_job(job.id, doc! { "crashes": 2, "rescued": true })
        .await;
    let script = Script::new([Say::FailFor(
        ErrorCode::UpstreamRateLimited,
        Duration::from_mins(10),
    )]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    let job = harness.job_until(job.id, |job| job.snoozes == 1).await;
    worker.stop().await;

    assert_eq!((job.crashes, job.rescued), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_are_not_forgotten_for_a_step_that_its_upstream_keeps_waiting() {
    let harness = Harness::new().await;
    pause_upstream(&harness, Upstream::Stalwart, true).await;
    let job = harness.enqueue_silently(&Lone { n: 1 }).await;
    let suspect = doc! { "crashes": 1, "rescued": true };
    harness.edit_job(job.id, suspect).await;
    let steps = Steps::parallel()
        .upstream(Upstream::Stalwart, Script::new([]).step())
        .step("die", Script::new([Say::Hang]).step());

    let worker = harness.doomed_worker(Registry::default().register::<Lone>(steps), 8);
    let job = harness
        .job_until(job.id, |job| {
            job.steps.iter().any(|step| step.error.is_some())
        })
        .await;
    worker.vanish();

    assert_eq!((job.crashes, job.rescued), (1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_runs_alone_in_its_process() {
    let harness = Harness::new().await;
    let suspect = harness.enqueue_silently(&Lone { n: 0 }).await;
    harness
        .edit_job(suspect.id, doc! { "crashes": 1, "rescued": true })
        .await;
    let mut innocents = Vec::new();
    for n in 1..6 {
        innocents.push(harness.enqueue(&Lone { n }).await);
    }
    let script = Script::held([]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    harness
        .job_until(suspect.id, |job| job.state == JobState::Running)
        .await;
    // One more each time, until all are through.
    for _ in 0..6 {
        until(async || script.inside(), |inside| *inside > 0).await;
        if script.inside() > 1 {
            let inside = script.runs();
            assert!(
                inside
                    .iter()
                    .rev()
                    .take(script.inside())
                    .all(|run| run.job != suspect.id)
            );
        }
        script.let_go(1);
    }
    for job in innocents.iter().chain([&suspect]) {
        harness.finished(job.id).await;
    }
    worker.stop().await;

    assert_eq!(script.runs().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn rescued_jobs_that_nobody_died_of_say_that_they_start_and_run_side_by_side() {
    let mut harness = Harness::new().await;
    harness.times.renew_every = Duration::from_mins(1);
    let mut jobs = Vec::new();
    for n in 0..4 {
        let job = harness.enqueue_silently(&Lone { n }).await;
        harness.edit_job(job.id, doc! { "rescued": true }).await;
        jobs.push(job.id);
    }
    let script = Script::held([]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    until(async || script.inside(), |inside| *inside == 4).await;
    for id in &jobs {
        let lease = harness.job(*id).await.lease.unwrap();
        assert!(lease.started_at.is_some());
    }
    script.let_go(4);
    for id in jobs {
        harness.finished(id).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_discarded_and_takes_no_innocent_with_it() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    harness.times.renew_every = Duration::from_millis(100);
    let innocent = Script::held([]);
    let poison = Script::new((0..9).map(|_| Say::Hang));
    let dying = harness.enqueue(&Poison { n: 0 }).await;
    let mut innocents = Vec::new();
    for n in 1..4 {
        innocents.push(harness.enqueue(&Lone { n }).await);
    }

    // It brings its worker down once its handler has surely started.
    let mut deaths = 0;
    let over = loop {
        let worker = harness.doomed_worker(with_poison(&innocent, &poison), 8);
        let job = harness
            .job_until(dying.id, |job| {
                job.state.is_final()
                    || job
                        .lease
                        .as_ref()
                        .is_some_and(|lease| lease.started_at.is_some())
                        && poison.runs().len() > deaths
            })
            .await;
        if job.state.is_final() {
            break job;
        }
        if deaths == 0 {
            // All of them are caught in the first death.
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
        innocent.let_go(8);
        worker.vanish();
        deaths = poison.runs().len();
        assert!(deaths <= 4);
    };
    let worker = harness.worker_of("well", with_poison(&innocent, &poison), 8);
    innocent.let_go(8);
    for job in &innocents {
        let job = harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Completed, "{job:#?}");
    }
    worker.stop().await;

    assert_eq!(
        (over.state, over.error.unwrap().code),
        (JobState::Discarded, ErrorCode::WorkerCrashed)
    );
    assert_eq!(deaths, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_that_works_before_the_first_renewal_is_found_out_too() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    harness.times.renew_every = Duration::from_secs(30);
    let poison = Script::new((0..9).map(|_| Say::Hang));
    let dying = harness.enqueue(&Poison { n: 0 }).await;

    let mut deaths = 0;
    let over = loop {
        let worker = harness.doomed_worker(with_poison(&Script::new([]), &poison), 8);
        let job = until(
            async || harness.job(dying.id).await,
            |job| job.state.is_final() || poison.runs().len() > deaths,
        )
        .await;
        if job.state.is_final() {
            break job;
        }
        worker.vanish();
        deaths = poison.runs().len();
        assert!(deaths <= 5, "nobody notices");
    };

    assert_eq!(
        (over.state, over.error.unwrap().code),
        (JobState::Discarded, ErrorCode::WorkerCrashed)
    );
    assert_eq!(
        deaths, 4,
        "the first death is not counted, and makes it a suspect"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rescued_while_leases_may_have_run_out_for_want_of_mongodb() {
    let mut harness = Harness::new().await;
    harness.times.rescue_grace = Duration::from_secs(2);
    let job = harness.leave_behind(&Lone { n: 1 }, true).await;
    let began = clock::boot_time();

    let leader = harness.leader();
    harness.job_until(job.id, rescued).await;
    let waited = clock::boot_time().checked_sub(began).unwrap();
    leader.stop().await;

    assert!(waited >= Duration::from_secs(2), "{waited:?}");
}
