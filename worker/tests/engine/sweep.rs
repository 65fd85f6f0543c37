//! Sweep: finds due jobs without hints from Redis.

use std::{collections::BTreeSet, time::Duration};

use dezky_shared::{
    id::TenantId,
    queue::{job::Queue, priority::Priority},
};
use dezky_sim::stores::Redis;
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Lone, Script, Single},
};

fn registry(script: &Script) -> Registry {
    Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()))
}

async fn flush(harness: &Harness) {
    let mut connection = harness.redis_connection().await;
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unannounced_job_is_found() {
    let harness = Harness::new().await;
    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    harness.until_leader().await;

    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    harness.finished(job.id).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_redis_loses_no_job() {
    let directory = tempfile::tempdir().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    let harness = Harness::on_redis(&redis).await;
    let mut jobs = Vec::new();
    for n in 0..20 {
        jobs.push(harness.enqueue(&Lone { n }).await);
    }

    flush(&harness).await;
    let worker = harness.worker_of("worker", registry(&Script::new([])), 2);
    for job in &jobs {
        harness.finished(job.id).await;
        flush(&harness).await;
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_during_and_after_a_redis_outage() {
    let directory = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(directory.path()).await.unwrap();
    let harness = Harness::on_redis(&redis).await;
    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    let before = harness.enqueue(&Lone { n: 1 }).await;
    harness.finished(before.id).await;

    redis.kill().await;
    let mut meanwhile = Vec::new();
    for n in 2..12 {
        meanwhile.push(harness.enqueue(&Lone { n }).await);
    }
    for job in &meanwhile {
        harness.finished(job.id).await;
    }
    redis.restart().await.unwrap();
    until(
        async || harness.context.ready.ping().await.is_ok(),
        |answers| *answers,
    )
    .await;
    let after = harness.enqueue(&Lone { n: 12 }).await;
    harness.finished(after.id).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_while_redis_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    let harness = Harness::on_redis(&redis).await;
    let worker = harness.worker_of("worker", registry(&Script::new([])), 8);
    harness.until_leader().await;

    redis.pause();
    let job = harness.enqueue(&Lone { n: 1 }).await;
    harness.finished(job.id).await;
    redis.resume();
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_takes_one_place_and_no_key_is_skipped() {
    let mut harness = Harness::new().await;
    harness.times.sweep_every = Duration::from_millis(200);
    let key = || format!("tenant:{}", TenantId::new());
    let mut jobs = vec![key(); 5_000];
    jobs.extend((0..6_000).map(|_| key()));
    // All are due at the same instant, so that the time alone is no position.
    harness.clone_for_lock_keys(&Lone { n: 1 }, &jobs).await;
    let keys: BTreeSet<String> = jobs.into_iter().collect();
    let mut connection = harness.redis_connection().await;
    let set = harness.lane(Queue::Provisioning, Priority::Interactive);

    let leader = harness.leader();
    let mut found = BTreeSet::new();
    let mut adds = 0;
    while found.len() < keys.len() {
        let added = until(
            async || harness.ready(Queue::Provisioning).await,
            |added| !added.is_empty(),
        )
        .await;
        redis::cmd("DEL")
            .arg(&set)
            .query_async::<()>(&mut connection)
            .await
            .unwrap();
        assert!(added.len() <= 5_000, "limited to one batch");
        found.extend(added.into_iter().map(|(key, _)| key));
        adds += 1;
        assert!(
            adds <= 6,
            "continued with the wrong keys: {} of {}",
            found.len(),
            keys.len()
        );
    }
    leader.stop().await;

    assert_eq!(keys.len(), 6_001);
    assert_eq!(found, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_held_lock_is_not_added() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::blocking([]);
    let steps = Steps::parallel().step("work", script.step());
    let worker = harness.worker_of(
        "worker",
        registry(&Script::new([])).register::<Single>(steps),
        8,
    );
    let running = harness.enqueue(&Single::of(&tenant)).await;
    script.until_runs(1).await;
    let mut behind = harness.enqueue_unannounced(&Single::of(&tenant)).await;
    let other = harness.enqueue_unannounced(&Lone { n: 1 }).await;

    harness.finished(other.id).await;
    let waiting = harness.ready(Queue::Provisioning).await;
    behind = harness.job(behind.id).await;
    script.release(2);
    harness.finished(running.id).await;
    harness.finished(behind.id).await;
    worker.stop().await;

    assert!(waiting.is_empty(), "{waiting:?}");
    assert_eq!(behind.attempt, 0);
}
