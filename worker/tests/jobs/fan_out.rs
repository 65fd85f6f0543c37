//! Fan-out: each child is enqueued exactly once, across crashes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use bson::{Document, doc};
use dezky_shared::{
    id::{JobId, TenantId},
    platform::clock,
    queue::{
        job::{Job, JobArgs, JobState, Queue},
        priority::Priority,
    },
    store::jobs::NewJob,
};
use dezky_worker::{
    fan_out::{Child, FanOut},
    steps::{Registry, StepContext, StepFailure, Steps},
};
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};

use crate::{
    harness::{Harness, until},
    script::{Joining, Lone, Script},
};

const HOUR: Duration = Duration::from_hours(1);

/// Fans out to `n` jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Many {
    n: i32,
}

impl JobArgs for Many {
    const KIND: &'static str = "make_many";
    const QUEUE: Queue = Queue::Maintenance;
    const PRIORITY: Priority = Priority::Bulk;

    fn tenant_id(&self) -> Option<TenantId> {
        None
    }
}

/// Hook before each child; the last argument is true for the first child of an attempt.
type Before = fn(run: StepContext, n: i32, first: bool) -> BoxFuture<'static, ()>;

fn nothing(_: StepContext, _: i32, _: bool) -> BoxFuture<'static, ()> {
    Box::pin(std::future::ready(()))
}

/// Enqueues children from 1 to the job's number, and stores the first one of the last attempt in `began`.
fn making(spread: Duration, began: &Arc<AtomicI32>, before: Before) -> Steps {
    let began = began.clone();
    Steps::parallel().step("many", move |run| {
        let began = began.clone();
        async move {
            let many = run.job.args::<Many>().unwrap().n;
            let first = FanOut::cursor::<i32>(&run).unwrap_or(0) + 1;
            began.store(first, Ordering::SeqCst);
            let one = {
                let run = run.clone();
                move |n| one(run.clone(), n, before(run.clone(), n, n == first))
            };
            let children = stream::iter(first..=many).then(one).boxed();
            let fan_out = FanOut {
                noun: "things",
                total: 7,
                spread,
            };
            fan_out.run(&run, children).await
        }
    })
}

fn one(
    run: StepContext,
    n: i32,
    before: BoxFuture<'static, ()>,
) -> BoxFuture<'static, Result<Child, StepFailure>> {
    Box::pin(async move {
        before.await;
        Ok(child(n, &Lone { n }, &run))
    })
}

fn child(n: i32, args: &impl JobArgs, run: &StepContext) -> Child {
    Child {
        subject: n.to_string(),
        job: NewJob::new(args, "test", run.ctx.store.now()).unwrap(),
    }
}

async fn children(harness: &Harness, parent: JobId) -> Vec<Job> {
    let jobs = harness.context.store.collection::<Job>("jobs");
    let found = jobs.find(doc! { "parent": parent }).await.unwrap();
    found.try_collect().await.unwrap()
}

/// The numbers of the children, in order.
fn numbers(children: &[Job]) -> Vec<i32> {
    let number = |job: &Job| job.args::<Lone>().unwrap().n;
    let mut numbers: Vec<i32> = children.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_spread_over_the_window_and_reference_their_parent() {
    let harness = Harness::new().await;
    let registry = Registry::default().register::<Many>(making(HOUR, &Arc::default(), nothing));
    let worker = harness.worker_of("worker", registry, 2);

    let parent = harness.enqueue(&Many { n: 200 }).await;
    let parent = harness.finished(parent.id).await;
    worker.stop().await;

    assert_eq!(parent.state, JobState::Completed, "{parent:#?}");
    let progress = parent.progress.unwrap();
    assert_eq!((progress.done, progress.total), (200, 200));
    let children = children(&harness, parent.id).await;
    assert_eq!(numbers(&children), (1..=200).collect::<Vec<_>>());
    let mut quarters = [0; 4];
    for child in &children {
        let wait = clock::until(parent.created_at, child.run_at);
        assert!(wait <= HOUR);
        quarters[(wait.as_secs() / 900).min(3) as usize] += 1;
        let inherited = (&child.created_by, child.priority);
        assert_eq!(inherited, (&parent.created_by, Priority::Bulk));
        assert_eq!(child.lock_key, format!("job:{}", child.id));
    }
    assert!(quarters.iter().all(|jobs| *jobs > 25), "{quarters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn due_children_run_without_waiting_for_the_sweep() {
    let mut harness = Harness::new().await;
    harness.times.sweep_every = HOUR;
    let script = Script::new([]);
    let registry = Registry::default()
        .register::<Many>(making(Duration::ZERO, &Arc::default(), nothing))
        .register::<Lone>(Steps::parallel().step("work", script.step()));
    let worker = harness.worker_of("worker", registry, 4);
    // The first sweep is immediate.
    harness.until_leader().await;

    harness.enqueue(&Many { n: 30 }).await;
    script.until_runs(30).await;
    worker.stop().await;

    assert_eq!(script.runs().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_continues_at_its_cursor_after_a_crash() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(2);
    harness.times.rescue_grace = Duration::ZERO;
    let hang: Before = |_, n, _| {
        Box::pin(async move {
            if n == 2_500 {
                std::future::pending::<()>().await;
            }
        })
    };
    let dying = Registry::default().register::<Many>(making(HOUR, &Arc::default(), hang));
    let began = Arc::default();
    let following = Registry::default().register::<Many>(making(HOUR, &began, nothing));

    let crashing = harness.crashable_worker(dying, 1);
    let parent = harness.enqueue(&Many { n: 3_200 }).await;
    harness
        .job_until(parent.id, |job| {
            job.progress
                .as_ref()
                .is_some_and(|progress| progress.done == 2_000)
        })
        .await;
    crashing.crash();
    let worker = harness.worker_of("worker", following, 1);
    let parent = harness.finished(parent.id).await;
    worker.stop().await;

    assert_eq!(parent.state, JobState::Completed, "{parent:#?}");
    assert_eq!(began.load(Ordering::SeqCst), 2_001);
    let children = children(&harness, parent.id).await;
    assert_eq!(numbers(&children), (1..=3_200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_inserted_before_a_crash_is_not_enqueued_twice() {
    let harness = Harness::new().await;
    let began = Arc::default();
    let registry = Registry::default().register::<Many>(making(HOUR, &began, nothing));
    let unreported = doc! { "progress": { "$exists": false } };
    let refuse = |validator: Document| doc! { "collMod": "jobs", "validator": validator };
    let database = harness.context.store.database();
    let parent = harness.enqueue_unannounced(&Many { n: 1_500 }).await;
    database.run_command(refuse(unreported)).await.unwrap();

    let worker = harness.worker_of("worker", registry, 1);
    harness
        .job_until(parent.id, |job| !job.attempts.is_empty())
        .await;
    let half = children(&harness, parent.id).await.len();
    database.run_command(refuse(doc! {})).await.unwrap();
    let parent = harness.finished(parent.id).await;
    worker.stop().await;

    assert_eq!(parent.state, JobState::Completed, "{parent:#?}");
    assert_eq!((half, began.load(Ordering::SeqCst)), (1_000, 1));
    let children = children(&harness, parent.id).await;
    assert_eq!(numbers(&children), (1..=1_500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_runs_out_of_time_leaves_the_rest_to_the_next_uncharged() {
    let mut harness = Harness::new().await;
    harness.times.yield_after = Duration::from_secs(1);
    let slowly: Before = |run, _, first| {
        Box::pin(async move {
            if first {
                tokio::time::sleep_until(run.yield_after).await;
            }
        })
    };
    let registry = Registry::default().register::<Many>(making(HOUR, &Arc::default(), slowly));
    let worker = harness.worker_of("worker", registry, 1);

    let parent = harness.enqueue(&Many { n: 1_500 }).await;
    let parent = harness.finished(parent.id).await;
    worker.stop().await;

    assert_eq!(parent.state, JobState::Completed, "{parent:#?}");
    // The first batch, the rest, and no further update.
    assert_eq!((parent.attempt, parent.snoozes), (1, 2), "{parent:#?}");
    let children = children(&harness, parent.id).await;
    assert_eq!(numbers(&children), (1..=1_500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_duplicates_an_available_job_is_skipped() {
    let harness = Harness::new().await;
    let tenants: Vec<TenantId> = (0..3).map(|_| TenantId::new()).collect();
    let asked = harness
        .enqueue_unannounced(&Joining {
            tenant_id: tenants[1],
        })
        .await;
    let later = clock::later(harness.context.store.now(), HOUR);
    harness.edit_job(asked.id, doc! { "runAt": later }).await;
    let for_each = tenants.clone();
    let steps = Steps::parallel().step("many", move |run| {
        let tenants = for_each.clone();
        async move {
            let fan_out = FanOut {
                noun: "tenants",
                total: 3,
                spread: HOUR,
            };
            let children = tenants
                .into_iter()
                .zip(1..)
                .map(|(tenant_id, n)| Ok(child(n, &Joining { tenant_id }, &run)));
            fan_out
                .run(&run, stream::iter(children.collect::<Vec<_>>()))
                .await
        }
    });
    let slots = Registry::default().register::<Many>(steps);

    let parent = harness.enqueue_unannounced(&Many { n: 3 }).await;
    let worker = harness.worker_of("worker", slots, 1);
    let parent = harness.finished(parent.id).await;
    let waiting = until(
        async || children(&harness, parent.id).await,
        |children| !children.is_empty(),
    )
    .await;
    worker.stop().await;

    assert_eq!(parent.state, JobState::Completed, "{parent:#?}");
    let of: Vec<_> = waiting.iter().map(|job| job.tenant_id.unwrap()).collect();
    assert!(of.contains(&tenants[0]) && of.contains(&tenants[2]));
    assert_eq!(of.len(), 2);
    assert_eq!(harness.job(asked.id).await.parent, None);
}
