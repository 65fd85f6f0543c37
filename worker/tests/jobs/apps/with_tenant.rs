//! Apps follow their tenant: suspended, resumed and removed with it.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    app::AppStatus, queue::job::Job, store::to_bson, tenant::TenantStatus, upstream::Upstream,
};
use dezky_sim::relying_party::NotSignedIn;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenants_apps_refuse_sign_in_until_it_is_resumed() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let app = world.active_app(&tenant, "wiki").await;

    world.completed(&world.suspend(tenant.id).await).await;

    let suspended = world.sign_in_to(&app, "ada@acme.test").await;
    assert_eq!(suspended, Err(NotSignedIn::NotServed));
    assert_eq!(world.reload_app(&app).await.status, AppStatus::Suspended);

    world.completed(&world.resume(tenant.id).await).await;

    // With the same secret.
    assert!(world.sign_in_to(&app, "ada@acme.test").await.is_ok());
    assert_eq!(world.reload_app(&app).await.status, AppStatus::Active);
    // Neither was drift.
    assert!(world.app_audit(&app).await.is_empty());
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_made_while_its_tenant_is_suspended_is_attached_by_the_resume() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.completed(&world.suspend(tenant.id).await).await;

    let app = world.add_app(&tenant, "wiki").await;
    world.completed(&world.provision_app(&app).await).await;

    assert_eq!(world.reload_app(&app).await.status, AppStatus::Suspended);
    let early = world.sign_in_to(&app, "ada@acme.test").await;
    assert_eq!(early, Err(NotSignedIn::NotServed));
    world.completed(&world.resume(tenant.id).await).await;
    assert!(world.sign_in_to(&app, "ada@acme.test").await.is_ok());
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_attached_by_hand_during_a_suspension_is_detached() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;
    world.completed(&world.suspend(tenant.id).await).await;
    world.upstreams.authentik.change(|state| {
        let provider = state.apps.providers.keys().next().copied();
        let application = state.apps.applications.values_mut().next().unwrap();
        application.provider = provider;
    });

    world.completed(&world.reconcile(tenant.id).await).await;

    let snapshot = world.upstreams.authentik.snapshot();
    assert_eq!(snapshot["applications"]["acme_wiki"]["attached"], false);
    assert_eq!(world.app_audit(&app).await.len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_tenant_leaves_no_app_behind() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }

    let gone = world.tenant(tenant.id).await.status;
    assert_eq!(gone, TenantStatus::Terminated);
    let snapshot = world.upstreams.authentik.snapshot();
    assert_eq!(
        (
            &snapshot["applications"],
            &snapshot["providers"],
            &snapshot["groups"]
        ),
        (&json!({}), &json!({}), &json!({}))
    );
    assert_eq!(world.find_app(&app).await, None);
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_a_newer_build_keeps_no_member_signed_in_and_is_suspended_later() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let newer = world.active_app(&tenant, "newer").await;
    let wiki = world.active_app(&tenant, "wiki").await;
    let status = newer.status;
    world
        .change_app(&newer, doc! { "status": "of_a_newer_build" })
        .await;

    let job = world.suspend(tenant.id).await;
    let is_failed = |job: &Job| {
        let step = job.step(Upstream::Authentik.name());
        step.is_some_and(|step| step.error.is_some())
    };
    let failed = world.harness.job_until(job.id, is_failed).await;
    let is_active = world.user("ada@acme.test").is_active;
    let others = world.reload_app(&wiki).await.status;
    world
        .change_app(&newer, doc! { "status": to_bson(&status).unwrap() })
        .await;
    world.completed(&job).await;

    let error = failed.step("authentik").unwrap().error.as_ref().unwrap();
    assert!(error.detail.contains(&newer.id.to_string()), "{error:?}");
    assert!(!is_active);
    assert_eq!(others, AppStatus::Suspended);
    assert_eq!(world.reload_app(&newer).await.status, AppStatus::Suspended);
    world.assert_never_open();
    world.stop().await;
}
