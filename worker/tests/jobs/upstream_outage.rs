//! Recovery from an upstream outage without waiting for the next attempt.

use std::time::Duration;

use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{Attempt, Job},
    },
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

    world.completed(&world.reconcile(tenant.id).await).await;

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
    world.completed(&job).await;

    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_for_an_upstream_keeps_the_first_error_and_lists_its_last_snooze() {
    let world =
        World::start_with(|_, times| times.circuit.first_probe = Duration::from_millis(100)).await;
    world.upstreams.ocis.server.faults.go_down();
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;
    let job = world.provision(tenant.id).await;

    let job = world
        .harness
        .job_until(job.id, |job| job.snoozes > 9 && job.lease.is_none())
        .await;

    let error = job.error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::UpstreamUnreachable);
    assert!(
        error.detail.contains("connection refused"),
        "{}",
        error.detail
    );
    let snoozed = |attempt: &&Attempt| attempt.outcome == "snooze";
    let listed: Vec<&Attempt> = job.attempts.iter().filter(snoozed).collect();
    assert_eq!(listed.len(), 1, "{:?}", job.attempts);
    assert_eq!(listed[0].error, Some(error.detail));
    world.stop().await;
}

/// A tenant that waits for oCIS, with its next attempt far in the future.
async fn with_ocis_away_for_long() -> (World, Tenant, Job) {
    let world = World::start_with(|_, times| times.retry_base = LONG * 1_000).await;
    world.upstreams.ocis.server.faults.go_down();
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;
    let job = world.provision(tenant.id).await;
    let job = world.harness.job_until(job.id, |job| job.snoozes > 0).await;
    let tenant = world.tenant(tenant.id).await;
    assert_eq!(tenant.provisioning_status.ocis, ProvisioningState::Error);
    let next = tenant.condition(Upstream::Ocis).unwrap().next_attempt_at;
    assert_eq!(
        next,
        Some(job.run_at),
        "the tenant shows the time of the next attempt"
    );
    (world, tenant, job)
}
