//! An upstream that was away: nobody has to do anything, and who does not want to wait need not.

use std::time::Duration;

use dezky_shared::{
    queue::job::Job,
    tenant::{ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};

use crate::world::World;

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_does_not_wait_for_the_next_attempt() {
    let (world, tenant, _) = with_ocis_away_for_long().await;
    world.upstreams.ocis.server.faults.clear();

    world.done(&world.reconcile(tenant.id).await).await;

    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_requeue_does_not_wait_for_the_next_attempt() {
    let (world, tenant, job) = with_ocis_away_for_long().await;
    world.upstreams.ocis.server.faults.clear();
    let context = &world.harness.context;

    let requeued = world.harness.requeue(job.id).await;
    let job = requeued.unwrap().job;
    context.ready.notify(std::slice::from_ref(&job)).await;
    world.done(&job).await;

    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

/// A tenant that waits for oCIS, and whose next attempt no test lives to see.
async fn with_ocis_away_for_long() -> (World, Tenant, Job) {
    let world = World::start_with(|_, times| times.retry_base = LONG * 1_000).await;
    world.upstreams.ocis.server.faults.go_down();
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;
    let job = world.provision(tenant.id).await;
    let job = world.harness.job_until(job.id, |job| job.snoozes > 0).await;
    let told = world.tenant(tenant.id).await;
    assert_eq!(told.provisioning_status.ocis, ProvisioningState::Error);
    let next = told.condition(Upstream::Ocis).unwrap().next_attempt_at;
    assert_eq!(
        next,
        Some(job.run_at),
        "the tenant names the time at which it is tried again"
    );
    (world, told, job)
}
