//! Suspending and resuming users, and ending their sessions.

use dezky_sim::authentik::{AuthentikSim, User as HeldUser};
use dezky_upstreams::clients::{
    Mode,
    authentik::{Authentik, Freeze, User},
};
use serde_json::json;

use super::{OTHER_TENANT, TENANT, effects, sim_and_client};

/// A user with two sessions, as the client sees it.
async fn signed_in(sim: &AuthentikSim, client: &Authentik, username: &str) -> User {
    let pk = sim.add_user(username, &[]).pk;
    for _ in 0..2 {
        let session = sim.add_session(pk);
        sim.add_access_token(pk, Some(session));
        sim.add_refresh_token(pk);
    }
    client.find_user(username).await.unwrap().unwrap()
}

fn held(sim: &AuthentikSim, user: &User) -> HeldUser {
    sim.user_named(&user.username).unwrap()
}

#[tokio::test]
async fn suspending_twice_deactivates_once_and_signs_out() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    let bob = signed_in(&sim, &client, "bob@acme.test").await;

    let first = client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    let second = client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    assert_eq!(first.changes, ["user deactivated", "user marked as frozen"]);
    assert!(second.changes.is_empty());
    assert!(!held(&sim, &ada).is_active);
    assert_eq!(sim.signed_in_with(ada.pk), 0);
    assert!(held(&sim, &bob).is_active);
    assert_eq!(sim.signed_in_with(bob.pk), 6);
    assert_eq!(effects(&sim), ["freeze_user ada@acme.test"]);
}

#[tokio::test]
async fn an_already_inactive_user_is_left_alone_by_suspending_and_resuming() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    sim.change(|state| state.users.get_mut(&ada.pk).unwrap().is_active = false);
    let before = held(&sim, &ada);

    let frozen = client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    let unfrozen = client
        .unfreeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    assert!(frozen.changes.is_empty());
    assert!(unfrozen.changes.is_empty());
    assert_eq!(held(&sim, &ada), before);
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn resuming_restores_the_state_before_suspending() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    let attributes = json!({ "locale": "da", "note": " kept " });
    let attributes = attributes.as_object().unwrap();
    sim.change(|state| {
        let user = state.users.get_mut(&ada.pk).unwrap();
        user.attributes.clone_from(attributes);
    });
    let before = held(&sim, &ada);

    client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    let frozen = held(&sim, &ada);
    let unfrozen = client
        .unfreeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    let again = client
        .unfreeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    assert_eq!(frozen.attributes["dezkyFrozenBy"], json!([TENANT]));
    assert_eq!(frozen.attributes["locale"], "da");
    assert_eq!(
        unfrozen.changes,
        ["freeze marker removed from user", "user activated"]
    );
    assert!(again.changes.is_empty());
    assert_eq!(held(&sim, &ada), before);
}

#[tokio::test]
async fn lifting_the_last_marker_always_activates_so_that_a_freeze_is_never_undone_in_half() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    // Active with a marker, as after a race. A freeze that lands between the read and the write loses its marker: were
    // `is_active` left out, the user would stay inactive without one.
    sim.change(|state| {
        let ada = state.users.get_mut(&ada.pk).unwrap();
        ada.attributes
            .insert("dezkyFrozenBy".to_owned(), json!([TENANT]));
    });

    client
        .unfreeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    // By the name of an update that sets `is_active`.
    assert_eq!(effects(&sim), ["unfreeze_user ada@acme.test"]);
    assert!(held(&sim, &ada).is_active);
}

#[tokio::test]
async fn a_user_suspended_by_two_tenants_stays_suspended_until_both_resume() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    for tenant in [TENANT, OTHER_TENANT] {
        client
            .freeze_user(&ada, Freeze::Tenant(tenant), Mode::Apply)
            .await
            .unwrap();
    }

    client
        .unfreeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    let after_one = held(&sim, &ada);
    client
        .unfreeze_user(&ada, Freeze::Tenant(OTHER_TENANT), Mode::Apply)
        .await
        .unwrap();

    assert!(!after_one.is_active);
    assert_eq!(after_one.attributes["dezkyFrozenBy"], json!([OTHER_TENANT]));
    assert!(held(&sim, &ada).is_active);
    assert!(held(&sim, &ada).attributes.is_empty());
}

#[tokio::test]
async fn changes_made_after_the_listing_are_kept() {
    let (sim, client) = sim_and_client().await;
    let listed = signed_in(&sim, &client, "ada@acme.test").await;
    sim.change(|state| {
        let user = state.users.get_mut(&listed.pk).unwrap();
        user.attributes.insert("locale".to_owned(), "da".into());
    });

    client
        .freeze_user(&listed, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    assert_eq!(held(&sim, &listed).attributes["locale"], "da");
}

#[tokio::test]
async fn a_suspended_user_who_was_reactivated_is_suspended_again() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    sim.change(|state| state.users.get_mut(&ada.pk).unwrap().is_active = true);

    let frozen = client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    assert_eq!(frozen.changes, ["user deactivated"]);
    assert!(!held(&sim, &ada).is_active);
}

#[tokio::test]
async fn sessions_left_by_a_failed_attempt_are_ended_by_the_next() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    let session = sim.add_session(ada.pk);
    sim.add_access_token(ada.pk, Some(session));
    sim.add_refresh_token(ada.pk);

    let frozen = client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    // The access token was deleted with its session.
    assert_eq!(frozen.changes, ["2 sessions and tokens ended"]);
    assert_eq!(sim.signed_in_with(ada.pk), 0);
}

#[tokio::test]
async fn sessions_and_tokens_of_others_are_never_deleted() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    let mut others = Vec::new();
    for n in 0..60 {
        others.push(
            signed_in(&sim, &client, &format!("other-{n}@acme.test"))
                .await
                .pk,
        );
    }
    sim.ignore_filters();

    let ended = client.end_sessions(&ada).await.unwrap();

    assert_eq!(ended.sessions + ended.tokens, 4);
    assert_eq!(sim.signed_in_with(ada.pk), 0);
    assert!(others.iter().all(|pk| sim.signed_in_with(*pk) == 6));
}

#[tokio::test]
async fn a_dry_run_of_suspending_and_resuming_changes_nothing() {
    let (sim, client) = sim_and_client().await;
    let ada = signed_in(&sim, &client, "ada@acme.test").await;
    let bob = signed_in(&sim, &client, "bob@acme.test").await;
    client
        .freeze_user(&bob, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();
    let bob = client.find_user(&bob.username).await.unwrap().unwrap();
    let before = sim.snapshot();

    let frozen = client
        .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::DryRun)
        .await
        .unwrap();
    let unfrozen = client
        .unfreeze_user(&bob, Freeze::Tenant(TENANT), Mode::DryRun)
        .await
        .unwrap();

    assert_eq!(
        frozen.changes,
        ["user deactivated", "user marked as frozen"]
    );
    assert_eq!(
        unfrozen.changes,
        ["freeze marker removed from user", "user activated"]
    );
    assert_eq!(sim.snapshot(), before);
}
