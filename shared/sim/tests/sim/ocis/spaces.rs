//! The client's operations on a tenant's space.

use std::time::Duration;

use dezky_shared::platform::clock;
use dezky_sim::ocis::AppRole;
use dezky_upstreams::clients::{ClientError, LeaseDeadline, Mode};

use super::{
    MARKER, NAME, QUOTA, TENANT, client_of, create, ensure, find, only, requests_for, start,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_created_space_needs_no_change() {
    let sim = start().await;
    let ocis = client_of(&sim);

    let id = create(&ocis).await.unwrap();
    let changes = ensure(&ocis, &id, Mode::Apply).await.unwrap();

    assert!(changes.is_empty(), "{changes:?}");
    let space = only(sim.spaces());
    assert_eq!((space.name.as_str(), space.alias.as_str()), (NAME, MARKER));
    assert_eq!(u64::try_from(space.quota), Ok(QUOTA));
    assert_eq!(sim.server.effects.all().len(), 1);
}

#[tokio::test]
async fn a_dry_run_reports_changes_without_making_them() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = sim.add_space("Acme", "project/mine-now", 0);
    let enabled = find(&ocis, &id).await;
    let disabling = ocis.disable_space(&enabled, Mode::DryRun).await.unwrap();
    sim.edit_space(&id, |space| space.trashed = true);

    let differing = ensure(&ocis, &id, Mode::DryRun).await.unwrap();
    let trashed = find(&ocis, &id).await;
    let disabling_again = ocis.disable_space(&trashed, Mode::DryRun).await.unwrap();
    let purging = ocis.purge_space(&trashed, Mode::DryRun).await.unwrap();

    assert_eq!(disabling, ["space disabled"]);
    assert_eq!(
        differing,
        [
            "space restored",
            "space renamed",
            "marker restored",
            "quota changed"
        ]
    );
    assert!(disabling_again.is_empty(), "it is in the trash already");
    assert_eq!(purging, ["space purged"]);
    assert!(sim.server.effects.all().is_empty());
}

#[tokio::test]
async fn all_drift_is_repaired_by_one_update() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = sim.add_space("Acme", "project/mine-now", 42);
    sim.edit_space(&id, |space| space.trashed = true);

    ensure(&ocis, &id, Mode::Apply).await.unwrap();
    let again = ensure(&ocis, &id, Mode::Apply).await.unwrap();

    assert!(again.is_empty(), "{again:?}");
    let space = only(sim.spaces());
    assert_eq!((space.name.as_str(), space.alias.as_str()), (NAME, MARKER));
    assert_eq!(u64::try_from(space.quota), Ok(QUOTA));
    assert!(!space.trashed && space.used == 42);
    assert_eq!(sim.server.effects.count("update_space"), 1);
}

/// The space would look deleted, and be created a second time.
#[tokio::test]
async fn a_space_hidden_by_a_negative_quota_is_made_visible_again() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = create(&ocis).await.unwrap();
    sim.edit_space(&id, |space| space.vanished = true);

    let in_a_dry_run = ocis.find_space(&id, QUOTA, Mode::DryRun).await.unwrap();
    let found = ocis.find_space(&id, QUOTA, Mode::Apply).await.unwrap();

    assert_eq!(in_a_dry_run, None, "a dry run changes nothing");
    assert_eq!(found.unwrap().id, id);
    assert!(!only(sim.spaces()).vanished);
}

#[tokio::test]
async fn a_personal_space_is_never_a_tenants() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = create(&ocis).await.unwrap();
    sim.edit_space(&id, |space| {
        "personal".clone_into(&mut space.drive_type);
    });

    let error = ocis.find_space(&id, QUOTA, Mode::Apply).await.unwrap_err();

    assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
}

#[tokio::test]
async fn disabling_keeps_the_contents_and_is_idempotent() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = sim.add_space(NAME, MARKER, 42);

    let space = find(&ocis, &id).await;
    let first = ocis.disable_space(&space, Mode::Apply).await.unwrap();
    let space = find(&ocis, &id).await;
    let second = ocis.disable_space(&space, Mode::Apply).await.unwrap();

    assert_eq!(first, ["space disabled"]);
    assert!(second.is_empty(), "{second:?}");
    let space = only(sim.spaces());
    assert!(space.trashed && space.used == 42);
}

#[tokio::test]
async fn purging_removes_exactly_one_space_whatever_its_marker_is() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let same_marker = sim.add_space(NAME, MARKER, 1);
    let id = sim.add_space(NAME, "project/mine-now", 2);

    let space = find(&ocis, &id).await;
    let changes = ocis.purge_space(&space, Mode::Apply).await.unwrap();
    let gone = ocis.find_space(&id, QUOTA, Mode::Apply).await.unwrap();

    assert_eq!(changes, ["space purged"]);
    assert_eq!(gone, None);
    assert_eq!(only(sim.spaces()).id, same_marker);
}

#[tokio::test]
async fn unrecorded_spaces_are_found_by_the_marker_in_the_trash_too() {
    let sim = start().await;
    let ocis = client_of(&sim);
    sim.add_space(NAME, "project/other-team", 0);
    let none = ocis.find_unrecorded_spaces(TENANT).await.unwrap();
    let mut expected = [(); 2].map(|()| sim.add_space(NAME, MARKER, 0));
    sim.edit_space(&expected[0], |space| space.trashed = true);
    expected.sort();

    let found = ocis.find_unrecorded_spaces(TENANT).await.unwrap();

    assert!(none.is_empty());
    assert!(found.into_iter().map(|space| space.id).eq(expected));
}

#[tokio::test]
async fn a_space_that_became_invisible_is_not_treated_as_gone() {
    for mode in [Mode::Apply, Mode::DryRun] {
        let sim = start().await;
        let ocis = client_of(&sim);
        let id = create(&ocis).await.unwrap();
        sim.set_role(AppRole::User);

        let found = ocis.find_space(&id, QUOTA, mode).await.unwrap_err();
        let searched = ocis.find_unrecorded_spaces(TENANT).await.unwrap_err();

        for error in [found, searched] {
            assert!(matches!(error, ClientError::Permission(_)), "{error:?}");
        }
    }
}

#[tokio::test]
async fn no_write_is_sent_when_the_lease_deadline_is_too_close() {
    let sim = start().await;
    let trust = LeaseDeadline::until(clock::boot_time() + 5 * SECOND, 5 * SECOND, SECOND);

    let error = create(&client_of(&sim).with_deadline(&trust))
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
    let ocis = client_of(&sim).with_deadline(&trust);

    ocis.find_unrecorded_spaces(TENANT).await.unwrap();
    create(&ocis).await.unwrap();

    let mut ids = trust.request_ids();
    assert_eq!(ids.len(), 3, "list, own account, create: {ids:?}");
    assert!(ids.iter().all(|id| !id.starts_with("sim/")), "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn the_snapshot_contains_everything_but_secrets() {
    let sim = start().await;
    let id = create(&client_of(&sim)).await.unwrap();

    let snapshot = sim.snapshot().to_string();

    assert!(snapshot.contains(&id) && snapshot.contains(MARKER));
    assert!(!snapshot.contains("sim-ocis-app-token"), "{snapshot}");
}
