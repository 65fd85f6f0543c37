//! Ready set: hints of lock keys that may have due jobs.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState, Queue},
        priority::Priority,
        ready_set::ReadyKey,
    },
};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::Harness,
    script::{Bill, Lone, Script, Scripted, Single},
};

fn key(name: &str, priority: Priority) -> ReadyKey {
    ReadyKey {
        lock_key: name.to_owned(),
        priority,
    }
}

/// Limits the sweep to one run, before the jobs exist.
fn without_sweep(harness: &mut Harness) {
    harness.times.sweep_every = Duration::from_mins(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_scored_by_server_time_in_the_lane_of_its_priority() {
    let harness = Harness::new().await;
    let mut connection = harness.redis_connection().await;
    let ready = &harness.context.ready;
    let keys = [
        key("bulk", Priority::Bulk),
        key("interactive", Priority::Interactive),
        key("security", Priority::Security),
    ];

    let added = ready.add(Queue::Dns, &keys).await.unwrap();
    let (seconds, _): (u64, u64) = redis::cmd("TIME")
        .query_async(&mut connection)
        .await
        .unwrap();

    assert_eq!(added, 3);
    for priority in Priority::ALL {
        assert_eq!(ready.len(Queue::Dns, priority).await.unwrap(), 1);
    }
    let scored = harness.ready(Queue::Dns).await;
    let names: Vec<&str> = scored.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["security", "interactive", "bulk"]);
    for (_, score) in scored {
        let age = f64::from(u32::try_from(seconds).unwrap()) - score;
        assert!(age.abs() < 10.0, "{age}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_more_urgent_job_moves_its_key_to_its_lane_and_a_less_urgent_one_does_not() {
    let harness = Harness::new().await;
    let ready = &harness.context.ready;
    let lanes = async || {
        let lengths = Priority::ALL.map(|priority| ready.len(Queue::Dns, priority));
        futures::future::try_join_all(lengths).await.unwrap()
    };
    let mut seen = Vec::new();
    for priority in [
        Priority::Bulk,
        Priority::Security,
        Priority::Interactive,
        Priority::Bulk,
    ] {
        let added = ready
            .add(Queue::Dns, &[key("key", priority)])
            .await
            .unwrap();
        seen.push((added, lanes().await));
    }

    let urgent = (0, vec![1, 0, 0]);
    assert_eq!(seen[0], (1, vec![0, 0, 1]));
    assert_eq!(seen[1..], [urgent.clone(), urgent.clone(), urgent]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_due_soon_is_announced_when_due() {
    let harness = Harness::new().await;
    let soon = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let soon = Job {
        run_at: clock::later(soon.updated_at, Duration::from_millis(50)),
        ..soon
    };
    let far = Job {
        lock_key: "far".to_owned(),
        run_at: clock::later(soon.updated_at, Duration::from_mins(1)),
        ..soon.clone()
    };
    let ready = &harness.context.ready;

    ready.notify(&[soon.clone(), far]).await;

    let keys = harness.ready(Queue::Provisioning).await;
    let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [soon.lock_key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_set_keeps_its_score() {
    let harness = Harness::new().await;
    let ready = &harness.context.ready;
    let [first, second] = ["first", "second"].map(|name| key(name, Priority::Bulk));
    ready
        .add(Queue::Dns, std::slice::from_ref(&first))
        .await
        .unwrap();
    ready
        .add(Queue::Dns, std::slice::from_ref(&second))
        .await
        .unwrap();
    let before = harness.ready(Queue::Dns).await;

    ready.add(Queue::Dns, &[second, first]).await.unwrap();

    assert_eq!(harness.ready(Queue::Dns).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_due_is_not_announced() {
    let harness = Harness::new().await;
    let mut job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    job.run_at = clock::later(job.run_at, Duration::from_mins(1));

    harness.context.ready.notify(&[job]).await;

    assert!(harness.ready(Queue::Provisioning).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hint_suffices_for_all_jobs_of_a_key() {
    let mut harness = Harness::new().await;
    without_sweep(&mut harness);
    let worker_kinds = Script::new([]);
    let registry =
        Registry::default().register::<Single>(Steps::parallel().step("work", worker_kinds.step()));
    let tenant = harness.add_tenant("acme", &[]).await;
    let worker = harness.worker_of("worker", registry, 8);
    harness.until_leader().await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(harness.enqueue_unannounced(&Single::of(&tenant)).await);
    }

    harness.context.ready.notify(&jobs[..1]).await;
    for job in &jobs {
        harness.finished(job.id).await;
    }
    worker.stop().await;

    assert_eq!(worker_kinds.max_running(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_dropped_while_its_lock_is_held_is_added_again_to_the_queue_with_due_jobs() {
    let mut harness = Harness::new().await;
    without_sweep(&mut harness);
    let (provisioning, billing) = (Script::blocking([]), Script::new([]));
    let registry = Registry::default()
        .register::<Single>(Steps::parallel().step("work", provisioning.step()))
        .register::<Bill>(Steps::parallel().step("work", billing.step()))
        .register::<Lone>(Steps::parallel().step("work", Script::new([]).step()));
    let tenant = harness.add_tenant("acme", &[]).await;
    let worker = harness.worker_of("worker", registry, 8);
    let first = harness.enqueue(&Single::of(&tenant)).await;
    provisioning.until_runs(1).await;

    let behind = [
        harness.enqueue(&Bill::of(&tenant)).await,
        harness.enqueue(&Single::of(&tenant)).await,
    ];
    let dropped = async || {
        harness.ready(Queue::Billing).await.len() + harness.ready(Queue::Provisioning).await.len()
    };
    crate::harness::until(dropped, |left| *left == 0).await;
    provisioning.release(2);
    for job in behind.iter().chain([&first]) {
        harness.finished(job.id).await;
    }
    worker.stop().await;

    assert_eq!(billing.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_due_soon_does_not_depend_on_the_sweep() {
    let mut harness = Harness::new().await;
    without_sweep(&mut harness);
    let script = Script::new([
        Scripted::Fail(ErrorCode::Internal),
        Scripted::Fail(ErrorCode::UpstreamUnavailable),
    ]);
    let registry =
        Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let worker = harness.worker_of("worker", registry, 8);
    harness.until_leader().await;

    let job = harness.enqueue(&Lone { n: 1 }).await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!((job.attempt, job.snoozes), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_more_urgent_lanes_are_popped_first() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let registry =
        Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let mut jobs = Vec::new();
    for (n, priority) in [(1, 2), (2, 1), (3, 0)] {
        let job = harness.enqueue_unannounced(&Lone { n }).await;
        harness
            .edit_job(job.id, doc! { "priority": priority })
            .await;
        jobs.push(harness.job(job.id).await);
    }
    harness.context.ready.notify(&jobs).await;

    let worker = harness.worker_of("worker", registry, 1);
    for job in &jobs {
        let job = harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Completed);
    }
    worker.stop().await;

    let order: Vec<_> = script.runs().iter().map(|run| run.job).collect();
    assert_eq!(order, [jobs[2].id, jobs[1].id, jobs[0].id]);
}
