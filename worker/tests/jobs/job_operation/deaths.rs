//! Death of the worker before and after each write of a bulk dismissal: another worker goes on, and each job is dismissed
//! and audited once.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    platform::clock,
    queue::{
        job::JobState,
        job_operation::{ItemOutcome, JobAction},
    },
};
use dezky_sim::proxy::{Death, Proxy, is_command, is_commit_after};
use dezky_worker::jobs;
use futures::future::join_all;

use super::{add_jobs, create, events, items, operation};
use crate::harness::{Harness, until};

const DEATHS: [Death; 2] = [Death::BeforeRequest, Death::AfterRequest];

/// A write, by the way in which it kills its worker.
type Kill = fn(&Proxy, Death);

/// The writes of an item, and their commit.
const WRITES: [Kill; 5] = [
    |proxy, death| proxy.die_at(death, is_command("findAndModify", "jobs", "dismissed")),
    |proxy, death| proxy.die_at(death, is_command("insert", "audit_events", "job.dismiss")),
    |proxy, death| proxy.die_at(death, is_command("update", "job_operation_items", "")),
    |proxy, death| proxy.die_at(death, is_command("update", "job_operations", "done")),
    |proxy, death| {
        let begins = is_command("findAndModify", "jobs", "dismissed");
        proxy.die_at(death, is_commit_after(begins));
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn each_job_is_dismissed_once_whenever_the_worker_dies() {
    let writes = WRITES.into_iter().enumerate();
    let rows = writes.flat_map(|(row, kill)| DEATHS.map(|death| (row, kill, death)));
    join_all(rows.map(|(row, kill, death)| jobs_are_dismissed_once(row, kill, death))).await;
}

async fn jobs_are_dismissed_once(row: usize, kill: Kill, death: Death) {
    let harness = Harness::new().await;
    let ids = add_jobs(&harness, 3, doc! { "state": "discarded" }).await;
    let proxy = harness.proxy().await;
    kill(&proxy, death);
    let (action, state) = (JobAction::Dismiss, JobState::Discarded);
    let (id, job) = create(&harness, action, state, &ids, None).await;
    let dying = harness.worker_through(&proxy, jobs::registry(), 2).await;
    until(async || proxy.is_cut(), |is_cut| *is_cut).await;
    // Its lease expires.
    let past = clock::earlier(harness.context.store.now(), Duration::from_mins(1));
    let left = doc! { "_id": job.id, "state": "running" };
    let expired = doc! { "$set": { "lease.until": past } };
    harness.jobs().update_one(left, expired).await.unwrap();

    let next = harness.worker_of("next", jobs::registry(), 2);
    let job = harness.finished(job.id).await;
    next.stop().await;
    proxy.mend();
    dying.stop().await;

    assert_eq!(job.state, JobState::Completed, "{row} {death:?}: {job:#?}");
    for id in ids {
        let dismissed = harness.job(id).await.dismissed;
        assert!(dismissed.is_some(), "{row} {death:?}");
    }
    assert_eq!(events(&harness).await.len(), 3, "{row} {death:?}");
    assert_eq!(operation(&harness, id).await.done, 3, "{row} {death:?}");
    let items = items(&harness, id).await;
    let done = items
        .iter()
        .filter(|item| item.outcome == ItemOutcome::Done);
    assert_eq!(done.count(), 3, "{row} {death:?}: {items:#?}");
}
