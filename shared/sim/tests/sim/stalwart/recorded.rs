//! The simulator against exchanges recorded from a real server.
//!
//! A file is a sequence of steps on a new server. In an expectation, `*` matches any value, and `$name` a value that
//! is equal wherever it occurs.

use std::collections::BTreeMap;

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::stalwart::StalwartSim;
use serde::Deserialize;
use serde_json::{Value, json};

use super::stalwart;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    name: String,
    #[serde(rename = "as", default)]
    caller: Caller,
    /// Method calls to post.
    #[serde(default)]
    calls: Vec<(String, Value)>,
    /// Alternatively, a body to post.
    text: Option<String>,
    content_type: Option<String>,
    /// Alternatively, a path to get.
    get: Option<String>,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    replies: Vec<(String, Value)>,
    body: Option<Value>,
}

fn ok() -> u16 {
    200
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Caller {
    #[default]
    Administrator,
    Stranger,
    Anonymous,
    #[serde(untagged)]
    User(String, String),
}

async fn replay(file: &str) {
    let (sim, _) = stalwart().await;
    let http = TrustRoots::default().client_builder().build().unwrap();
    let mut known = BTreeMap::new();
    for step in serde_json::from_str::<Vec<Step>>(file).unwrap() {
        let response = request(&sim, &http, &step, &known).send().await.unwrap();

        assert_eq!(response.status().as_u16(), step.status, "{}", step.name);
        for (name, value) in &step.headers {
            assert_eq!(response.headers()[name.as_str()], value, "{}", step.name);
        }
        let text = response.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(expected) = &step.body {
            must_match(&step.name, expected, &body, &mut known);
        }
        for (position, (method, reply)) in step.replies.iter().enumerate() {
            let mut actual = body["methodResponses"][position].clone();
            if let Some(arguments) = actual[1].as_object_mut() {
                arguments.remove("accountId");
            }
            let expected = json!([method, reply, position.to_string()]);
            must_match(&step.name, &expected, &actual, &mut known);
        }
    }
}

fn request(
    sim: &StalwartSim,
    http: &reqwest::Client,
    step: &Step,
    known: &BTreeMap<String, Value>,
) -> reqwest::RequestBuilder {
    let url = format!(
        "{}{}",
        sim.server.url,
        step.get.as_deref().unwrap_or("/jmap")
    );
    let calls: Vec<Value> = step
        .calls
        .iter()
        .enumerate()
        .map(|(position, (method, arguments))| {
            json!([method, filled_in(arguments, known), position.to_string()])
        })
        .collect();
    let request = match (&step.get, &step.text) {
        (Some(_), _) => http.get(url),
        (None, Some(text)) => {
            let content_type = step.content_type.as_deref().unwrap_or("application/json");
            http.post(url)
                .header("content-type", content_type)
                .body(text.clone())
        }
        (None, None) => http.post(url).json(&json!({
            "using": ["urn:ietf:params:jmap:core", "urn:stalwart:jmap"],
            "methodCalls": calls,
        })),
    };
    match &step.caller {
        Caller::Administrator => request.bearer_auth(StalwartSim::TOKEN),
        Caller::Stranger => request.bearer_auth("API_stranger"),
        Caller::Anonymous => request,
        Caller::User(email, password) => request.basic_auth(email, Some(password)),
    }
}

/// A value with the names replaced by the values known so far.
fn filled_in(value: &Value, known: &BTreeMap<String, Value>) -> Value {
    match value {
        Value::String(name) => known.get(name).unwrap_or(value).clone(),
        Value::Array(items) => items.iter().map(|item| filled_in(item, known)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), filled_in(member, known)))
            .collect(),
        _ => value.clone(),
    }
}

fn must_match(step: &str, expected: &Value, actual: &Value, known: &mut BTreeMap<String, Value>) {
    match (expected, actual) {
        (Value::String(any), _) if any == "*" => {}
        (Value::String(name), _) if name.starts_with('$') => {
            let value = known.entry(name.clone()).or_insert_with(|| actual.clone());
            assert_eq!(value, actual, "{step}: {name}");
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (expected, actual) in expected.iter().zip(actual) {
                must_match(step, expected, actual, known);
            }
        }
        (Value::Object(expected), Value::Object(actual)) if expected.keys().eq(actual.keys()) => {
            for (name, expected) in expected {
                must_match(step, expected, &actual[name], known);
            }
        }
        _ => assert_eq!(actual, expected, "{step}"),
    }
}

#[tokio::test]
async fn domains_and_their_keys_behave_as_recorded() {
    replay(include_str!("../../fixtures/stalwart/domains.json")).await;
}

#[tokio::test]
async fn accounts_and_their_suspension_behave_as_recorded() {
    replay(include_str!("../../fixtures/stalwart/accounts.json")).await;
}

#[tokio::test]
async fn lists_and_the_removal_of_a_domain_behave_as_recorded() {
    replay(include_str!("../../fixtures/stalwart/removal.json")).await;
}

#[tokio::test]
async fn requests_refused_as_a_whole_behave_as_recorded() {
    replay(include_str!("../../fixtures/stalwart/requests.json")).await;
}
