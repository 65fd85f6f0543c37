//! Responses recorded from a running server: the simulator has to return them, and the client has to parse them.

use std::collections::HashMap;

use axum::{Json, Router, body::Body, extract::Path, response::Response, routing::get};
use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{
    effects::Effects,
    ocis::OcisSim,
    server::{Classified, Server},
};
use dezky_upstreams::clients::{ClientError, Mode, ocis::Space};
use serde::Deserialize;
use serde_json::Value;

use super::{app_token, client, start};

const SPACES: &str = include_str!("../../fixtures/ocis/spaces.json");
const PEOPLE: &str = include_str!("../../fixtures/ocis/people.json");
const MEMBERS: &str = include_str!("../../fixtures/ocis/members.json");
const ANSWERS: &str = include_str!("../../fixtures/ocis/answers.json");
const LIST: &str = include_str!("../../fixtures/ocis/list.json");

#[derive(Deserialize)]
struct Exchange {
    what: String,
    request: RecordedRequest,
    response: RecordedResponse,
    /// Name for the id in the response, for reference by later exchanges.
    keep: Option<String>,
}

#[derive(Deserialize)]
struct RecordedRequest {
    method: String,
    path: String,
    #[serde(default)]
    headers: HashMap<String, String>,
    body: Option<Value>,
}

#[derive(Clone, Deserialize)]
struct RecordedResponse {
    status: u16,
    #[serde(default)]
    headers: HashMap<String, String>,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct Recorded {
    what: String,
    response: RecordedResponse,
}

/// Whether `actual` contains `expected`: further members are ignored, as is the order of lists.
fn holds(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => expected
            .iter()
            .all(|(field, value)| actual.get(field).is_some_and(|actual| holds(actual, value))),
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len()
                && expected
                    .iter()
                    .all(|value| actual.iter().any(|actual| holds(actual, value)))
        }
        _ => actual == expected,
    }
}

fn text_of(body: &Value) -> String {
    match body {
        Value::String(text) => text.clone(),
        json => json.to_string(),
    }
}

async fn replay(sim: &OcisSim, fixture: &str) {
    let http = TrustRoots::default().client_builder().build().unwrap();
    let exchanges: Vec<Exchange> = serde_json::from_str(fixture).unwrap();
    let mut ids: HashMap<String, String> = HashMap::new();
    for exchange in exchanges {
        let named = |text: &str| {
            ids.iter().fold(text.to_owned(), |text, (name, id)| {
                text.replace(&format!("{{{name}}}"), id)
            })
        };
        let Exchange {
            what,
            request,
            response: expected,
            keep,
        } = exchange;
        let url = format!("{}{}", sim.server.url, named(&request.path));
        let mut call = http
            .request(request.method.parse().unwrap(), url)
            .basic_auth(OcisSim::USER, Some(OcisSim::PASSWORD));
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        if let Some(body) = &request.body {
            call = call.body(named(&text_of(body)));
        }

        let answer = call.send().await.unwrap();

        assert_eq!(answer.status().as_u16(), expected.status, "{what}");
        for (name, value) in &expected.headers {
            assert_eq!(answer.headers()[name.as_str()], value.as_str(), "{what}");
        }
        let body = answer.text().await.unwrap();
        match &expected.body {
            None => assert!(expected.status == 200 || body.is_empty(), "{what}: {body}"),
            Some(Value::String(text)) => assert_eq!(&body, text, "{what}"),
            Some(expected) => {
                let actual: Value = serde_json::from_str(&body).unwrap();
                let expected: Value = serde_json::from_str(&named(&text_of(expected))).unwrap();
                assert!(holds(&actual, &expected), "{what}: {actual}");
            }
        }
        if let Some(name) = keep {
            let body: Value = serde_json::from_str(&body).unwrap();
            ids.insert(name, body["id"].as_str().unwrap().to_owned());
        }
    }
}

/// A server that gives every request this response.
async fn responding_with(recorded: RecordedResponse) -> Server {
    let router = Router::new().fallback(move || {
        let mut response = Response::builder().status(recorded.status);
        for (name, value) in &recorded.headers {
            response = response.header(name, value);
        }
        let body = recorded.body.as_ref().map(text_of).unwrap_or_default();
        std::future::ready(response.body(Body::from(body)).unwrap())
    });
    serve(router).await
}

async fn serve(router: Router) -> Server {
    let other = |_: &_, _: &str, _: &_, _: &[u8]| Classified {
        operation: "other",
        write: false,
    };
    Server::start(
        ([127, 0, 0, 1], 0).into(),
        router,
        other,
        Effects::default(),
    )
    .await
    .unwrap()
}

#[tokio::test]
async fn the_simulator_handles_spaces_as_recorded() {
    let sim = start().await;

    replay(&sim, SPACES).await;
}

#[tokio::test]
async fn the_simulator_handles_users_and_groups_as_recorded() {
    let sim = start().await;

    replay(&sim, PEOPLE).await;
}

#[tokio::test]
async fn the_simulator_handles_members_of_spaces_as_recorded() {
    let sim = start().await;

    replay(&sim, MEMBERS).await;
}

#[tokio::test]
async fn the_client_classifies_each_recorded_response() {
    let recorded: Vec<Recorded> = serde_json::from_str(ANSWERS).unwrap();
    for Recorded { what, response } in recorded {
        let server = responding_with(response).await;

        let result = client(&app_token(&server.url)).check().await;

        let meaning = match result {
            Ok(()) => "ok",
            Err(ClientError::Unavailable(_)) => "unavailable",
            Err(ClientError::Permission(_)) => "permission",
            Err(ClientError::Rejected(_)) => "rejected",
            Err(ClientError::Conflict(_)) => "conflict",
            Err(other) => panic!("{what}: {other:?}"),
        };
        let expected = match what.as_str() {
            "who we are" => "ok",
            "credentials refused"
            | "account unknown"
            | "account or role not resolved"
            | "a failure inside" => "unavailable",
            "no right to create a space"
            | "no right to set a quota"
            | "not found or not permitted" => "permission",
            "unknown route"
            | "unknown method"
            | "unsupported filter"
            | "over the largest quota" => "rejected",
            "name taken" => "conflict",
            other => panic!("no expectation for {other}"),
        };
        assert_eq!(meaning, expected, "{what}");
    }
}

/// A server with the recorded spaces, whose creator is the account of all requests.
async fn with_recorded_spaces() -> Server {
    let list: Value = serde_json::from_str(LIST).unwrap();
    let creator = &list["value"][0]["root"]["permissions"][0]["grantedToV2"]["user"]["id"];
    let me = serde_json::json!({ "id": creator });
    let spaces = list["value"].as_array().unwrap().clone();
    let find = move |Path(id): Path<String>| {
        let space = spaces.iter().find(|space| space["id"] == id.as_str());
        std::future::ready(Json(space.unwrap().clone()))
    };
    let router = Router::new()
        .route(
            "/graph/v1.0/me",
            get(move || std::future::ready(Json(me.clone()))),
        )
        .route(
            "/graph/v1.0/drives",
            get(move || std::future::ready(Json(list.clone()))),
        )
        .route("/graph/v1.0/drives/{id}", get(find));
    serve(router).await
}

#[tokio::test]
async fn the_client_parses_recorded_spaces() {
    let server = with_recorded_spaces().await;
    let ocis = client(&app_token(&server.url));
    // The recorded aliases serve as markers.
    let changes = async |tenant: &str, name: &str, quota: u64| {
        let [space] =
            <[Space; 1]>::try_from(ocis.find_unrecorded_spaces(tenant).await.unwrap()).unwrap();
        let changes = ocis.ensure_space(&space, tenant, name, quota, Mode::DryRun);
        (space.id.clone(), changes.await.unwrap())
    };

    let (trashed, restored) = changes("beta-files", "Beta Files", 500_000).await;
    let (_, unlimited) = changes("gamma-files", "Gamma Files", 0).await;

    assert_eq!(restored, ["space restored"]);
    assert!(trashed.ends_with("$87eefca1-2b49-40b7-8742-8cdebc62aa8f"));
    assert!(unlimited.is_empty(), "{unlimited:?}");
}

#[tokio::test]
async fn only_public_routes_respond_without_credentials() {
    let sim = start().await;
    let http = TrustRoots::default().client_builder().build().unwrap();
    let get = |path: &str| http.get(format!("{}{path}", sim.server.url));

    let status = get("/status.php").send().await.unwrap();
    let drives = get("/graph/v1.0/drives").send().await.unwrap();
    let browser = get("/graph/v1.0/nosuch").header("X-Requested-With", "XMLHttpRequest");
    let browser = browser.send().await.unwrap();

    assert_eq!(status.status(), 200);
    assert_eq!(drives.status(), 401);
    assert!(drives.headers().contains_key("www-authenticate"));
    assert_eq!(drives.text().await.unwrap(), "");
    assert_eq!(browser.status(), 401);
    assert!(!browser.headers().contains_key("www-authenticate"));
}
