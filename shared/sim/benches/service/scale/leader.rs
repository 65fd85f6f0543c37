//! The leader alone: its share of a core while it sweeps, rescues and seals. No job runs meanwhile.

use std::{iter, time::Duration};

use dezky_shared::{
    id::{JobId, LeaseToken, TenantId},
    platform::clock,
    queue::{
        args::ReconcileTenant,
        job::{Job, JobState, Lease},
    },
    store::jobs::NewJob,
};
use dezky_sim::bench_output::{progress, rate, report};
use mongodb::bson::{DateTime, Document, doc};

use super::{
    drain::pause,
    usage::{Load, Usage},
    workers::Workers,
};
use crate::{
    audit,
    world::{World, until},
};

/// Due jobs of one lock key, which a running job holds: the sweep reads them, and adds no key to the ready set.
const DUE: usize = 100_000;
/// Jobs whose lease has expired.
const LOST: usize = 20_000;
/// Audit events to be sealed.
const EVENTS: usize = 50_000;
/// Jobs per insert.
const BATCH: usize = 5_000;
/// Time of the measurement of sweeps.
const OBSERVED: Duration = Duration::from_secs(15);
/// Requester of the jobs, by which they are found.
const REQUESTER: &str = "bench-leader";

/// Measures the first worker, which leads.
pub(super) async fn measure(world: &World, workers: &Workers<'_>) {
    let leader = workers.running()[0].name().to_owned();
    let leases = world.database.collection::<Document>("leader");
    until("the first worker leads", async || {
        let found = leases.find_one(doc! { "holder": &leader }).await;
        found.expect("MongoDB responds").is_some()
    })
    .await;
    sweep(world, workers).await;
    rescue(world, workers).await;
    seal(world, workers).await;
}

async fn sweep(world: &World, workers: &Workers<'_>) {
    progress(format!("sweeping {DUE} due jobs"));
    let holder = Job {
        lock_key: "held".to_owned(),
        ..running(clock::later(clock::now(), Duration::from_hours(1)))
    };
    let due = Job {
        lock_key: holder.lock_key.clone(),
        ..available()
    };
    let due = iter::repeat_with(|| Job {
        id: JobId::new(),
        ..due.clone()
    });
    store(world, iter::once(holder).chain(due.take(DUE))).await;
    let load = Load::during(OBSERVED, world, workers.running()).await;
    delete(world).await;
    report_shares("sweep of 100,000 due jobs with one held lock", &load);
}

async fn rescue(world: &World, workers: &Workers<'_>) {
    progress(format!("rescuing {LOST} jobs"));
    // Otherwise the leader would run the jobs that it rescues.
    pause(world, true).await;
    let expired = clock::earlier(clock::now(), Duration::from_mins(10));
    store(world, iter::repeat_with(|| running(expired)).take(LOST)).await;
    let jobs = world.database.collection::<Document>("jobs");
    let of_state =
        |state: &str| doc! { "kind": "reconcile_tenant", "state": state, "createdBy": REQUESTER };
    until("the rescue begins", async || {
        let rescued = jobs.find_one(of_state("available")).await;
        rescued.expect("MongoDB responds").is_some()
    })
    .await;
    let before = Usage::now(world, workers.running()).await;
    let already = jobs.count_documents(of_state("available")).await;
    let already = usize::try_from(already.expect("MongoDB responds")).expect("they are few");
    until("all jobs are rescued", async || {
        let lost = jobs.find_one(of_state("running")).await;
        lost.expect("MongoDB responds").is_none()
    })
    .await;
    let load = before.load(world, workers.running()).await;
    delete(world).await;
    pause(world, false).await;
    report(
        "scale: leader, rescue",
        rate(LOST.saturating_sub(already), load.time),
        "jobs/s",
    );
    report_shares("rescue", &load);
}

async fn seal(world: &World, workers: &Workers<'_>) {
    progress(format!("sealing {EVENTS} audit events"));
    let events = world.database.collection::<Document>("audit_events");
    let before = Usage::now(world, workers.running()).await;
    audit::insert(world, TenantId::new(), EVENTS).await;
    until("all events are sealed", async || {
        let unsealed = events.find_one(doc! { "sealed": false }).await;
        unsealed.expect("MongoDB responds").is_none()
    })
    .await;
    let load = before.load(world, workers.running()).await;
    report("scale: leader, seal", rate(EVENTS, load.time), "events/s");
    report_shares("seal", &load);
}

fn report_shares(duty: &str, load: &Load) {
    report(
        format!("scale: leader, {duty}: its share of a core"),
        load.leader(),
        "%",
    );
    report(
        format!("scale: leader, {duty}: MongoDB's share of a core"),
        load.mongodb,
        "%",
    );
}

/// A due job of a tenant of its own.
fn available() -> Job {
    // A dry run has no unique key.
    let args = ReconcileTenant {
        tenant_id: TenantId::new(),
        dry_run: true,
    };
    let new = NewJob::new(&args, REQUESTER, clock::now()).expect("it is small");
    new.job().clone()
}

/// The same, leased by a worker that does not exist.
fn running(until: DateTime) -> Job {
    let lease = Lease {
        token: LeaseToken::new(),
        worker: "gone".to_owned(),
        until,
        started_at: None,
    };
    Job {
        state: JobState::Running,
        attempt: 1,
        lease: Some(lease),
        ..available()
    }
}

async fn store(world: &World, jobs: impl Iterator<Item = Job>) {
    let jobs: Vec<Job> = jobs.collect();
    let stored = world.database.collection::<Job>("jobs");
    for batch in jobs.chunks(BATCH) {
        let inserted = stored.insert_many(batch).await;
        inserted.expect("MongoDB accepts them");
    }
}

async fn delete(world: &World) {
    let jobs = world.database.collection::<Document>("jobs");
    let deleted = jobs.delete_many(doc! { "createdBy": REQUESTER }).await;
    deleted.expect("MongoDB responds");
}
