//! The operators' console in headless Chromium, on the whole system: without script, by axe-core, under attack, and as a
//! person repairs failures with it.

use std::process::Stdio;

use dezky_shared::{id::JobId, queue::job::Job};
use dezky_sim::{
    callers::{Caller, DEMO_TENANT, FAILING_TENANT, console_address},
    demo,
    faults::{Fault, FaultRule},
    tools::browser_tools,
};
use futures::TryStreamExt as _;
use mongodb::bson::doc;
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
/// Jobs that the outage leaves discarded in all.
const OUTAGE: usize = 500;

/// Lets the files service reject spaces, creates tenants until their jobs are discarded, and adds the jobs that a long
/// outage leaves behind.
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
    let discarded = until_discarded(stack).await;
    copy(stack, &discarded).await;
}

/// Waits until the jobs of the failing tenants are discarded: of these, and of that of the demo.
async fn until_discarded(stack: &Stack) -> Vec<Job> {
    let deadline = Instant::now() + DEADLINE;
    let jobs = stack.database().await.collection::<Job>("jobs");
    loop {
        let found = jobs
            .find(doc! { "kind": "provision_tenant", "state": "discarded" })
            .await;
        let discarded: Vec<Job> = found.unwrap().try_collect().await.unwrap();
        if discarded.len() == DISCARDED.len() + 2 {
            return discarded;
        }
        assert!(
            Instant::now() < deadline,
            "{} jobs are discarded: {discarded:#?}",
            discarded.len()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Stores copies of discarded jobs, until there are as many as the outage leaves.
async fn copy(stack: &Stack, discarded: &[Job]) {
    let copies = discarded.iter().cycle().take(OUTAGE - discarded.len());
    let copies = copies.map(|job| Job {
        id: JobId::new(),
        ..job.clone()
    });
    let jobs = stack.database().await.collection::<Job>("jobs");
    jobs.insert_many(copies).await.unwrap();
}

/// Number of discarded jobs that no operator has dealt with, and of those that were requeued.
async fn left_and_requeued(stack: &Stack) -> [u64; 2] {
    let jobs = stack.database().await.collection::<Job>("jobs");
    let discarded = |is_requeued: bool| {
        let filter = doc! {
            "kind": "provision_tenant", "state": "discarded", "requeuedTo": { "$exists": is_requeued },
        };
        jobs.count_documents(filter).into_future()
    };
    let (left, requeued) = tokio::try_join!(discarded(false), discarded(true)).unwrap();
    [left, requeued]
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
        "printed": console_address(&stack.url),
        "control": control,
        "token": stack.operator,
        "colleague": colleague["id"],
        "failing": FAILING,
        "discarded": OUTAGE,
        "name": NAME,
        "demo": DEMO_TENANT,
        "left": FAILING_TENANT,
    }))
    .await;

    assert_eq!(left_and_requeued(&stack).await, [0, OUTAGE as u64]);
    stack.until_status(FAILING, "active").await;
    stack.until_status(FAILING_TENANT, "active").await;
    for slug in DISCARDED {
        stack.until_status(slug, "active").await;
        stack.assert_one_of_everything(slug);
    }
}
