//! Bulk job operations: each item exactly once, across crashes.

mod deaths;

use std::{collections::BTreeSet, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    audit::{Actor, ActorKind, Origin},
    id::{JobId, JobOperationId},
    platform::clock,
    queue::{
        args::RunJobOperation,
        job::{Job, JobState},
        job_operation::{
            ItemOutcome, ItemReason, JobAction, JobOperation, JobOperationItem, JobSelection,
        },
    },
    store::{TransactionError, jobs::NewJob},
};
use dezky_worker::jobs;
use futures::{FutureExt as _, TryStreamExt as _};

use crate::{
    harness::{Harness, until},
    script::{Joining, Lone, Script},
};

fn operator() -> Actor {
    Actor {
        id: "operator".to_owned(),
        kind: ActorKind::Operator,
        ..Actor::system()
    }
}

fn in_state(state: JobState) -> JobSelection {
    JobSelection {
        state,
        kind: None,
        queue: None,
        tenant_id: None,
        error_code: None,
        error_class: None,
        created_after: None,
        created_before: None,
    }
}

/// Creates an operation on these jobs as the API does.
async fn create(
    harness: &Harness,
    action: JobAction,
    state: JobState,
    jobs: &[JobId],
    rate: Option<u32>,
) -> (JobOperationId, Job) {
    let (ctx, now) = (&harness.context, harness.context.store.now());
    let operation_id = JobOperationId::new();
    let new = NewJob::new(&RunJobOperation { operation_id }, "operator", now).unwrap();
    let operation = JobOperation {
        id: operation_id,
        action,
        filter: in_state(state),
        rate,
        total: i64::try_from(jobs.len()).unwrap(),
        done: 0,
        skipped: 0,
        refused: 0,
        job_id: JobId::new(),
        actor: operator(),
        origin: Origin::default(),
        created_at: now,
        finished_at: None,
        expire_at: clock::later(now, Duration::from_hours(1)),
    };
    let accepted: Result<Job, TransactionError<()>> = ctx
        .store
        .transaction(
            (ctx, &new, &operation, jobs),
            |session, (ctx, new, operation, jobs)| {
                async move {
                    let job = ctx.jobs.enqueue(session, new).await?;
                    ctx.job_operations.insert(session, operation, jobs).await?;
                    Ok(job)
                }
                .boxed()
            },
        )
        .await;
    let job = accepted.unwrap();
    ctx.ready.notify(std::slice::from_ref(&job)).await;
    (operation_id, job)
}

async fn requeue_discarded(harness: &Harness, ids: &[JobId]) -> (JobOperationId, Job) {
    create(harness, JobAction::Requeue, JobState::Discarded, ids, None).await
}

async fn items(harness: &Harness, id: JobOperationId) -> Vec<JobOperationItem> {
    let operations = &harness.context.job_operations;
    operations.list_items(id, None, 0, 10_000).await.unwrap()
}

async fn operation(harness: &Harness, id: JobOperationId) -> JobOperation {
    let found = harness.context.job_operations.find(id).await;
    found.unwrap().unwrap()
}

/// Jobs that are not due, with this change.
async fn add_jobs(harness: &Harness, count: i32, change: Document) -> Vec<JobId> {
    let mut ids = Vec::new();
    for n in 0..count {
        let job = harness.enqueue_unannounced(&Lone { n }).await;
        let mut set = doc! { "runAt": bson::DateTime::from_millis(4_000_000_000_000) };
        set.extend(change.clone());
        harness.edit_job(job.id, set).await;
        ids.push(job.id);
    }
    ids
}

async fn events(harness: &Harness) -> Vec<Document> {
    let events = harness.context.store.collection("audit_events");
    let found = events.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    found.try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_discarded_job_is_requeued_and_audited_once() {
    let harness = Harness::new().await;
    let ids = add_jobs(&harness, 60, doc! { "state": "discarded" }).await;
    let (id, job) = requeue_discarded(&harness, &ids).await;

    let worker = harness.worker_of("worker", jobs::registry(), 2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    let operation = operation(&harness, id).await;
    assert_eq!(
        (operation.done, operation.skipped, operation.refused),
        (60, 0, 0)
    );
    assert!(operation.finished_at.is_some());
    assert_eq!(operation.job_id, job.id);
    let items = items(&harness, id).await;
    assert_eq!(
        items.iter().map(|item| item.job_id).collect::<Vec<_>>(),
        ids
    );
    for item in &items {
        let again = harness.job(item.new_job_id.unwrap()).await;
        assert_eq!(again.requeued_from, Some(item.job_id));
    }
    let requeued: BTreeSet<JobId> = items.iter().filter_map(|item| item.new_job_id).collect();
    assert_eq!(requeued.len(), 60);
    let all = harness.jobs().count_documents(doc! {}).await.unwrap();
    assert_eq!(all, 60 + 60 + 1);
    let events = events(&harness).await;
    assert_eq!(events.len(), 60);
    for event in events {
        assert_eq!(event.get_str("action").unwrap(), "job.requeue");
        let actor = event.get_document("actor").unwrap();
        assert_eq!(actor.get_str("id").unwrap(), "operator");
    }
    let progress = job.progress.unwrap();
    assert_eq!((progress.done, progress.total), (60, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unchanged_job_has_a_reason() {
    let harness = Harness::new().await;
    let meant = |change: Document| add_jobs(&harness, 1, change);
    let fine = meant(doc! { "state": "discarded" }).await[0];
    let secret = meant(doc! { "state": "discarded", "hadSecrets": true }).await[0];
    let other = meant(doc! { "state": "completed" }).await[0];
    let gone = JobId::new();
    let jobs = [fine, secret, other, gone];

    let (id, job) = create(
        &harness,
        JobAction::Requeue,
        JobState::Discarded,
        &jobs,
        None,
    )
    .await;
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    harness.finished(job.id).await;
    worker.stop().await;

    let results: Vec<_> = items(&harness, id)
        .await
        .iter()
        .map(|item| (item.outcome, item.reason))
        .collect();
    assert_eq!(
        results,
        [
            (ItemOutcome::Done, None),
            (ItemOutcome::Refused, Some(ItemReason::SecretsGone)),
            (ItemOutcome::Skipped, Some(ItemReason::StateChanged)),
            (ItemOutcome::Skipped, Some(ItemReason::JobGone)),
        ]
    );
    let operation = operation(&harness, id).await;
    assert_eq!(
        (operation.done, operation.skipped, operation.refused),
        (1, 2, 1)
    );
    assert_eq!(events(&harness).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn available_jobs_are_cancelled_or_discarded_and_running_ones_requested_to_cancel() {
    let harness = Harness::new().await;
    let cancelled = add_jobs(&harness, 2, doc! {}).await;
    let discarded = add_jobs(&harness, 2, doc! {}).await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let scripts = Script::blocking([]);
    let registry = jobs::registry()
        .register::<Joining>(dezky_worker::steps::Steps::parallel().step("held", scripts.step()));
    let worker = harness.worker_of("worker", registry, 2);
    let running = harness.enqueue(&Joining::of(&tenant)).await;
    scripts.until_runs(1).await;

    let mut operations = Vec::new();
    for (action, state, jobs) in [
        (JobAction::Cancel, JobState::Available, &cancelled[..]),
        (JobAction::Discard, JobState::Available, &discarded[..]),
        (JobAction::Cancel, JobState::Running, &[running.id][..]),
        (JobAction::Cancel, JobState::Running, &[running.id][..]),
    ] {
        let (id, job) = create(&harness, action, state, jobs, None).await;
        harness.finished(job.id).await;
        operations.push(id);
    }
    let asked = harness.job(running.id).await;
    scripts.release(1);
    worker.stop().await;

    for (ids, state) in [
        (cancelled, JobState::Cancelled),
        (discarded, JobState::Discarded),
    ] {
        for id in ids {
            assert_eq!(harness.job(id).await.state, state);
        }
    }
    assert_eq!(asked.cancel_requested, Some(true));
    let again = items(&harness, operations[3]).await.remove(0);
    assert_eq!(again.reason, Some(ItemReason::CancelRequested));
    let actions: Vec<String> = events(&harness)
        .await
        .iter()
        .map(|event| event.get_str("action").unwrap().to_owned())
        .collect();
    assert_eq!(
        actions,
        [
            "job.cancel",
            "job.cancel",
            "job.discard",
            "job.discard",
            "job.cancel"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_jobs_are_dismissed_once() {
    let harness = Harness::new().await;
    let ids = add_jobs(&harness, 2, doc! { "state": "discarded" }).await;
    let worker = harness.worker_of("worker", jobs::registry(), 2);

    let mut operations = Vec::new();
    for _ in 0..2 {
        let (action, state) = (JobAction::Dismiss, JobState::Discarded);
        let (id, job) = create(&harness, action, state, &ids, None).await;
        harness.finished(job.id).await;
        operations.push(operation(&harness, id).await);
    }
    worker.stop().await;

    assert_eq!((operations[0].done, operations[0].skipped), (2, 0));
    assert_eq!((operations[1].done, operations[1].skipped), (0, 2));
    for id in ids {
        assert!(harness.job(id).await.dismissed.is_some());
    }
    assert_eq!(events(&harness).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_processes_each_job_once_across_worker_crashes() {
    let mut harness = Harness::new().await;
    harness.times.drain = Duration::from_millis(100);
    let ids = add_jobs(&harness, 200, doc! { "state": "discarded" }).await;
    let (id, job) = requeue_discarded(&harness, &ids).await;

    for part in [10, 60, 110] {
        let crashing = harness.crashable_worker(jobs::registry(), 2);
        until(
            async || operation(&harness, id).await.done,
            |done| *done >= part,
        )
        .await;
        drop(crashing);
        // Its lease expires.
        let past = clock::earlier(harness.context.store.now(), Duration::from_mins(1));
        let left = doc! { "_id": job.id, "state": "running" };
        let expired = doc! { "$set": { "lease.until": past } };
        harness.jobs().update_one(left, expired).await.unwrap();
    }
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    let all = harness.jobs().count_documents(doc! {}).await.unwrap();
    assert_eq!(all, 200 + 200 + 1);
    assert_eq!(events(&harness).await.len(), 200);
    assert_eq!(operation(&harness, id).await.done, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_settled_before_its_cursor_was_saved_is_not_processed_again() {
    let harness = Harness::new().await;
    let ids = add_jobs(&harness, 30, doc! { "state": "discarded" }).await;
    let (id, job) = requeue_discarded(&harness, &ids).await;
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    harness.finished(job.id).await;
    let before = harness.jobs().count_documents(doc! {}).await.unwrap();

    // As if the worker had crashed before it saved its progress.
    harness.requeue(job.id).await.unwrap();
    let repeated = harness
        .jobs()
        .find_one(doc! { "requeuedFrom": job.id })
        .await
        .unwrap()
        .unwrap();
    let repeated = bson::deserialize_from_document::<Job>(repeated).unwrap();
    let repeated = harness.finished(repeated.id).await;
    worker.stop().await;

    assert_eq!(repeated.state, JobState::Completed);
    let after = harness.jobs().count_documents(doc! {}).await.unwrap();
    assert_eq!(after, before + 1, "only the operation's own job");
    assert_eq!(operation(&harness, id).await.done, 30);
    assert_eq!(events(&harness).await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_is_kept_by_uncharged_snoozes() {
    let harness = Harness::new().await;
    let ids = add_jobs(&harness, 7, doc! {}).await;
    let (id, job) = create(
        &harness,
        JobAction::Discard,
        JobState::Available,
        &ids,
        Some(2),
    )
    .await;

    let worker = harness.worker_of("worker", jobs::registry(), 2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed);
    assert_eq!((job.attempt, job.snoozes), (1, 3));
    let at: Vec<i64> = items(&harness, id)
        .await
        .iter()
        .map(|item| item.at.unwrap().timestamp_millis())
        .collect();
    for pair in at.iter().zip(&at[2..]) {
        assert!(pair.1 - pair.0 >= 900, "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_operation_leaves_the_remaining_items_and_continues_when_requeued() {
    let harness = Harness::new().await;
    let ids = add_jobs(&harness, 6, doc! {}).await;
    let (id, job) = create(
        &harness,
        JobAction::Discard,
        JobState::Available,
        &ids,
        Some(1),
    )
    .await;
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    until(
        async || operation(&harness, id).await.done,
        |done| *done >= 1,
    )
    .await;

    harness.cancel(job.id).await;
    let cancelled = harness.finished(job.id).await;
    let done = operation(&harness, id).await.done;
    harness.requeue(job.id).await.unwrap();
    let finished = until(
        async || operation(&harness, id).await,
        |operation| operation.finished_at.is_some(),
    )
    .await;
    worker.stop().await;

    assert_eq!(cancelled.state, JobState::Cancelled);
    assert!(done < 6, "{done}");
    assert_eq!(finished.done, 6);
    assert_ne!(finished.job_id, job.id);
}
