//! Documented responses of Authentik 2026.8, verbatim where it matters, from its published schema and documentation
//! and from reports about running servers. The simulator has to return the same.

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::authentik::{
    Application, AuthentikSim, Binding, Device, Group, OAuthProvider, OAuthToken, Session, State,
    User,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{TENANT, marks, sim};

pub(super) const GROUP: &str = "ba4af669-4637-4467-af2e-1f9961dc4bd3";
pub(super) const MISSING_GROUP: &str = "babe9600-3ef4-44d5-a5fe-c12a4801a1a5";

/// A request and its response, in the state that [`world`] creates.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Exchange {
    pub(super) name: String,
    /// Differences from that state.
    with: Option<String>,
    /// The simulator does not produce this response on its own.
    #[serde(default)]
    only_for_clients: bool,
    /// Token; empty if none is sent.
    #[serde(default = "live_token")]
    token: String,
    /// Method and path. Paths are below `/api/v3`, except the health checks.
    request: String,
    #[serde(default = "json_type")]
    content_type: String,
    /// A string is sent verbatim, any other value as JSON.
    pub(super) body: Option<Value>,
    pub(super) status: u16,
    /// Members that the response contains; it may contain more.
    pub(super) answer: Option<Value>,
    /// Members of the response that must match completely.
    #[serde(default)]
    exactly: Vec<String>,
}

fn live_token() -> String {
    AuthentikSim::TOKEN.to_owned()
}

fn json_type() -> String {
    "application/json".to_owned()
}

impl Exchange {
    fn all() -> Vec<Self> {
        let files = [
            include_str!("../../fixtures/authentik/access.json"),
            include_str!("../../fixtures/authentik/apps.json"),
            include_str!("../../fixtures/authentik/groups.json"),
            include_str!("../../fixtures/authentik/sessions.json"),
            include_str!("../../fixtures/authentik/users.json"),
        ];
        let exchanges = files.map(|file| serde_json::from_str::<Vec<Self>>(file).unwrap());
        exchanges.concat()
    }

    pub(super) fn named(name: &str) -> Self {
        let found = Self::all()
            .into_iter()
            .find(|exchange| exchange.name == name);
        found.unwrap_or_else(|| panic!("no exchange {name:?}"))
    }

    pub(super) fn method(&self) -> &str {
        self.request.split_once(' ').unwrap().0
    }

    pub(super) fn path_and_query(&self) -> String {
        match self.request.split_once(' ').unwrap().1 {
            path if ["/-/", "/application/"]
                .iter()
                .any(|it| path.starts_with(it)) =>
            {
                path.to_owned()
            }
            path => format!("/api/v3{path}"),
        }
    }
}

/// Whether `actual` contains `wanted`. `<uuid>`, `<number>` and `<text>` match any value of their kind.
pub(super) fn holds(actual: &Value, wanted: &Value) -> bool {
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

/// An application of the group, with its provider and its binding.
fn add_app(state: &mut State) {
    let redirect_uri = json!({
        "matching_mode": "strict", "url": "https://portal.acme.example/oauth/callback",
        "redirect_uri_type": "authorization",
    });
    let fields = json!({
        "name": "tenant-acme-portal", "client_id": "portal-client", "client_secret": "portal-secret",
        "client_type": "confidential", "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [redirect_uri], "property_mappings": [], "sub_mode": "user_uuid",
        "issuer_mode": "per_provider",
    });
    let provider = OAuthProvider {
        pk: 17,
        fields: fields.as_object().cloned().unwrap(),
    };
    let application = Application {
        pk: "42bdbec9-c5cf-4987-a947-2e39d5c32fc7".parse().unwrap(),
        provider: Some(17),
        fields: json!({ "name": "Acme portal", "policy_engine_mode": "any" })
            .as_object()
            .cloned()
            .unwrap(),
    };
    let binding = Binding {
        target: application.pk,
        group: Some(GROUP.parse().unwrap()),
        user: None,
        enabled: true,
        negate: false,
    };
    let apps = &mut state.apps;
    apps.providers.insert(17, provider);
    apps.applications
        .insert("acme-portal".to_owned(), application);
    let pk = "6fb0a833-7c6f-4576-a0f2-bd803a877f31".parse().unwrap();
    apps.bindings.insert(pk, binding);
}

/// A group with two members, their sessions and tokens, an app, and a third user without a group.
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
        let token = |user, session| OAuthToken {
            user,
            session,
            provider: 17,
        };
        state
            .refresh_tokens
            .extend([(501, token(42, None)), (502, token(43, None))]);
        state
            .access_tokens
            .extend([(901, token(42, Some(session)))]);
        let devices = [(601, "TOTPDevice"), (602, "StaticDevice")];
        let devices = devices.map(|(pk, class)| {
            let device = Device {
                user: 42,
                r#type: class.to_owned(),
                confirmed: true,
                created: "2026-10-01T08:00:00.000000Z".to_owned(),
            };
            (pk, device)
        });
        state.devices.extend(devices);
        add_app(state);
    });
    sim
}

#[tokio::test]
async fn the_simulator_responds_as_documented() {
    let http = TrustRoots::default().client_builder().build().unwrap();

    for exchange in Exchange::all() {
        if exchange.only_for_clients {
            continue;
        }
        let sim = world().await;
        sim.set_recovery_flow(exchange.with.is_some());
        let url = format!("{}{}", sim.server.url, exchange.path_and_query());
        let mut request = http.request(exchange.method().parse().unwrap(), url);
        if !exchange.token.is_empty() {
            request = request.bearer_auth(&exchange.token);
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

#[tokio::test]
async fn a_page_has_twenty_items_by_default_and_a_hundred_at_most() {
    let sim = sim().await;
    for n in 0..105 {
        sim.add_group(&format!("group-{n}"), &Value::Null);
    }
    let http = TrustRoots::default().client_builder().build().unwrap();
    let page = async |query: &str| -> Value {
        let url = format!("{}/core/groups/?{query}", sim.api_url());
        let request = http.get(url).bearer_auth(AuthentikSim::TOKEN);
        request.send().await.unwrap().json().await.unwrap()
    };

    let default = page("").await;
    let greedy = page("page_size=1000").await;
    let last = page("page_size=1000&page=2").await;

    assert_eq!(default["results"].as_array().unwrap().len(), 20);
    assert_eq!(default["pagination"]["total_pages"], 6);
    assert_eq!(greedy["results"].as_array().unwrap().len(), 100);
    assert_eq!(greedy["pagination"]["next"], 2);
    assert_eq!(last["results"].as_array().unwrap().len(), 5);
    assert_eq!(last["pagination"]["next"], 0);
}
