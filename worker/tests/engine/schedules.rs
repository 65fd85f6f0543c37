//! Schedules: each instant runs once, and missed instants follow the misfire policy.

use std::{collections::BTreeSet, time::Duration};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    platform::clock,
    queue::{
        cron::CronSchedule,
        job::JobState,
        schedule::{MisfirePolicy, Schedule},
    },
    store::{StoreError, jobs::NewJob},
};
use dezky_worker::steps::{Registry, Steps};
use futures::TryStreamExt as _;

use crate::{
    harness::{Harness, until},
    script::{Lone, Script},
};

fn hourly(misfire_policy: MisfirePolicy) -> Schedule {
    Schedule {
        name: "hourly",
        purpose: "",
        cron: CronSchedule::new("0 * * * *", "UTC").unwrap(),
        misfire_policy,
        can_dry_run: false,
        job: |_, by, now| NewJob::new(&Lone { n: 1 }, by, now),
    }
}

/// Sets the last evaluation of the schedule to `hours` ago.
async fn last_seen(harness: &Harness, hours: u64) -> DateTime {
    let seen = clock::earlier(harness.context.store.now(), Duration::from_hours(hours));
    let states = harness.context.store.collection::<Document>("schedules");
    states
        .update_one(
            doc! { "_id": "hourly" },
            doc! { "$set": { "seen": seen, "missed": 0_i64 } },
        )
        .upsert(true)
        .await
        .unwrap();
    seen
}

async fn forget_instants(harness: &Harness) {
    let ledger = harness
        .context
        .store
        .collection::<Document>("schedule_instants");
    ledger.delete_many(doc! {}).await.unwrap();
}

async fn ledger(harness: &Harness) -> Vec<Document> {
    let ledger = harness.context.store.collection("schedule_instants");
    let found = ledger.find(doc! {}).sort(doc! { "instant": 1 }).await;
    found.unwrap().try_collect().await.unwrap()
}

async fn missed(harness: &Harness) -> i64 {
    let state = harness.context.schedules.state("hourly").await.unwrap();
    state.unwrap().missed
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_leaders_enqueue_an_instant_once() {
    let harness = Harness::new().await;
    let schedule = hourly(MisfirePolicy::Each);
    last_seen(&harness, 48).await;
    let now = harness.context.store.now();

    let runs = (0..8).map(|_| harness.context.schedules.run_due(&schedule, now));
    let found = futures::future::try_join_all(runs).await.unwrap();

    assert_eq!(found.iter().filter(|jobs| !jobs.is_empty()).count(), 1);
    let ledger = ledger(&harness).await;
    let jobs = harness.jobs().distinct("_id", doc! {}).await.unwrap();
    assert_eq!((ledger.len(), jobs.len()), (48, 48));
    let named: BTreeSet<_> = ledger
        .iter()
        .map(|entry| format!("{:?}", entry.get("jobId").unwrap()))
        .collect();
    assert_eq!(named, jobs.iter().map(|id| format!("{id:?}")).collect());
    assert_eq!(missed(&harness).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_leaders_run_each_instant_once() {
    let mut harness = Harness::new().await;
    harness.schedules = vec![hourly(MisfirePolicy::Once)];
    let script = Script::new([]);
    let registry =
        || Registry::default().register::<Lone>(Steps::parallel().step("work", script.step()));
    let leaders = harness.context.store.collection::<Document>("leader");
    last_seen(&harness, 3).await;

    let workers = ["one", "two"].map(|name| harness.worker_of(name, registry(), 4));
    for round in 1..=5 {
        // The old leader is unaware for a while; the other is elected immediately.
        let over = clock::earlier(harness.context.store.now(), Duration::from_secs(1));
        let ended = doc! { "$set": { "until": over } };
        leaders.update_one(doc! {}, ended).await.unwrap();
        forget_instants(&harness).await;
        last_seen(&harness, 3).await;
        script.until_runs(round).await;
    }
    let settled = until(
        async || {
            harness
                .jobs()
                .count_documents(doc! { "state": "completed" })
                .await
                .unwrap()
        },
        |completed| *completed >= 5,
    )
    .await;
    for worker in workers {
        worker.stop().await;
    }

    assert!((5..=6).contains(&settled), "{settled}");
    assert_eq!(ledger(&harness).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn instants_missed_during_downtime_follow_the_misfire_policy() {
    for (policy, runs, lost) in [
        (MisfirePolicy::Once, 1, 499),
        (MisfirePolicy::Each, 100, 400),
        (MisfirePolicy::Skip, 0, 500),
    ] {
        let harness = Harness::new().await;
        // Half past the hour, independent of the current minute.
        let now = half_past(harness.context.store.now());
        let seen = clock::earlier(now, Duration::from_hours(500));
        let states = harness.context.store.collection::<Document>("schedules");
        let state = doc! { "_id": "hourly", "seen": seen, "missed": 0_i64 };
        states.insert_one(state).await.unwrap();

        let jobs = harness
            .context
            .schedules
            .run_due(&hourly(policy), now)
            .await
            .unwrap();
        let again = harness
            .context
            .schedules
            .run_due(&hourly(policy), now)
            .await;

        assert_eq!(
            (jobs.len(), missed(&harness).await),
            (runs, lost),
            "{policy:?}"
        );
        assert_eq!(ledger(&harness).await.len(), runs, "{policy:?}");
        assert_eq!(again.unwrap(), [], "{policy:?}");
    }
}

fn half_past(time: DateTime) -> DateTime {
    const HOUR: i64 = 3_600_000;
    DateTime::from_millis(time.timestamp_millis() / HOUR * HOUR + HOUR / 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_schedule_has_no_missed_instants() {
    let mut harness = Harness::new().await;
    harness.schedules = vec![hourly(MisfirePolicy::Each)];

    let leader = harness.leader();
    let state = until(
        async || harness.context.schedules.state("hourly").await.unwrap(),
        Option::is_some,
    )
    .await
    .unwrap();
    leader.stop().await;

    assert_eq!(state.missed, 0);
    assert!(clock::until(state.seen, harness.context.store.now()) < Duration::from_mins(1));
    assert_eq!(ledger(&harness).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_enqueues_a_due_instant_and_its_job_runs() {
    let mut harness = Harness::new().await;
    harness.schedules = vec![hourly(MisfirePolicy::Once)];
    let script = Script::new([]);
    let steps = Steps::parallel().step("work", script.step());
    last_seen(&harness, 2).await;

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 2);
    let ran = script.until_runs(1).await;
    let job = harness.finished(ran[0].job).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed);
    assert_eq!(job.created_by, "schedule:hourly");
    let last = harness.context.schedules.last("hourly").await.unwrap();
    assert_eq!(last.unwrap().job_id, job.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_whose_job_cannot_be_enqueued_stays_due() {
    let harness = Harness::new().await;
    let schedule = hourly(MisfirePolicy::Once);
    let seen = last_seen(&harness, 2).await;
    let now = harness.context.store.now();
    let refusing = |validator| doc! { "collMod": "jobs", "validator": validator };
    let database = harness.context.store.database();
    database
        .run_command(refusing(doc! { "kind": "no such kind" }))
        .await
        .unwrap();

    let refused = harness.context.schedules.run_due(&schedule, now).await;
    let state = harness.context.schedules.state("hourly").await.unwrap();
    database.run_command(refusing(doc! {})).await.unwrap();
    let accepted = harness.context.schedules.run_due(&schedule, now).await;

    assert!(refused.is_err());
    assert_eq!(state.unwrap().seen, seen);
    assert_eq!(accepted.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_in_the_ledger_is_not_run_again_after_the_state_was_rolled_back() {
    let harness = Harness::new().await;
    let schedule = hourly(MisfirePolicy::Each);
    let now = half_past(harness.context.store.now());
    last_seen(&harness, 5).await;
    let first = harness.context.schedules.run_due(&schedule, now).await;
    last_seen(&harness, 8).await;

    let again = harness.context.schedules.run_due(&schedule, now).await;
    let then = harness.context.schedules.run_due(&schedule, now).await;

    let ran = first.unwrap().len() + again.unwrap().len();
    assert_eq!(ran, ledger(&harness).await.len());
    assert!((7..=9).contains(&ran), "{ran}");
    assert_eq!(then.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_schedule_does_not_block_other_schedules() {
    let mut harness = Harness::new().await;
    harness.times.rescue_grace = Duration::from_secs(1);
    let broken = Schedule {
        name: "broken",
        cron: CronSchedule::new("* * * * *", "UTC").unwrap(),
        job: |_, _, _| Err(StoreError::custom("scripted error")),
        ..hourly(MisfirePolicy::Once)
    };
    harness.schedules = vec![broken, hourly(MisfirePolicy::Once)];
    let long_ago = clock::earlier(harness.context.store.now(), Duration::from_hours(1));
    let states = harness.context.store.collection::<Document>("schedules");
    let state = doc! { "_id": "broken", "seen": long_ago, "missed": 0_i64 };
    states.insert_one(state).await.unwrap();
    last_seen(&harness, 2).await;
    let left = harness.add_orphan(&Lone { n: 2 }, true).await;
    let script = Script::new([]);
    let steps = Steps::parallel().step("work", script.step());

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 2);
    let rescued = harness.finished(left.id).await;
    script.until_runs(2).await;
    worker.stop().await;

    assert_eq!(rescued.state, JobState::Completed);
    assert_eq!(ledger(&harness).await.len(), 1);
}
