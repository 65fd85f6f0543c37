//! The end of a job that a caller asked for is an event.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    audit::{Action, AuditEvent, Outcome},
    id::{JobId, TenantId},
    platform::clock,
    queue::{args::SummarizeMonths, job::JobState},
};
use dezky_sim::proxy::{Death, Proxy, is_command, is_commit_after};
use dezky_worker::steps::Registry;
use futures::future::join_all;

use super::event;
use crate::{
    harness::{Harness, until},
    world::World,
};

/// A request to suspend a tenant, which this job carries out.
async fn accepted(harness: &Harness, tenant: TenantId, job: JobId) -> AuditEvent {
    let mut accepted = event(Some(tenant), harness.context.store.now());
    accepted.action = Action::TenantSuspend;
    accepted.outcome = Outcome::Accepted;
    accepted.job_id = Some(job);
    accepted.origin.request_id = Some("req-1".to_owned());
    harness.record(std::slice::from_ref(&accepted)).await;
    accepted
}

async fn outcomes(harness: &Harness) -> Vec<AuditEvent> {
    let events = harness.events_about("job").await.into_iter();
    let events = events.map(|event| bson::deserialize_from_document(event).unwrap());
    let ends = events.filter(|event: &AuditEvent| event.outcome != Outcome::Accepted);
    ends.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_accepted_action_is_recorded_once() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let job = world.suspend(tenant.id).await;
    let request = accepted(&world.harness, tenant.id, job.id).await;

    world.completed(&job).await;
    until(
        async || outcomes(&world.harness).await.len(),
        |ends| *ends == 1,
    )
    .await;
    world.until_idle().await;

    let found = outcomes(&world.harness).await;
    assert_eq!(found.len(), 1);
    let end = &found[0];
    assert_eq!(
        (end.action, end.outcome),
        (Action::TenantSuspend, Outcome::Done)
    );
    assert_eq!(
        (end.actor.id.as_str(), &end.target),
        ("system", &request.target)
    );
    assert_eq!((end.tenant_id, end.job_id), (Some(tenant.id), Some(job.id)));
    assert_eq!(end.origin.request_id.as_deref(), Some("req-1"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_a_cancelled_one_and_a_superseded_one_have_their_outcomes() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let store = &world.harness.context.store;
    let jobs = store.collection::<bson::Document>("jobs");
    let template = world.suspend(tenant.id).await;
    world.completed(&template).await;
    let stored = jobs
        .find_one(doc! { "_id": template.id })
        .await
        .unwrap()
        .unwrap();
    let add = async |fields: bson::Document| {
        let id = JobId::new();
        let mut job = stored.clone();
        job.insert("_id", id);
        job.extend(fields);
        jobs.insert_one(job).await.unwrap();
        id
    };
    let error = doc! { "code": "upstream_rejected", "class": "bug", "message": "M", "detail": "secret", "retryable": false };
    let failed = add(doc! { "state": JobState::Discarded.name(), "error": error }).await;
    let cancelled = add(doc! { "state": JobState::Cancelled.name() }).await;
    let superseded = doc! { "state": JobState::Cancelled.name(), "supersededBy": failed };
    let superseded = add(superseded).await;
    let gone = JobId::new();
    let events = store.collection::<bson::Document>("audit_events");
    let waiting = store.collection::<bson::Document>("audit_accepted");

    // A newer build accepted an action that this one does not know: it is left, and delays no other.
    let later = clock::later(store.now(), Duration::from_hours(1));
    let open = add(doc! { "state": JobState::Available.name(), "runAt": later }).await;
    let newer = accepted(&world.harness, tenant.id, open).await.id;
    let unknown = doc! { "$set": { "action": "tenant.levitate" } };
    let changed = events.update_one(doc! { "_id": newer }, unknown).await;
    assert_eq!(changed.unwrap().matched_count, 1);
    let completed = doc! { "$set": { "state": JobState::Completed.name() } };
    jobs.update_one(doc! { "_id": open }, completed)
        .await
        .unwrap();
    for job in [failed, cancelled, superseded, gone] {
        accepted(&world.harness, tenant.id, job).await;
    }
    until(
        async || waiting.count_documents(doc! {}).await.unwrap(),
        |actions| *actions == 1,
    )
    .await;
    let left = waiting.find_one(doc! { "_id": newer }).await.unwrap();
    assert!(left.is_some());

    let mut found = outcomes(&world.harness).await;
    found.sort_by_key(|event| event.outcome.to_string());
    let ends: Vec<_> = found
        .iter()
        .map(|event| (event.outcome, event.job_id))
        .collect();
    assert_eq!(
        ends,
        [
            (Outcome::Cancelled, Some(cancelled)),
            (Outcome::Failed, Some(failed)),
            (Outcome::Failed, Some(failed)),
        ]
    );
    assert_eq!(
        found[1].after,
        doc! { "error": { "code": "upstream_rejected", "message": "M" } }
    );
    world.stop().await;
}

/// Kills the processes behind a proxy.
type Kill = fn(&Proxy);

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_recorded_once_whenever_the_leader_dies() {
    let deaths: [Kill; 3] = [
        |proxy| {
            let begins = is_command("delete", "audit_accepted", "");
            proxy.die_at(Death::BeforeRequest, begins);
        },
        |proxy| {
            let begins = is_command("delete", "audit_accepted", "");
            proxy.die_at(Death::BeforeRequest, is_commit_after(begins));
        },
        |proxy| {
            let begins = is_command("delete", "audit_accepted", "");
            proxy.die_at(Death::AfterRequest, is_commit_after(begins));
        },
    ];
    join_all(deaths.into_iter().enumerate().map(recorded_once)).await;
}

async fn recorded_once((row, kill): (usize, Kill)) {
    let mut harness = Harness::new().await;
    // No other transaction of the leader is to be taken for that of the outcome.
    harness.times.seal_every = Duration::from_hours(1);
    let from = "2025-01".parse().unwrap();
    let job = harness.enqueue_unannounced(&SummarizeMonths { from }).await;
    let ended = doc! { "state": JobState::Completed.name() };
    harness.edit_job(job.id, ended).await;
    accepted(&harness, TenantId::new(), job.id).await;
    let proxy = harness.proxy().await;
    kill(&proxy);

    let dying = harness.leader_through(&proxy, Registry::default()).await;
    until(async || proxy.is_cut(), |is_cut| *is_cut).await;
    let next = harness.leader();
    let waiting = harness
        .context
        .store
        .collection::<bson::Document>("audit_accepted");
    until(
        async || waiting.count_documents(doc! {}).await.unwrap(),
        |actions| *actions == 0,
    )
    .await;
    next.stop().await;
    proxy.mend();
    dying.stop().await;

    let found = outcomes(&harness).await;
    assert_eq!(found.len(), 1, "{row}: {found:?}");
    assert_eq!(found[0].outcome, Outcome::Done, "{row}");
}
