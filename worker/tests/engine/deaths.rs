//! Death of the leader before and after each write of its duties: another leader finishes them, and nothing happens twice.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    platform::clock,
    queue::{
        job::{JobState, Queue},
        pause::Pause,
    },
    store::to_bson,
    upstream::Upstream,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    proxy::{Death, Proxy, is_command, is_commit_after},
};
use dezky_worker::{jobs, steps::Registry};
use futures::future::join_all;

use crate::{
    admission::pause_upstream,
    harness::{Harness, Worker, until},
    upstreams::Upstreams,
};

const DEATHS: [Death; 2] = [Death::BeforeRequest, Death::AfterRequest];

/// Waits until the leader behind the proxy is dead.
async fn until_dead(proxy: &Proxy) {
    until(async || proxy.is_cut(), |is_cut| *is_cut).await;
}

/// Stops a leader that was dead.
async fn bury(proxy: &Proxy, leader: Worker) {
    proxy.mend();
    leader.stop().await;
}

/// Writes of a duty.
#[derive(Debug, Clone, Copy)]
enum Write {
    Command(&'static str, &'static str, &'static str),
    CommitAfter(&'static str, &'static str),
}

impl Write {
    fn kill(self, proxy: &Proxy, death: Death) {
        match self {
            Self::Command(name, collection, text) => {
                proxy.die_at(death, is_command(name, collection, text));
            }
            Self::CommitAfter(name, collection) => {
                let begins = is_command(name, collection, "paused");
                proxy.die_at(death, is_commit_after(begins));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_once_whenever_the_leader_dies() {
    const WRITES: [Write; 3] = [
        Write::Command("update", "queues", "paused"),
        Write::Command("insert", "audit_events", "queue.resume"),
        Write::CommitAfter("update", "queues"),
    ];
    let rows = WRITES
        .into_iter()
        .flat_map(|write| DEATHS.map(|death| (write, death)));
    join_all(rows.map(|(write, death)| pause_ends_once(write, death))).await;
}

async fn pause_ends_once(write: Write, death: Death) {
    let mut harness = Harness::new().await;
    harness.times.measure_every = Duration::from_millis(100);
    // No other transaction of the leader is to be taken for that of the pause.
    harness.times.seal_every = Duration::from_hours(1);
    let now = harness.context.store.now();
    let over = Pause {
        until: Some(clock::earlier(now, Duration::from_secs(1))),
        ..Pause::new(now, "operator".to_owned())
    };
    for (collection, name) in [("queues", "dns"), ("upstreams", "ocis")] {
        let set = doc! { "$set": { "paused": to_bson(&over).unwrap(), "revision": 1_i64 } };
        let collection = harness.context.store.collection::<Document>(collection);
        let updated = collection
            .update_one(doc! { "_id": name }, set)
            .upsert(true);
        updated.await.unwrap();
    }
    let proxy = harness.proxy().await;
    write.kill(&proxy, death);
    let dying = harness.leader_through(&proxy, Registry::default()).await;
    until_dead(&proxy).await;

    let next = harness.leader();
    // The queues come first.
    let upstreams = &harness.context.upstreams;
    until(
        async || upstreams.find(Upstream::Ocis).await.unwrap(),
        |state| state.paused.is_none(),
    )
    .await;

    let queue = harness.context.queues.find(Queue::Dns).await.unwrap();
    assert!(queue.paused.is_none(), "{write:?} {death:?}");
    assert_eq!(queue.revision, 2, "{write:?} {death:?}");
    let events = harness.context.store.collection::<Document>("audit_events");
    let resumed = doc! { "action": "queue.resume" };
    let resumed = events.count_documents(resumed).await.unwrap();
    assert_eq!(resumed, 1, "{write:?} {death:?}");
    next.stop().await;
    bury(&proxy, dying).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_jobs_are_released_whenever_the_leader_dies() {
    const WRITES: [Write; 2] = [
        Write::Command("update", "jobs", "deferred.nextAt"),
        Write::Command("update", "upstreams", "letGoAt"),
    ];
    let rows = WRITES
        .into_iter()
        .flat_map(|write| DEATHS.map(|death| (write, death)));
    join_all(rows.map(|(write, death)| held_jobs_are_released(write, death))).await;
}

async fn held_jobs_are_released(write: Write, death: Death) {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.hold_backoff = Duration::from_hours(1);
    let refused = FaultRule::every(Fault::Status {
        status: 403,
        retry_after: None,
    });
    let faults = &upstreams.authentik.server.faults;
    faults.add(refused);
    let jobs = harness.add_provisioning(3).await;
    let worker = harness.worker();
    for (_, job) in &jobs {
        let is_held = |job: &dezky_shared::queue::job::Job| {
            let step = job.step("authentik");
            let is_refused = step.is_some_and(|step| step.error.is_some());
            let others = job.steps.iter().filter(|step| step.name != "authentik");
            job.state == JobState::Available
                && is_refused
                && others.into_iter().all(|step| step.state.is_done())
        };
        harness.job_until(*job, is_held).await;
    }
    worker.stop().await;
    faults.clear();
    let proxy = harness.proxy().await;
    write.kill(&proxy, death);
    pause_upstream(&harness, Upstream::Authentik, false).await;
    let dying = harness.leader_through(&proxy, jobs::registry()).await;
    until_dead(&proxy).await;

    let next = harness.worker();
    for (_, job) in &jobs {
        let job = harness.finished(*job).await;
        assert_eq!(job.state, JobState::Completed, "{write:?} {death:?}");
    }
    let state = async || {
        let upstreams = &harness.context.upstreams;
        upstreams.find(Upstream::Authentik).await.unwrap()
    };
    until(state, |state| state.let_go_at.is_none()).await;
    assert_eq!(upstreams.authentik.server.effects.count("create_group"), 3);
    next.stop().await;
    bury(&proxy, dying).await;
}
