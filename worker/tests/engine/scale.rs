//! Scale: the cost of the sweep does not depend on the size of the backlog.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{id::TenantId, platform::clock, queue::job::Queue, store::jobs::DUE_INDEX};
use dezky_worker::steps::{Registry, Steps};
use futures::TryStreamExt as _;

use crate::{
    harness::{Harness, until},
    script::{Lone, Script},
};

/// Profiled sweep queries whose first stage applies `operator` to the lock keys.
async fn sweep_queries(harness: &Harness, operator: &str) -> Vec<Document> {
    let profile = harness
        .context
        .store
        .collection::<Document>("system.profile");
    let field = format!("command.pipeline.0.$match.lockKey.{operator}");
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

/// Profiled sweep queries that read due jobs in the order of their time.
async fn sweeps_by_time(harness: &Harness) -> Vec<Document> {
    let profile = harness
        .context
        .store
        .collection::<Document>("system.profile");
    let sweeps = doc! { "command.aggregate": "jobs", "command.hint": DUE_INDEX };
    profile
        .find(sweeps)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_does_not_read_jobs_that_are_not_due() {
    let harness = Harness::new().await;
    let later: Vec<String> = (0..20_000)
        .map(|_| format!("tenant:{}", TenantId::new()))
        .collect();
    harness.clone_for_lock_keys(&Lone { n: 1 }, &later).await;
    let tomorrow = clock::later(harness.context.store.now(), Duration::from_hours(24));
    harness
        .jobs()
        .update_many(doc! {}, doc! { "$set": { "runAt": tomorrow } })
        .await
        .unwrap();
    harness
        .context
        .store
        .database()
        .run_command(doc! { "profile": 2 })
        .await
        .unwrap();
    let script = Script::new([]);
    let registry =
        Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let worker = harness.worker_of("worker", registry, 8);
    harness.until_leader().await;

    let mut due = Vec::new();
    for n in 2..12 {
        due.push(harness.enqueue_unannounced(&Lone { n }).await);
    }
    for job in &due {
        harness.finished(job.id).await;
    }
    worker.stop().await;

    let sweeps = sweeps_by_time(&harness).await;
    assert!(sweeps.len() > 1, "{} sweeps", sweeps.len());
    for sweep in &sweeps {
        assert!(number(sweep, "keysExamined") <= 11, "{sweep:#?}");
    }
    assert!(
        sweep_queries(&harness, "$gt").await.is_empty(),
        "few jobs are due"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_a_sweep_depends_on_lock_keys_and_not_on_jobs() {
    let harness = Harness::new().await;
    // The key with the backlog is swept first.
    let key = || format!("tenant:{}", TenantId::new());
    let mut jobs = vec![key(); 10_000];
    jobs.extend((0..10_000).map(|_| key()));
    harness.clone_for_lock_keys(&Lone { n: 1 }, &jobs).await;
    let database = harness.context.store.database();
    // The default profile collection holds only a second or two.
    let profile = doc! { "create": "system.profile", "capped": true, "size": 64 << 20 };
    database.run_command(profile).await.unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();
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
    harness
        .context
        .store
        .database()
        .run_command(doc! { "profile": 0 })
        .await
        .unwrap();

    let (claims, sweeps) = (
        sweep_queries(&harness, "$in").await,
        sweep_queries(&harness, "$gt").await,
    );
    assert!(
        claims.iter().any(|query| keys(query) >= 32),
        "{} queries",
        claims.len()
    );
    for query in &claims {
        let queues = if is_union(query) { 5 } else { 1 };
        let most = i64::try_from(4 * keys(query)).unwrap() * queues;
        assert!(number(query, "keysExamined") <= most, "{query:#?}");
    }
    assert!(
        sweeps.iter().any(|query| number(query, "nreturned") > 50),
        "{} sweeps",
        sweeps.len()
    );
    for query in &sweeps {
        // MongoDB prefetches a few thousand entries, one per lock key. Half of the jobs share one key.
        assert!(number(query, "keysExamined") <= 10_002, "{query:#?}");
    }
}
