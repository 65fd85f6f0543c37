//! Infrastructure status for operators.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    dependency::{CheckResult, Dependency},
    id::WorkerId,
    platform::clock,
    upstream::Upstream,
};
use serde_json::{Value, json};

use crate::app::TestApp;

async fn read(app: &TestApp) -> Value {
    let reply = app.operator().get("/infrastructure").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

/// Records a dependency check that a worker made `seconds_ago`.
async fn record(app: &TestApp, subject: &Dependency, seconds_ago: u64, finding: CheckResult) {
    let at = clock::earlier(app.state.store.now(), Duration::from_secs(seconds_ago));
    let probes = &app.state.db.dependencies;
    probes.upsert(subject, &finding, at).await.unwrap();
}

#[tokio::test]
async fn unchecked_dependencies_are_unknown() {
    let app = TestApp::with_demo().await;

    let status = read(&app).await;

    let unknown = |name: &str| json!({ "name": name, "state": "unknown", "stale": false });
    assert_eq!(
        status["stores"],
        json!([unknown("mongodb"), unknown("redis")])
    );
    assert_eq!(
        status["upstreams"],
        json!([unknown("authentik"), unknown("stalwart"), unknown("ocis")])
    );
    assert_eq!(status["resolvers"], json!([]));
    assert_eq!(
        status["api"],
        json!({ "mongodb": { "ok": true }, "redis": { "ok": true } })
    );
    let queues = status["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 5);
    assert!(queues.iter().all(|queue| queue["workers"] == 0));
}

#[tokio::test]
async fn the_last_check_is_shown_with_its_age_and_last_success() {
    let app = TestApp::with_demo().await;
    let authentik = Dependency::Upstream(Upstream::Authentik);
    let resolver = Dependency::Resolver("1.1.1.1:53".to_owned());
    let answered = || CheckResult::Answered(Duration::from_millis(7));
    record(&app, &Dependency::Mongodb, 0, answered()).await;
    record(&app, &authentik, 30, answered()).await;
    let failed = CheckResult::Failed("authentik probe answered 503: unavailable".to_owned());
    record(&app, &authentik, 5, failed).await;
    record(
        &app,
        &Dependency::Upstream(Upstream::Ocis),
        5,
        CheckResult::Disabled,
    )
    .await;
    record(&app, &resolver, 90, answered()).await;

    let status = read(&app).await;

    let mongodb = &status["stores"][0];
    assert_eq!(mongodb["state"], "ok");
    assert_eq!(mongodb["latencyMs"], 7);
    assert_eq!(mongodb["stale"], false);
    assert_eq!(mongodb["lastSuccessAt"], mongodb["checkedAt"]);
    let authentik = &status["upstreams"][0];
    assert_eq!(authentik["state"], "failed");
    assert_eq!(
        authentik["error"],
        "authentik probe answered 503: unavailable"
    );
    assert_eq!(authentik["latencyMs"], Value::Null);
    assert!(authentik["lastSuccessAt"].as_str() < authentik["checkedAt"].as_str());
    let age = authentik["ageSeconds"].as_f64().unwrap();
    assert!((5.0..60.0).contains(&age), "{age}");
    assert_eq!(status["upstreams"][1]["state"], "unknown");
    assert_eq!(status["upstreams"][2]["state"], "disabled");
    let resolver = &status["resolvers"][0];
    assert_eq!(resolver["name"], "1.1.1.1:53");
    assert_eq!(resolver["state"], "ok");
    assert_eq!(resolver["stale"], true);
}

#[tokio::test]
async fn live_workers_are_counted_per_queue() {
    let app = TestApp::with_demo().await;
    let now = app.state.store.now();
    let long_ago = clock::earlier(now, Duration::from_mins(1));
    for (seen_at, stopping) in [(now, false), (now, true), (long_ago, false)] {
        let worker = doc! {
            "_id": WorkerId::new(), "name": "one", "host": "here", "slots": { "dns": 4_i64 },
            "kinds": [], "startedAt": long_ago, "seenAt": seen_at, "stopping": stopping,
        };
        app.collection("workers").insert_one(worker).await.unwrap();
    }

    let status = read(&app).await;

    let queues = status["queues"].as_array().unwrap().iter();
    let workers: Vec<_> = queues
        .map(|queue| (queue["name"].as_str().unwrap(), &queue["workers"]))
        .filter(|(_, workers)| **workers != 0)
        .collect();
    assert_eq!(workers, [("dns", &json!(1))]);
}
