//! Users and memberships.

use dezky_upstreams::clients::Mode;
use serde_json::json;

use super::{TENANT, effects, marks, sim_and_client};

#[tokio::test]
async fn ensuring_a_user_twice_creates_one_in_lower_case() {
    let (sim, client) = sim_and_client().await;

    let first = client.ensure_user("Ada@Acme.test", " Ada ").await.unwrap();
    let second = client
        .ensure_user("ada@acme.test", "Another Name")
        .await
        .unwrap();

    let user = sim.user_named("ada@acme.test").unwrap();
    assert_eq!(first, second);
    assert_eq!(first.uuid, user.uuid.to_string());
    assert_eq!(user.name, "Ada");
    assert_eq!(user.email, "ada@acme.test");
    assert_eq!(user.r#type, "internal");
    assert_eq!(effects(&sim), ["create_user ada@acme.test"]);
}

#[tokio::test]
async fn a_username_in_another_case_is_another_user() {
    let (sim, client) = sim_and_client().await;
    let other = sim.add_user("Ada@acme.test", &[]);
    sim.ignore_filters();

    let user = client.ensure_user("Ada@acme.test", "Ada").await.unwrap();

    assert_ne!(user.pk, other.pk);
    assert_eq!(sim.users().len(), 2);
}

#[tokio::test]
async fn an_existing_user_is_not_changed() {
    let (sim, client) = sim_and_client().await;
    let ada = sim.add_user("ada@acme.test", &[]);
    sim.change(|state| state.users.get_mut(&ada.pk).unwrap().is_active = false);

    let user = client
        .ensure_user("ada@acme.test", "Ada Lovelace")
        .await
        .unwrap();

    assert!(!user.is_active);
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn all_members_beyond_one_page_are_listed() {
    let (sim, client) = sim_and_client().await;
    let group = sim.add_group("acme", &marks(TENANT, "acme"));
    let other = sim.add_group("globex", &json!({}));
    for n in 0..250 {
        sim.add_user(&format!("member-{n:03}@acme.test"), &[group.id, other.id]);
        sim.add_user(&format!("stranger-{n:03}@acme.test"), &[other.id]);
    }

    let members = client.list_members(&group.id.to_string()).await.unwrap();
    let pages = sim.server.faults.requests()["list_users"];
    sim.ignore_filters();
    let members_unfiltered = client.list_members(&group.id.to_string()).await.unwrap();

    assert_eq!(pages, 3);
    assert_eq!(members.len(), 250);
    assert!(
        members
            .iter()
            .all(|user| user.username.starts_with("member"))
    );
    assert!(
        members
            .iter()
            .all(|user| user.groups.contains(&other.id.to_string()))
    );
    assert_eq!(members_unfiltered, members);
}

#[tokio::test]
async fn adding_and_removing_a_membership_are_idempotent() {
    let (sim, client) = sim_and_client().await;
    let ensured = client
        .ensure_group("acme", TENANT, None, Mode::Apply)
        .await
        .unwrap();
    let group = ensured.value.unwrap().id;
    let ada = client.ensure_user("ada@acme.test", "Ada").await.unwrap();

    for _ in 0..2 {
        client.add_member(&group, ada.pk).await.unwrap();
    }
    let members = client.list_members(&group).await.unwrap();
    for _ in 0..2 {
        client.remove_member(&group, ada.pk).await.unwrap();
    }

    assert_eq!(members.len(), 1);
    assert_eq!(members[0].groups, [group.as_str()]);
    assert_eq!(
        effects(&sim)[2..],
        [
            "add_member acme/ada@acme.test",
            "remove_member acme/ada@acme.test"
        ]
    );
}

#[tokio::test]
async fn removing_a_membership_of_a_missing_group_changes_nothing() {
    let (sim, client) = sim_and_client().await;
    let group = sim.add_group("acme", &marks(TENANT, "acme")).id.to_string();
    let ada = sim.add_user("ada@acme.test", &[]).pk;

    client.remove_member(&group, 999_999).await.unwrap();
    client
        .remove_member("babe9600-3ef4-44d5-a5fe-c12a4801a1a5", ada)
        .await
        .unwrap();

    assert!(effects(&sim).is_empty());
}
