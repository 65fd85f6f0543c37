//! Metrics of the processes, compared with the dashboard, the alerts and the runbook.

use std::{collections::BTreeSet, fs};

use dezky_shared::queue::{
    args::{ImportMembers, MeasureStorage, ProvisionMember, RemoveApp, RemoveMember},
    job::JobArgs as _,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    workspace,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    promql,
    stack::{OwnStores, Stack, until},
};

/// Metrics that Prometheus adds.
const PROMETHEUS_OWN: [&str; 1] = ["up"];

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    summary: String,
    runbook_url: String,
}

fn ops(file: &str) -> String {
    fs::read_to_string(workspace::root().join(".ops").join(file)).unwrap()
}

fn alerts() -> Vec<Rule> {
    let rules: Rules = serde_saphyr::from_str(&ops("alerts.yml")).unwrap();
    rules
        .groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}

/// All queries of the dashboard.
fn queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(query)) = members.get("expr") {
                    found.push(query.clone());
                }
                members.values().for_each(|member| collect(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let dashboard: Value = serde_json::from_str(&ops("grafana-dashboard.json")).unwrap();
    collect(&dashboard, &mut found);
    found
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_query_only_exported_metrics() {
    let stack = Stack::start().await;
    stack.create("acme").await;
    stack.until_status("acme", "active").await;
    stack.ask(Method::GET, "/tenants/acme", None).await;
    stack
        .until_measured("dezky_job_attempts_total", "provision_tenant", 2.0)
        .await;

    let [api, worker] = stack.scrape().await;

    let mut measured = &api.series() | &worker.series();
    measured.extend(PROMETHEUS_OWN.map(str::to_owned));
    let mut queries = queries();
    queries.extend(alerts().into_iter().map(|alert| alert.expr));
    assert!(queries.len() > 20, "{queries:#?}");
    for query in &queries {
        let named = promql::metrics(query);
        assert!(!named.is_empty(), "{query}");
        let unknown: Vec<_> = named.difference(&measured).collect();
        assert!(
            unknown.is_empty(),
            "{query} uses the unknown metrics {unknown:?}"
        );
    }
    for scrape in [&api, &worker] {
        assert_eq!(scrape.described(), scrape.typed());
    }
}

#[tokio::test]
async fn attempts_are_counted_from_0_for_kinds_that_never_ran() {
    const KINDS: [&str; 5] = [
        ImportMembers::KIND,
        ProvisionMember::KIND,
        RemoveMember::KIND,
        RemoveApp::KIND,
        MeasureStorage::KIND,
    ];
    let stack = Stack::start().await;

    let [_, worker] = stack.scrape().await;

    for kind in KINDS {
        for (outcome, class) in [
            ("complete", "none"),
            ("retry", "conflict"),
            ("discard", "bug"),
        ] {
            let labels = [("kind", kind), ("outcome", outcome), ("class", class)];
            assert!(
                worker.has("dezky_job_attempts_total", &labels),
                "{labels:?}"
            );
        }
    }
}

#[test]
fn alerts_and_runbook_entries_correspond_one_to_one() {
    let runbook = ops("runbook.md");
    let entries: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let alerts = alerts();

    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.alert.as_str()).collect();

    assert_eq!(entries, names);
    for alert in &alerts {
        let label = "{{ $externalLabels.dezky_runbook }}";
        let link = format!("{label}#{}", alert.alert.to_lowercase());
        assert_eq!(alert.annotations.runbook_url, link);
        assert!(!alert.annotations.summary.is_empty());
    }
    for entry in runbook.split("\n## ").skip(1) {
        for part in ["**Means**", "**Look at**", "**Do**"] {
            assert!(entry.contains(part), "{part} is missing: {entry}");
        }
    }
}

#[tokio::test]
async fn the_leader_exports_the_backlog() {
    let stack = Stack::start().await;
    let slow = Fault::SlowAnswer { millis: 5_000 };
    stack
        .ocis
        .server
        .faults
        .add(FaultRule::once("create_space", slow));
    stack.create("acme").await;
    for _ in 0..3 {
        let dry_run = Some(json!({ "dryRun": true }));
        stack
            .ask(Method::POST, "/tenants/acme/reconcile", dry_run)
            .await;
    }

    stack.until_measured("dezky_leader", "", 1.0).await;
    stack
        .until_measured("dezky_queue_depth", "queue=\"provisioning\"", 3.0)
        .await;
    stack
        .until_measured(
            "dezky_queue_oldest_due_age_seconds",
            "queue=\"provisioning\"",
            0.5,
        )
        .await;
    stack.until_status("acme", "active").await;
    let waited = async || {
        let [_, worker] = stack.scrape().await;
        worker.sum("dezky_queue_depth", "provisioning")
    };
    while waited().await > 0.0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn rescues_are_counted() {
    let mut stack = Stack::start().await;
    let slow = Fault::SlowAnswer { millis: 1_500 };
    let faults = stack.ocis.server.faults.clone();
    faults.add(FaultRule::once("create_space", slow));
    stack.create("acme").await;
    until("create_space", || {
        faults.requests().get("create_space") > Some(&1)
    })
    .await;

    stack.worker.kill().await;
    stack.worker.restart().await.unwrap();

    stack.until_status("acme", "active").await;
    stack
        .until_measured("dezky_jobs_rescued_total", "released", 1.0)
        .await;
}

#[tokio::test]
async fn the_readiness_of_a_worker_reflects_its_dependencies() {
    let mut stores = OwnStores::start().await;
    let stack = Stack::start_on(&stores).await;
    let [_, worker] = stack.metrics.clone();
    let (healthz, readyz) = (format!("{worker}/healthz"), format!("{worker}/readyz"));

    let ready = stack.get(&readyz).await;
    stores.redis.kill().await;
    let degraded = stack.get(&readyz).await;
    stores.mongo.kill().await;
    let unready = stack.get(&readyz).await;
    let alive = stack.get(&healthz).await;

    assert_eq!(ready.0, 200, "{ready:?}");
    assert!(degraded.1.contains("\"degraded\""), "{degraded:?}");
    assert_eq!(degraded.0, 200, "{degraded:?}");
    assert_eq!(unready.0, 503, "{unready:?}");
    assert_eq!(alive.0, 200, "{alive:?}");
    assert!(alive.1.contains("\"dezky-worker\""), "{alive:?}");
}
