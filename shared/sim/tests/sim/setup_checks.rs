//! Setup checks of the clients: each premise that a simulator does not hold yields its line.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{
    authentik::{AuthentikSim, References, Setup},
    effects::Effects,
    issuer::{APPLICATIONS, OPERATOR, PORTAL},
    ocis::OcisSim,
    stalwart::StalwartSim,
};
use dezky_upstreams::clients::{
    ClientError, Mode,
    authentik::{Authentik, AuthentikConfig, DEFAULT_SIGNING_KEY},
    ocis::{AppTokenLogin, Ocis, OcisConfig, OcisLogin},
    setup::{SetupCheck, SetupOutcome},
    stalwart::{Login, MailFreeze, Stalwart, StalwartConfig},
};
use serde_json::json;

const TIMEOUT: Duration = Duration::from_secs(5);

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Premises that do not hold, by their name.
fn failed(checks: Vec<SetupCheck>) -> BTreeMap<String, String> {
    let failed = checks.into_iter().filter_map(|check| match check.outcome {
        SetupOutcome::Failed(problem) => Some((check.name, problem)),
        SetupOutcome::Ok(_) => None,
        SetupOutcome::Unknown(reason) => panic!("{} is unknown: {reason}", check.name),
    });
    failed.collect()
}

/// Checks that could not be made, by their name.
fn unknown(checks: Vec<SetupCheck>) -> BTreeMap<String, String> {
    let unknown = checks.into_iter().filter_map(|check| match check.outcome {
        SetupOutcome::Unknown(reason) => Some((check.name, reason)),
        SetupOutcome::Ok(_) => None,
        SetupOutcome::Failed(problem) => panic!("{} failed: {problem}", check.name),
    });
    unknown.collect()
}

/// Asserts that exactly this premise does not hold, and that its text contains `problem`.
#[track_caller]
fn assert_fails(checks: Vec<SetupCheck>, name: &str, problem: &str) {
    let failed = failed(checks);
    assert!(
        failed.keys().eq([name]) && failed[name].contains(problem),
        "expected {name} with {problem:?}: {failed:#?}"
    );
}

/// An Authentik that is set up as the blueprint does it, and its client.
async fn authentik() -> (AuthentikSim, Authentik) {
    let sim = AuthentikSim::start(any_port()).await.unwrap();
    sim.set_recovery_flow(true);
    let config = AuthentikConfig {
        api_url: sim.api_url(),
        public_url: None,
        signing_key: DEFAULT_SIGNING_KEY.to_owned(),
        api_token: AuthentikSim::TOKEN.into(),
        timeout: TIMEOUT,
    };
    let client = Authentik::new(&config, &TrustRoots::default()).unwrap();
    (sim, client)
}

async fn check_authentik(client: &Authentik) -> Vec<SetupCheck> {
    client.check_setup(&APPLICATIONS.map(str::to_owned)).await
}

#[tokio::test]
async fn a_complete_set_up_fails_no_check_and_changes_nothing() {
    let (sim, authentik) = authentik().await;
    let stalwart = stalwart_at(StalwartSim::TOKEN).await;
    let ocis = ocis().await;

    assert_eq!(failed(check_authentik(&authentik).await), BTreeMap::new());
    assert_eq!(failed(stalwart.1.check_setup().await), BTreeMap::new());
    assert_eq!(failed(ocis.1.check_setup().await), BTreeMap::new());

    let none = |effects: &Effects| effects.all().is_empty();
    assert!(none(&sim.server.effects));
    assert!(none(&stalwart.0.server.effects));
    assert!(none(&ocis.0.server.effects));
}

#[tokio::test]
async fn each_missing_premise_of_authentik_is_named() {
    let (sim, client) = authentik().await;
    let break_setup = |change: &dyn Fn(&mut Setup)| {
        sim.change(|state| {
            state.setup = Setup::default();
            change(&mut state.setup);
        });
    };
    let provider =
        |setup: &mut Setup, slug: &str, change: &dyn Fn(&mut dezky_sim::authentik::Provider)| {
            change(setup.providers.get_mut(slug).unwrap());
        };

    break_setup(&|setup| setup.version = "2026.8.1".to_owned());
    assert_fails(check_authentik(&client).await, "version", "CVE-2026-94609");

    break_setup(&|setup| {
        setup
            .permissions
            .remove("authentik_core.reset_user_password");
    });
    assert_fails(
        check_authentik(&client).await,
        "permissions",
        "1 are missing: authentik_core.reset_user_password",
    );

    break_setup(&|setup| {
        provider(setup, PORTAL, &|it| {
            it.sub_mode = "hashed_user_id".to_owned();
        });
    });
    assert_fails(
        check_authentik(&client).await,
        "subject mode of dezky-portal",
        "user_uuid",
    );

    break_setup(&|setup| provider(setup, OPERATOR, &|it| it.issuer_mode = "global".to_owned()));
    assert_fails(
        check_authentik(&client).await,
        "issuer mode of dezky-operator",
        "per_provider",
    );

    break_setup(&|setup| provider(setup, PORTAL, &|it| it.has_signing_key = false));
    assert_fails(
        check_authentik(&client).await,
        "signing key of dezky-portal",
        "key pair",
    );

    break_setup(&|setup| provider(setup, PORTAL, &|it| it.grant_types.clear()));
    assert_fails(
        check_authentik(&client).await,
        "grant types of dezky-portal",
        "authorization_code",
    );

    break_setup(&|setup| provider(setup, PORTAL, &|it| it.scopes.retain(|it| it != "profile")));
    assert_fails(
        check_authentik(&client).await,
        "scope mappings of dezky-portal",
        "none for profile",
    );

    break_setup(&|setup| {
        setup.providers.remove(OPERATOR);
    });
    assert_fails(
        check_authentik(&client).await,
        "application dezky-operator",
        "does not exist",
    );

    break_setup(&|_| {});
    sim.set_recovery_flow(false);
    assert_fails(
        check_authentik(&client).await,
        "recovery flow",
        "the brand has none",
    );
    sim.set_recovery_flow(true);

    sim.revoke_token();
    assert_fails(
        check_authentik(&client).await,
        "credentials",
        "AUTHENTIK_API_TOKEN",
    );
}

#[tokio::test]
async fn each_missing_object_that_apps_refer_to_is_named() {
    let (sim, client) = authentik().await;
    let break_references = |change: &dyn Fn(&mut References)| {
        sim.change(|state| {
            state.apps.references = References::default();
            change(&mut state.apps.references);
        });
    };
    break_references(&|it| it.app_profile.as_mut().unwrap().expression.clear());
    assert_fails(
        check_authentik(&client).await,
        "scope mappings of apps",
        "dezky/scope-app-profile that tells apps their own groups alone",
    );
    break_references(&|it| it.app_profile = None);
    assert_fails(
        check_authentik(&client).await,
        "scope mappings of apps",
        "dezky/scope-app-profile does not exist",
    );
    break_references(&|it| it.key_pairs.truncate(1));
    assert_fails(
        check_authentik(&client).await,
        "signing key of apps",
        "AUTHENTIK_SIGNING_KEY_NAME",
    );
    break_references(&|it| it.flows.truncate(1));
    assert_fails(
        check_authentik(&client).await,
        "invalidation flow of apps",
        "the flow default-provider-invalidation-flow does not exist",
    );
}

#[tokio::test]
async fn settings_hidden_by_authentik_are_unknown() {
    let (sim, client) = authentik().await;
    let of_checks = "authentik_rbac.view_system_info";
    sim.change(|state| state.setup.permissions.remove(of_checks));
    let without_version = unknown(check_authentik(&client).await);
    sim.change(|state| state.setup = Setup::default());

    sim.ignore_filters();
    let without_filter = unknown(check_authentik(&client).await);

    assert!(
        without_version["version"].contains(of_checks),
        "{without_version:?}"
    );
    assert!(
        without_filter.keys().eq(["permissions"]),
        "{without_filter:?}"
    );
}

#[tokio::test]
async fn a_wrong_clock_is_named_for_each_upstream() {
    let (sim, client) = authentik().await;
    sim.server.faults.set_clock_ahead(90);
    assert_fails(check_authentik(&client).await, "clock", "ahead of ours");

    let (sim, client) = stalwart_at(StalwartSim::TOKEN).await;
    sim.server.faults.set_clock_ahead(-90);
    assert_fails(client.check_setup().await, "clock", "behind ours");

    let (sim, client) = ocis().await;
    sim.server.faults.set_clock_ahead(3_600);
    assert_fails(client.check_setup().await, "clock", "ahead of ours");
}

#[tokio::test]
async fn an_upstream_that_is_down_fails_with_its_address() {
    let (sim, client) = authentik().await;
    sim.server.faults.go_down();

    let failed = failed(check_authentik(&client).await);

    assert!(
        failed["credentials"].contains("check its address"),
        "{failed:?}"
    );
}

async fn stalwart_at(key: &str) -> (StalwartSim, Stalwart) {
    let sim = StalwartSim::start(any_port()).await.unwrap();
    let config = StalwartConfig {
        base_url: sim.server.url.clone(),
        login: Login::ApiKey(key.to_owned().into()),
        timeout: TIMEOUT,
    };
    let client = Stalwart::new(&config, &TrustRoots::default()).unwrap();
    (sim, client)
}

#[tokio::test]
async fn each_missing_right_of_stalwarts_key_is_named() {
    for (permission, check) in [
        ("sysDomainCreate", "permissions to manage"),
        ("sysDkimSignatureDestroy", "permissions to manage"),
        ("imapAuthenticate", "permissions to suspend"),
        ("unlimitedRequests", "request rate"),
    ] {
        let (sim, client) = stalwart_at(StalwartSim::TOKEN).await;
        sim.withhold(permission);
        assert_fails(client.check_setup().await, check, permission);
    }
    let (_sim, client) = stalwart_at("API_another").await;
    assert_fails(client.check_setup().await, "credentials", "stalwart-key");
}

#[tokio::test]
async fn stalwart_refuses_calls_beyond_the_permissions_of_the_key() {
    let (sim, client) = stalwart_at(StalwartSim::TOKEN).await;
    sim.add_domain("acme.test", json!({}));
    sim.add_account("ada@acme.test", "correct-horse-7-battery", &[], json!({}));
    sim.withhold("imapAuthenticate");
    let domain = client.find_domain("acme.test").await.unwrap().unwrap();
    let accounts = client.list_accounts(&domain.id).await.unwrap();

    let refused = client
        .freeze_accounts(&accounts, MailFreeze::Tenant, Mode::Apply)
        .await
        .unwrap();
    assert!(
        matches!(refused.failures[..], [ClientError::Permission(_)]),
        "{refused:?}"
    );
    assert!(sim.accounts()[0].can_sign_in);

    sim.withhold("sysDomainQuery");
    let refused = client.find_domain("acme.test").await;
    assert!(
        matches!(refused, Err(ClientError::Permission(_))),
        "{refused:?}"
    );
}

async fn ocis() -> (OcisSim, Ocis) {
    let sim = OcisSim::start(any_port()).await.unwrap();
    let config = OcisConfig {
        base_url: sim.server.url.clone(),
        login: OcisLogin::AppToken(AppTokenLogin {
            user: OcisSim::USER.to_owned(),
            password: OcisSim::PASSWORD.into(),
        }),
        timeout: TIMEOUT,
        refusal_grace: TIMEOUT,
    };
    let client = Ocis::new(&config, &TrustRoots::default()).unwrap();
    (sim, client)
}

#[tokio::test]
async fn each_missing_premise_of_ocis_is_named() {
    let (sim, client) = ocis().await;

    sim.set_version("5.0.9");
    assert_fails(client.check_setup().await, "version", "oCIS 7");
    sim.set_version("8.0.5");

    sim.demote(true);
    assert_fails(client.check_setup().await, "role", "Admin");
    sim.demote(false);

    sim.reject_credentials(true);
    assert_fails(
        client.check_setup().await,
        "credentials",
        "OCIS_API_PASSWORD",
    );
}
