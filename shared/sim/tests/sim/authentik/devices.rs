//! MFA devices: lists, their positive control, and deletion.

use bson::DateTime;
use dezky_shared::{mfa::DeviceType, platform::clock};
use dezky_sim::authentik::AuthentikSim;
use dezky_upstreams::clients::{
    ClientError,
    authentik::Authentik,
    setup::{SetupCheck, SetupOutcome},
};

use super::{effects, sim_and_client};

/// Confirmed devices of a user.
async fn confirmed(client: &Authentik, user: i64) -> Vec<DeviceType> {
    let devices = client.list_mfa_devices(user).await.unwrap();
    let confirmed = devices.iter().filter(|device| device.confirmed);
    confirmed.map(|device| device.kind).collect()
}

/// Two users with devices.
fn add_devices(sim: &AuthentikSim) -> [i64; 2] {
    let [ada, bob] = ["ada@acme.test", "bob@acme.test"].map(|name| sim.add_user(name, &[]).pk);
    for (user, device, confirmed) in [
        (ada, "TOTPDevice", true),
        (ada, "StaticDevice", true),
        (ada, "WebAuthnDevice", false),
        (bob, "EmailDevice", true),
        (bob, "DuoDevice", true),
    ] {
        sim.add_device(user, device, confirmed);
    }
    [ada, bob]
}

fn later() -> DateTime {
    DateTime::from_millis(clock::now().timestamp_millis() + 60_000)
}

#[tokio::test]
async fn devices_of_one_user_are_listed_by_type() {
    let (sim, client) = sim_and_client().await;
    let [ada, bob] = add_devices(&sim);

    let listed = client.list_mfa_devices(ada).await.unwrap();

    assert_eq!(listed.len(), 3);
    assert_eq!(
        confirmed(&client, ada).await,
        [DeviceType::Totp, DeviceType::Static]
    );
    assert_eq!(
        confirmed(&client, bob).await,
        [DeviceType::Email, DeviceType::Duo]
    );
    assert!(confirmed(&client, 1).await.is_empty());
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn a_type_that_may_not_be_viewed_is_omitted_and_the_control_tells() {
    let (sim, client) = sim_and_client().await;
    let [ada, _] = add_devices(&sim);
    assert!(client.sees_all_second_factors().await.unwrap());

    sim.withhold("authentik_stages_authenticator_totp.view_totpdevice");

    assert_eq!(confirmed(&client, ada).await, [DeviceType::Static]);
    assert!(!client.sees_all_second_factors().await.unwrap());
}

#[tokio::test]
async fn an_ignored_filter_by_user_fails_the_control_and_deletes_nothing() {
    let (sim, client) = sim_and_client().await;
    let [_, bob] = add_devices(&sim);
    let user = client.find_user("ada@acme.test").await.unwrap().unwrap();
    let before = client.check_setup(&[]).await;
    sim.ignore_filters();

    let after = client.check_setup(&[]).await;
    let control = client.sees_all_second_factors().await.unwrap_err();
    let deleted = client.delete_mfa_devices(&user, later()).await.unwrap_err();

    let outcome = |checks: Vec<SetupCheck>| {
        let mut checks = checks.into_iter();
        let check = checks.find(|check| check.name == "filter of MFA devices");
        check.unwrap().outcome
    };
    assert!(matches!(outcome(before), SetupOutcome::Ok(_)));
    assert!(matches!(outcome(after), SetupOutcome::Failed(_)));
    assert!(matches!(control, ClientError::Rejected(_)), "{control}");
    assert!(matches!(deleted, ClientError::Conflict(_)), "{deleted}");
    assert_eq!(sim.devices(bob), ["EmailDevice", "DuoDevice"]);
}

#[tokio::test]
async fn devices_of_one_user_are_deleted_once() {
    let (sim, client) = sim_and_client().await;
    let [ada, bob] = add_devices(&sim);
    let user = client.find_user("ada@acme.test").await.unwrap().unwrap();

    let deleted = client.delete_mfa_devices(&user, later()).await.unwrap();
    let again = client.delete_mfa_devices(&user, later()).await.unwrap();

    assert_eq!((deleted.len(), again.len()), (3, 0));
    assert!(sim.devices(ada).is_empty());
    assert_eq!(sim.devices(bob).len(), 2);
    assert_eq!(effects(&sim).len(), 3);
}

#[tokio::test]
async fn a_device_that_was_enrolled_later_is_kept() {
    let (sim, client) = sim_and_client().await;
    let [ada, _] = add_devices(&sim);
    let user = client.find_user("ada@acme.test").await.unwrap().unwrap();
    let before = DateTime::from_millis(0);

    let deleted = client.delete_mfa_devices(&user, before).await.unwrap();

    assert!(deleted.is_empty());
    assert_eq!(sim.devices(ada).len(), 3);
}

#[tokio::test]
async fn a_missing_permission_to_delete_is_reported() {
    let (sim, client) = sim_and_client().await;
    add_devices(&sim);
    let user = client.find_user("ada@acme.test").await.unwrap().unwrap();
    sim.withhold("authentik_stages_authenticator_totp.delete_totpdevice");

    let error = client.delete_mfa_devices(&user, later()).await.unwrap_err();

    assert!(matches!(error, ClientError::Permission(_)), "{error}");
}
