//! Traces from the request through its job to the upstreams, exported to a collector.

use std::time::Duration;

use dezky_sim::process::Process;
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    collector::{Collector, Span},
    stack::Stack,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Creates the tenant `acme` with this `traceparent`, and returns its completed job.
async fn create(stack: &Stack, traceparent: Option<&str>) -> Value {
    let body =
        json!({ "slug": "acme", "name": "acme Ltd", "plan": "business", "domains": ["acme.test"] });
    let mut request = stack.request(Method::POST, "/tenants").json(&body);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let created = request.send().await.unwrap();
    assert_eq!(created.status(), StatusCode::ACCEPTED);
    let created: Value = serde_json::from_str(&created.text().await.unwrap()).unwrap();
    stack.until_status("acme", "active").await;
    let job = created["job"]["href"].as_str().unwrap();
    stack.ask(Method::GET, job, None).await.1
}

async fn stop(process: &mut Process) {
    process.signal(Signal::SIGTERM);
    let ended = tokio::time::timeout(Duration::from_secs(30), process.ended()).await;
    assert!(ended.unwrap().unwrap().success());
}

fn trace_of(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let named = spans.iter().find(|span| span.name == name);
    named.unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

#[tokio::test]
async fn a_trace_spans_the_request_its_job_and_the_upstream_calls() {
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone());
    let mut stack = Stack::start_with(&[endpoint]).await;

    let job = create(&stack, Some(&format!("00-{TRACE}-{CALLER}-01"))).await;
    // Pending spans are exported before the process exits.
    stop(&mut stack.api).await;
    stop(&mut stack.worker).await;

    let spans = collector.trace(TRACE);
    let request = named(&spans, "POST /tenants");
    let attempt = named(&spans, "job provision_tenant");
    assert_eq!(request.parent, CALLER);
    assert_eq!(job["traceparent"], format!("00-{TRACE}-{}-01", request.id));
    assert_eq!(attempt.parent, request.id);
    for (server, operation) in [
        (&stack.authentik.server, "create_group"),
        (&stack.stalwart.server, "create_domain"),
        (&stack.ocis.server, "create_space"),
    ] {
        let received = server.traceparent(operation).unwrap();
        let call = spans.iter().find(|span| received.contains(&span.id));
        let call = call.unwrap_or_else(|| panic!("{received}: {spans:#?}"));
        assert!(call.name.ends_with(operation), "{call:?}");
        assert_eq!(call.parent, attempt.id, "{call:?}");
        assert_eq!(call.service, "dezky-worker");
    }
    assert_eq!(request.service, "dezky-platform-api");
    assert_eq!(attempt.service, "dezky-worker");
}

#[tokio::test]
async fn a_request_without_a_valid_traceparent_starts_a_trace_and_needs_no_collector() {
    let stack = Stack::start().await;

    let job = create(&stack, Some("00-<script>-00f067aa0ba902b7-01")).await;

    let stored = job["traceparent"].as_str().unwrap();
    let received = stack.ocis.server.traceparent("create_space").unwrap();
    assert_eq!(stored.len(), 55, "{stored}");
    assert_eq!(trace_of(&received), trace_of(stored));
}

#[tokio::test]
async fn an_unreachable_collector_delays_nothing() {
    let nowhere = "http://127.0.0.1:1".to_owned();
    let mut stack = Stack::start_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", nowhere)]).await;

    create(&stack, None).await;

    stack.assert_one_of_everything("acme");
    stop(&mut stack.api).await;
    stop(&mut stack.worker).await;
}
