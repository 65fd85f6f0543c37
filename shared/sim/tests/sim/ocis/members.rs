//! Permissions of the members of a space, and the client's methods for them.

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::ocis::{AppRole, Grant, OcisSim, Role};
use dezky_upstreams::clients::{ClientError, Mode};
use http::{Method, StatusCode};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{MARKER, NAME, TENANT, client_of, create, ensure, find, only, start};

fn by(sim: &OcisSim, name: &str, method: Method, path: &str) -> RequestBuilder {
    let http = TrustRoots::default().client_builder().build().unwrap();
    http.request(method, format!("{}{path}", sim.server.url))
        .basic_auth(name, Some(OcisSim::PASSWORD))
}

async fn status_of(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

/// Patches a space as the account `name`.
async fn patch(sim: &OcisSim, name: &str, space: &str, body: &Value) -> StatusCode {
    let path = format!("/graph/v1.0/drives/{space}");
    status_of(by(sim, name, Method::PATCH, &path).json(body)).await
}

#[tokio::test]
async fn an_editor_may_change_the_alias_alone_and_a_manager_all_but_the_quota() {
    let sim = start().await;
    let space = sim.add_space(NAME, MARKER, 0);
    for (name, role) in [
        ("vera", Role::Viewer),
        ("ed", Role::Editor),
        ("mia", Role::Manager),
    ] {
        sim.add_member(&space, name, role);
    }
    sim.add_account("stranger");
    let alias = json!({ "driveAlias": "project/mine" });
    let (name, quota) = (
        json!({ "name": "Mine" }),
        json!({ "quota": { "total": 1 } }),
    );

    let (ok, hidden, forbidden) = (StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::FORBIDDEN);
    for (who, statuses) in [
        ("stranger", [hidden, hidden, forbidden]),
        ("vera", [hidden, hidden, forbidden]),
        ("ed", [ok, hidden, forbidden]),
        ("mia", [ok, ok, forbidden]),
    ] {
        for (body, status) in [&alias, &name, &quota].into_iter().zip(statuses) {
            assert_eq!(patch(&sim, who, &space, body).await, status, "{who} {body}");
        }
    }
}

#[tokio::test]
async fn a_manager_may_restore_and_purge_a_space_and_an_editor_may_not() {
    let sim = start().await;
    let space = sim.add_space(NAME, MARKER, 0);
    sim.add_member(&space, "ed", Role::Editor);
    sim.add_member(&space, "mia", Role::Manager);
    sim.edit_space(&space, |space| space.trashed = true);
    let path = format!("/graph/v1.0/drives/{space}");
    let restore = |who| {
        let request = by(&sim, who, Method::PATCH, &path).header("Restore", "T");
        status_of(request.json(&json!({})))
    };
    let delete =
        |who, purge| status_of(by(&sim, who, Method::DELETE, &path).header("Purge", purge));

    assert_eq!(restore("ed").await, StatusCode::NOT_FOUND);
    assert_eq!(restore("mia").await, StatusCode::OK);
    assert_eq!(delete("ed", "F").await, StatusCode::NOT_FOUND);
    assert_eq!(delete("mia", "F").await, StatusCode::NO_CONTENT);
    assert_eq!(delete("mia", "T").await, StatusCode::NO_CONTENT);
    assert!(sim.spaces().is_empty());
}

#[tokio::test]
async fn only_a_manager_changes_roles_and_the_last_one_stays() {
    let sim = start().await;
    let space = sim.add_space(NAME, MARKER, 0);
    let ed = sim.add_member(&space, "ed", Role::Editor);
    let own = only(sim.spaces()).grants[0].id;
    let set = |who, member, role: &str| {
        let path = format!("/graph/v1beta1/drives/{space}/root/permissions/u:{member}");
        status_of(by(&sim, who, Method::PATCH, &path).json(&json!({ "roles": [role] })))
    };
    let (viewer, manager) = (
        "a8d5fe5e-96e3-418d-825b-534dbdf22b99",
        "312c0871-5ef7-4b3a-85b6-0e4074c64049",
    );

    assert_eq!(set("ed", ed, manager).await, StatusCode::FORBIDDEN);
    assert_eq!(set(OcisSim::USER, own, viewer).await, StatusCode::FORBIDDEN);
    assert_eq!(
        set(OcisSim::USER, ed, "unknown").await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(set(OcisSim::USER, ed, viewer).await, StatusCode::OK);
    assert_eq!(only(sim.spaces()).grants[1].role, Role::Viewer);
}

#[tokio::test]
async fn only_an_administrator_lists_role_assignments() {
    let sim = start().await;
    let account = sim.add_account("ada");
    let path = format!("/graph/v1.0/users/{account}/appRoleAssignments");
    let status = || status_of(by(&sim, OcisSim::USER, Method::GET, &path));

    let as_admin = status().await;
    sim.set_role(AppRole::SpaceAdmin);

    assert_eq!(as_admin, StatusCode::OK);
    assert_eq!(status().await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_manager_but_our_account_is_made_an_editor() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = create(&ocis).await.unwrap();
    sim.add_member(&id, "ed", Role::Viewer);
    sim.add_member(&id, "mia", Role::Manager);
    sim.edit_space(&id, |space| {
        let team = uuid::Uuid::from_u128(7);
        space.grants.push(Grant {
            is_group: true,
            ..Grant::user(team, "team", Role::Manager)
        });
    });

    let announced = ensure(&ocis, &id, Mode::DryRun).await.unwrap();
    let first = ensure(&ocis, &id, Mode::Apply).await.unwrap();
    let second = ensure(&ocis, &id, Mode::Apply).await.unwrap();

    assert_eq!(announced, ["manager made an editor"; 2]);
    assert_eq!(first, announced);
    assert_eq!(second, [""; 0]);
    let roles = only(sim.spaces())
        .grants
        .into_iter()
        .map(|grant| grant.role);
    let expected = [Role::Manager, Role::Viewer, Role::Editor, Role::Editor];
    assert!(roles.eq(expected));
}

#[tokio::test]
async fn a_manager_is_made_an_editor_before_the_space_is_disabled() {
    let sim = start().await;
    let ocis = client_of(&sim);
    let id = create(&ocis).await.unwrap();
    sim.add_member(&id, "mia", Role::Manager);

    let space = find(&ocis, &id).await;
    let changes = ocis.disable_space(&space, Mode::Apply).await.unwrap();

    assert_eq!(changes, ["manager made an editor", "space disabled"]);
    let path = format!("/graph/v1.0/drives/{id}");
    let restore = by(&sim, "mia", Method::PATCH, &path).header("Restore", "T");
    assert_eq!(
        status_of(restore.json(&json!({}))).await,
        StatusCode::NOT_FOUND
    );
    assert!(only(sim.spaces()).trashed);
}

#[tokio::test]
async fn a_space_of_other_managers_alone_is_a_conflict_and_is_disabled_all_the_same() {
    for names in [&["mia"][..], &["mia", "max"]] {
        let sim = start().await;
        let ocis = client_of(&sim);
        let id = create(&ocis).await.unwrap();
        let others = names.iter().map(|name| {
            let account = sim.add_account(name);
            Grant::user(account, name, Role::Manager)
        });
        let others: Vec<Grant> = others.collect();
        sim.edit_space(&id, |space| space.grants.clone_from(&others));

        let planned = ensure(&ocis, &id, Mode::DryRun).await.unwrap_err();
        let applied = ensure(&ocis, &id, Mode::Apply).await.unwrap_err();
        let space = find(&ocis, &id).await;
        let disabled = ocis.disable_space(&space, Mode::Apply).await.unwrap_err();
        let space = find(&ocis, &id).await;
        let again = ocis.disable_space(&space, Mode::Apply).await.unwrap_err();

        for error in [planned, applied, disabled, again] {
            assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
            assert!(error.call().detail.contains(&id), "{error}");
        }
        let space = only(sim.spaces());
        assert!(space.trashed);
        assert_eq!(space.grants.len(), others.len());
    }
}

/// A member of any space may have set the marker, and a space that our account did not create is not ours.
#[tokio::test]
async fn a_marked_space_with_members_or_of_another_creator_is_a_conflict() {
    let shared = |sim: &OcisSim, id: &str| {
        sim.add_member(id, "ed", Role::Viewer);
    };
    let foreign = |sim: &OcisSim, id: &str| {
        let account = sim.add_account("mia");
        sim.edit_space(id, |space| {
            space.grants = vec![Grant::user(account, "mia", Role::Manager)];
        });
    };
    let ownerless = |sim: &OcisSim, id: &str| sim.edit_space(id, |space| space.grants.clear());
    for change in [shared as fn(&OcisSim, &str), foreign, ownerless] {
        let sim = start().await;
        let ids = [(); 2].map(|()| sim.add_space(NAME, MARKER, 7));
        change(&sim, &ids[0]);

        let found = client_of(&sim).find_unrecorded_spaces(TENANT).await;

        let error = found.unwrap_err();
        assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
        for id in ids {
            assert!(error.call().detail.contains(&id), "{error}");
        }
        assert!(sim.server.effects.all().is_empty());
    }
}

#[tokio::test]
async fn a_space_administrator_may_do_everything_that_the_client_does() {
    let sim = start().await;
    sim.set_role(AppRole::SpaceAdmin);
    let ocis = client_of(&sim);

    let absent = ocis.find_unrecorded_spaces(TENANT).await.unwrap();
    let id = create(&ocis).await.unwrap();
    sim.edit_space(&id, |space| space.quota = 1);
    ensure(&ocis, &id, Mode::Apply).await.unwrap();
    let space = find(&ocis, &id).await;
    ocis.disable_space(&space, Mode::Apply).await.unwrap();
    ocis.purge_space(&space, Mode::Apply).await.unwrap();

    assert!(absent.is_empty() && sim.spaces().is_empty());
}
