//! Pauses with an end.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::JobId,
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{JobFailure, Queue},
        pause::Pause,
        priority::Priority,
    },
    store::to_bson,
    upstream::Upstream,
};
use futures::TryStreamExt as _;

use crate::{
    admission::{pause_upstream, scripted},
    harness::{Harness, until},
    script::{Lone, Script},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_by_itself_and_only_then() {
    let mut harness = Harness::new().await;
    harness.times.measure_every = Duration::from_millis(100);
    let now = harness.context.store.now();
    let pause = |ends_in: Duration| Pause {
        until: Some(clock::later(now, ends_in)),
        ..Pause::new(now, "operator".to_owned())
    };
    let set = async |collection: &str, name: &str, pause: &Pause| {
        let set = doc! { "$set": { "paused": to_bson(pause).unwrap(), "revision": 1_i64 } };
        let collection = harness
            .context
            .store
            .collection::<bson::Document>(collection);
        collection
            .update_one(doc! { "_id": name }, set)
            .upsert(true)
            .await
            .unwrap();
    };
    set("queues", "dns", &pause(Duration::from_millis(500))).await;
    set("queues", "billing", &pause(Duration::from_hours(1))).await;
    set("upstreams", "ocis", &pause(Duration::from_millis(500))).await;
    let leader = harness.leader();

    let queues = &harness.context.queues;
    let resumed = until(
        async || queues.find(Queue::Dns).await.unwrap(),
        |control| control.paused.is_none(),
    )
    .await;
    let upstreams = &harness.context.upstreams;
    let upstream = until(
        async || upstreams.find(Upstream::Ocis).await.unwrap(),
        |state| state.paused.is_none(),
    )
    .await;
    let still = queues.find(Queue::Billing).await.unwrap();
    leader.stop().await;

    assert_eq!(resumed.revision, 2);
    assert!(upstream.resumed_at.is_some());
    assert!(still.paused.is_some());
    let events = harness
        .context
        .store
        .collection::<bson::Document>("audit_events");
    let automatic =
        doc! { "action": { "$in": ["queue.resume", "upstream.resume"] }, "actor.kind": "system" };
    assert_eq!(events.count_documents(automatic).await.unwrap(), 2);
}

/// Adds one release batch of held bulk jobs, and one interactive job with the latest next attempt.
async fn add_held_jobs(harness: &Harness, later: DateTime) -> JobId {
    let template = harness.enqueue_unannounced(&Lone { n: 0 }).await;
    let stored = harness.stored_job(template.id).await;
    let error = to_bson(&JobFailure::permanent(ErrorCode::UpstreamPaused, "")).unwrap();
    let held = |id: JobId, priority: Priority, run_at: DateTime| {
        let step = doc! {
            "name": "stalwart", "state": "pending", "attempts": 1, "nextAt": run_at, "error": error.clone(),
        };
        let mut job = stored.clone();
        job.extend(doc! {
            "_id": id, "lockKey": format!("job:{id}"), "priority": priority, "runAt": run_at, "steps": [step],
            "error": error.clone(),
        });
        job
    };
    let bulk = (0..200).map(|_| held(JobId::new(), Priority::Bulk, later));
    let mut jobs: Vec<Document> = bulk.collect();
    let awaited = JobId::new();
    let last = clock::later(later, Duration::from_secs(1));
    jobs.push(held(awaited, Priority::Interactive, last));
    harness.jobs().insert_many(jobs).await.unwrap();
    let ended = doc! { "state": "cancelled" };
    harness.edit_job(template.id, ended).await;
    awaited
}

#[tokio::test(flavor = "multi_thread")]
async fn interactive_jobs_are_released_before_bulk_jobs() {
    let harness = Harness::new().await;
    let later = clock::later(harness.context.store.now(), Duration::from_hours(1));
    let awaited = add_held_jobs(&harness, later).await;
    pause_upstream(&harness, Upstream::Stalwart, false).await;

    let leader = harness.leader_of(scripted(&Script::new([])));
    let held = async || {
        let held = doc! { "state": "available", "runAt": { "$gte": later } };
        harness.jobs().count_documents(held).await.unwrap()
    };
    until(held, |held| *held == 0).await;
    leader.stop().await;

    let released = doc! { "state": "available" };
    let released = harness.jobs().find(released).await.unwrap();
    let released: Vec<Document> = released.try_collect().await.unwrap();
    let at = |job: &Document| *job.get_datetime("runAt").unwrap();
    let first = released.iter().map(at).min().unwrap();
    let released_at = harness.job(awaited).await.run_at;
    assert_eq!(released_at, first);
    assert!(released.iter().any(|job| at(job) > first));
}
