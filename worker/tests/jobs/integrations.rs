//! Upstreams that are disabled, refuse credentials, or contain foreign resources: other upstreams are unaffected, and
//! texts for customers contain no upstream output.

use std::{collections::BTreeSet, time::Duration};

use dezky_shared::{
    queue::error_code::{ErrorClass, ErrorCode},
    tenant::{ProvisioningState, TenantStatus, reason},
    upstream::Upstream,
};
use dezky_sim::{
    authentik::AuthentikSim,
    faults::{Fault, FaultRule},
};
use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_integration_is_skipped() {
    for off in Upstream::ALL {
        let world = World::start_with(|config, _| match off {
            Upstream::Authentik => config.authentik = None,
            Upstream::Stalwart => config.stalwart = None,
            Upstream::Ocis => config.ocis = None,
            Upstream::Stripe => config.stripe = None,
        })
        .await;

        let tenant = world.active_tenant("acme", &["acme.test"]).await;

        for upstream in Upstream::ALL {
            let state = *tenant.provisioning_status.get(upstream);
            let condition = tenant.condition(upstream).unwrap();
            if upstream == off {
                assert_eq!(state, ProvisioningState::Skipped);
                assert_eq!(condition.reason, reason::INTEGRATION_DISABLED);
            } else {
                assert_eq!(state, ProvisioningState::Ok, "{upstream} without {off}");
            }
        }
        for job in world.delete(tenant.id, Duration::ZERO).await {
            world.completed(&job).await;
        }
        assert_eq!(
            world.tenant(tenant.id).await.status,
            TenantStatus::Terminated
        );
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_active_without_any_integration() {
    let world =
        World::start_with(|config, _| *config = dezky_worker::context::ClientsConfig::default())
            .await;

    let tenant = world.active_tenant("acme", &["acme.test"]).await;

    assert!(Upstream::ALL.iter().all(|upstream| {
        *tenant.provisioning_status.get(*upstream) == ProvisioningState::Skipped
    }));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_domains_skips_the_mail_server() {
    let world = World::start().await;

    let tenant = world.active_tenant("acme", &[]).await;

    assert_eq!(
        tenant.provisioning_status.stalwart,
        ProvisioningState::Skipped
    );
    assert_eq!(
        tenant.condition(Upstream::Stalwart).unwrap().reason,
        reason::NO_DOMAIN
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_block_one_upstream_until_they_are_accepted() {
    let world = World::start_with(|_, times| times.hold_backoff = Duration::from_millis(600)).await;
    world.upstreams.authentik.revoke_token();
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;

    let job = world.provision(tenant.id).await;
    let waiting = world
        .harness
        .tenant_until(tenant.id, |tenant| {
            let state = &tenant.provisioning_status;
            state.authentik == ProvisioningState::Error
                && state.stalwart == ProvisioningState::Ok
                && state.ocis == ProvisioningState::Ok
        })
        .await;
    world.upstreams.authentik.accept_token(AuthentikSim::TOKEN);
    let job = world.completed(&job).await;

    assert_eq!(
        waiting.condition(Upstream::Authentik).unwrap().class,
        Some(ErrorClass::Credentials)
    );
    assert_eq!(job.attempt, 1, "not charged");
    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_group_or_space_is_a_conflict_that_is_charged() {
    let world = World::start().await;
    let foreign = world
        .upstreams
        .authentik
        .add_group("acme", &json!({ "team": "another owner's" }));
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;
    let marker = format!("project/{}", tenant.id);
    for _ in 0..2 {
        world.upstreams.ocis.add_space("acme Ltd", &marker, 7);
    }
    world.harness.forget_space(tenant.id).await;
    let spaces = world.upstream_state()[2]["drives"].clone();

    let job = world.provision(tenant.id).await;
    let failed_tenant = world
        .harness
        .tenant_until(tenant.id, |tenant| {
            tenant.provisioning_errors.authentik.is_some()
                && tenant.provisioning_errors.ocis.is_some()
                && tenant.provisioning_status.stalwart == ProvisioningState::Ok
        })
        .await;
    let job = world.harness.job_until(job.id, |job| job.attempt > 1).await;

    for upstream in [Upstream::Authentik, Upstream::Ocis] {
        assert_eq!(
            failed_tenant.condition(upstream).unwrap().class,
            Some(ErrorClass::Conflict)
        );
    }
    assert!(!job.state.is_final());
    assert_eq!(
        world.upstreams.authentik.group_named("acme"),
        Some(foreign.clone())
    );
    assert_eq!(world.upstream_state()[2]["drives"], spaces);
    // Once the conflict is resolved, the job completes by itself.
    world
        .upstreams
        .authentik
        .change(|state| state.groups.remove(&foreign.id));
    let spare = world.upstreams.ocis.spaces()[1].id.clone();
    world
        .upstreams
        .ocis
        .edit_space(&spare, |space| space.alias = "project/spare".to_owned());
    world.completed(&job).await;
    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    world.stop().await;
}

/// Texts for customers are a fixed set, independent of upstream responses.
#[tokio::test(flavor = "multi_thread")]
async fn texts_for_customers_contain_no_upstream_output() {
    let ours: BTreeSet<String> = ErrorCode::ALL
        .into_iter()
        .flat_map(|code| Upstream::ALL.map(|upstream| code.customer_text(Some(upstream))))
        .collect();
    let mut faults: Vec<Fault> = [400, 401, 403, 404, 409, 418, 422, 429, 500, 502, 503]
        .map(|status| Fault::Status {
            status,
            retry_after: None,
        })
        .into();
    faults.extend([
        Fault::Reset,
        Fault::Html,
        Fault::Truncated,
        Fault::AnswerLost,
    ]);

    stream::iter(faults)
        .for_each_concurrent(4, async |fault| {
            let world = World::start().await;
            let upstreams = &world.upstreams;
            for server in [
                &upstreams.authentik.server,
                &upstreams.stalwart.server,
                &upstreams.ocis.server,
            ] {
                server.faults.add(FaultRule::every(fault.clone()));
            }
            let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;

            world.provision(tenant.id).await;
            let failed_tenant = world
                .harness
                .tenant_until(tenant.id, |tenant| {
                    Upstream::ALL
                        .iter()
                        .all(|upstream| tenant.provisioning_errors.get(*upstream).is_some())
                })
                .await;

            for upstream in Upstream::ALL {
                let text = failed_tenant
                    .provisioning_errors
                    .get(upstream)
                    .as_ref()
                    .unwrap();
                assert!(ours.contains(text), "{upstream} with {fault:?}: {text}");
                assert_eq!(failed_tenant.condition(upstream).unwrap().message, *text);
            }
            world.stop().await;
        })
        .await;

    for text in ours {
        assert!(
            !text.contains("http") && !text.contains('<') && !text.contains('_'),
            "{text}"
        );
    }
}
