//! What Authentik is known to answer, word for word where it matters: the simulator must answer the same, and the
//! client must read it right.

use std::collections::BTreeSet;

use dezky_shared::clients::{ClientError, Mode, TrustRoots, authentik::Authentik};
use dezky_sim::authentik::{AuthentikSim, Group, OAuthToken, Session, User};
use serde::Deserialize;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{OTHER_TENANT, TENANT, client_at, marks, sim};

const GROUP: &str = "ba4af669-4637-4467-af2e-1f9961dc4bd3";
const MISSING_GROUP: &str = "babe9600-3ef4-44d5-a5fe-c12a4801a1a5";

/// One request and its answer, in the world that [`world`] sets up.
#[derive(Debug, Clone, Deserialize)]
struct Exchange {
    name: String,
    /// What is different about the world.
    with: Option<String>,
    /// The simulator does not answer so of its own accord.
    #[serde(default)]
    only_for_clients: bool,
    #[serde(default = "live_token")]
    token: Option<String>,
    /// Method and path; paths are below `/api/v3`, except those of health.
    request: String,
    #[serde(default = "json_type")]
    content_type: String,
    /// A text is sent as it is, anything else as JSON.
    body: Option<Value>,
    status: u16,
    /// What the answer holds; it may hold more.
    answer: Option<Value>,
    /// Members of the answer that may not hold more.
    #[serde(default)]
    exactly: Vec<String>,
}

fn live_token() -> Option<String> {
    Some(AuthentikSim::TOKEN.to_owned())
}

fn json_type() -> String {
    "application/json".to_owned()
}

impl Exchange {
    fn all() -> Vec<Self> {
        let files = [
            include_str!("../../fixtures/authentik/access.json"),
            include_str!("../../fixtures/authentik/groups.json"),
            include_str!("../../fixtures/authentik/sessions.json"),
            include_str!("../../fixtures/authentik/users.json"),
        ];
        let exchanges = files.map(|file| serde_json::from_str::<Vec<Self>>(file).unwrap());
        exchanges.concat()
    }

    fn named(name: &str) -> Self {
        let found = Self::all()
            .into_iter()
            .find(|exchange| exchange.name == name);
        found.unwrap_or_else(|| panic!("no exchange is called {name:?}"))
    }

    fn method(&self) -> &str {
        self.request.split_once(' ').unwrap().0
    }

    fn path_and_query(&self) -> String {
        match self.request.split_once(' ').unwrap().1 {
            path if path.starts_with("/-/") => path.to_owned(),
            path => format!("/api/v3{path}"),
        }
    }

    /// Whether the client's request is this one. It may ask for more, and chooses the size of pages.
    fn is_asked_by(&self, request: &Request) -> bool {
        let url = request.url.join(&self.path_and_query()).unwrap();
        let asked: BTreeSet<_> = request.url.query_pairs().collect();
        let mut wanted = url.query_pairs().filter(|(name, _)| name != "page_size");
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        request.method.as_str() == self.method()
            && request.url.path() == url.path()
            && wanted.all(|pair| asked.contains(&pair))
            && self.body.as_ref().is_none_or(|wanted| holds(&body, wanted))
    }
}

/// Whether `actual` holds all that `wanted` does. `<uuid>`, `<number>` and `<text>` stand for any of their kind.
fn holds(actual: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::String(kind) if kind == "<uuid>" => {
            actual.as_str().is_some_and(|text| text.len() == 36)
        }
        Value::String(kind) if kind == "<number>" => actual.is_i64(),
        Value::String(kind) if kind == "<text>" => {
            actual.as_str().is_some_and(|text| !text.is_empty())
        }
        Value::Object(wanted) => wanted
            .iter()
            .all(|(key, wanted)| actual.get(key).is_some_and(|value| holds(value, wanted))),
        Value::Array(wanted) => actual.as_array().is_some_and(|actual| {
            let mut pairs = actual.iter().zip(wanted);
            actual.len() == wanted.len() && pairs.all(|(value, wanted)| holds(value, wanted))
        }),
        wanted => actual == wanted,
    }
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

/// One group with two members, and what those are signed in with. A third user is in no group.
async fn world() -> AuthentikSim {
    let sim = sim().await;
    let group_id = GROUP.parse().unwrap();
    let attributes = marks(TENANT, "acme").as_object().cloned().unwrap();
    let people = [
        (
            42,
            "jane@acme.example",
            "Jane Doe",
            "bdd101df-d1ca-4707-ae77-97b7c881cc51",
        ),
        (
            43,
            "bob@acme.example",
            "Bob Roe",
            "68ef1dda-fa17-4088-a186-fc64b0284600",
        ),
        (
            44,
            "eve@acme.example",
            "Eve Moe",
            "0c26b76c-8faa-4179-a4dc-08551a98c0e1",
        ),
    ];
    let session = "0b737ab6-43cd-479d-a8ae-33097fc8367d".parse().unwrap();
    sim.change(|state| {
        let mut group = Group::new("acme", attributes);
        group.id = group_id;
        state.groups.insert(group_id, group);
        for (pk, username, name, uuid) in people {
            let mut user = User::new(pk, username);
            name.clone_into(&mut user.name);
            user.uuid = uuid.parse().unwrap();
            if pk < 44 {
                user.groups.insert(group_id);
            }
            if pk == 42 {
                user.attributes.insert("locale".to_owned(), "da".into());
                "tenants/acme".clone_into(&mut user.path);
            }
            state.users.insert(pk, user);
        }
        let sessions = [
            (session, 42),
            ("53a8397a-bbb4-4630-a085-b8c2e3ca783b".parse().unwrap(), 42),
            ("0d70dc47-bf78-47be-a322-6ac74e66d148".parse().unwrap(), 43),
        ];
        let sessions = sessions.map(|(id, user)| (id, Session { user }));
        state.sessions.extend(sessions);
        let token = |user, session| OAuthToken { user, session };
        state
            .refresh_tokens
            .extend([(501, token(42, None)), (502, token(43, None))]);
        state
            .access_tokens
            .extend([(901, token(42, Some(session)))]);
    });
    sim
}

#[tokio::test]
async fn the_simulator_answers_as_authentik_does() {
    let http = TrustRoots::default().client_builder().build().unwrap();

    for exchange in Exchange::all() {
        if exchange.only_for_clients {
            continue;
        }
        let sim = world().await;
        sim.set_recovery_flow(exchange.with.is_some());
        let url = format!("{}{}", sim.server.url, exchange.path_and_query());
        let mut request = http.request(exchange.method().parse().unwrap(), url);
        if let Some(token) = &exchange.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &exchange.body {
            let body = body
                .as_str()
                .map_or_else(|| body.to_string(), str::to_owned);
            request = request
                .header("content-type", &exchange.content_type)
                .body(body);
        }

        let response = request.send().await.unwrap();

        let name = &exchange.name;
        assert_eq!(response.status().as_u16(), exchange.status, "{name}");
        let body = response.bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(wanted) = &exchange.answer {
            assert!(holds(&body, wanted), "{name}: {body:#}");
            for member in &exchange.exactly {
                assert_eq!(body[member], wanted[member], "{name}");
            }
        } else {
            assert_eq!(body, Value::Null, "{name}");
        }
    }
}

/// An Authentik that answers what was recorded, in turn when the same is asked again, and 404 to all else.
async fn answering(names: &[&str]) -> (MockServer, Authentik) {
    let server = MockServer::start().await;
    for name in names {
        let exchange = Exchange::named(name);
        let mut answer = ResponseTemplate::new(exchange.status);
        if let Some(body) = &exchange.answer {
            answer = answer.set_body_json(filled(body));
        }
        Mock::given(move |request: &Request| exchange.is_asked_by(request))
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
