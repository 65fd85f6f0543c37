//! Fan-out of reconciliation to all tenants, including those whose purge job was lost.

use std::collections::BTreeMap;

use bson::{Document, doc};
use dezky_shared::{
    id::TenantId,
    queue::{
        args::ReconcileTenants,
        job::{Job, JobState},
    },
    tenant::{Tenant, TenantStatus},
};
use futures::TryStreamExt as _;

use crate::{harness::until, world::World};

async fn reconcile_all(world: &World, dry_run: bool) -> BTreeMap<TenantId, Job> {
    let args = ReconcileTenants {
        dry_run,
        spread_seconds: 0,
    };
    let parent = world.harness.enqueue(&args).await;
    let parent = world.completed(&parent).await;
    let jobs = world.harness.context.store.collection::<Job>("jobs");
    let children = until(
        async || {
            let found = jobs.find(doc! { "parent": parent.id }).await.unwrap();
            found.try_collect::<Vec<_>>().await.unwrap()
        },
        |children| children.iter().all(|job| job.state.is_final()),
    )
    .await;
    assert!(
        children.iter().all(|job| job.state == JobState::Completed),
        "{children:#?}"
    );
    children
        .into_iter()
        .map(|job| (job.tenant_id.unwrap(), job))
        .collect()
}

fn changes(job: &Job) -> Vec<&str> {
    let steps = job.steps.iter();
    steps
        .flat_map(|step| step.changes.iter().map(String::as_str))
        .collect()
}

async fn set_tenant(world: &World, tenant: &Tenant, set: Document) {
    let tenants = world
        .harness
        .context
        .store
        .collection::<Document>("tenants");
    let update = doc! { "$set": set, "$inc": { "revision": 1_i64 } };
    tenants
        .update_one(doc! { "_id": tenant.id }, update)
        .await
        .unwrap();
}

/// Removes the space of `tenant`.
fn drift(world: &World, tenant: &Tenant) {
    let space = world.space(tenant).unwrap();
    world.upstreams.ocis.remove_space(&space.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_all_tenants_reports_drift_and_changes_nothing() {
    let world = World::start().await;
    let sound = world.active_tenant("sound", &["sound.test"]).await;
    let drifted = world.active_tenant("drifted", &["drifted.test"]).await;
    drift(&world, &drifted);
    let (before, effects) = (world.upstream_state(), world.effects().len());

    let children = reconcile_all(&world, true).await;

    assert_eq!(changes(&children[&sound.id]), [""; 0]);
    assert_eq!(changes(&children[&drifted.id]), ["space created"]);
    assert_eq!(
        (world.upstream_state(), world.effects().len()),
        (before, effects)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tenant_that_is_not_terminated_converges_to_its_document() {
    let world = World::start().await;
    let active = world.active_tenant("active", &["active.test"]).await;
    let forgotten = world.harness.add_tenant("forgotten", &[]).await;
    let overdue = world.active_tenant("overdue", &["overdue.test"]).await;
    let removed = world.harness.add_tenant("removed", &[]).await;
    drift(&world, &active);
    let now = world.harness.context.store.now();
    // The purge is due, but its job is lost.
    let ended = doc! { "status": "terminating", "purgeAt": now };
    set_tenant(&world, &overdue, ended).await;
    set_tenant(&world, &removed, doc! { "status": "terminated" }).await;

    let children = reconcile_all(&world, false).await;

    assert_eq!(children.len(), 3);
    assert!(!children.contains_key(&removed.id));
    assert_eq!(changes(&children[&active.id]), ["space created"]);
    let status = async |tenant: &Tenant| world.tenant(tenant.id).await.status;
    assert_eq!(status(&active).await, TenantStatus::Active);
    assert_eq!(status(&forgotten).await, TenantStatus::Active);
    assert_eq!(status(&overdue).await, TenantStatus::Terminated);
    assert!(world.space(&overdue).is_none());
    world.stop().await;
}
