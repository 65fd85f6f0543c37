//! The client's operations on a tenant's space.

use std::time::Duration;

use dezky_shared::platform::clock;
use dezky_upstreams::clients::{ClientError, LeaseDeadline, Mode};

use super::{MARKER, NAME, TENANT, client_of, ensure, only, requests_for, start};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn ensuring_a_space_twice_creates_one() {
    let sim = start().await;
    let ocis = client_of(&sim);

    let first = ocis
        .ensure_space(TENANT, NAME, None, Some(5_000), Mode::Apply)
        .await
        .unwrap();
    let second = ocis
        .ensure_space(TENANT, NAME, None, Some(5_000), Mode::Apply)
        .await
        .unwrap();

    assert_eq!(first.changes, ["space created"]);
    assert!(second.changes.is_empty(), "{second:?}");
    assert_eq!(first.value, second.value);
    let space = only(sim.spaces());
    assert_eq!((space.name.as_str(), space.alias.as_str()), (NAME, MARKER));
    assert_eq!(space.quota, 5_000);
    assert_eq!(sim.server.effects.all().len(), 1);
}

#[tokio::test]
async fn a_foreign_space_with_the_same_name_is_left_alone() {
    let sim = start().await;
    let foreign = sim.add_space(NAME, "project/acme-files", 0);

    let ours = ensure(&client_of(&sim), None).await.unwrap();

    assert_ne!(ours, foreign);
    assert_eq!(sim.spaces().len(), 2);
    assert_eq!(sim.server.effects.count_for("create_space", MARKER), 1);
}

#[tokio::test]
async fn a_dry_run_reports_changes_without_making_them() {
    let sim = start().await;
    let ocis = client_of(&sim);

    let absent = ocis
        .ensure_space(TENANT, NAME, None, None, Mode::DryRun)
        .await
        .unwrap();
    let id = sim.add_space("Acme", MARKER, 0);
    sim.edit_space(&id, |space| space.trashed = true);
    let differing = ocis
        .ensure_space(TENANT, NAME, None, Some(7), Mode::DryRun)
        .await
        .unwrap();
    let disabling = ocis
        .disable_space(TENANT, None, Mode::DryRun)
        .await
        .unwrap();
    let purging = ocis.purge_space(TENANT, None, Mode::DryRun).await.unwrap();

    assert_eq!(absent.changes, ["space created"]);
    assert_eq!(absent.value, None);
    assert_eq!(
        differing.changes,
        ["space restored", "space renamed", "quota changed"]
    );
    assert!(disabling.changes.is_empty(), "it is in the trash already");
    assert_eq!(purging.changes, ["space purged"]);
    assert!(sim.server.effects.all().is_empty());
}

#[tokio::test]
async fn only_drifted_properties_are_repaired() {
    let sim = start().await;
    let id = sim.add_space("Acme", MARKER, 0);
    sim.edit_space(&id, |space| space.trashed = true);

    let ensured = client_of(&sim)
        .ensure_space(TENANT, NAME, None, None, Mode::Apply)
        .await
        .unwrap();

    assert_eq!(ensured.changes, ["space restored", "space renamed"]);
    let space = only(sim.spaces());
    assert_eq!((space.id, space.name.as_str()), (id, NAME));
    assert!(!space.trashed);
    assert_eq!(space.quota, 1_000_000_000, "no quota was requests_for for");
}

#[tokio::test]
async fn a_missing_marker_is_restored_on_the_stored_space() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = ensure(&ocis, None).await.unwrap();
    sim.edit_space(&id, |space| "project/mine-now".clone_into(&mut space.alias));

    let ensured = ocis
        .ensure_space(TENANT, NAME, Some(&id), None, Mode::Apply)
        .await
        .unwrap();

    assert_eq!(ensured.changes, ["marker restored"]);
    assert_eq!(ensured.value.unwrap().id, id);
    assert_eq!(only(sim.spaces()).alias, MARKER);
}

#[tokio::test]
async fn a_missing_stored_id_falls_back_to_the_marker() {
    let sim = start().await;
    let id = sim.add_space(NAME, MARKER, 0);

    let found = ensure(&client_of(&sim), Some("gone$gone")).await.unwrap();

    assert_eq!(found, id);
    assert!(sim.server.effects.all().is_empty());
}

#[tokio::test]
async fn two_spaces_with_the_marker_are_a_conflict_that_names_both() {
    let sim = start().await;
    let one = sim.add_space(NAME, MARKER, 0);
    let other = sim.add_space(NAME, MARKER, 0);

    let without_stored = ensure(&client_of(&sim), None).await.unwrap_err();
    let with_stored = ensure(&client_of(&sim), Some(&one)).await.unwrap_err();

    for error in [without_stored, with_stored] {
        assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
        let detail = &error.call().detail;
        assert!(detail.contains(&one) && detail.contains(&other), "{detail}");
    }
    assert!(sim.server.effects.all().is_empty());
}

#[tokio::test]
async fn disabling_keeps_the_contents_and_is_idempotent() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = sim.add_space(NAME, MARKER, 42);

    let first = ocis
        .disable_space(TENANT, Some(&id), Mode::Apply)
        .await
        .unwrap();
    let second = ocis
        .disable_space(TENANT, Some(&id), Mode::Apply)
        .await
        .unwrap();

    assert_eq!(first.changes, ["space disabled"]);
    assert_eq!(first.value.flatten().unwrap().id, id);
    assert!(second.changes.is_empty(), "{second:?}");
    let space = only(sim.spaces());
    assert!(space.trashed && space.used == 42);
}

#[tokio::test]
async fn disabling_and_purging_an_absent_space_change_nothing() {
    let sim = start().await;
    let ocis = client_of(&sim);

    let disabled = ocis
        .disable_space(TENANT, Some("gone$gone"), Mode::Apply)
        .await
        .unwrap();
    let purged = ocis.purge_space(TENANT, None, Mode::Apply).await.unwrap();

    assert_eq!(disabled.value, Some(None));
    assert!(disabled.changes.is_empty() && purged.changes.is_empty());
    assert!(sim.server.effects.all().is_empty());
}

#[tokio::test]
async fn purging_removes_exactly_the_spaces_with_the_marker() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let foreign = sim.add_space(NAME, "project/somebody-else", 1);
    let stored = sim.add_space(NAME, MARKER, 2);
    let trashed = sim.add_space(NAME, MARKER, 3);
    sim.edit_space(&trashed, |space| space.trashed = true);

    let first = ocis
        .purge_space(TENANT, Some(&stored), Mode::Apply)
        .await
        .unwrap();
    let second = ocis
        .purge_space(TENANT, Some(&stored), Mode::Apply)
        .await
        .unwrap();

    assert_eq!(first.changes, ["space purged", "space purged"]);
    assert!(second.changes.is_empty());
    assert_eq!(only(sim.spaces()).id, foreign);
}

#[tokio::test]
async fn a_stored_space_without_the_marker_is_not_purged() {
    let sim = start().await;
    let stored = sim.add_space(NAME, "project/somebody-else", 1);

    let error = client_of(&sim)
        .purge_space(TENANT, Some(&stored), Mode::Apply)
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
    assert!(error.call().detail.contains(&stored));
    assert_eq!(only(sim.spaces()).id, stored);
}

#[tokio::test]
async fn a_space_that_became_invisible_is_not_treated_as_gone() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = ensure(&ocis, None).await.unwrap();
    sim.demote(true);

    let ensured = ensure(&ocis, Some(&id)).await.unwrap_err();
    let sent = requests_for(&sim, "create_space");
    let disabled = ocis
        .disable_space(TENANT, Some(&id), Mode::Apply)
        .await
        .unwrap_err();
    let purged = ocis
        .purge_space(TENANT, None, Mode::Apply)
        .await
        .unwrap_err();
    let created = ensure(&ocis, None).await.unwrap_err();

    for error in [ensured, disabled, purged, created] {
        assert!(matches!(error, ClientError::Permission(_)), "{error:?}");
    }
    assert_eq!(sent, 1, "the create at the start");
    assert_eq!(sim.server.effects.all().len(), 1);
}

#[tokio::test]
async fn no_write_is_sent_when_the_lease_deadline_is_too_close() {
    let sim = start().await;
    let trust = LeaseDeadline::until(clock::boot_time() + 5 * SECOND, 5 * SECOND, SECOND);

    let error = ensure(&client_of(&sim).with_deadline(&trust), None)
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::LeaseExpiring(_)), "{error:?}");
    assert_eq!(requests_for(&sim, "create_space"), 0);
    assert!(sim.spaces().is_empty());
}

#[tokio::test]
async fn every_attempt_has_a_unique_request_id() {
    let sim = start().await;
    let trust = LeaseDeadline::unlimited();

    ensure(&client_of(&sim).with_deadline(&trust), None)
        .await
        .unwrap();

    let mut ids = trust.request_ids();
    assert_eq!(ids.len(), 3, "list, create, list: {ids:?}");
    assert!(ids.iter().all(|id| !id.starts_with("sim/")), "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn the_snapshot_contains_everything_but_secrets() {
    let sim = start().await;
    let id = ensure(&client_of(&sim), None).await.unwrap();

    let snapshot = sim.snapshot().to_string();

    assert!(snapshot.contains(&id) && snapshot.contains(MARKER));
    assert!(!snapshot.contains("sim-ocis-app-token"), "{snapshot}");
}
