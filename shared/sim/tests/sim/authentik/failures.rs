//! Failed calls, which are never executed twice.

use std::time::Duration;

use dezky_shared::platform::clock;
use dezky_sim::{
    authentik::AuthentikSim,
    faults::{Fault, FaultRule},
};
use dezky_upstreams::clients::{
    ClientError, LeaseDeadline, Mode,
    authentik::{Authentik, Freeze},
};
use serde_json::json;

use super::{TENANT, client_at, effects, marks, sim_and_client};

/// All operations that write, by the client's names for them.
const WRITES: [&str; 12] = [
    "create_group",
    "update_group",
    "delete_group",
    "create_user",
    "add_member",
    "remove_member",
    "freeze_user",
    "unfreeze_user",
    "delete_session",
    "delete_refresh_token",
    "delete_access_token",
    "delete_app_password",
];

/// An Authentik in which each operation has an effect: a group with the member Ada, who is active and signed in, and
/// Bob, who is suspended.
fn prepare(sim: &AuthentikSim, operation: &str) {
    if operation == "create_group" {
        return;
    }
    let name = if operation == "update_group" {
        "renamed"
    } else {
        "acme"
    };
    let group = sim.add_group(name, &marks(TENANT, "acme"));
    let ada = sim.add_user("ada@acme.test", &[]).pk;
    let bob = sim.add_user("bob@acme.test", &[group.id]).pk;
    sim.add_session(ada);
    sim.add_refresh_token(ada);
    sim.add_access_token(ada, None);
    sim.add_api_token(ada, "app_password");
    sim.change(|state| {
        let bob = state.users.get_mut(&bob).unwrap();
        bob.is_active = false;
        bob.attributes
            .insert("dezkyFrozenBy".to_owned(), json!([TENANT]));
    });
}

/// Calls the client method that leads to `operation`.
async fn call(operation: &str, sim: &AuthentikSim, client: &Authentik) -> Result<(), ClientError> {
    let user = async |username| client.find_user(username).await.map(Option::unwrap);
    let group = || sim.groups()[0].id.to_string();
    match operation {
        "create_group" | "update_group" => {
            let ensured = client.ensure_group("acme", TENANT, None, Mode::Apply);
            ensured.await.map(drop)
        }
        "delete_group" => {
            let deleted = client.delete_group(TENANT, None, Mode::Apply);
            deleted.await.map(drop)
        }
        "create_user" => client.ensure_user("new@acme.test", "New").await.map(drop),
        "add_member" => {
            let ada = user("ada@acme.test").await?;
            client.add_member(&group(), ada.pk).await
        }
        "remove_member" => {
            let bob = user("bob@acme.test").await?;
            client.remove_member(&group(), bob.pk).await
        }
        "freeze_user" => {
            let ada = user("ada@acme.test").await?;
            client
                .freeze_user(&ada, Freeze::Tenant(TENANT), Mode::Apply)
                .await
                .map(drop)
        }
        "unfreeze_user" => {
            let bob = user("bob@acme.test").await?;
            client
                .unfreeze_user(&bob, Freeze::Tenant(TENANT), Mode::Apply)
                .await
                .map(drop)
        }
        _ => {
            let ada = user("ada@acme.test").await?;
            client.end_access(&ada).await.map(drop)
        }
    }
}

#[tokio::test]
async fn a_write_with_a_lost_response_happens_once_when_retried() {
    for operation in WRITES {
        for fault in [Fault::AnswerLost, Fault::Html] {
            let (sim, client) = sim_and_client().await;
            prepare(&sim, operation);
            sim.server.faults.add(FaultRule::once(operation, fault));

            let lost = call(operation, &sim, &client).await;
            let again = call(operation, &sim, &client).await;

            let lost = lost.unwrap_err();
            assert!(matches!(lost, ClientError::AnswerLost(_)), "{lost}");
            assert_eq!(lost.call().operation, operation);
            again.unwrap();
            assert_eq!(sim.server.effects.count(operation), 1, "{operation}");
        }
    }
}

#[tokio::test]
async fn a_write_that_never_arrived_happens_when_retried() {
    for operation in WRITES {
        let (sim, client) = sim_and_client().await;
        prepare(&sim, operation);
        sim.server
            .faults
            .add(FaultRule::once(operation, Fault::Reset));

        let lost = call(operation, &sim, &client).await;
        let again = call(operation, &sim, &client).await;

        assert!(matches!(lost, Err(ClientError::AnswerLost(_))), "{lost:?}");
        again.unwrap();
        assert_eq!(sim.server.effects.count(operation), 1, "{operation}");
    }
}

#[tokio::test]
async fn a_truncated_response_counts_as_lost() {
    for operation in ["create_group", "update_group", "create_user", "freeze_user"] {
        let (sim, client) = sim_and_client().await;
        prepare(&sim, operation);
        let rule = FaultRule::once(operation, Fault::Truncated);
        sim.server.faults.add(rule);

        let lost = call(operation, &sim, &client).await;

        assert!(matches!(lost, Err(ClientError::AnswerLost(_))), "{lost:?}");
    }
}

#[tokio::test]
async fn no_write_begins_after_the_lease_deadline() {
    for operation in WRITES {
        let (sim, client) = sim_and_client().await;
        prepare(&sim, operation);
        let before = sim.snapshot();
        let second = Duration::from_secs(1);
        let trust = LeaseDeadline::until(clock::boot_time(), 5 * second, second);

        let refused = call(operation, &sim, &client.with_deadline(&trust)).await;

        assert!(
            matches!(refused, Err(ClientError::LeaseExpiring(_))),
            "{refused:?}"
        );
        let requests = sim.server.faults.requests();
        assert!(requests.keys().all(|name| !WRITES.contains(&name.as_str())));
        assert!(effects(&sim).is_empty());
        assert_eq!(sim.snapshot(), before);
    }
}

#[tokio::test]
async fn a_revoked_token_is_a_credentials_error_until_it_is_replaced() {
    let (sim, client) = sim_and_client().await;
    client.check().await.unwrap();
    sim.revoke_token();

    let refused = client.check().await.unwrap_err();
    let ensured = client.ensure_group("acme", TENANT, None, Mode::Apply).await;
    sim.accept_token("the next one");
    let renewed = client_at(&sim.api_url(), "the next one").check().await;

    assert!(matches!(refused, ClientError::Credentials(_)), "{refused}");
    assert!(matches!(ensured, Err(ClientError::Credentials(_))));
    assert!(!refused.to_string().contains(AuthentikSim::TOKEN));
    renewed.unwrap();
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn a_base_url_without_the_api_path_is_rejected() {
    let (sim, _) = sim_and_client().await;

    let error = client_at(&sim.server.url, AuthentikSim::TOKEN)
        .check()
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::Rejected(_)), "{error}");
}

#[tokio::test]
async fn retry_after_is_part_of_the_error() {
    let (sim, client) = sim_and_client().await;
    let status = Fault::Status {
        status: 429,
        retry_after: Some(7),
    };
    sim.server
        .faults
        .add(FaultRule::once("check_credentials", status));

    let error = client.check().await.unwrap_err();

    let ClientError::RateLimited { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
}
