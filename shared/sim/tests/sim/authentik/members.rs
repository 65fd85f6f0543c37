//! Accounts of members: passwords, marks and removal.

use dezky_sim::authentik::SignInRefused;
use dezky_upstreams::clients::{
    ClientError, Mode,
    authentik::{Freeze, MemberAccount},
};
use secrecy::SecretString;

use super::sim_and_client;

const MEMBER: &str = "0198c0de-0000-7000-8000-00000000aaaa";
const OTHER: &str = "0198c0de-0000-7000-8000-00000000bbbb";

fn account(member_id: &str) -> MemberAccount<'_> {
    MemberAccount {
        member_id,
        login: "ada@acme.test",
        name: "Ada King",
        known: None,
    }
}

#[tokio::test]
async fn an_account_is_created_with_its_mark_and_its_password_signs_in() {
    let (sim, client) = sim_and_client().await;

    let user = client.create_member(&account(MEMBER)).await.unwrap();
    let again = client.create_member(&account(MEMBER)).await.unwrap();
    let password = SecretString::from("a-password");
    let before = sim.sign_in("ada@acme.test", "a-password");
    client.set_password(user.pk, &password).await.unwrap();
    client.set_password(user.pk, &password).await.unwrap();

    assert!(user.was_created_for_member(MEMBER) && !user.was_created_for_member(OTHER));
    assert_eq!(user.pk, again.pk);
    assert_eq!(before.unwrap_err(), SignInRefused::WrongPassword);
    assert!(sim.sign_in("ada@acme.test", "a-password").is_ok());
    assert_eq!(sim.server.effects.count("set_password"), 1);
    assert_eq!(sim.server.effects.count("create_user"), 1);
}

#[tokio::test]
async fn an_account_keeps_the_mark_of_its_maker_until_it_is_reclaimed() {
    let (sim, client) = sim_and_client().await;
    let made = client.create_member(&account(OTHER)).await.unwrap();
    let freezes = [Freeze::Member(OTHER), Freeze::Tenant("a-tenant")];
    for freeze in freezes {
        let frozen = client.freeze_user(&made, freeze, Mode::Apply).await;
        frozen.unwrap();
    }

    let found = client.create_member(&account(MEMBER)).await.unwrap();
    let reclaimed = client.reclaim(&found, Some(MEMBER)).await.unwrap().unwrap();
    let now = sim.user_named("ada@acme.test").unwrap();
    let released = client.reclaim(&reclaimed, None).await.unwrap().unwrap();

    assert_eq!(found.created_for_member(), Some(OTHER));
    assert!(reclaimed.was_created_for_member(MEMBER));
    assert!(now.is_active);
    assert_eq!(now.attributes.len(), 1, "{:?}", now.attributes);
    assert_eq!(released.created_for_member(), None);
}

#[tokio::test]
async fn app_passwords_end_with_the_sessions_and_no_others() {
    let (sim, client) = sim_and_client().await;
    let ada = client.create_member(&account(MEMBER)).await.unwrap();
    let bob = sim.add_user("bob@acme.test", &[]);
    for user in [ada.pk, bob.pk] {
        sim.add_session(user);
        sim.add_api_token(user, "app_password");
        sim.add_api_token(user, "api");
    }
    // Every filter is ignored, as by a proxy that drops the query.
    sim.ignore_filters();

    let ended = client.end_access(&ada).await.unwrap();

    assert_eq!((ended.sessions, ended.tokens), (1, 1));
    let left = [ada.pk, bob.pk].map(|pk| (sim.signed_in_with(pk), sim.app_passwords(pk)));
    assert_eq!(left, [(0, 0), (1, 1)]);
    assert_eq!(sim.change(|state| state.api_tokens.len()), 3);
}

#[tokio::test]
async fn tokens_of_other_providers_stay() {
    let (sim, client) = sim_and_client().await;
    let ada = client.create_member(&account(MEMBER)).await.unwrap();
    sim.add_refresh_token(ada.pk);
    sim.add_refresh_token_of(ada.pk, 42);

    let ended = client.end_app_tokens(&ada, &[42]).await.unwrap();
    let none = client.end_app_tokens(&ada, &[]).await.unwrap();

    assert_eq!((ended.tokens, none.tokens), (1, 0));
    assert_eq!(sim.signed_in_with(ada.pk), 1);
}

#[tokio::test]
async fn the_suspensions_of_a_member_and_of_a_tenant_are_lifted_separately() {
    let (sim, client) = sim_and_client().await;
    let user = client.create_member(&account(MEMBER)).await.unwrap();
    let freezes = [Freeze::Member(MEMBER), Freeze::Tenant("a-tenant")];
    for freeze in freezes {
        client
            .freeze_user(&user, freeze, Mode::Apply)
            .await
            .unwrap();
    }

    let mut active = Vec::new();
    for freeze in freezes {
        let lifted = client.unfreeze_user(&user, freeze, Mode::Apply).await;
        lifted.unwrap();
        active.push(sim.user_named("ada@acme.test").unwrap().is_active);
    }

    assert_eq!(active, [false, true]);
}

#[tokio::test]
async fn only_an_account_that_was_created_for_the_member_is_deleted() {
    let (sim, client) = sim_and_client().await;
    let user = client.create_member(&account(MEMBER)).await.unwrap();

    let foreign = client.delete_member(&user, OTHER).await.unwrap_err();
    let deleted = client.delete_member(&user, MEMBER).await.unwrap();
    let again = client.delete_member(&user, MEMBER).await.unwrap();

    assert!(matches!(foreign, ClientError::Conflict(_)), "{foreign}");
    assert!(deleted && !again);
    assert!(sim.users().is_empty());
}
