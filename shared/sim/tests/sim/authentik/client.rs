//! The client against the recorded exchanges: requests and parsed responses.

use std::collections::BTreeSet;

use dezky_sim::authentik::AuthentikSim;
use dezky_upstreams::clients::{
    ClientError, Mode,
    authentik::{Authentik, Freeze},
};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{
    OTHER_TENANT, TENANT, client_at,
    recorded::{Exchange, GROUP, MISSING_GROUP, holds},
};

/// An Authentik with the recorded responses, in order for repeated requests, and 404 for all others.
async fn responding_with(names: &[&str]) -> (MockServer, Authentik) {
    let server = MockServer::start().await;
    for name in names {
        let exchange = Exchange::named(name);
        let mut answer = ResponseTemplate::new(exchange.status);
        if let Some(body) = &exchange.answer {
            answer = answer.set_body_json(filled(body));
        }
        Mock::given(move |request: &Request| matches_exchange(&exchange, request))
            .respond_with(answer)
            .up_to_n_times(1)
            .expect(1)
            .named(*name)
            .mount(&server)
            .await;
    }
    let client = client_at(&format!("{}/api/v3", server.uri()), AuthentikSim::TOKEN);
    (server, client)
}

/// Whether the request matches the exchange. Further parameters and the page size are ignored.
fn matches_exchange(exchange: &Exchange, request: &Request) -> bool {
    let url = request.url.join(&exchange.path_and_query()).unwrap();
    let requested: BTreeSet<_> = request.url.query_pairs().collect();
    let mut wanted = url.query_pairs().filter(|(name, _)| name != "page_size");
    let body = serde_json::from_slice(&request.body).unwrap_or_default();
    let has_header = |name, value| request.headers.get(name).is_some_and(|it| it == value);
    let bearer = format!("Bearer {}", AuthentikSim::TOKEN);
    has_header("accept", "application/json")
        && has_header("authorization", &bearer)
        && request.method.as_str() == exchange.method()
        && request.url.path() == url.path()
        && wanted.all(|pair| requested.contains(&pair))
        && exchange
            .body
            .as_ref()
            .is_none_or(|wanted| holds(&body, wanted))
}

/// The response with its placeholders replaced by values.
fn filled(answer: &Value) -> Value {
    match answer {
        Value::String(kind) if kind == "<uuid>" => GROUP.into(),
        Value::String(kind) if kind == "<number>" => 1001.into(),
        Value::Array(values) => values.iter().map(filled).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| (key.clone(), filled(value)))
            .collect(),
        value => value.clone(),
    }
}

#[tokio::test]
async fn the_client_verifies_its_token() {
    let (_server, client) = responding_with(&["who the token belongs to"]).await;

    client.check().await.unwrap();
}

#[tokio::test]
async fn the_client_distinguishes_an_invalid_token_from_a_missing_permission() {
    for name in ["no token is a 403", "a dead token is a 403"] {
        let (_server, client) = responding_with(&[name]).await;

        let error = client.check().await.unwrap_err();

        assert!(matches!(error, ClientError::Credentials(_)), "{error}");
    }
}

/// Requests before a group is created.
const NO_GROUP: [&str; 2] = ["groups by tenant, none", "groups by name, none"];

async fn ensure_globex(client: &Authentik) -> Result<Vec<String>, ClientError> {
    let ensured = client
        .ensure_group("globex", OTHER_TENANT, None, Mode::Apply)
        .await?;
    Ok(ensured.changes)
}

#[tokio::test]
async fn the_client_creates_a_missing_group() {
    let [by_tenant, by_name] = NO_GROUP;
    let (_server, client) = responding_with(&[by_tenant, by_name, "group create"]).await;

    assert_eq!(ensure_globex(&client).await.unwrap(), ["group created"]);
}

#[tokio::test]
async fn the_client_parses_the_reason_of_a_rejected_create() {
    let [by_tenant, by_name] = NO_GROUP;
    let create = "a missing permission is a 403 with another text";
    let (_server, client) = responding_with(&[by_tenant, by_name, create]).await;

    let error = ensure_globex(&client).await.unwrap_err();

    let detail = "detail: You do not have permission to perform this action.";
    assert!(matches!(error, ClientError::Permission(_)), "{error}");
    assert_eq!(error.call().detail, detail);
}

#[tokio::test]
async fn an_internal_error_is_not_a_rejection() {
    let [by_tenant, by_name] = NO_GROUP;
    let create = "a create that fails inside has an empty body";
    let (_server, client) = responding_with(&[by_tenant, by_name, create]).await;

    let error = ensure_globex(&client).await.unwrap_err();

    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_starting_backend_is_unavailable() {
    let (_server, client) =
        responding_with(&["the front end speaks while the backend starts"]).await;

    let error = ensure_globex(&client).await.unwrap_err();

    let detail = "error: failed to connect to authentik backend: authentik starting";
    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
    assert_eq!(error.call().detail, detail);
}

#[tokio::test]
async fn the_client_finds_its_group_by_id_and_by_tenant() {
    for (known_id, names) in [
        (Some(GROUP), &["group read"][..]),
        (None, &["groups by tenant"]),
        (
            Some(MISSING_GROUP),
            &["group read, missing", "groups by tenant"],
        ),
    ] {
        let (_server, client) = responding_with(names).await;

        let ensured = client
            .ensure_group("acme", TENANT, known_id, Mode::Apply)
            .await
            .unwrap();

        assert!(ensured.changes.is_empty(), "{:?}", ensured.changes);
        assert_eq!(ensured.value.unwrap().id, GROUP);
    }
}

#[tokio::test]
async fn the_client_deletes_its_group() {
    let (_server, client) = responding_with(&["groups by tenant", "group delete"]).await;

    let deleted = client
        .delete_group(TENANT, None, Mode::Apply)
        .await
        .unwrap();

    assert_eq!(deleted.changes, ["group deleted"]);
}

#[tokio::test]
async fn deleting_a_missing_group_is_not_an_error() {
    // The deletion itself gets 404, like every request that is not recorded.
    let (_server, client) = responding_with(&["groups by tenant"]).await;

    let deleted = client
        .delete_group(TENANT, None, Mode::Apply)
        .await
        .unwrap();

    assert!(deleted.changes.is_empty());
}

#[tokio::test]
async fn the_client_reads_members_page_by_page() {
    let (_server, client) = responding_with(&["members, page 1", "members, page 2"]).await;

    let members = client.list_members(GROUP).await.unwrap();

    let members: Vec<_> = members
        .iter()
        .map(|user| (user.pk, user.groups.as_slice()))
        .collect();
    let groups = &[GROUP.to_owned()][..];
    assert_eq!(members, [(43, groups), (42, groups)]);
}

#[tokio::test]
async fn a_missing_group_has_no_members() {
    let (_server, client) = responding_with(&["members of a missing group are a 400"]).await;

    assert_eq!(client.list_members(MISSING_GROUP).await.unwrap(), []);
}

#[tokio::test]
async fn the_client_adds_and_removes_members() {
    let names = ["member add, who is one already", "member remove"];
    let (_server, client) = responding_with(&names).await;

    client.add_member(GROUP, 42).await.unwrap();
    client.remove_member(GROUP, 42).await.unwrap();
}

#[tokio::test]
async fn adding_an_unknown_user_fails() {
    let (_server, client) = responding_with(&["member add, unknown user"]).await;

    let error = client.add_member(GROUP, 999_999).await.unwrap_err();

    assert!(matches!(error, ClientError::Rejected(_)), "{error}");
}

#[tokio::test]
async fn the_client_finds_a_user_by_their_address_in_lower_case() {
    let (_server, client) = responding_with(&["users by username"]).await;

    let user = client
        .ensure_user(" Jane@Acme.example", "Jane")
        .await
        .unwrap();

    assert_eq!(user.pk, 42);
    assert_eq!(user.attributes["locale"], "da");
}

#[tokio::test]
async fn the_client_creates_a_missing_user() {
    let (_server, client) = responding_with(&["users by username, none", "user create"]).await;

    let user = client
        .ensure_user("ada@acme.example", "Ada Poe")
        .await
        .unwrap();

    assert_eq!(
        (user.pk, user.username.as_str()),
        (1001, "ada@acme.example")
    );
}

#[tokio::test]
async fn the_client_suspends_a_user_and_ends_all_sessions_and_tokens() {
    let (server, client) = responding_with(&[
        "user read",
        "user deactivate",
        "sessions by username",
        "refresh tokens by user",
        "access tokens by user",
        "session delete",
        "refresh token delete",
        "access token delete",
    ])
    .await;
    let none = json!({ "pagination": { "next": 0, "count": 0 }, "results": [] });
    Mock::given(wiremock::matchers::method("GET"))
        .respond_with(ResponseTemplate::new(200).set_body_json(none))
        .mount(&server)
        .await;
    let user = Exchange::named("user read").answer.unwrap();
    let user = serde_json::from_value(user).unwrap();

    let frozen = client
        .freeze_user(&user, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    // One of the two sessions was gone (404) when it was to be deleted.
    assert_eq!(
        frozen.changes,
        [
            "user deactivated",
            "user marked as frozen",
            "3 sessions and tokens ended"
        ]
    );
}

#[tokio::test]
async fn suspending_a_missing_user_changes_nothing() {
    let (_server, client) = responding_with(&["user read, missing"]).await;
    let user = json!({ "pk": 999_999, "uuid": "", "username": "", "is_active": true });
    let user = serde_json::from_value(user).unwrap();

    let frozen = client
        .freeze_user(&user, Freeze::Tenant(TENANT), Mode::Apply)
        .await
        .unwrap();

    assert!(frozen.changes.is_empty());
}
