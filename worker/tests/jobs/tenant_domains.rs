//! Mail domains of a tenant: released, taken over, foreign, rejected.

use dezky_shared::{
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{JobState, Step},
    },
    tenant::{ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};
use serde_json::json;

use crate::{harness::step, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_moves_to_another_tenant_waits_for_its_release_by_the_first() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    world.harness.change_tenant(acme.id, release_domain).await;
    let globex = world.harness.add_tenant("globex", &["acme.test"]).await;

    let taking = world.provision(globex.id).await;
    let waiting = world
        .harness
        .tenant_until(globex.id, |tenant| {
            tenant.provisioning_errors.stalwart.is_some()
        })
        .await;
    world.completed(&world.provision(acme.id).await).await;
    world.completed(&taking).await;

    let condition = waiting.condition(Upstream::Stalwart).unwrap();
    assert_eq!(condition.class, Some(ErrorClass::Conflict));
    assert!(condition.next_attempt_at.is_some());
    assert_eq!(waiting.status, TenantStatus::Pending);
    assert_eq!(world.tenant(globex.id).await.status, TenantStatus::Active);
    assert!(world.tenant(acme.id).await.former_domains.is_empty());
    let stalwart = world.harness.context.clients.stalwart.as_ref().unwrap();
    let domain = stalwart.find_domain("acme.test").await.unwrap().unwrap();
    assert!(domain.belongs_to(&globex.id.to_string()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_domain_with_mailboxes_requires_action_by_the_customer() {
    let world = World::start().await;
    let tenant = world
        .active_tenant("acme", &["acme.test", "acme-mail.test"])
        .await;
    world.add_mailbox("ada@acme-mail.test");
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.former_domains = tenant.domains.split_off(1);
        })
        .await;

    let job = world.provision(tenant.id).await;
    let job = world.harness.finished(job.id).await;
    let failed_tenant = world.tenant(tenant.id).await;
    let stalwart = world.harness.context.clients.stalwart.as_ref().unwrap();
    // The customer moves the mailbox to another domain.
    world.upstreams.stalwart.change_account(
        "ada@acme-mail.test",
        json!({ "domainId": stalwart.find_domain("acme.test").await.unwrap().unwrap().id }),
    );
    world.completed(&world.reconcile(tenant.id).await).await;

    assert_eq!(job.state, JobState::Discarded);
    assert_eq!(
        step(&job, "stalwart").error.as_ref().unwrap().code,
        ErrorCode::DomainInUse
    );
    assert!(step(&job, "authentik").state.is_done() && step(&job, "ocis").state.is_done());
    assert_eq!(
        failed_tenant.provisioning_errors.stalwart.as_deref(),
        Some("The domain still has mailboxes or lists. Remove them, then try again.")
    );
    assert_eq!(
        failed_tenant.condition(Upstream::Stalwart).unwrap().class,
        Some(ErrorClass::UserAction)
    );
    let now = world.tenant(tenant.id).await;
    assert!(now.former_domains.is_empty());
    assert_eq!(now.provisioning_status.stalwart, ProvisioningState::Ok);
    assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_that_a_released_domain_is_used_by_a_list() {
    let world = World::start().await;
    let tenant = world
        .active_tenant("acme", &["acme.test", "acme-mail.test"])
        .await;
    world
        .upstreams
        .stalwart
        .add_list("team@acme-mail.test", &[]);
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.former_domains = tenant.domains.split_off(1);
        })
        .await;

    let planned = world.dry_run(tenant.id).await;
    let planned = world.harness.finished(planned.id).await;
    let applied = world.reconcile(tenant.id).await;
    let applied = world.harness.finished(applied.id).await;

    let [planned, applied] = [&planned, &applied].map(|job| step(job, "stalwart"));
    let code = |step: &Step| step.error.as_ref().map(|error| error.code);
    assert_eq!(code(planned), Some(ErrorCode::DomainInUse));
    assert_eq!(code(planned), code(applied));
    assert_eq!(planned.changes, applied.changes);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_domain_in_use_is_frozen_with_its_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    world.harness.change_tenant(tenant.id, release_domain).await;

    let suspend = world.suspend(tenant.id).await;
    world.harness.finished(suspend.id).await;
    let frozen = world.mailbox_is_open("ada@acme.test");
    let resume = world.resume(tenant.id).await;
    world.harness.finished(resume.id).await;

    assert!(!frozen);
    assert!(world.mailbox_is_open("ada@acme.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_domain_is_a_conflict_that_does_not_block_other_domains() {
    let world = World::start().await;
    world
        .upstreams
        .stalwart
        .add_domain("foreign.test", json!({ "description": "not ours" }));
    let before = world.upstream_state();
    let tenant = world
        .harness
        .add_tenant("acme", &["foreign.test", "acme.test"])
        .await;

    let job = world.provision(tenant.id).await;
    let failed_tenant = world
        .harness
        .tenant_until(tenant.id, |tenant| {
            tenant.provisioning_errors.stalwart.is_some()
                && tenant.provisioning_status.ocis == ProvisioningState::Ok
                && tenant.provisioning_status.authentik == ProvisioningState::Ok
        })
        .await;
    let charged = world.harness.job_until(job.id, |job| job.attempt > 1).await;

    assert_eq!(failed_tenant.status, TenantStatus::Pending);
    assert_eq!(
        failed_tenant.condition(Upstream::Stalwart).unwrap().class,
        Some(ErrorClass::Conflict)
    );
    assert_eq!(
        step(&charged, "stalwart").error.as_ref().unwrap().code,
        ErrorCode::UpstreamConflict
    );
    assert_eq!(
        world.upstreams.stalwart.domains(),
        ["foreign.test", "acme.test"]
    );
    assert_eq!(
        world.upstream_state()[1]["domains"][1],
        before[1]["domains"][1]
    );
    // Once the conflict is resolved, the job completes by itself.
    let mark = format!("dezky:{}", tenant.id);
    world
        .upstreams
        .stalwart
        .describe_domain("foreign.test", &mark);
    world.completed(&job).await;
    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_domain_requires_action_by_the_customer() {
    let world = World::start().await;
    let tenant = world
        .harness
        .add_tenant("acme", &["acme.invalid-suffix", "acme.test"])
        .await;

    let job = world.provision(tenant.id).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Discarded);
    assert_eq!(job.attempt, 1, "not retried");
    let failed_tenant = world.tenant(tenant.id).await;
    assert_eq!(
        failed_tenant.provisioning_errors.stalwart.as_deref(),
        Some("The mail service rejected this domain. Check its name.")
    );
    assert_eq!(
        failed_tenant.condition(Upstream::Stalwart).unwrap().class,
        Some(ErrorClass::UserAction)
    );
    assert_eq!(
        failed_tenant.provisioning_status.authentik,
        ProvisioningState::Ok
    );
    assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
    // The customer corrects the name.
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.domains.remove(0);
        })
        .await;
    world.completed(&world.provision(tenant.id).await).await;
    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

fn release_domain(tenant: &mut Tenant) {
    tenant.former_domains = std::mem::take(&mut tenant.domains);
}
