//! Objects of a partner's team: its group and recovery links.

use std::time::Duration;

use dezky_shared::queue::error_code::ErrorCode;
use dezky_sim::faults::{Fault, FaultRule};
use dezky_upstreams::clients::{ClientError, Mode};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{TENANT, client_at, effects, marks, sim_and_client};

const PARTNER: &str = "0192f0c4-0000-7000-8000-00000000000a";
const WEEK: Duration = Duration::from_hours(7 * 24);

#[tokio::test]
async fn a_partner_group_is_created_once_and_is_not_a_tenant_group() {
    let (sim, client) = sim_and_client().await;
    let tenant = client
        .ensure_group("nordic", TENANT, None, Mode::Apply)
        .await
        .unwrap();

    let made = client
        .ensure_partner_group("partner:nordic", "nordic", PARTNER, None)
        .await
        .unwrap();
    let again = client
        .ensure_partner_group("partner:nordic", "nordic", PARTNER, None)
        .await
        .unwrap();

    assert_eq!(made.value, again.value);
    assert!(again.changes.is_empty());
    assert_ne!(made.value, tenant.value);
    let group = sim.group_named("partner:nordic").unwrap();
    assert_eq!(group.attributes["partnerId"], PARTNER);
    assert_eq!(group.attributes["partnerSlug"], "nordic");
    assert!(!group.is_superuser);
    let found = client.find_partner_group(PARTNER, None).await.unwrap();
    assert_eq!(found, made.value);
    let as_tenant = client.find_group(PARTNER, None).await.unwrap();
    assert_eq!(as_tenant, None);
}

#[tokio::test]
async fn a_foreign_group_with_the_partners_name_is_a_conflict() {
    let (sim, client) = sim_and_client().await;
    sim.add_group("partner:nordic", &marks(TENANT, "nordic"));

    let error = client
        .ensure_partner_group("partner:nordic", "nordic", PARTNER, None)
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::Conflict(_)), "{error}");
    assert!(effects(&sim).is_empty());
}

#[tokio::test]
async fn an_account_created_for_a_team_names_the_partner() {
    let (sim, client) = sim_and_client().await;
    sim.add_user("known@nordic.test", &[]);

    let made = client
        .ensure_invited("New@nordic.test", "New", PARTNER)
        .await
        .unwrap();
    let found = client
        .ensure_invited("known@nordic.test", "Known", PARTNER)
        .await
        .unwrap();

    assert_eq!(made.username, "new@nordic.test");
    assert!(made.was_created_for_partner(PARTNER));
    assert!(!made.was_created_for_partner(TENANT));
    assert!(!found.was_created_for_partner(PARTNER));
    assert_eq!(made.last_login, None);
}

#[tokio::test]
async fn an_account_is_found_only_by_its_subject() {
    let (sim, client) = sim_and_client().await;
    let ada = sim.add_user("ada@nordic.test", &[]);
    let unknown = uuid::Uuid::new_v4().to_string();
    sim.add_session(ada.pk);

    let found = client.find_subject(&ada.uuid.to_string()).await.unwrap();
    sim.ignore_filters();
    let missing = client.find_subject(&unknown).await.unwrap();

    let found = found.unwrap();
    assert_eq!(found.pk, ada.pk);
    assert!(found.last_login.is_some());
    assert_eq!(missing, None);
}

#[tokio::test]
async fn a_new_recovery_link_replaces_the_previous_one() {
    let (sim, client) = sim_and_client().await;
    sim.set_recovery_flow(true);
    let ada = sim.add_user("ada@nordic.test", &[]);

    let first = client.create_recovery_link(ada.pk, WEEK).await.unwrap();
    let second = client.create_recovery_link(ada.pk, WEEK).await.unwrap();

    assert_ne!(first.expose_secret(), second.expose_secret());
    let valid = sim.recovery_link(ada.pk).unwrap();
    assert!(
        second
            .expose_secret()
            .ends_with(&valid.key.simple().to_string())
    );
    assert_eq!(valid.valid_for.as_deref(), Some("hours=168"));
}

#[tokio::test]
async fn a_missing_recovery_flow_requires_an_operator() {
    let (sim, client) = sim_and_client().await;
    let ada = sim.add_user("ada@nordic.test", &[]);

    let error = client.create_recovery_link(ada.pk, WEEK).await.unwrap_err();

    assert_eq!(error.code(), ErrorCode::RecoveryFlowMissing);
}

#[tokio::test]
async fn a_link_in_an_unexpected_response_is_not_quoted() {
    use wiremock::{Mock, MockServer, ResponseTemplate};
    let secret = "https://auth.test/?flow_token=0123456789abcdef";
    for (status, body) in [
        (200, json!(secret)),
        (200, json!({ "link": { "link": secret } })),
        (201, json!({ "link": secret })),
    ] {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(status).set_body_json(&body);
        Mock::given(wiremock::matchers::any())
            .respond_with(answer)
            .mount(&server)
            .await;
        let client = client_at(&server.uri(), "token");

        let error = client.create_recovery_link(7, WEEK).await.unwrap_err();

        let text = format!("{error} {error:?}");
        assert!(!text.contains("0123456789abcdef"), "{status}: {text}");
    }
}

#[tokio::test]
async fn a_recovery_link_with_a_lost_response_is_in_doubt() {
    let (sim, client) = sim_and_client().await;
    sim.set_recovery_flow(true);
    let ada = sim.add_user("ada@nordic.test", &[]);
    let lost = FaultRule::once("create_recovery_link", Fault::AnswerLost);
    sim.server.faults.add(lost);

    let error = client.create_recovery_link(ada.pk, WEEK).await.unwrap_err();

    assert!(matches!(error, ClientError::AnswerLost(_)), "{error}");
    assert!(sim.recovery_link(ada.pk).is_some());
}
