//! Drift of apps: a reconcile puts back what was changed at the identity provider, and closes open apps first.

use dezky_shared::app::{
    AppStatus,
    condition::{RESTRICTED, SECRET_ROTATED},
};
use dezky_shared::tenant::ConditionStatus;
use dezky_sim::{
    authentik::{Binding, State},
    relying_party::NotSignedIn,
};

use super::{condition, refused, unavailable};
use crate::{harness::step, world::World};

/// An external change to an app.
struct Drift {
    what: &'static str,
    happen: fn(&mut State),
    /// The changes that repair it.
    repairs: &'static [&'static str],
    /// Whether it lets users in who are not members.
    is_exposed: bool,
}

fn set_provider(state: &mut State, field: &str, value: serde_json::Value) {
    let provider = state.apps.providers.values_mut().next().unwrap();
    provider.fields.insert(field.to_owned(), value);
}

fn binding(state: &mut State) -> &mut Binding {
    state.apps.bindings.values_mut().next().unwrap()
}

const DRIFTS: &[Drift] = &[
    Drift {
        what: "the binding was deleted",
        happen: |state| state.apps.bindings.clear(),
        repairs: &["group binding created"],
        is_exposed: true,
    },
    Drift {
        what: "the binding was disabled",
        happen: |state| binding(state).enabled = false,
        repairs: &["group binding put in force"],
        is_exposed: true,
    },
    Drift {
        what: "the binding was inverted",
        happen: |state| binding(state).negate = true,
        repairs: &["group binding put in force"],
        is_exposed: true,
    },
    Drift {
        what: "another user was admitted",
        happen: |state| {
            let eve = eve_pk(state);
            let mut other = binding(state).clone();
            other.group = None;
            other.user = Some(eve);
            state.apps.bindings.insert(bson::Uuid::new().into(), other);
        },
        repairs: &["additional binding removed"],
        is_exposed: true,
    },
    Drift {
        what: "the provider was detached",
        happen: |state| {
            let application = state.apps.applications.values_mut().next().unwrap();
            application.provider = None;
        },
        repairs: &["provider attached"],
        is_exposed: false,
    },
    Drift {
        what: "a redirect URI was added",
        happen: |state| {
            let evil = serde_json::json!([{ "matching_mode": "regex", "url": ".*" }]);
            set_provider(state, "redirect_uris", evil);
        },
        repairs: &["provider redirect uris set"],
        is_exposed: false,
    },
    Drift {
        what: "the issuer mode was changed",
        happen: |state| set_provider(state, "issuer_mode", "global".into()),
        repairs: &["provider issuer mode set"],
        is_exposed: false,
    },
    Drift {
        what: "the subject mode was changed",
        happen: |state| set_provider(state, "sub_mode", "user_id".into()),
        repairs: &["provider sub mode set"],
        is_exposed: false,
    },
    Drift {
        what: "the signing key was removed",
        happen: |state| set_provider(state, "signing_key", serde_json::Value::Null),
        repairs: &["provider signing key set"],
        is_exposed: false,
    },
    Drift {
        what: "the grants were removed",
        happen: |state| set_provider(state, "grant_types", serde_json::json!([])),
        repairs: &["provider grant types set"],
        is_exposed: false,
    },
    Drift {
        what: "the client became public",
        happen: |state| set_provider(state, "client_type", "public".into()),
        repairs: &["provider client type set"],
        is_exposed: false,
    },
    Drift {
        what: "the application was renamed",
        happen: |state| {
            let application = state.apps.applications.values_mut().next().unwrap();
            application.fields.insert("name".to_owned(), "x".into());
        },
        repairs: &["application name set"],
        is_exposed: false,
    },
];

fn eve_pk(state: &State) -> i64 {
    let mut users = state.users.values();
    users
        .find(|user| user.username.starts_with("eve"))
        .unwrap()
        .pk
}

#[tokio::test(flavor = "multi_thread")]
async fn every_drift_of_an_app_is_repaired_and_audited() {
    for drift in DRIFTS {
        let world = World::start().await;
        let tenant = world.active_tenant("acme", &[]).await;
        world.add_member("acme", "ada@acme.test");
        world.upstreams.authentik.add_user("eve@other.test", &[]);
        let app = world.active_app(&tenant, "wiki").await;
        world.upstreams.authentik.change(drift.happen);
        if drift.is_exposed {
            let eve = world.sign_in_to(&app, "eve@other.test").await;
            assert!(eve.is_ok(), "{}", drift.what);
        }

        let plan = world.completed(&world.dry_run(tenant.id).await).await;
        let job = world.completed(&world.reconcile(tenant.id).await).await;
        let again = world.completed(&world.reconcile(tenant.id).await).await;

        assert_eq!(
            step(&plan, "authentik").changes,
            drift.repairs,
            "{}",
            drift.what
        );
        assert_eq!(
            step(&job, "authentik").changes,
            drift.repairs,
            "{}",
            drift.what
        );
        assert_eq!(step(&again, "authentik").changes, [""; 0], "{}", drift.what);
        assert!(
            world.sign_in_to(&app, "ada@acme.test").await.is_ok(),
            "{}",
            drift.what
        );
        let eve = world.sign_in_to(&app, "eve@other.test").await;
        assert_eq!(eve, Err(NotSignedIn::Denied), "{}", drift.what);
        let events = world.app_audit(&app).await;
        let actions: Vec<&str> = events
            .iter()
            .map(|event| event.get_str("action").unwrap())
            .collect();
        assert!(
            actions.contains(&"app.drift"),
            "{}: {actions:?}",
            drift.what
        );
        let app = world.reload_app(&app).await;
        assert_eq!(app.status, AppStatus::Active, "{}", drift.what);
        assert!(!app.is_open(), "{}", drift.what);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_a_deleted_group_has_opened_is_closed_and_its_members_come_back() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    world.upstreams.authentik.add_user("eve@other.test", &[]);
    let app = world.active_app(&tenant, "wiki").await;
    let authentik = &world.upstreams.authentik;
    let group = authentik.group_named("acme").unwrap().id;
    // The server deletes the bindings that name the group.
    authentik.change(|state| {
        state.groups.remove(&group);
        state.apps.bindings.clear();
        for user in state.users.values_mut() {
            user.groups.remove(&group);
        }
    });
    assert!(world.sign_in_to(&app, "eve@other.test").await.is_ok());

    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    let eve = world.sign_in_to(&app, "eve@other.test").await;
    assert_eq!(eve, Err(NotSignedIn::Denied));
    assert!(world.sign_in_to(&app, &ada.email).await.is_ok());
    assert!(!world.reload_app(&app).await.is_open());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_app_is_shown_until_it_is_closed() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.upstreams.authentik.add_user("eve@other.test", &[]);
    let app = world.active_app(&tenant, "wiki").await;
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(unavailable("create_binding"));
    world
        .upstreams
        .authentik
        .change(|state| state.apps.bindings.clear());

    let job = world.reconcile(tenant.id).await;
    let open = crate::harness::until(
        async || world.reload_app(&app).await,
        dezky_shared::app::App::is_open,
    )
    .await;

    assert_eq!(condition(&open, RESTRICTED).reason, "BindingMissing");
    let counted = world.harness.context.apps.count_open(&[tenant.id]).await;
    assert_eq!(counted.unwrap().get(&tenant.id), Some(&1));
    faults.clear();
    world.completed(&job).await;
    let closed = world.reload_app(&app).await;
    assert_eq!(condition(&closed, RESTRICTED).status, ConditionStatus::True);
    let counted = world.harness.context.apps.count_open(&[tenant.id]).await;
    assert!(counted.unwrap().is_empty());
    let eve = world.sign_in_to(&app, "eve@other.test").await;
    assert_eq!(eve, Err(NotSignedIn::Denied));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_open_apps_are_closed_before_anything_else_is_repaired() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.active_app(&tenant, "one").await;
    world.active_app(&tenant, "two").await;
    world.upstreams.authentik.change(|state| {
        state.apps.bindings.clear();
        for provider in state.apps.providers.values_mut() {
            provider
                .fields
                .insert("sub_mode".to_owned(), "user_id".into());
        }
    });
    let before = world.sign_on_effects().len();

    world.completed(&world.reconcile(tenant.id).await).await;

    assert_eq!(
        world.sign_on_effects()[before..],
        [
            "create_binding",
            "create_binding",
            "update_provider",
            "update_provider",
        ]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_deleted_by_hand_is_made_again_with_its_client_id_and_another_secret() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    let app = world.active_app(&tenant, "wiki").await;
    world.upstreams.authentik.change(|state| {
        state.apps.applications.clear();
        state.apps.bindings.clear();
        state.apps.providers.clear();
    });

    world.completed(&world.reconcile(tenant.id).await).await;

    let again = world.reload_app(&app).await;
    assert_eq!(again.client_id, app.client_id);
    assert_eq!(
        condition(&again, SECRET_ROTATED).status,
        ConditionStatus::True
    );
    let old = world.sign_in_to(&app, "ada@acme.test").await;
    assert_eq!(old, Err(NotSignedIn::Refused("invalid_grant".to_owned())));
    let secret = world
        .upstreams
        .authentik
        .client_secret(&app.client_id)
        .unwrap();
    let session = world
        .upstreams
        .authentik
        .add_session(world.user("ada@acme.test").pk);
    let client = world.client_of(&app, &secret);
    assert!(client.sign_in(Some(session)).await.unwrap().is_ok());
    world.assert_never_open();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_removal_failed_is_closed_if_it_is_found_open() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;
    world
        .change_app(&app, bson::doc! { "status": "removing" })
        .await;
    world
        .upstreams
        .authentik
        .change(|state| state.apps.bindings.clear());
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(refused("delete_application"));

    let reconciled = world.reconcile(tenant.id).await;
    world.harness.finished(reconciled.id).await;

    let provider = world.upstreams.authentik.change(|state| {
        let application = state.apps.applications.values().next().unwrap();
        application.provider
    });
    assert_eq!(provider, None);
    world.stop().await;
}
