//! Apps: the client's operations one by one, the OIDC endpoints, and the log of open applications.

use dezky_shared::{
    app::{App, AppRefs, AppStatus, ClientType, GrantType, Scope},
    id::{AppId, TenantId},
    platform::clock,
};
use dezky_sim::{
    authentik::{AuthentikSim, Binding, Opening},
    relying_party::{NotSignedIn, RelyingParty},
};
use dezky_upstreams::clients::{
    ClientError, Mode,
    authentik::{Application, Authentik, DesiredApp},
};
use secrecy::SecretString;

use super::{effects, sim_and_client};

const SLUG: &str = "acme_wiki";
const SECRET: &str = "client-secret-0123456789";

fn app() -> App {
    let now = clock::now();
    App {
        id: AppId::new(),
        tenant_id: TenantId::new(),
        name: "Wiki".to_owned(),
        slug: "wiki".to_owned(),
        redirect_uris: vec!["https://wiki.acme.test/callback".to_owned()],
        launch_url: None,
        logo_url: None,
        client_type: ClientType::Confidential,
        grant_types: vec![GrantType::AuthorizationCode],
        scopes: vec![Scope::OpenId, Scope::Email],
        access_token_minutes: 5,
        client_id: "0d5c2d0e-5a0b-4f0e-9d0c-0a6a5f6f9c11".to_owned(),
        secret_version: 1,
        authentik: AppRefs::default(),
        status: AppStatus::Pending,
        conditions: Vec::new(),
        generation: 1,
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

/// Makes the objects of the app in the right order, for this group.
async fn make(client: &Authentik, app: &App, group: &str) -> Application {
    let desired = DesiredApp { slug: SLUG, app };
    let references = client.app_references().await.unwrap();
    let secret = SecretString::from(SECRET);
    let provider = client
        .ensure_provider(&desired, &references, Some(&secret), Mode::Apply)
        .await
        .unwrap();
    let found = client.find_application(SLUG).await.unwrap();
    let application = client
        .ensure_application(&desired, found, Mode::Apply)
        .await
        .unwrap();
    let application = application.value.unwrap().object;
    let bindings = client.list_bindings(&application.pk).await.unwrap();
    client
        .ensure_binding(&application.pk, group, bindings, Mode::Apply)
        .await
        .unwrap();
    let provider = provider.value.unwrap().object.pk;
    client
        .attach_provider(&application, provider, Mode::Apply)
        .await
        .unwrap();
    client.verify_discovery(SLUG).await.unwrap();
    client.find_application(SLUG).await.unwrap().unwrap()
}

fn relying_party(sim: &AuthentikSim, app: &App) -> RelyingParty {
    RelyingParty {
        issuer: sim.issuer_of(SLUG),
        client_id: app.client_id.clone(),
        client_secret: Some(SECRET.to_owned()),
        redirect_uri: app.redirect_uris[0].clone(),
    }
}

#[tokio::test]
async fn a_repeated_creation_changes_nothing() {
    let (sim, client) = sim_and_client().await;
    let group = sim
        .add_group("acme", &serde_json::Value::Null)
        .id
        .to_string();
    let app = app();

    make(&client, &app, &group).await;
    let once = effects(&sim);
    make(&client, &app, &group).await;

    assert_eq!(effects(&sim), once);
    assert_eq!(once.len(), 4);
    assert_eq!(sim.openings(), []);
    assert_eq!(sim.client_secret(&app.client_id).as_deref(), Some(SECRET));
}

#[tokio::test]
async fn a_user_signs_in_only_as_an_active_member_with_a_session() {
    let (sim, client) = sim_and_client().await;
    let group = sim.add_group("acme", &serde_json::Value::Null).id;
    let app = app();
    make(&client, &app, &group.to_string()).await;
    let ada = sim.add_user("ada@acme.test", &[group]);
    let eve = sim.add_user("eve@other.test", &[]);
    let party = relying_party(&sim, &app);
    let (by_ada, by_eve) = (sim.add_session(ada.pk), sim.add_session(eve.pk));

    let signed_in = party.sign_in(Some(by_ada)).await.unwrap().unwrap();
    assert_eq!(signed_in.claims["sub"], ada.uuid.to_string());
    assert_eq!(signed_in.claims["aud"], app.client_id);
    assert_eq!(signed_in.userinfo["email"], "ada@acme.test");
    // Neither the mapping nor the grant is there.
    assert_eq!(signed_in.userinfo.get("groups"), None);
    assert_eq!(signed_in.refresh_token, None);

    let stranger = party.sign_in(Some(by_eve)).await.unwrap();
    assert_eq!(stranger.unwrap_err(), NotSignedIn::Denied);
    let anonymous = party.sign_in(None).await.unwrap();
    assert_eq!(anonymous.unwrap_err(), NotSignedIn::NoSession);
    let wrong_secret = RelyingParty {
        client_secret: Some("wrong".to_owned()),
        ..relying_party(&sim, &app)
    };
    let refused = wrong_secret.sign_in(Some(by_ada)).await.unwrap();
    let invalid_grant = NotSignedIn::Refused("invalid_grant".to_owned());
    assert_eq!(refused.unwrap_err(), invalid_grant);
    sim.change(|state| state.users.get_mut(&ada.pk).unwrap().is_active = false);
    let inactive = party.sign_in(Some(by_ada)).await.unwrap();
    assert_eq!(inactive.unwrap_err(), NotSignedIn::Denied);
}

#[tokio::test]
async fn an_attachment_without_a_binding_is_logged_as_an_opening() {
    let (sim, client) = sim_and_client().await;
    let group = sim.add_group("acme", &serde_json::Value::Null).id;
    let app = app();
    let application = make(&client, &app, &group.to_string()).await;
    let attached = application.provider.unwrap();

    client
        .detach_provider(&application, Mode::Apply)
        .await
        .unwrap();
    sim.change(|state| state.apps.bindings.clear());
    let application = client.find_application(SLUG).await.unwrap().unwrap();
    client
        .attach_provider(&application, attached, Mode::Apply)
        .await
        .unwrap();

    let opening = Opening {
        application: SLUG.to_owned(),
        operation: "attach_provider".to_owned(),
    };
    assert_eq!(sim.openings(), [opening]);
    let eve = sim.add_user("eve@other.test", &[]);
    let session = sim.add_session(eve.pk);
    let party = relying_party(&sim, &app);
    assert!(party.sign_in(Some(session)).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_deleted_group_opens_its_applications() {
    let (sim, client) = sim_and_client().await;
    let tenant = TenantId::new().to_string();
    let group = client
        .ensure_group("acme", &tenant, None, Mode::Apply)
        .await
        .unwrap();
    let group = group.value.unwrap().id;
    make(&client, &app(), &group).await;

    client
        .delete_group(&tenant, Some(&group), Mode::Apply)
        .await
        .unwrap();

    let operations: Vec<String> = sim.openings().into_iter().map(|it| it.operation).collect();
    assert_eq!(operations, ["delete_group"]);
}

#[tokio::test]
async fn filters_that_are_ignored_do_not_mix_up_objects() {
    let (sim, client) = sim_and_client().await;
    let group = sim
        .add_group("acme", &serde_json::Value::Null)
        .id
        .to_string();
    let app = app();
    let application = make(&client, &app, &group).await;
    let other = App {
        client_id: "another-client".to_owned(),
        ..app
    };
    sim.ignore_filters();

    assert_eq!(client.find_provider(&other.client_id).await.unwrap(), None);
    let bindings = client.list_bindings("another-application").await.unwrap();
    assert!(bindings.is_empty());
    sim.change(|state| state.apps.references.key_pairs.truncate(1));
    let missing = client.app_references().await.unwrap_err();

    assert!(matches!(missing, ClientError::Permission(_)), "{missing}");
    assert_eq!(
        client.list_bindings(&application.pk).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_refused_provider_names_the_cause_and_never_the_secret() {
    let (sim, client) = sim_and_client().await;
    let app = app();
    let desired = DesiredApp {
        slug: SLUG,
        app: &app,
    };
    let references = client.app_references().await.unwrap();
    sim.change(|state| state.apps.references.flows.clear());
    let secret = SecretString::from(SECRET);

    let refused = client
        .ensure_provider(&desired, &references, Some(&secret), Mode::Apply)
        .await
        .unwrap_err();

    assert!(matches!(refused, ClientError::Rejected(_)), "{refused}");
    assert!(
        refused.to_string().contains("authorization_flow"),
        "{refused}"
    );
    assert!(!format!("{refused:?}").contains(SECRET));
}

#[tokio::test]
async fn additional_bindings_are_removed_after_the_groups_own_is_in_force() {
    let (sim, client) = sim_and_client().await;
    let group = sim.add_group("acme", &serde_json::Value::Null).id;
    let application = make(&client, &app(), &group.to_string()).await;
    let before = sim.server.effects.all().len();
    sim.change(|state| {
        let target = application.pk.parse().unwrap();
        state.apps.bindings.clear();
        let binding = |group, user, enabled| Binding {
            target,
            group,
            user,
            enabled,
            negate: false,
        };
        let bindings = [
            binding(None, Some(1), true),
            binding(Some(group), None, false),
            binding(Some(group), None, false),
        ];
        for binding in bindings {
            let pk = uuid::Uuid::from_bytes(bson::Uuid::new().bytes());
            state.apps.bindings.insert(pk, binding);
        }
    });

    let bindings = client.list_bindings(&application.pk).await.unwrap();
    let ensured = client
        .ensure_binding(&application.pk, &group.to_string(), bindings, Mode::Apply)
        .await
        .unwrap();

    assert_eq!(
        ensured.changes,
        [
            "group binding put in force",
            "additional binding removed",
            "additional binding removed",
        ]
    );
    let effects = sim.server.effects.all();
    let operations: Vec<&str> = effects[before..].iter().map(|it| it.operation).collect();
    assert_eq!(
        operations,
        ["update_binding", "delete_binding", "delete_binding"]
    );
    assert_eq!(sim.openings(), []);
}
