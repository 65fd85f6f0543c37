//! Killing and stopping of processes.

use std::time::Duration;

use dezky_sim::{
    faults::{Fault, FaultRule},
    server::Server,
};
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::stack::{Stack, until};

fn server<'a>(stack: &'a Stack, operation: &str) -> &'a Server {
    match operation {
        "create_group" => &stack.authentik.server,
        "create_domain" => &stack.stalwart.server,
        _ => &stack.ocis.server,
    }
}

/// Delays `operation` once, and waits until it has been requested.
async fn in_the_middle_of(stack: &Stack, operation: &str, fault: Fault) {
    let server = server(stack, operation);
    let requests = || server.faults.requests().get(operation).copied();
    let before = requests();
    server.faults.add(FaultRule::once(operation, fault));
    stack.create("acme").await;
    until(operation, || requests() > before).await;
}

/// Kills the worker during `operation`, before and after its effect.
async fn kill_in_the_middle_of(operation: &str) {
    for fault in [
        Fault::SlowAnswer { millis: 1_500 },
        Fault::SlowEffect { millis: 300 },
    ] {
        let mut stack = Stack::start().await;
        in_the_middle_of(&stack, operation, fault).await;

        stack.worker.kill().await;
        stack.worker.restart().await.unwrap();

        stack.until_status("acme", "active").await;
        stack.assert_one_of_everything("acme");
    }
}

#[tokio::test]
async fn a_worker_killed_during_an_authentik_call_loses_and_duplicates_nothing() {
    kill_in_the_middle_of("create_group").await;
}

#[tokio::test]
async fn a_worker_killed_during_a_stalwart_call_loses_and_duplicates_nothing() {
    kill_in_the_middle_of("create_domain").await;
}

#[tokio::test]
async fn a_worker_killed_during_an_ocis_call_loses_and_duplicates_nothing() {
    kill_in_the_middle_of("create_space").await;
}

#[tokio::test]
async fn a_worker_paused_beyond_its_lease_writes_nothing_when_it_continues() {
    let stack = Stack::start().await;
    in_the_middle_of(&stack, "create_space", Fault::SlowAnswer { millis: 1_000 }).await;
    stack.worker.signal(Signal::SIGSTOP);
    let _second = stack.another_worker();

    stack.until_status("acme", "active").await;
    stack.until_no_job_of("provision_domain").await;
    let active = stack.tenant("acme").await;
    stack.worker.signal(Signal::SIGCONT);
    // Writes of the first worker would happen within its old lease.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let later = stack.tenant("acme").await;
    stack.assert_one_of_everything("acme");
    assert_eq!(later, active);
}

#[tokio::test]
async fn a_worker_finishes_its_running_steps_on_sigterm() {
    let mut stack = Stack::start().await;
    in_the_middle_of(&stack, "create_space", Fault::SlowAnswer { millis: 500 }).await;

    stack.worker.signal(Signal::SIGTERM);
    let ended = tokio::time::timeout(Duration::from_secs(30), stack.worker.ended())
        .await
        .unwrap()
        .unwrap();

    let tenant = stack.tenant("acme").await;
    assert!(ended.success());
    assert_eq!(
        tenant["status"],
        "active",
        "{tenant:#}\n{}",
        stack.worker_log()
    );
    stack.assert_one_of_everything("acme");
}

#[tokio::test]
async fn an_api_killed_after_its_response_loses_nothing() {
    let mut stack = Stack::start().await;

    stack.create("acme").await;
    stack.api.kill().await;
    stack.api.restart().await.unwrap();
    stack.until_ready().await;

    stack.until_status("acme", "active").await;
    stack.assert_one_of_everything("acme");
}

#[tokio::test]
async fn a_request_repeated_after_the_api_was_killed_creates_no_second_tenant() {
    let mut stack = Stack::start().await;
    stack.create("acme").await;

    stack.api.kill().await;
    stack.api.restart().await.unwrap();
    stack.until_ready().await;
    let body = json!({ "slug": "acme", "name": "acme Ltd", "plan": "business" });
    let (status, problem) = stack.ask(Method::POST, "/tenants", Some(body)).await;

    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(problem["code"], "slug_taken");
}
