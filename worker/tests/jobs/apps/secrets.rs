//! Client secrets: applied once, replaced, and found nowhere afterwards.

use bson::{Document, doc};
use dezky_shared::{
    app::condition::SECRET_ROTATED,
    queue::{args::ProvisionApp, job::Job},
    store::Versioned as _,
};
use dezky_sim::relying_party::NotSignedIn;
use futures::TryStreamExt as _;

use super::{NEW_SECRET, SECRET};
use crate::world::World;

impl World {
    /// Enqueues a job that applies a change of an app.
    pub(crate) async fn provision_without_secret(&self, app: &dezky_shared::app::App) -> Job {
        let args = ProvisionApp {
            tenant_id: app.tenant_id,
            app_id: app.id,
            secret_version: 0,
        };
        self.harness.enqueue(&args).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_replaces_the_secret() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let app = world.active_app(&tenant, "wiki").await;

    world
        .completed(&world.rotate_secret(&app, NEW_SECRET).await)
        .await;

    let old = world.sign_in_to(&app, "ada@acme.test").await;
    assert_eq!(old, Err(NotSignedIn::Refused("invalid_grant".to_owned())));
    let session = world
        .upstreams
        .authentik
        .add_session(world.user("ada@acme.test").pk);
    let client = world.client_of(&app, NEW_SECRET);
    assert!(client.sign_in(Some(session)).await.unwrap().is_ok());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_job_does_not_bring_back_an_older_secret() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;

    // A job of the first secret, which runs after the rotation.
    world
        .completed(&world.rotate_secret(&app, NEW_SECRET).await)
        .await;
    world.completed(&world.provision_app(&app).await).await;

    let secret = world.upstreams.authentik.client_secret(&app.client_id);
    assert_eq!(secret.as_deref(), Some(NEW_SECRET));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_after_a_lost_secret_clears_the_condition() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;
    world
        .upstreams
        .authentik
        .change(|state| state.apps.providers.clear());
    world.completed(&world.reconcile(tenant.id).await).await;
    let lost = world.reload_app(&app).await;
    assert!(lost.condition(SECRET_ROTATED).is_some());
    assert!(lost.revision() > app.revision());

    world
        .completed(&world.rotate_secret(&app, NEW_SECRET).await)
        .await;

    assert!(
        world
            .reload_app(&app)
            .await
            .condition(SECRET_ROTATED)
            .is_none()
    );
    let secret = world.upstreams.authentik.client_secret(&app.client_id);
    assert_eq!(secret.as_deref(), Some(NEW_SECRET));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stored_document_contains_a_secret() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;
    world
        .completed(&world.rotate_secret(&app, NEW_SECRET).await)
        .await;
    world.completed(&world.reconcile(tenant.id).await).await;

    let store = &world.harness.context.store;
    for name in store.database().list_collection_names().await.unwrap() {
        let documents = store.collection::<Document>(&name);
        let found = documents.find(doc! {}).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        let text = format!("{found:?}");
        for secret in [SECRET, NEW_SECRET] {
            assert!(!text.contains(secret), "{name}");
        }
    }
    world.stop().await;
}
