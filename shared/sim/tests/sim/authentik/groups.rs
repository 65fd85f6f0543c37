//! Groups: created once, found again, repaired, and never taken over from others.

use dezky_sim::faults::{Fault, FaultRule};
use dezky_upstreams::clients::{
    ClientError, Ensured, Mode,
    authentik::{Authentik, Group},
};
use serde_json::json;

use super::{OTHER_TENANT, TENANT, effects, marks, sim_and_client};

/// Ensures a group without a stored id.
async fn ensure(
    client: &Authentik,
    slug: &str,
    tenant: &str,
    mode: Mode,
) -> Result<Ensured<Group>, ClientError> {
    client.ensure_group(slug, tenant, None, mode).await
}

#[tokio::test]
async fn ensuring_a_group_twice_creates_one() {
    let (sim, client) = sim_and_client().await;

    let first = ensure(&client, "acme", TENANT, Mode::Apply).await.unwrap();
    let second = ensure(&client, "acme", TENANT, Mode::Apply).await.unwrap();

    let group = sim.group_named("acme").unwrap();
    assert_eq!(json!(group.attributes), marks(TENANT, "acme"));
    assert!(!group.is_superuser);
    assert_eq!(first.changes, ["group created"]);
    assert_eq!(first.value, second.value);
    assert_eq!(first.value.unwrap().id, group.id.to_string());
    assert!(second.changes.is_empty());
    assert_eq!(effects(&sim), ["create_group acme"]);
}

#[tokio::test]
async fn ensuring_a_group_concurrently_creates_one() {
    let (sim, client) = sim_and_client().await;
    let slow = FaultRule {
        operation: Some("list_groups".to_owned()),
        times: Some(4),
        ..FaultRule::every(Fault::SlowAnswer { millis: 150 })
    };
    sim.server.faults.add(slow);

    let (one, other) = tokio::join!(
        client.ensure_group("acme", TENANT, None, Mode::Apply),
        client.ensure_group("acme", TENANT, None, Mode::Apply),
    );

    assert_eq!(one.unwrap().value, other.unwrap().value);
    assert_eq!(effects(&sim), ["create_group acme"]);
}

#[tokio::test]
async fn a_foreign_group_with_the_name_is_a_conflict() {
    for attributes in [marks(OTHER_TENANT, "acme"), json!({ "tenantSlug": "acme" })] {
        let (sim, client) = sim_and_client().await;
        let foreign = sim.add_group("acme", &attributes);

        let error = ensure(&client, "acme", TENANT, Mode::Apply)
            .await
            .unwrap_err();

        assert!(matches!(error, ClientError::Conflict(_)), "{error}");
        assert_eq!(sim.groups(), [foreign]);
    }
}

#[tokio::test]
async fn a_stored_group_that_belongs_to_another_tenant_is_not_touched() {
    let (sim, client) = sim_and_client().await;
    let foreign = sim.add_group("acme", &marks(OTHER_TENANT, "acme"));
    let known_id = foreign.id.to_string();

    let error = client
        .ensure_group("acme", TENANT, Some(&known_id), Mode::Apply)
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::Conflict(_)), "{error}");
    assert_eq!(sim.groups(), [foreign]);
}

#[tokio::test]
async fn several_groups_with_the_tenants_marker_are_a_conflict() {
    let (sim, client) = sim_and_client().await;
    sim.add_group("acme", &marks(TENANT, "acme"));
    sim.add_group("acme copy", &marks(TENANT, "acme"));

    let error = ensure(&client, "acme", TENANT, Mode::Apply)
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::Conflict(_)), "{error}");
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn the_name_of_a_renamed_group_is_restored() {
    for knows_id in [true, false] {
        let (sim, client) = sim_and_client().await;
        let group = sim.add_group("acme (old)", &marks(TENANT, "acme"));
        let id = group.id.to_string();
        let known_id = knows_id.then_some(id.as_str());

        let ensured = client
            .ensure_group("acme", TENANT, known_id, Mode::Apply)
            .await
            .unwrap();

        assert_eq!(ensured.changes, ["group name restored"]);
        assert_eq!(ensured.value.unwrap().name, "acme");
        assert_eq!(sim.groups().len(), 1);
        assert_eq!(sim.group_named("acme").unwrap().id, group.id);
    }
}

#[tokio::test]
async fn a_renamed_group_whose_name_is_taken_is_a_conflict() {
    let (sim, client) = sim_and_client().await;
    sim.add_group("acme (old)", &marks(TENANT, "acme"));
    sim.add_group("acme", &json!({}));

    let error = ensure(&client, "acme", TENANT, Mode::Apply)
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::Conflict(_)), "{error}");
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn drift_is_repaired_and_foreign_attributes_are_kept() {
    let (sim, client) = sim_and_client().await;
    let attributes = json!({ "tenantSlug": "wrong", "colour": { "of": "choice" } });
    let group = sim.add_group("acme", &attributes);
    sim.change(|state| state.groups.get_mut(&group.id).unwrap().is_superuser = true);
    let known_id = group.id.to_string();

    let ensured = client
        .ensure_group("acme", TENANT, Some(&known_id), Mode::Apply)
        .await
        .unwrap();

    let repaired = sim.group_named("acme").unwrap();
    let mut expected = marks(TENANT, "acme");
    expected["colour"] = json!({ "of": "choice" });
    assert_eq!(
        ensured.changes,
        [
            "superuser status removed from group",
            "group attributes restored"
        ]
    );
    assert_eq!(json!(repaired.attributes), expected);
    assert!(!repaired.is_superuser);
    assert_eq!(effects(&sim), ["update_group acme"]);
}

#[tokio::test]
async fn ignored_filters_never_select_another_group() {
    let (sim, client) = sim_and_client().await;
    for n in 0..150 {
        sim.add_group(
            &format!("tenant-{n}"),
            &json!({ "tenantId": n.to_string() }),
        );
    }
    sim.ignore_filters();

    let made = ensure(&client, "acme", TENANT, Mode::Apply).await.unwrap();
    let found = ensure(&client, "acme", TENANT, Mode::Apply).await.unwrap();
    let deleted = client
        .delete_group(TENANT, None, Mode::Apply)
        .await
        .unwrap();

    assert_eq!(made.value, found.value);
    assert_eq!(deleted.changes, ["group deleted"]);
    assert_eq!(effects(&sim), ["create_group acme", "delete_group acme"]);
}

#[tokio::test]
async fn a_dry_run_reports_changes_without_making_them() {
    let (sim, client) = sim_and_client().await;
    sim.add_group("globex (old)", &marks(OTHER_TENANT, "globex"));

    let made = ensure(&client, "acme", TENANT, Mode::DryRun).await.unwrap();
    let renamed = ensure(&client, "globex", OTHER_TENANT, Mode::DryRun)
        .await
        .unwrap();
    let deleted = client
        .delete_group(OTHER_TENANT, None, Mode::DryRun)
        .await
        .unwrap();

    assert_eq!(made.value, None);
    assert_eq!(made.changes, ["group created"]);
    assert_eq!(renamed.value.unwrap().name, "globex (old)");
    assert_eq!(renamed.changes, ["group name restored"]);
    assert_eq!(deleted.changes, ["group deleted"]);
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn deleting_a_group_twice_deletes_it_once() {
    let (sim, client) = sim_and_client().await;
    let group = sim.add_group("acme", &marks(TENANT, "acme"));
    let foreign = sim.add_group("globex", &marks(OTHER_TENANT, "globex"));
    sim.add_user("ada@acme.test", &[group.id]);
    let known_id = group.id.to_string();

    for _ in 0..2 {
        client
            .delete_group(TENANT, Some(&known_id), Mode::Apply)
            .await
            .unwrap();
    }

    assert_eq!(sim.groups(), [foreign]);
    assert_eq!(effects(&sim), ["delete_group acme"]);
}

#[tokio::test]
async fn a_foreign_group_is_never_deleted() {
    let (sim, client) = sim_and_client().await;
    let foreign = sim.add_group("acme", &marks(OTHER_TENANT, "acme"));
    let known_id = foreign.id.to_string();

    let deleted = client
        .delete_group(TENANT, Some(&known_id), Mode::Apply)
        .await
        .unwrap();

    assert!(deleted.changes.is_empty());
    assert_eq!(sim.groups(), [foreign]);
}

#[tokio::test]
async fn deleting_a_group_without_its_marker_is_an_error() {
    let (sim, client) = sim_and_client().await;
    let unmarked = sim.add_group("acme", &json!({}));
    let known_id = unmarked.id.to_string();

    let error = client
        .delete_group(TENANT, Some(&known_id), Mode::Apply)
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::Conflict(_)), "{error}");
    assert_eq!(sim.groups(), [unmarked]);
}
