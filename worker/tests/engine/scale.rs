//! Scale: the cost of sweeps, claims, rate queues and releases does not depend on the number of other jobs.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::TenantId,
    platform::clock,
    queue::{job::Queue, priority::Priority},
    store::jobs::{CLAIM_INDEX, DUE_INDEX, HELD_INDEX, WAITING_INDEX},
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::RateBudget;
use dezky_worker::steps::{Registry, Steps};
use futures::TryStreamExt as _;

use crate::{
    admission::pause_upstream,
    harness::{Harness, until},
    script::{Lone, Script},
};

/// Profiled queries that resolve lock keys to their first due jobs.
async fn claims(harness: &Harness) -> Vec<Document> {
    let profile = harness
        .context
        .store
        .collection::<Document>("system.profile");
    let field = "command.pipeline.0.$match.lockKey.$in";
    let queries = doc! { "command.aggregate": "jobs", field: { "$exists": true } };
    profile
        .find(queries)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap()
}

fn number(of: &Document, name: &str) -> i64 {
    of.get_i64(name)
        .or_else(|_| of.get_i32(name).map(i64::from))
        .unwrap()
}

fn keys(query: &Document) -> usize {
    let pipeline = query
        .get_document("command")
        .unwrap()
        .get_array("pipeline")
        .unwrap();
    let matched = pipeline[0]
        .as_document()
        .unwrap()
        .get_document("$match")
        .unwrap();
    matched
        .get_document("lockKey")
        .unwrap()
        .get_array("$in")
        .unwrap()
        .len()
}

fn is_union(query: &Document) -> bool {
    let pipeline = query
        .get_document("command")
        .unwrap()
        .get_array("pipeline")
        .unwrap();
    pipeline
        .iter()
        .any(|stage| stage.as_document().unwrap().contains_key("$unionWith"))
}

/// Profiled reads of jobs by this index.
async fn reads(harness: &Harness, index: &str) -> Vec<Document> {
    let profile = harness
        .context
        .store
        .collection::<Document>("system.profile");
    let reads = doc! { "command.find": "jobs", "command.hint": index };
    profile
        .find(reads)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap()
}

/// Profiles every command. The default profile collection holds only a second or two.
async fn profile(harness: &Harness) {
    let database = harness.context.store.database();
    let profile = doc! { "create": "system.profile", "capped": true, "size": 64 << 20 };
    database.run_command(profile).await.unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();
}

fn key() -> String {
    format!("tenant:{}", TenantId::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_reads_due_jobs_and_none_that_waits_for_later() {
    let harness = Harness::new().await;
    let later: Vec<String> = (0..20_000).map(|_| key()).collect();
    harness.clone_for_lock_keys(&Lone { n: 1 }, &later).await;
    let tomorrow = clock::later(harness.context.store.now(), Duration::from_hours(24));
    let postponed = doc! { "$set": { "runAt": tomorrow } };
    harness
        .jobs()
        .update_many(doc! {}, postponed)
        .await
        .unwrap();
    // More than a ready set holds.
    let due: Vec<String> = (0..6_000).map(|_| key()).collect();
    harness.clone_for_lock_keys(&Lone { n: 2 }, &due).await;
    profile(&harness).await;

    let leader = harness.leader();
    let ready = async || harness.ready(Queue::Provisioning).await.len();
    until(ready, |keys| *keys == 5_000).await;
    leader.stop().await;

    let sweeps = reads(&harness, DUE_INDEX).await;
    assert!(
        sweeps
            .iter()
            .any(|sweep| number(sweep, "nreturned") >= 5_000),
        "{} sweeps",
        sweeps.len()
    );
    for sweep in &sweeps {
        let read = number(sweep, "keysExamined");
        assert!(read <= number(sweep, "nreturned") + 1, "{sweep:#?}");
        assert_eq!(number(sweep, "docsExamined"), 0, "{sweep:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_claim_depends_on_lock_keys_and_not_on_jobs() {
    let harness = Harness::new().await;
    let mut jobs = vec![key(); 10_000];
    jobs.extend((0..10_000).map(|_| key()));
    harness.clone_for_lock_keys(&Lone { n: 1 }, &jobs).await;
    profile(&harness).await;
    let script = Script::new([]);

    let registry =
        Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let worker = harness.worker_of("worker", registry, 64);
    let done = async || {
        let done = doc! { "queue": Queue::Provisioning.name(), "state": "completed" };
        harness.jobs().count_documents(done).await.unwrap()
    };
    until(done, |done| *done >= 300).await;
    worker.stop().await;
    let database = harness.context.store.database();
    database.run_command(doc! { "profile": 0 }).await.unwrap();

    let claims = claims(&harness).await;
    assert!(
        claims.iter().any(|query| keys(query) >= 16),
        "{} queries",
        claims.len()
    );
    for query in &claims {
        let queues = if is_union(query) { 5 } else { 1 };
        let most = i64::try_from(4 * keys(query)).unwrap() * queues;
        assert!(number(query, "keysExamined") <= most, "{query:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_single_key_reads_one_job_of_many() {
    let harness = Harness::new().await;
    let jobs = vec![key(); 2_000];
    harness.clone_for_lock_keys(&Lone { n: 1 }, &jobs).await;
    profile(&harness).await;
    let script = Script::new([]);

    let registry =
        Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let worker = harness.worker_of("worker", registry, 1);
    script.until_runs(5).await;
    worker.stop().await;

    let profile = harness
        .context
        .store
        .collection::<Document>("system.profile");
    // Those that failed because the lock was held have no figures.
    let claims = doc! {
        "command.findAndModify": "jobs",
        "command.hint": CLAIM_INDEX,
        "keysExamined": { "$exists": true },
    };
    let claims = profile.find(claims).await.unwrap();
    let claims: Vec<Document> = claims.try_collect().await.unwrap();
    assert!(claims.len() >= 4, "{} claims", claims.len());
    for claim in &claims {
        assert!(number(claim, "keysExamined") <= 4, "{claim:#?}");
        assert!(number(claim, "docsExamined") <= 1, "{claim:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_queue_reads_no_more_steps_than_it_may_serve() {
    let mut harness = Harness::new().await;
    let budget = RateBudget {
        per_second: 5.0,
        burst: 1,
    };
    harness.budgets.insert(Upstream::Stalwart, budget);
    let tomorrow = clock::later(harness.context.store.now(), Duration::from_hours(24));
    // The older ones wait for another upstream, or in a less urgent lane.
    for (upstream, priority) in [("ocis", 1), ("stalwart", 2), ("stalwart", 1)] {
        let keys: Vec<String> = (0..5_000).map(|_| key()).collect();
        harness.clone_for_lock_keys(&Lone { n: 1 }, &keys).await;
        let done = doc! { "name": "done", "state": "ok", "attempts": 0 };
        let waits = doc! { "name": upstream, "state": "pending", "attempts": 0, "asksAgain": true };
        let set = doc! { "priority": priority, "runAt": tomorrow, "steps": [done, waits] };
        let new = doc! { "steps": [] };
        let waiting = harness.jobs().update_many(new, doc! { "$set": set }).await;
        assert_eq!(waiting.unwrap().modified_count, 5_000);
    }
    profile(&harness).await;
    let script = Script::new([]);
    let steps = Steps::parallel().upstream(Upstream::Stalwart, script.step());

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 8);
    script.until_runs(10).await;
    worker.stop().await;

    let reads = reads(&harness, WAITING_INDEX).await;
    assert!(reads.iter().any(|read| number(read, "nreturned") > 10));
    for read in &reads {
        let lanes = i64::try_from(Priority::ALL.len()).unwrap();
        let most = number(read, "nreturned") + lanes;
        assert!(number(read, "docsExamined") <= most, "{read:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_reads_no_job_that_another_upstream_deferred() {
    const DEFERRED: i64 = 300;
    let harness = Harness::new().await;
    let tomorrow = clock::later(harness.context.store.now(), Duration::from_hours(24));
    for (upstream, count) in [("ocis", 5_000), ("stalwart", DEFERRED)] {
        let keys: Vec<String> = (0..count).map(|_| key()).collect();
        harness.clone_for_lock_keys(&Lone { n: 1 }, &keys).await;
        let error = doc! {
            "code": "upstream_unavailable", "class": "upstream", "message": "", "detail": "", "retryable": true,
        };
        let step = doc! {
            "name": upstream, "state": "error", "attempts": 1, "error": error.clone(), "nextAt": tomorrow,
        };
        let set = doc! { "error": error, "runAt": tomorrow, "steps": [step] };
        let new = doc! { "steps": [] };
        let deferred = harness.jobs().update_many(new, doc! { "$set": set }).await;
        assert_eq!(deferred.unwrap().modified_count, count.cast_unsigned());
    }
    pause_upstream(&harness, Upstream::Stalwart, false).await;
    profile(&harness).await;
    let script = Script::new([]);
    let steps = Steps::parallel().upstream(Upstream::Stalwart, script.step());

    let leader = harness.leader_of(Registry::default().register::<Lone>(steps));
    let upstreams = &harness.context.upstreams;
    until(
        async || upstreams.find(Upstream::Stalwart).await.unwrap(),
        |state| state.let_go_at.is_none(),
    )
    .await;
    leader.stop().await;

    let due = doc! { "runAt": { "$lt": tomorrow } };
    let due = harness.jobs().count_documents(due).await.unwrap();
    assert_eq!(due, DEFERRED.cast_unsigned());
    let reads = reads(&harness, HELD_INDEX).await;
    assert!(reads.iter().any(|read| number(read, "nreturned") > 0));
    for read in &reads {
        assert!(number(read, "docsExamined") <= DEFERRED, "{read:#?}");
    }
}
