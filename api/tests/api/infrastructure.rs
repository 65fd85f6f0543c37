//! What operators see of what the service stands on.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    dependency::{CheckResult, Dependency},
    id::WorkerId,
    platform::clock,
    upstream::Upstream,
};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::TestApp;

async fn look(app: &TestApp) -> Value {
    let reply = app.get("/infrastructure").by(Caller::Operator).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

/// Notes what a worker saw so many seconds ago.
async fn note(app: &TestApp, subject: &Dependency, seconds_ago: u64, finding: CheckResult) {
    let at = clock::earlier(app.state.store.now(), Duration::from_secs(seconds_ago));
    let probes = &app.state.probes;
    probes.upsert(subject, &finding, at).await.unwrap();
}

#[tokio::test]
async fn what_nobody_has_looked_at_is_unknown() {
    let app = TestApp::with_demo().await;

    let seen = look(&app).await;

    let unknown = |name: &str| json!({ "name": name, "state": "unknown", "stale": false });
    assert_eq!(
        seen["stores"],
        json!([unknown("mongodb"), unknown("redis")])
    );
    assert_eq!(
        seen["upstreams"],
        json!([unknown("authentik"), unknown("stalwart"), unknown("ocis")])
    );
    assert_eq!(seen["resolvers"], json!([]));
    assert_eq!(
        seen["api"],
        json!({ "mongodb": { "ok": true }, "redis": { "ok": true } })
    );
    let queues = seen["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 5);
    assert!(queues.iter().all(|queue| queue["workers"] == 0));
}

#[tokio::test]
async fn the_last_look_is_shown_with_its_age_and_when_it_last_went_well() {
    let app = TestApp::with_demo().await;
    let authentik = Dependency::Upstream(Upstream::Authentik);
    let resolver = Dependency::Resolver("1.1.1.1:53".to_owned());
    let answered = || CheckResult::Answered(Duration::from_millis(7));
    note(&app, &Dependency::Mongodb, 0, answered()).await;
    note(&app, &authentik, 30, answered()).await;
    let failed = CheckResult::Failed("authentik probe answered 503: unavailable".to_owned());
    note(&app, &authentik, 5, failed).await;
    note(
        &app,
        &Dependency::Upstream(Upstream::Ocis),
        5,
        CheckResult::Disabled,
    )
    .await;
    note(&app, &resolver, 90, answered()).await;

    let seen = look(&app).await;

    let mongodb = &seen["stores"][0];
    assert_eq!(mongodb["state"], "ok");
    assert_eq!(mongodb["latencyMs"], 7);
    assert_eq!(mongodb["stale"], false);
    assert_eq!(mongodb["lastSuccessAt"], mongodb["checkedAt"]);
    let authentik = &seen["upstreams"][0];
    assert_eq!(authentik["state"], "failed");
    assert_eq!(
        authentik["error"],
        "authentik probe answered 503: unavailable"
    );
    assert_eq!(authentik["latencyMs"], Value::Null);
    assert!(authentik["lastSuccessAt"].as_str() < authentik["checkedAt"].as_str());
    let age = authentik["ageSeconds"].as_f64().unwrap();
    assert!((5.0..60.0).contains(&age), "{age}");
    assert_eq!(seen["upstreams"][1]["state"], "unknown");
    assert_eq!(seen["upstreams"][2]["state"], "disabled");
    let resolver = &seen["resolvers"][0];
    assert_eq!(resolver["name"], "1.1.1.1:53");
    assert_eq!(resolver["state"], "ok");
    assert_eq!(resolver["stale"], true);
}

#[tokio::test]
async fn workers_that_live_are_counted_by_queue() {
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

    let seen = look(&app).await;

    let queues = seen["queues"].as_array().unwrap().iter();
    let workers: Vec<_> = queues
        .map(|queue| (queue["name"].as_str().unwrap(), &queue["workers"]))
        .filter(|(_, workers)| **workers != 0)
        .collect();
    assert_eq!(workers, [("dns", &json!(1))]);
}
