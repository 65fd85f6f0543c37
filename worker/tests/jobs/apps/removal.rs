//! Removal of an app.

use bson::doc;
use dezky_shared::app::AppStatus;
use dezky_sim::relying_party::NotSignedIn;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_app_refuses_sign_in_and_ends_its_tokens() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let app = world.active_app(&tenant, "wiki").await;
    world.sign_in_to(&app, "ada@acme.test").await.unwrap();

    world.completed(&world.remove_app(&app).await).await;

    let late = world.sign_in_to(&app, "ada@acme.test").await;
    assert_eq!(late, Err(NotSignedIn::NotServed));
    let snapshot = world.upstreams.authentik.snapshot();
    assert_eq!(
        (&snapshot["applications"], &snapshot["providers"]),
        (&json!({}), &json!({}))
    );
    assert_eq!(world.find_app(&app).await, None);
    let events = world.app_audit(&app).await;
    let last = events.last().unwrap();
    assert_eq!(last.get_str("action").unwrap(), "app.removed");
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_finishes_a_removal_whose_job_was_cancelled() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;
    world.change_app(&app, doc! { "status": "removing" }).await;

    world.completed(&world.reconcile(tenant.id).await).await;

    let snapshot = world.upstreams.authentik.snapshot();
    assert_eq!(
        (&snapshot["applications"], &snapshot["providers"]),
        (&json!({}), &json!({}))
    );
    assert_eq!(world.find_app(&app).await, None);
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_slug_is_used_again_gets_objects_of_its_own() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let first = world.active_app(&tenant, "wiki").await;
    world.completed(&world.remove_app(&first).await).await;

    let second = world.active_app(&tenant, "wiki").await;

    assert_ne!(second.client_id, first.client_id);
    assert!(world.sign_in_to(&second, "ada@acme.test").await.is_ok());
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_leaves_the_application_of_another_owner() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let (app, other) = (
        world.active_app(&tenant, "wiki").await,
        world.active_app(&tenant, "other").await,
    );
    // By hand, the application was replaced by one with another provider.
    world.upstreams.authentik.change(|state| {
        let provider = state.apps.applications["acme_other"].provider;
        let mut foreign = state.apps.applications["acme_wiki"].clone();
        foreign.pk = bson::Uuid::new().into();
        foreign.provider = provider;
        state
            .apps
            .applications
            .insert("acme_wiki".to_owned(), foreign);
    });

    world.completed(&world.remove_app(&app).await).await;

    let snapshot = world.upstreams.authentik.snapshot();
    assert!(snapshot["applications"].get("acme_wiki").is_some());
    assert_eq!(world.reload_app(&other).await.status, AppStatus::Active);
    world.stop().await;
}
