//! Provisioning of a new tenant.

use dezky_shared::{
    queue::args::ProvisionTenant,
    tenant::{ProvisioningState, TenantStatus},
};

use crate::{harness::Harness, upstreams::Upstreams};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_is_provisioned_in_every_upstream() {
    let upstreams = Upstreams::start().await;
    let harness = Harness::with_upstreams(&upstreams).await;
    let tenant = harness.add_tenant("acme", &["acme.test"]).await;
    let job = harness
        .enqueue(&ProvisionTenant {
            tenant_id: tenant.id,
        })
        .await;

    let worker = harness.worker();
    let active = harness
        .tenant_until(tenant.id, |tenant| tenant.status == TenantStatus::Active)
        .await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state.name(), "completed", "{job:#?}");
    let group = upstreams.authentik.group_named("acme").unwrap();
    assert_eq!(active.authentik_group_id, Some(group.id.to_string()));
    assert_eq!(upstreams.stalwart.domains(), ["acme.test"]);
    let spaces = upstreams.ocis.spaces();
    assert_eq!(spaces.len(), 1);
    assert_eq!(active.ocis_space_id.as_deref(), Some(spaces[0].id.as_str()));
    assert_eq!(spaces[0].alias, format!("project/{}", tenant.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_upstream_blocks_no_other_and_is_provisioned_later() {
    let upstreams = Upstreams::start().await;
    let harness = Harness::with_upstreams(&upstreams).await;
    let tenant = harness.add_tenant("acme", &["acme.test"]).await;
    upstreams.ocis.server.faults.go_down();
    let job = harness
        .enqueue(&ProvisionTenant {
            tenant_id: tenant.id,
        })
        .await;

    let worker = harness.worker();
    let waiting = harness
        .tenant_until(tenant.id, |tenant| {
            let status = &tenant.provisioning_status;
            status.authentik == ProvisioningState::Ok
                && status.stalwart == ProvisioningState::Ok
                && status.ocis == ProvisioningState::Error
        })
        .await;
    let snoozed = harness.job_until(job.id, |job| job.snoozes > 2).await;
    upstreams.ocis.server.faults.clear();
    harness
        .tenant_until(tenant.id, |tenant| tenant.status == TenantStatus::Active)
        .await;
    worker.stop().await;

    assert_eq!(waiting.status, TenantStatus::Pending);
    let text = waiting.provisioning_errors.ocis.clone().unwrap();
    assert_eq!(
        text,
        "The files service is currently unavailable. We will retry automatically."
    );
    let condition = waiting
        .condition(dezky_shared::upstream::Upstream::Ocis)
        .unwrap();
    assert!(condition.next_attempt_at.is_some());
    assert!(snoozed.attempt <= 1, "an outage is not charged");
    assert_eq!(upstreams.authentik.server.effects.count("create_group"), 1);
}
