//! Claims: from lock keys to leased jobs.

use std::{collections::BTreeMap, time::Duration};

use bson::doc;
use dezky_shared::{
    id::{LeaseToken, TenantId},
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState, Queue},
        ready_set::ReadyKey,
    },
};
use dezky_sim::proxy::is_command;
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Lone, Script, Scripted, Single},
};

/// The part of a claim that sets the state, in MongoDB's wire protocol.
const SETS_RUNNING: &str = "state\0\x08\0\0\0running\0";

fn registry(script: &Script) -> Registry {
    let steps = || Steps::parallel().step("work", script.step());
    Registry::default()
        .register::<Lone>(steps())
        .register::<Single>(steps())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_replaces_all_fields_of_an_old_lease() {
    let mut harness = Harness::new().await;
    harness.times.renew_every = Duration::from_mins(1);
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let old = doc! { "token": LeaseToken::new(), "worker": "old", "until": job.run_at, "startedAt": job.run_at };
    harness.edit_job(job.id, doc! { "lease": old }).await;
    let script = Script::blocking([]);

    let worker = harness.worker_of("worker", registry(&script), 1);
    script.until_runs(1).await;
    let lease = harness.job(job.id).await.lease.unwrap();
    script.release(1);
    harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(lease.worker, "worker");
    assert_eq!(
        lease.started_at, None,
        "otherwise a claim without a run would count as a crash"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dollar_signs_in_stored_text_are_not_interpreted_by_the_claim() {
    let harness = Harness::new().await;
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let script = Script::blocking([Scripted::FailWith(
        ErrorCode::UpstreamRejected,
        "$lease.token $$NOW",
    )]);

    let worker = harness.worker_of("$state", registry(&script), 1);
    script.until_runs(1).await;
    let running = harness.job(job.id).await;
    script.release(1);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(running.lease.unwrap().worker, "$state");
    assert_eq!(job.attempts[0].worker, "$state");
    assert_eq!(job.attempts[0].error.as_deref(), Some("$lease.token $$NOW"));
    assert_eq!(
        job.steps[0].error.as_ref().unwrap().detail,
        "$lease.token $$NOW"
    );
    assert_eq!(job.error.unwrap().detail, "$lease.token $$NOW");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_blocks_only_its_own_job() {
    let harness = Harness::new().await;
    let (busy, free) = (
        harness.add_tenant("busy", &[]).await,
        harness.add_tenant("free", &[]).await,
    );
    let running = harness.enqueue_unannounced(&Single::of(&busy)).await;
    let until = clock::later(harness.context.store.now(), Duration::from_mins(10));
    let lease = doc! { "token": LeaseToken::new(), "worker": "other", "until": until };
    harness
        .edit_job(running.id, doc! { "state": "running", "lease": lease })
        .await;
    // All keys are in the ready set before the worker starts, so they form one batch, with this one in its middle.
    let before = harness.enqueue(&Lone { n: 0 }).await;
    let behind = harness.enqueue(&Single::of(&busy)).await;
    let others = [
        before,
        harness.enqueue(&Single::of(&free)).await,
        harness.enqueue(&Lone { n: 1 }).await,
    ];
    let script = Script::new([]);

    let worker = harness.worker_of("worker", registry(&script), 8);
    for job in &others {
        assert_eq!(harness.finished(job.id).await.attempt, 1);
    }
    worker.stop().await;

    let behind = harness.job(behind.id).await;
    assert_eq!((behind.state, behind.attempt), (JobState::Available, 0));
    assert_eq!(script.runs().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_locked_by_an_open_transaction_does_not_block_the_claim_of_its_batch() {
    let mut harness = Harness::new().await;
    harness.times.bulk_deadline = Duration::from_millis(300);
    let held = harness.enqueue(&Lone { n: 0 }).await;
    let mut others = Vec::new();
    for n in 1..4 {
        others.push(harness.enqueue(&Lone { n }).await);
    }
    let open = harness.hold(&[held.id]).await;

    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    for job in &others {
        harness.finished(job.id).await;
    }
    let meanwhile = harness.job(held.id).await.state;
    let was_held = open.commit().await;
    harness.finished(held.id).await;
    worker.stop().await;

    assert!(meanwhile == JobState::Available || !was_held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_response_is_lost_is_read_back() {
    let mut harness = Harness::new().await;
    // No other mechanism may find the job.
    harness.times = dezky_worker::engine::EngineTimings {
        pop_block: Duration::from_millis(100),
        ..Default::default()
    };
    let proxy = harness.proxy().await;
    let script = Script::new([]);
    let worker = harness.worker_through(&proxy, registry(&script), 8).await;
    harness.until_leader().await;

    proxy.lose_the_answer_to(is_command("findAndModify", "jobs", SETS_RUNNING));
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert!(!proxy.is_armed());
    assert_eq!((job.attempt, job.crashes), (1, 0));
    assert_eq!(script.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_claims_whose_response_is_lost_is_read_back() {
    let mut harness = Harness::new().await;
    // No other mechanism may find the jobs.
    harness.times = dezky_worker::engine::EngineTimings {
        pop_block: Duration::from_millis(100),
        ..Default::default()
    };
    let proxy = harness.proxy().await;
    let script = Script::new([]);
    let mut jobs = Vec::new();
    for n in 0..8 {
        jobs.push(harness.enqueue(&Lone { n }).await.id);
    }

    proxy.lose_the_answer_to(is_command("update", "jobs", SETS_RUNNING));
    let worker = harness.worker_through(&proxy, registry(&script), 8).await;
    for id in &jobs {
        let job = harness.finished(*id).await;
        assert_eq!((job.attempt, job.crashes, job.attempts.len()), (1, 0, 1));
    }
    worker.stop().await;

    assert!(!proxy.is_armed());
    assert_eq!(script.runs().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_key_is_claimed_by_its_most_urgent_due_job() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let now = harness.context.store.now();
    let tomorrow = clock::later(now, Duration::from_hours(24));
    let mut jobs = Vec::new();
    for (priority, run_at) in [(2, now), (1, now), (0, tomorrow), (0, now)] {
        let job = harness.enqueue_unannounced(&Single::of(&tenant)).await;
        let set = doc! { "priority": priority, "runAt": run_at };
        harness.edit_job(job.id, set).await;
        jobs.push(job.id);
    }
    let script = Script::new([]);

    // With one slot every claim is of one key.
    let worker = harness.worker_of("worker", registry(&script), 1);
    for due in [0, 1, 3] {
        harness.finished(jobs[due]).await;
    }
    worker.stop().await;

    let order: Vec<_> = script.runs().iter().map(|run| run.job).collect();
    assert_eq!(order, [jobs[3], jobs[1], jobs[0]]);
    let later = harness.job(jobs[2]).await;
    assert_eq!((later.state, later.attempt), (JobState::Available, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_key_whose_lock_is_held_claims_nothing() {
    let mut harness = Harness::new().await;
    harness.times.sweep_every = Duration::from_mins(10);
    let tenant = harness.add_tenant("busy", &[]).await;
    let running = harness.enqueue_unannounced(&Single::of(&tenant)).await;
    let until_later = clock::later(harness.context.store.now(), Duration::from_mins(10));
    let lease = doc! { "token": LeaseToken::new(), "worker": "other", "until": until_later };
    harness
        .edit_job(running.id, doc! { "state": "running", "lease": lease })
        .await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", registry(&script), 1);
    harness.until_leader().await;

    let behind = harness.enqueue(&Single::of(&tenant)).await;
    until(
        async || harness.ready(Queue::Provisioning).await.len(),
        |left| *left == 0,
    )
    .await;
    // The only slot is free again once the claim has failed.
    let other = harness.enqueue(&Lone { n: 1 }).await;
    harness.finished(other.id).await;
    worker.stop().await;

    let behind = harness.job(behind.id).await;
    assert_eq!((behind.state, behind.attempt), (JobState::Available, 0));
    assert_eq!(harness.job(running.id).await.lease.unwrap().worker, "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_claim_the_same_keys_run_each_job_once() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let mut jobs: Vec<Job> = Vec::new();
    for n in 0..60 {
        jobs.push(harness.enqueue(&Lone { n }).await);
    }
    let keys = jobs.iter().map(|job| ReadyKey {
        lock_key: job.lock_key.clone(),
        priority: job.priority,
    });
    let keys: Vec<ReadyKey> = keys.collect();

    let workers = ["one", "two"].map(|name| harness.worker_of(name, registry(&script), 8));
    let open = doc! { "state": { "$ne": "completed" } };
    // The keys of jobs that are claimed or done are added again and again.
    until(
        async || {
            let ready = &harness.context.ready;
            ready.add(Queue::Provisioning, &keys).await.unwrap();
            harness.jobs().count_documents(open.clone()).await.unwrap()
        },
        |open| *open == 0,
    )
    .await;
    for worker in workers {
        worker.stop().await;
    }

    let mut runs = BTreeMap::new();
    for run in script.runs() {
        *runs.entry(run.job).or_insert(0) += 1;
    }
    assert_eq!(runs.len(), 60);
    assert!(runs.values().all(|times| *times == 1), "{runs:?}");
    for job in &jobs {
        let job = harness.job(job.id).await;
        assert_eq!((job.attempt, job.attempts.len(), job.revision), (1, 1, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_never_run_the_same_job_or_two_jobs_of_one_tenant() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::new([]);
    let mut jobs = Vec::new();
    for _ in 0..12 {
        jobs.push(harness.enqueue(&Single::of(&tenant)).await);
    }

    let workers = ["one", "two"].map(|name| harness.worker_of(name, registry(&script), 4));
    for job in &jobs {
        harness.finished(job.id).await;
    }
    for worker in workers {
        worker.stop().await;
    }

    assert_eq!(script.max_running(), 1);
    assert_eq!(script.runs().len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_unknown_kind_is_snoozed_uncharged() {
    let harness = Harness::new().await;
    let tenant_id = TenantId::new();
    let job = harness.enqueue(&Single { tenant_id }).await;

    let worker = harness.worker_of("old", Registry::default(), 8);
    let job = harness.job_until(job.id, |job| job.snoozes == 1).await;
    worker.stop().await;

    assert_eq!((job.state, job.attempt), (JobState::Available, 0));
    assert!(job.run_at > job.updated_at && job.error.is_none());
}
