//! The operators' console in headless Chromium, on the whole system: without script, by axe-core, under attack, and as a
//! person repairs failures with it.

use std::process::Stdio;

use dezky_sim::{
    callers::{Caller, DEMO_TENANT, FAILING_TENANT},
    demo,
    faults::{Fault, FaultRule},
    tools::browser_tools,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, task::spawn_blocking, time::Instant};

use crate::stack::{DEADLINE, Stack};

/// The first script runs the others.
const SCRIPTS: [(&str, &str); 5] = [
    ("console.mjs", include_str!("console/console.mjs")),
    (
        "accessibility.mjs",
        include_str!("console/accessibility.mjs"),
    ),
    ("attacks.mjs", include_str!("console/attacks.mjs")),
    ("incidents.mjs", include_str!("console/incidents.mjs")),
    ("navigation.mjs", include_str!("console/navigation.mjs")),
];
/// Slug of the tenant that fails.
const FAILING: &str = "globex";
/// Its name, which must be shown as text.
const NAME: &str = "Globex <img src=x onerror=alert(1)>";
/// Tenants whose jobs an outage leaves discarded.
const DISCARDED: [&str; 12] = [
    "ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "kiwi", "lynx",
];

/// Lets the files service reject spaces, and creates tenants until their jobs are discarded.
async fn break_tenants(stack: &Stack) {
    let rejected = Fault::Status {
        status: 400,
        retry_after: None,
    };
    stack.ocis.server.faults.add(FaultRule {
        operation: Some("create_space".to_owned()),
        ..FaultRule::every(rejected)
    });
    let failing = json!({ "slug": FAILING, "name": NAME, "domains": [format!("{FAILING}.test")] });
    let (status, created) = stack.ask(Method::POST, "/tenants", Some(failing)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{created}");
    for slug in DISCARDED {
        stack.create(slug).await;
    }
    let deadline = Instant::now() + DEADLINE;
    let path = "/jobs?kind=provision_tenant&state=discarded&limit=100";
    loop {
        let (_, jobs) = stack.ask(Method::GET, path, None).await;
        let discarded = jobs["items"].as_array().map_or(0, Vec::len);
        // The failing tenant, and that of the demo.
        if discarded == DISCARDED.len() + 2 {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{discarded} jobs are discarded: {jobs:#?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Runs the scripts. Panics with their output if one fails.
async fn run(world: &Value) {
    let tools = spawn_blocking(browser_tools).await.unwrap().unwrap();
    let directory = TempDir::new().unwrap();
    let command = tools.command(directory.path(), &SCRIPTS).unwrap();
    let ended = Command::from(command)
        .arg(world.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let output = [ended.stdout, ended.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(ended.status.success(), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_works_in_the_console_and_an_attacker_does_not() {
    let stack = Stack::start_with_console().await;
    let control = stack.serve_control().await;
    demo::provision(&stack.url, &control, None, |line| tracing::info!(line))
        .await
        .unwrap();
    let colleague = Caller::OperatorWithoutFlag;
    let (_, colleague) = stack
        .ask_as(colleague, Method::GET, "/users/me", None)
        .await;
    break_tenants(&stack).await;

    run(&json!({
        "origin": stack.url,
        "control": control,
        "token": stack.operator,
        "colleague": colleague["id"],
        "failing": FAILING,
        "name": NAME,
        "demo": DEMO_TENANT,
        "left": FAILING_TENANT,
    }))
    .await;

    stack.until_status(FAILING, "active").await;
    stack.until_status(FAILING_TENANT, "active").await;
    for slug in DISCARDED {
        stack.until_status(slug, "active").await;
        stack.assert_one_of_everything(slug);
    }
}
