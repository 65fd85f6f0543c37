//! Scenarios of the kinds about an app, and of a tenant with apps.

use std::time::Duration;

use bson::doc;
use dezky_shared::queue::{
    args::{
        DeprovisionTenant, ProvisionApp, ReconcileTenant, RemoveApp, ResumeTenant, RotateAppSecret,
        SuspendTenant,
    },
    job::JobArgs as _,
};
use futures::FutureExt as _;

use super::{Scenario, Scene};
use crate::{apps, world::World};

pub(crate) const PROVISION_APP: Scenario = Scenario {
    kind: ProvisionApp::KIND,
    prepare: |world| app_ordered(world).boxed_local(),
    enqueue: |world, scene| world.provision_app(scene.app()).boxed_local(),
};

/// Provisions a new app of a tenant that is suspended.
pub(crate) const PROVISION_APP_SUSPENDED: Scenario = Scenario {
    kind: ProvisionApp::KIND,
    prepare: |world| app_ordered_in_suspension(world).boxed_local(),
    enqueue: |world, scene| world.provision_app(scene.app()).boxed_local(),
};

pub(crate) const ROTATE_APP_SECRET: Scenario = Scenario {
    kind: RotateAppSecret::KIND,
    prepare: |world| app_in_use(world).boxed_local(),
    enqueue: |world, scene| {
        world
            .rotate_secret(scene.app(), apps::NEW_SECRET)
            .boxed_local()
    },
};

pub(crate) const REMOVE_APP: Scenario = Scenario {
    kind: RemoveApp::KIND,
    prepare: |world| app_in_use(world).boxed_local(),
    enqueue: |world, scene| world.remove_app(scene.app()).boxed_local(),
};

/// Reconciles a tenant with three apps: one is open, one was changed, one was deleted by hand.
pub(crate) const RECONCILE_APPS: Scenario = Scenario {
    kind: ReconcileTenant::KIND,
    prepare: |world| apps_damaged(world).boxed_local(),
    enqueue: |world, scene| world.reconcile(scene.tenant).boxed_local(),
};

pub(crate) const SUSPEND_APPS: Scenario = Scenario {
    kind: SuspendTenant::KIND,
    prepare: |world| app_in_use(world).boxed_local(),
    enqueue: |world, scene| world.suspend(scene.tenant).boxed_local(),
};

pub(crate) const RESUME_APPS: Scenario = Scenario {
    kind: ResumeTenant::KIND,
    prepare: |world| app_suspended(world).boxed_local(),
    enqueue: |world, scene| world.resume(scene.tenant).boxed_local(),
};

pub(crate) const DEPROVISION_APPS: Scenario = Scenario {
    kind: DeprovisionTenant::KIND,
    prepare: |world| app_to_be_purged(world).boxed_local(),
    enqueue: |world, scene| world.purge(scene.tenant).boxed_local(),
};

async fn app_ordered(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &[]).await;
    Scene::with_app(world.add_app(&tenant, "wiki").await)
}

async fn app_ordered_in_suspension(world: &World) -> Scene {
    let scene = app_ordered(world).await;
    world.completed(&world.suspend(scene.tenant).await).await;
    // The suspension provisioned the app, so another one is new.
    let tenant = world.tenant(scene.tenant).await;
    Scene::with_app(world.add_app(&tenant, "board").await)
}

async fn app_in_use(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &[]).await;
    Scene::with_app(world.active_app(&tenant, "wiki").await)
}

async fn apps_damaged(world: &World) -> Scene {
    let scene = app_in_use(world).await;
    let tenant = world.tenant(scene.tenant).await;
    world.active_app(&tenant, "board").await;
    world.active_app(&tenant, "chat").await;
    world.upstreams.authentik.change(|state| {
        let pk_of = |state: &dezky_sim::authentik::State, slug: &str| {
            let application = &state.apps.applications[slug];
            (application.pk, application.provider.unwrap())
        };
        let (wiki, _) = pk_of(state, "acme_wiki");
        let bindings = &mut state.apps.bindings;
        bindings.retain(|_, binding| binding.target != wiki);
        let (board, provider) = pk_of(state, "acme_board");
        for binding in state.apps.bindings.values_mut() {
            binding.enabled &= binding.target != board;
        }
        let mut other = state.apps.bindings.values().next().unwrap().clone();
        other.target = board;
        other.enabled = true;
        other.user = other.group.take().and(Some(1));
        state.apps.bindings.insert(bson::Uuid::new().into(), other);
        let provider = state.apps.providers.get_mut(&provider).unwrap();
        provider
            .fields
            .insert("sub_mode".to_owned(), "user_id".into());
        let renamed = state.apps.applications.get_mut("acme_board").unwrap();
        renamed.fields.insert("name".to_owned(), "renamed".into());
        let (chat, provider) = pk_of(state, "acme_chat");
        state.apps.providers.remove(&provider);
        state.apps.applications.remove("acme_chat");
        state
            .apps
            .bindings
            .retain(|_, binding| binding.target != chat);
    });
    scene
}

async fn app_suspended(world: &World) -> Scene {
    let scene = app_in_use(world).await;
    world.completed(&world.suspend(scene.tenant).await).await;
    scene
}

async fn app_to_be_purged(world: &World) -> Scene {
    let scene = app_in_use(world).await;
    let [freeze, later] = world.delete(scene.tenant, Duration::from_hours(1)).await;
    world.completed(&freeze).await;
    // The job of the scenario purges it.
    let scheduled = doc! { "_id": later.id };
    world.harness.jobs().delete_one(scheduled).await.unwrap();
    scene
}
