//! Contract test by schemathesis: each generated request gets a documented response, and is refused where the document
//! forbids it.

mod callers;
mod document;

use std::{fs, path::PathBuf, process::Stdio};

use dezky_sim::tools;
use futures::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

use self::callers::Caller;
use crate::stack::Stack;

/// Seed of schemathesis; another finds other requests.
const SEED: &str = "1";
/// Number of callers that run concurrently.
const AT_ONCE: usize = 2;
/// Minimum number of requests.
const LEAST: f64 = 2_000.0;
/// Minimum number of requests that are valid: most break a rule of the document on purpose.
const LEAST_ACCEPTED: f64 = 300.0;

#[tokio::test]
async fn responses_match_the_document() {
    let stack = Stack::start_with(&[
        // Without a token, every request is to be answered 401.
        ("API_FAILED_SIGN_INS_PER_ADDRESS", "0".to_owned()),
        // Thirty-two bytes, so that people can be invited.
        ("SEALING_KEYS", format!("test:{}=", "A".repeat(43))),
        ("STRIPE_PUBLISHABLE_KEY", "pk_test_1".to_owned()),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_1".to_owned()),
    ])
    .await;
    let callers = callers::all(&stack).await;
    let directory = tempfile::tempdir().unwrap();
    let trial = Trial {
        url: stack.url.clone(),
        document: directory.path().join("openapi.json"),
        config: directory.path().join("schemathesis.toml"),
    };
    let (_, mut document) = stack.ask(Method::GET, "/openapi.json", None).await;
    document::make_strict(&mut document);
    fs::write(&trial.document, document.to_string()).unwrap();
    fs::write(&trial.config, config(&stack, &callers).await).unwrap();
    let [before, _] = stack.scrape().await;

    let runs = callers
        .iter()
        .filter_map(|caller| Some(trial.by(caller, caller.extent()?)));
    let outcomes: Vec<Outcome> = stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;

    let failed: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| !outcome.is_clean)
        .collect();
    for outcome in &failed {
        eprintln!("As {}:\n{}", outcome.caller, outcome.findings());
    }
    let [after, _] = stack.scrape().await;
    // While it starts, it answers that it does: 503.
    let answered = |label: &str| {
        let [before, after] = [&before, &after].map(|it| it.sum("http_requests_total", label));
        after - before
    };
    let (requests, accepted) = (answered(""), answered("status=\"2"));
    eprintln!("{requests} requests, {accepted} of them accepted");
    assert!(
        failed.is_empty(),
        "see above, and replay it against `cargo dev up`"
    );
    assert!(requests >= LEAST, "{requests}");
    assert!(accepted >= LEAST_ACCEPTED, "{accepted}");
    assert!(answered("status=\"5") < 1.0);
}

/// Configuration of schemathesis.
async fn config(stack: &Stack, callers: &[Caller]) -> String {
    let user = |name: &str| {
        let caller = callers.iter().find(|caller| caller.name == name);
        caller.unwrap().user.clone()
    };
    let (_, jobs) = stack.ask(Method::GET, "/tenants/demo/jobs", None).await;
    let subscription = json!({ "tenant": "demo", "plan": "business", "cycle": "monthly", "seats": 5, "currency": "EUR", "priceMinor": 4_900 });
    let price =
        json!({ "plan": "business", "cycle": "yearly", "currency": "EUR", "amountMinor": 49_000 });
    include_str!("schemathesis.toml")
        .replace("JOB", &id(&jobs["items"][0]))
        .replace("STRANGER", &user("stranger"))
        .replace("MEMBER", &user("member"))
        .replace("STAFF", &user("partner-read-only"))
        .replace(
            "SUBSCRIPTION",
            &created(stack, "/subscriptions", subscription).await,
        )
        .replace("PRICE", &created(stack, "/prices", price).await)
}

/// The id of something that is made.
async fn created(stack: &Stack, list: &str, body: Value) -> String {
    let (status, made) = stack.ask(Method::POST, list, Some(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    id(&made)
}

fn id(view: &Value) -> String {
    view["id"].as_str().unwrap().to_owned()
}

/// Service under test.
struct Trial {
    url: String,
    document: PathBuf,
    config: PathBuf,
}

/// Result of a run as one caller.
struct Outcome {
    caller: &'static str,
    is_clean: bool,
    output: String,
}

impl Outcome {
    /// The part of the output that names the failures.
    fn findings(&self) -> &str {
        let start = ["= ERRORS =", "= FAILURES ="]
            .iter()
            .filter_map(|title| self.output.find(title))
            .min();
        &self.output[start.unwrap_or_default()..]
    }
}

impl Trial {
    async fn by(&self, caller: &Caller, extent: &[&str]) -> Outcome {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::from(tools::schemathesis().unwrap());
        command
            .args(["--no-color", "--config-file"])
            .arg(&self.config)
            .arg("run")
            .arg(&self.document)
            .args(["--url", &self.url, "--seed", SEED])
            .args(["--generation-database", "none", "--warnings", "off"])
            // A slow test machine is no finding.
            .args(["--request-timeout", "60"])
            .args(extent)
            // It keeps what it finds where it runs.
            .current_dir(&directory);
        if let Some(token) = &caller.token {
            command.args(["--header", &format!("Authorization: Bearer {token}")]);
        }
        let ended = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let ended = ended.await.unwrap();
        Outcome {
            caller: caller.name,
            is_clean: ended.status.success(),
            output: [ended.stdout, ended.stderr]
                .map(|printed| String::from_utf8_lossy(&printed).into_owned())
                .concat(),
        }
    }
}
