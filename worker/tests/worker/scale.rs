//! What a look for work costs does not depend on how much work there is.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{id::TenantId, platform::clock, queue::job::Queue, store::jobs::DUE_INDEX};
use dezky_worker::steps::{Registry, Steps};
use futures::TryStreamExt as _;

use crate::{
    harness::{Harness, until},
    script::{Lone, Script},
};

/// The looks for work that MongoDB was asked for, whose first stage says `operator` of the lock keys.
async fn looks(harness: &Harness, operator: &str) -> Vec<Document> {
    let profile = harness
        .context
        .store
        .collection::<Document>("system.profile");
    let field = format!("command.pipeline.0.$match.lockKey.{operator}");
    let looks = doc! { "command.aggregate": "jobs", field: { "$exists": true } };
    profile
        .find(looks)
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

fn keys(look: &Document) -> usize {
    let pipeline = look
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

fn is_union(look: &Document) -> bool {
    let pipeline = look
        .get_document("command")
        .unwrap()
        .get_array("pipeline")
        .unwrap();
    pipeline
        .iter()
        .any(|stage| stage.as_document().unwrap().contains_key("$unionWith"))
}

/// The sweeps that read what is due in the order of its time.
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
async fn a_sweep_does_not_read_what_waits_for_later() {
    let harness = Harness::new().await;
    let later: Vec<String> = (0..20_000)
        .map(|_| format!("tenant:{}", TenantId::new()))
        .collect();
    harness.multiply(&Lone { n: 1 }, &later).await;
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
    harness.until_led().await;

    let mut due = Vec::new();
    for n in 2..12 {
        due.push(harness.enqueue_silently(&Lone { n }).await);
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
    assert!(looks(&harness, "$gt").await.is_empty(), "few are due");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_for_work_costs_by_the_lock_key_and_not_by_the_job() {
    let harness = Harness::new().await;
    // The busy one is the first that is swept up.
    let key = || format!("tenant:{}", TenantId::new());
    let mut jobs = vec![key(); 10_000];
    jobs.extend((0..10_000).map(|_| key()));
    harness.multiply(&Lone { n: 1 }, &jobs).await;
    let database = harness.context.store.database();
    // MongoDB's own has room for a second or two.
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

    let (claims, sweeps) = (looks(&harness, "$in").await, looks(&harness, "$gt").await);
    assert!(
        claims.iter().any(|look| keys(look) >= 32),
        "{} looks",
        claims.len()
    );
    for look in &claims {
        let queues = if is_union(look) { 5 } else { 1 };
        let most = i64::try_from(4 * keys(look)).unwrap() * queues;
        assert!(number(look, "keysExamined") <= most, "{look:#?}");
    }
    assert!(
        sweeps.iter().any(|look| number(look, "nreturned") > 50),
        "{} sweeps",
        sweeps.len()
    );
    for look in &sweeps {
        // MongoDB reads some thousands ahead, but one for each lock key: half of the jobs stand behind one.
        assert!(number(look, "keysExamined") <= 10_002, "{look:#?}");
    }
}
