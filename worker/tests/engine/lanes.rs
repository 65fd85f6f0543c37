//! Priority lanes: urgent work has slots and reservations of its own beside a backlog of any age.

use std::{collections::HashSet, time::Duration};

use bson::doc;
use dezky_shared::{
    id::JobId,
    platform::clock,
    queue::{
        job::{Job, JobState, Queue},
        priority::Priority,
        ready_set::ReadyKey,
    },
    store::jobs::NewJob,
    upstream::Upstream,
};
use dezky_sim::stores::Redis;
use dezky_upstreams::circuit_breaker::RateBudget;
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Lone, Script, Single},
};

const SLOTS: usize = 8;

/// Jobs of a lane that have been due for an hour, and their keys in the ready set.
async fn add_backlog(harness: &Harness, count: i32, priority: Priority) {
    let now = harness.context.store.now();
    let long_ago = clock::earlier(now, Duration::from_hours(1));
    let args = Lone {
        n: priority.number(),
    };
    let jobs = (0..count).map(|_| {
        let new = NewJob::new(&args, "test", now).unwrap();
        new.with_priority(priority).run_at(long_ago)
    });
    let jobs: Vec<NewJob> = jobs.collect();
    harness.context.jobs.enqueue_many(&jobs).await.unwrap();
    let keys = jobs.iter().map(|new| ReadyKey {
        lock_key: new.job().lock_key.clone(),
        priority,
    });
    let keys: Vec<ReadyKey> = keys.collect();
    // Fails in the test without Redis.
    let _ = harness.context.ready.add(Queue::Provisioning, &keys).await;
}

async fn enqueue(harness: &Harness, priority: Priority) -> Job {
    let tenant = harness
        .add_tenant(&format!("{priority:?}").to_lowercase(), &[])
        .await;
    let job = harness.enqueue_unannounced(&Single::of(&tenant)).await;
    harness
        .edit_job(job.id, doc! { "priority": priority })
        .await;
    let job = harness.job(job.id).await;
    harness
        .context
        .ready
        .notify(std::slice::from_ref(&job))
        .await;
    job
}

/// The backlog's jobs never end; other jobs end at once.
fn registry(backlog: &Script) -> Registry {
    Registry::default()
        .register::<Lone>(Steps::parallel().step("work", backlog.step()))
        .register::<Single>(Steps::parallel().step("work", Script::new([]).step()))
}

async fn until_steady(backlog: &Script, running: usize) {
    until(async || backlog.running(), |now| *now == running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_leaves_room_for_every_more_urgent_lane() {
    let harness = Harness::new().await;
    let backlog = Script::blocking([]);
    add_backlog(&harness, 50, Priority::Bulk).await;
    let worker = harness.worker_of("worker", registry(&backlog), SLOTS);
    until_steady(&backlog, 5).await;

    let asked = enqueue(&harness, Priority::Interactive).await;
    let asked = harness.finished(asked.id).await;
    add_backlog(&harness, 50, Priority::Interactive).await;
    until_steady(&backlog, 7).await;
    let urgent = enqueue(&harness, Priority::Security).await;
    let urgent = harness.finished(urgent.id).await;
    backlog.release(1_000);
    worker.stop().await;

    let states = [asked.state, urgent.state];
    assert_eq!(states, [JobState::Completed; 2]);
    assert_eq!(backlog.max_running(), 7, "one slot is left to security");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_leaves_room_without_redis() {
    let directory = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(directory.path()).await.unwrap();
    let harness = Harness::on_redis(&redis).await;
    redis.kill().await;
    let backlog = Script::blocking([]);
    add_backlog(&harness, 5_000, Priority::Bulk).await;
    let worker = harness.worker_of("worker", registry(&backlog), SLOTS);
    until_steady(&backlog, 5).await;

    let mut ended = Vec::new();
    for priority in [Priority::Interactive, Priority::Security] {
        let job = enqueue(&harness, priority).await;
        ended.push(harness.finished(job.id).await.state);
    }
    backlog.release(10_000);
    worker.stop().await;

    assert_eq!(ended, [JobState::Completed; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_backlog_hides_no_other_tenants_job_without_redis() {
    let directory = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(directory.path()).await.unwrap();
    let harness = Harness::on_redis(&redis).await;
    redis.kill().await;
    let busy = harness.add_tenant("busy", &[]).await;
    let lock_keys = vec![format!("tenant:{}", busy.id); 5_000];
    harness
        .clone_for_lock_keys(&Single::of(&busy), &lock_keys)
        .await;
    let script = Script::blocking([]);
    let steps = Steps::parallel().step("work", script.step());
    let worker = harness.worker_of(
        "worker",
        Registry::default().register::<Single>(steps),
        SLOTS,
    );
    script.until_runs(1).await;

    let other = enqueue(&harness, Priority::Interactive).await;
    let runs = script.until_runs(2).await;
    script.release(10_000);
    worker.stop().await;

    assert_eq!(runs[1].job, other.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_urgent_keys_does_not_starve_bulk_work() {
    let harness = Harness::new().await;
    let order = Script::blocking([]);
    let registry =
        Registry::default().register::<Lone>(Steps::parallel().step("work", order.step()));
    add_backlog(&harness, 60, Priority::Security).await;
    add_backlog(&harness, 1, Priority::Bulk).await;
    let bulk = harness
        .jobs()
        .find_one(doc! { "priority": Priority::Bulk })
        .await;
    let bulk: JobId =
        bson::deserialize_from_bson(bulk.unwrap().unwrap().remove("_id").unwrap()).unwrap();

    let worker = harness.worker_of("worker", registry, 1);
    order.release(1_000);
    let runs = order.until_runs(30).await;
    worker.stop().await;

    let place = runs.iter().position(|run| run.job == bulk);
    // Each of the two fetch loops of the only slot counts for itself.
    assert!(
        place.is_some_and(|place| (1..20).contains(&place)),
        "{place:?}"
    );
}

/// A worker of jobs that call the mail server within a small rate budget.
struct Limited {
    harness: Harness,
    script: Script,
}

impl Limited {
    async fn new() -> Self {
        Self::with(5.0).await
    }

    async fn with(per_second: f64) -> Self {
        let mut harness = Harness::new().await;
        let budget = RateBudget {
            per_second,
            burst: 1,
        };
        harness.budgets.insert(Upstream::Stalwart, budget);
        Self {
            harness,
            script: Script::new([]),
        }
    }

    fn registry(&self) -> Registry {
        let steps = || Steps::parallel().upstream(Upstream::Stalwart, self.script.step());
        Registry::default()
            .register::<Lone>(steps())
            .register::<Single>(steps())
    }

    /// Waits until every job of the backlog has run, has a reservation, or queues for one.
    async fn until_queued(&self) {
        let untried = doc! { "kind": "do_it_alone", "attempt": 0, "snoozes": 0 };
        let untried = async || {
            self.harness
                .jobs()
                .count_documents(untried.clone())
                .await
                .unwrap()
        };
        until(untried, |jobs| *jobs == 0).await;
    }

    /// The ids of all jobs of a lane.
    async fn jobs(&self, priority: Priority) -> HashSet<JobId> {
        let jobs = self.harness.jobs();
        let found = jobs.distinct("_id", doc! { "priority": priority }).await;
        let ids = found.unwrap().into_iter();
        ids.map(|id| bson::deserialize_from_bson(id).unwrap())
            .collect()
    }

    async fn queued(&self) -> u64 {
        let queued = doc! { "state": "available", "steps.asksAgain": true };
        self.harness.jobs().count_documents(queued).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_steps_are_reserved_before_a_queue_of_bulk_steps() {
    let limited = Limited::new().await;
    let harness = &limited.harness;
    add_backlog(harness, 150, Priority::Bulk).await;
    let worker = harness.worker_of("worker", limited.registry(), SLOTS);
    limited.until_queued().await;

    let mut ended = Vec::new();
    for priority in [Priority::Interactive, Priority::Security] {
        let job = enqueue(harness, priority).await;
        ended.push(harness.finished(job.id).await);
    }
    let queued = limited.queued().await;
    worker.stop().await;

    assert!(queued > 0, "the backlog was gone before");
    for job in ended {
        let outcome = (job.state, job.attempt, job.snoozes <= 1);
        assert_eq!(outcome, (JobState::Completed, 1, true), "{job:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_step_costs_one_claim_until_its_turn() {
    let limited = Limited::new().await;
    let harness = &limited.harness;
    add_backlog(harness, 200, Priority::Interactive).await;
    let worker = harness.worker_of("worker", limited.registry(), SLOTS);
    limited.until_queued().await;

    let before = limited.script.runs().len();
    limited.script.until_runs(before + 20).await;
    worker.stop().await;

    // A step asks once, and is claimed again for its reservation, which a busy machine may let expire.
    let asked_often = doc! { "snoozes": { "$gt": 2 } };
    assert_eq!(
        harness.jobs().count_documents(asked_often).await.unwrap(),
        0
    );
    assert!(limited.queued().await > 0, "the queue was empty before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_in_a_queue_of_a_newer_build_stops_no_other() {
    let limited = Limited::with(20.0).await;
    let harness = &limited.harness;
    let newer = harness.enqueue_unannounced(&Lone { n: 7 }).await;
    let step = doc! { "name": "stalwart", "state": "pending", "attempts": 0, "asksAgain": true };
    let set =
        doc! { "queue": "of_the_next_release", "priority": Priority::Security, "steps": [step] };
    harness.edit_job(newer.id, set).await;
    add_backlog(harness, 110, Priority::Interactive).await;

    let worker = harness.worker_of("worker", limited.registry(), SLOTS);
    // More than fit in the horizon of their lane.
    limited.script.until_runs(100).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_steps_do_not_overtake_the_queue() {
    let limited = Limited::new().await;
    let harness = &limited.harness;
    add_backlog(harness, 60, Priority::Interactive).await;
    let oldest = limited.jobs(Priority::Interactive).await;
    let worker = harness.worker_of("worker", limited.registry(), SLOTS);
    limited.until_queued().await;
    let queued = limited.queued().await;
    until(async || limited.queued().await, |now| *now < queued).await;

    let before = limited.script.runs().len();
    while limited.script.runs().len() < before + 15 {
        add_backlog(harness, 4, Priority::Interactive).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.stop().await;

    let runs = limited.script.runs();
    let overtook = runs[..before + 15]
        .iter()
        .filter(|run| !oldest.contains(&run.job));
    assert_eq!(overtook.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_steps_get_a_tenth_of_a_budget_that_urgent_steps_use_up() {
    let mut limited = Limited::with(50.0).await;
    limited.harness.times.sweep_every = Duration::from_secs(1);
    let harness = &limited.harness;
    add_backlog(harness, 900, Priority::Interactive).await;
    let worker = harness.worker_of("worker", limited.registry(), SLOTS);
    limited.until_queued().await;

    add_backlog(harness, 40, Priority::Bulk).await;
    let bulk = limited.jobs(Priority::Bulk).await;
    let runs = until(
        async || limited.script.runs(),
        |runs| runs.iter().filter(|run| bulk.contains(&run.job)).count() >= 11,
    )
    .await;
    let urgent = doc! { "priority": Priority::Interactive, "state": "available" };
    let left = harness.jobs().count_documents(urgent).await.unwrap();
    worker.stop().await;

    let places = runs.iter().enumerate();
    let places = places.filter(|(_, run)| bulk.contains(&run.job));
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    let between = places[10] - places[0];
    assert!(left > 0, "the urgent steps were gone before");
    // Ten, of which each stands for ten. The leader hands out a second's worth at once.
    assert!((50..=200).contains(&between), "{places:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_behind_an_open_circuit_sends_a_probe() {
    let limited = Limited::new().await;
    let harness = &limited.harness;
    add_backlog(harness, 60, Priority::Bulk).await;
    let worker = harness.worker_of("worker", limited.registry(), SLOTS);
    limited.until_queued().await;
    let breakers = &harness.context.circuits;
    // Only queued steps are left to probe.
    let reserved = doc! { "kind": "do_it_alone", "steps.turnAt": { "$exists": true }, "steps.asksAgain": { "$ne": true } };
    harness.jobs().delete_many(reserved).await.unwrap();
    let failure = dezky_upstreams::circuit_breaker::CallResult::TimedOut;
    breakers
        .record(Upstream::Stalwart, harness.times.circuit, false, failure)
        .await;

    let closed = async || {
        breakers
            .snapshot(Upstream::Stalwart, RateBudget::default())
            .await
    };
    until(closed, |snapshot| snapshot.open_for.is_none()).await;
    worker.stop().await;
}
