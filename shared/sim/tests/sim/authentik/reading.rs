//! The client reads the recorded answers right, and asks for them as was recorded.

use std::collections::BTreeSet;

use dezky_sim::authentik::AuthentikSim;
use dezky_upstreams::clients::{ClientError, Mode, authentik::Authentik};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{
    OTHER_TENANT, TENANT, client_at,
    recorded::{Exchange, GROUP, MISSING_GROUP, holds},
};

/// An Authentik that answers what was recorded, in turn when the same is asked again, and 404 to all else.
async fn answering(names: &[&str]) -> (MockServer, Authentik) {
    let server = MockServer::start().await;
    for name in names {
        let exchange = Exchange::named(name);
        let mut answer = ResponseTemplate::new(exchange.status);
        if let Some(body) = &exchange.answer {
            answer = answer.set_body_json(filled(body));
        }
        Mock::given(move |request: &Request| is_asked(&exchange, request))
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

/// Whether the client's request is that of the exchange. It may ask for more, and chooses the size of pages.
fn is_asked(exchange: &Exchange, request: &Request) -> bool {
    let url = request.url.join(&exchange.path_and_query()).unwrap();
    let asked: BTreeSet<_> = request.url.query_pairs().collect();
    let mut wanted = url.query_pairs().filter(|(name, _)| name != "page_size");
    let body = serde_json::from_slice(&request.body).unwrap_or_default();
    let has_header = |name, value| request.headers.get(name).is_some_and(|it| it == value);
    let bearer = format!("Bearer {}", AuthentikSim::TOKEN);
    has_header("accept", "application/json")
        && has_header("authorization", &bearer)
        && request.method.as_str() == exchange.method()
        && request.url.path() == url.path()
        && wanted.all(|pair| asked.contains(&pair))
        && exchange
            .body
            .as_ref()
            .is_none_or(|wanted| holds(&body, wanted))
}

/// The answer with something in the place of what stands for any of its kind.
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
async fn the_client_knows_its_token() {
    let (_server, client) = answering(&["who the token belongs to"]).await;

    client.check().await.unwrap();
}

#[tokio::test]
async fn the_client_tells_a_dead_token_from_a_missing_permission() {
    for name in ["no token is a 403", "a dead token is a 403"] {
        let (_server, client) = answering(&[name]).await;

        let error = client.check().await.unwrap_err();

        assert!(matches!(error, ClientError::Credentials(_)), "{error}");
    }
}

/// What is asked before a group is created.
const NO_GROUP: [&str; 2] = ["groups by tenant, none", "groups by name, none"];

async fn ensure_globex(client: &Authentik) -> Result<Vec<String>, ClientError> {
    let ensured = client
        .ensure_group("globex", OTHER_TENANT, None, Mode::Apply)
        .await?;
    Ok(ensured.changes)
}

#[tokio::test]
async fn the_client_creates_a_group_that_is_nowhere() {
    let [by_tenant, by_name] = NO_GROUP;
    let (_server, client) = answering(&[by_tenant, by_name, "group create"]).await;

    assert_eq!(ensure_globex(&client).await.unwrap(), ["group created"]);
}

#[tokio::test]
async fn the_client_reads_why_a_group_is_not_created() {
    let [by_tenant, by_name] = NO_GROUP;
    let create = "a missing permission is a 403 with another text";
    let (_server, client) = answering(&[by_tenant, by_name, create]).await;

    let error = ensure_globex(&client).await.unwrap_err();

    let detail = "detail: You do not have permission to perform this action.";
    assert!(matches!(error, ClientError::Permission(_)), "{error}");
    assert_eq!(error.call().detail, detail);
}

#[tokio::test]
async fn an_error_inside_authentik_is_not_taken_for_a_refusal() {
    let [by_tenant, by_name] = NO_GROUP;
    let create = "a create that fails inside has an empty body";
    let (_server, client) = answering(&[by_tenant, by_name, create]).await;

    let error = ensure_globex(&client).await.unwrap_err();

    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_backend_that_is_starting_is_unavailable() {
    let (_server, client) = answering(&["the front end speaks while the backend starts"]).await;

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
        let (_server, client) = answering(names).await;

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
    let (_server, client) = answering(&["groups by tenant", "group delete"]).await;

    let deleted = client
        .delete_group(TENANT, None, Mode::Apply)
        .await
        .unwrap();

    assert_eq!(deleted.changes, ["group deleted"]);
}

#[tokio::test]
async fn a_group_that_is_gone_when_it_is_to_be_deleted_is_no_error() {
    // The deletion itself is answered with 404, as is all that is not recorded.
    let (_server, client) = answering(&["groups by tenant"]).await;

    let deleted = client
        .delete_group(TENANT, None, Mode::Apply)
        .await
        .unwrap();

    assert!(deleted.changes.is_empty());
}

#[tokio::test]
async fn the_client_reads_members_page_by_page() {
    let (_server, client) = answering(&["members, page 1", "members, page 2"]).await;

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
    let (_server, client) = answering(&["members of a missing group are a 400"]).await;

    assert_eq!(client.list_members(MISSING_GROUP).await.unwrap(), []);
}

#[tokio::test]
async fn the_client_adds_and_removes_members() {
    let names = ["member add, who is one already", "member remove"];
    let (_server, client) = answering(&names).await;

    client.add_member(GROUP, 42).await.unwrap();
    client.remove_member(GROUP, 42).await.unwrap();
}

#[tokio::test]
async fn an_unknown_user_becomes_no_member() {
    let (_server, client) = answering(&["member add, unknown user"]).await;

    let error = client.add_member(GROUP, 999_999).await.unwrap_err();

    assert!(matches!(error, ClientError::Rejected(_)), "{error}");
}

#[tokio::test]
async fn the_client_finds_a_user_by_their_address_in_lower_case() {
    let (_server, client) = answering(&["users by username"]).await;

    let user = client
        .ensure_user(" Jane@Acme.example", "Jane")
        .await
        .unwrap();

    assert_eq!(user.pk, 42);
    assert_eq!(user.attributes["locale"], "da");
}

#[tokio::test]
async fn the_client_creates_a_user_whom_it_does_not_find() {
    let (_server, client) = answering(&["users by username, none", "user create"]).await;

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
async fn the_client_freezes_a_user_and_ends_what_they_are_still_signed_in_with() {
    let (server, client) = answering(&[
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
        .freeze_user(&user, TENANT, Mode::Apply)
        .await
        .unwrap();

    // One of the two sessions was gone (404) when its turn came.
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
async fn a_user_who_is_gone_needs_no_freezing() {
    let (_server, client) = answering(&["user read, missing"]).await;
    let user = json!({ "pk": 999_999, "uuid": "", "username": "", "is_active": true });
    let user = serde_json::from_value(user).unwrap();

    let frozen = client
        .freeze_user(&user, TENANT, Mode::Apply)
        .await
        .unwrap();

    assert!(frozen.changes.is_empty());
}
