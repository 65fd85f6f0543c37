//! Provisioning: the order of the objects, and who can sign in at the end.

use bson::doc;
use dezky_shared::{
    app::{
        AppStatus,
        condition::{READY, RESTRICTED},
    },
    queue::{error_code::ErrorCode, job::JobState},
    tenant::ConditionStatus,
};
use dezky_sim::relying_party::NotSignedIn;
use serde_json::json;

use super::{condition, refused, unavailable};
use crate::{harness::step, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_can_sign_in_to_a_new_app_and_a_stranger_cannot() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.upstreams.authentik.add_user("eve@other.test", &[]);

    let app = world.active_app(&tenant, "wiki").await;

    let signed_in = world.sign_in_to(&app, "ada@acme.test").await.unwrap();
    let ada = world.user("ada@acme.test");
    assert_eq!(signed_in.claims["sub"], json!(ada.uuid));
    assert_eq!(signed_in.claims["groups"], json!(["acme"]));
    assert_eq!(signed_in.userinfo["email"], "ada@acme.test");
    assert!(signed_in.refresh_token.is_some());
    let stranger = world.sign_in_to(&app, "eve@other.test").await;
    assert_eq!(stranger, Err(NotSignedIn::Denied));
    assert_eq!(condition(&app, READY).status, ConditionStatus::True);
    assert_eq!(condition(&app, RESTRICTED).status, ConditionStatus::True);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_told_no_other_tenant_of_a_person() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &[]).await;
    world.active_tenant("globex", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.join("ada@acme.test", "globex");

    let app = world.active_app(&acme, "wiki").await;
    let signed_in = world.sign_in_to(&app, "ada@acme.test").await.unwrap();

    assert_eq!(signed_in.claims["groups"], json!(["acme"]));
    assert_eq!(signed_in.userinfo["groups"], json!(["acme"]));
    assert_eq!(signed_in.claims["preferred_username"], "ada@acme.test");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_takes_the_built_in_profile_from_an_app() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &[]).await;
    world.active_tenant("globex", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.join("ada@acme.test", "globex");
    let app = world.active_app(&acme, "wiki").await;
    // As an earlier build has made it.
    world.upstreams.authentik.change(|state| {
        let references = &state.apps.references;
        let built_in = references.scope_mappings.iter().map(|(_, pk)| pk.clone());
        let built_in: Vec<String> = built_in.collect();
        for provider in state.apps.providers.values_mut() {
            let mappings = json!(built_in);
            provider
                .fields
                .insert("property_mappings".to_owned(), mappings);
        }
    });
    let before = world.sign_in_to(&app, "ada@acme.test").await.unwrap();
    let told = before.claims["groups"].to_string();
    assert!(told.contains("globex"), "{told}");

    world.completed(&world.reconcile(acme.id).await).await;

    let after = world.sign_in_to(&app, "ada@acme.test").await.unwrap();
    assert_eq!(after.claims["groups"], json!(["acme"]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_mapping_of_the_blueprint_an_app_waits_for_an_operator() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &[]).await;
    world
        .upstreams
        .authentik
        .change(|state| state.apps.references.app_profile = None);

    let app = world.add_app(&acme, "wiki").await;
    let job = world.provision_app(&app).await;
    let held = world.harness.job_until(job.id, |job| {
        job.state == JobState::Available && job.error.is_some()
    });
    let error = held.await.error.unwrap();

    assert_eq!(error.code, ErrorCode::UpstreamPermissionMissing);
    assert!(
        error.detail.contains("dezky/scope-app-profile"),
        "{}",
        error.detail
    );
    assert!(
        world
            .upstreams
            .authentik
            .change(|state| state.apps.providers.is_empty())
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_is_attached_last_and_no_app_is_ever_open() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let before = world.sign_on_effects().len();

    world.active_app(&tenant, "wiki").await;

    assert_eq!(
        world.sign_on_effects()[before..],
        [
            "create_provider",
            "create_application",
            "create_binding",
            "attach_provider",
        ]
    );
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_is_refused_before_the_binding_exists() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let app = world.add_app(&tenant, "wiki").await;
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(unavailable("create_binding"));

    let job = world.provision_app(&app).await;
    let failed = |job: &dezky_shared::queue::job::Job| {
        job.steps.first().is_some_and(|step| step.error.is_some())
    };
    world.harness.job_until(job.id, failed).await;

    let early = world.sign_in_to(&app, "ada@acme.test").await;
    assert_eq!(early, Err(NotSignedIn::NotServed));
    faults.clear();
    world.completed(&job).await;
    assert!(world.sign_in_to(&app, "ada@acme.test").await.is_ok());
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_applied_and_leaves_the_secret() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let app = world.active_app(&tenant, "wiki").await;

    let other = "https://other.acme.test/cb";
    let change = doc! { "redirectUris": [super::REDIRECT_URI, other], "name": "Handbook" };
    world.change_app(&app, change).await;
    let job = world.provision_without_secret(&app).await;
    let job = world.completed(&job).await;

    let mut changes = step(&job, "app").changes.clone();
    changes.sort();
    assert_eq!(
        changes,
        ["application name set", "provider redirect uris set"]
    );
    let mut client = world.client_of(&app, super::SECRET);
    client.redirect_uri = other.to_owned();
    let session = world
        .upstreams
        .authentik
        .add_session(world.user("ada@acme.test").pk);
    assert!(client.sign_in(Some(session)).await.unwrap().is_ok());
    assert_eq!(world.reload_app(&app).await.status, AppStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_refused_for_good_leaves_nothing_behind() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.add_app(&tenant, "wiki").await;
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(refused("attach_provider"));

    let job = world.provision_app(&app).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Discarded);
    let snapshot = world.upstreams.authentik.snapshot();
    assert_eq!(
        (&snapshot["applications"], &snapshot["providers"]),
        (&json!({}), &json!({}))
    );
    let app = world.reload_app(&app).await;
    assert_eq!(app.status, AppStatus::Failed);
    assert_eq!(condition(&app, READY).reason, "UpstreamRejected");
    assert_eq!(app.authentik, dezky_shared::app::AppRefs::default());
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_existed_before_are_not_rolled_back() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let app = world.active_app(&tenant, "wiki").await;
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(refused("update_provider"));

    world
        .change_app(&app, doc! { "accessTokenMinutes": 10 })
        .await;
    let job = world.provision_without_secret(&app).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Discarded);
    assert!(world.sign_in_to(&app, "ada@acme.test").await.is_ok());
    assert_eq!(world.reload_app(&app).await.status, AppStatus::Failed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_another_owner_is_a_conflict_and_stays() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let (app, other) = (
        world.add_app(&tenant, "wiki").await,
        world.active_app(&tenant, "other").await,
    );
    world.upstreams.authentik.change(|state| {
        let mut foreign = state.apps.applications["acme_other"].clone();
        foreign.pk = bson::Uuid::new().into();
        state
            .apps
            .applications
            .insert("acme_wiki".to_owned(), foreign);
    });
    let before = world.upstreams.authentik.snapshot()["applications"]["acme_wiki"].clone();

    let job = world.provision_app(&app).await;
    let conflicts = |job: &dezky_shared::queue::job::Job| {
        let error = job.steps.first().and_then(|step| step.error.as_ref());
        error.is_some_and(|error| error.code.reason() == "UpstreamConflict")
    };
    world.harness.job_until(job.id, conflicts).await;

    let after = world.upstreams.authentik.snapshot()["applications"]["acme_wiki"].clone();
    assert_eq!(after, before);
    assert_eq!(world.reload_app(&other).await.status, AppStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_references_are_named_and_the_job_waits_for_an_operator() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.add_app(&tenant, "wiki").await;
    world
        .upstreams
        .authentik
        .change(|state| state.apps.references.key_pairs.clear());

    let job = world.provision_app(&app).await;
    let failed = |job: &dezky_shared::queue::job::Job| {
        job.steps.first().is_some_and(|step| step.error.is_some())
    };
    let job = world.harness.job_until(job.id, failed).await;

    let error = step(&job, "app").error.clone().unwrap();
    assert!(
        error.detail.contains("AUTHENTIK_SIGNING_KEY_NAME"),
        "{error:?}"
    );
    let app = world.reload_app(&app).await;
    assert_eq!(app.status, AppStatus::Pending);
    assert_eq!(condition(&app, READY).reason, "UpstreamPermissionMissing");
    world.stop().await;
}
