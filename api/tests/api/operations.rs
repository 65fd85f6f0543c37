//! Queues, upstreams, workers and job explanations for operators.

use std::{pin::pin, time::Duration};

use bson::doc;
use dezky_shared::{
    id::{JobId, WorkerId},
    platform::clock,
    queue::{error_code::ErrorCode, job::JobFailure},
    store::to_bson,
};
use dezky_sim::callers::Caller;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::TestApp;
use crate::client::Reply;

async fn get(app: &TestApp, path: &str) -> Reply {
    app.operator().get(path).await
}

async fn post(app: &TestApp, path: &str) -> Reply {
    app.operator().post_empty(path).await
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let items = list["items"].as_array().unwrap();
    items.iter().find(|item| item["name"] == name).unwrap()
}

/// Adds a worker whose last heartbeat was `silent_for` milliseconds ago.
async fn add_worker(app: &TestApp, silent_for: i64) {
    let now = app.state.store.now();
    let seen_at = bson::DateTime::from_millis(now.timestamp_millis() - silent_for);
    let worker = doc! {
        "_id": WorkerId::new(), "name": "one", "host": "here", "slots": { "provisioning": 16_i64 },
        "kinds": ["provision_tenant"], "startedAt": seen_at, "seenAt": seen_at, "stopping": false,
    };
    app.collection("workers").insert_one(worker).await.unwrap();
}

async fn reason_codes(app: &TestApp, job: JobId, caller: Caller) -> Vec<String> {
    let path = format!("/jobs/{job}/explain");
    let reply = app.client(caller).get(&path).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reasons = reply.body["reasons"].as_array().unwrap();
    let code = |reason: &Value| reason["code"].as_str().unwrap().to_owned();
    reasons.iter().map(code).collect()
}

/// A pause reaches workers by its announcement, rather than by their poll.
#[tokio::test]
async fn a_pause_and_a_resume_are_announced_to_the_workers() {
    let app = TestApp::with_demo().await;
    let feed = &app.state.hints.changes;
    let mut announcements = pin!(feed.subscribe_to_control().await.unwrap());

    for path in [
        "/queues/dns/pause",
        "/queues/dns/resume",
        "/upstreams/ocis/pause",
        "/upstreams/ocis/resume",
    ] {
        let reply = post(&app, path).await;
        let announced = timeout(Duration::from_secs(30), announcements.next()).await;

        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(announced.unwrap(), Some(()), "{path}");
    }
}

#[tokio::test]
async fn an_upstream_is_paused_and_resumed_and_both_are_audited() {
    let app = TestApp::with_demo().await;

    let before = get(&app, "/upstreams/stalwart").await;
    let paused = post(&app, "/upstreams/stalwart/pause").await;
    let again = post(&app, "/upstreams/stalwart/pause").await;
    let listed = get(&app, "/upstreams").await;
    let resumed = post(&app, "/upstreams/stalwart/resume").await;

    assert_eq!(
        (before.status.as_u16(), &before.body["state"]),
        (200, &"ok".into())
    );
    assert_eq!(paused.body["state"], "paused", "{paused:?}");
    assert_eq!(again.body, paused.body);
    assert_eq!(again.etag(), paused.etag());
    assert_eq!(listed.items().len(), 3);
    let operator = app.user(Caller::Operator).await.id.to_string();
    let stalwart = named(&listed.body, "stalwart");
    assert_eq!(stalwart["pausedBy"], operator.as_str());
    assert_eq!(named(&listed.body, "ocis")["state"], "ok");
    assert_eq!(resumed.body["state"], "ok");
    let actions = app.actions().await;
    let of_upstreams: Vec<_> = actions
        .iter()
        .filter(|action| action.starts_with("upstream."))
        .collect();
    assert_eq!(of_upstreams, ["upstream.pause", "upstream.resume"]);
}

#[tokio::test]
async fn resuming_an_upstream_retries_refused_credentials_immediately() {
    let app = TestApp::with_demo().await;
    let now = app.state.store.now();
    let later = bson::DateTime::from_millis(now.timestamp_millis() + 600_000);
    let rejected =
        doc! { "_id": "authentik", "fingerprint": "x", "refusedAt": now, "probeAt": later };
    app.collection("upstreams")
        .insert_one(rejected)
        .await
        .unwrap();

    let before = get(&app, "/upstreams/authentik").await;
    let resumed = post(&app, "/upstreams/authentik/resume").await;

    assert_eq!(before.body["state"], "credentials_refused");
    let stored = app.collection("upstreams").find_one(doc! {}).await;
    let stored = stored.unwrap().unwrap();
    assert!(*stored.get_datetime("probeAt").unwrap() < later);
    assert!(stored.get_datetime("letGoAt").is_ok());
    assert_eq!(resumed.body["credentials"]["refused"], true);
}

#[tokio::test]
async fn a_pause_has_a_reason_and_an_end_which_a_later_request_changes() {
    let app = TestApp::with_demo().await;
    let later = "2100-01-01T00:00:00.000Z";
    let past = json!({ "until": "2000-01-01T00:00:00Z" });

    for path in ["/queues/dns", "/upstreams/ocis"] {
        let pause = async |body: Value| app.operator().post(format!("{path}/pause"), body).await;
        let paused = pause(json!({ "reason": "Maintenance", "until": later })).await;
        let again = post(&app, &format!("{path}/pause")).await;
        let changed = pause(json!({ "reason": "Still maintenance" })).await;
        let rejected = pause(past.clone()).await;
        let resumed = post(&app, &format!("{path}/resume")).await;

        assert_eq!(paused.body["pausedReason"], "Maintenance", "{paused:?}");
        assert_eq!(paused.body["pausedUntil"], later);
        assert_eq!(again.body["pausedUntil"], later);
        assert_eq!(changed.body["pausedReason"], "Still maintenance");
        assert!(changed.body["pausedUntil"].is_null());
        assert_eq!(changed.body["pausedAt"], paused.body["pausedAt"]);
        assert_eq!(rejected.errors(), [("/until", "not_in_future")]);
        assert!(resumed.body["pausedAt"].is_null());
    }
    let event = app.audit_event("queue.pause").await;
    let after = event.get_document("after").unwrap();
    assert!(after.get_str("reason").is_ok());
}

#[tokio::test]
async fn a_repeated_pause_is_replayed() {
    let app = TestApp::with_demo().await;
    let pause = || {
        app.operator()
            .post_empty("/queues/dns/pause")
            .idempotency_key("one")
    };

    let first = pause().await;
    post(&app, "/queues/dns/resume").await;
    let replayed = pause().await;

    assert_eq!(first.body, replayed.body);
    assert!(replayed.is_replayed());
    let listed = get(&app, "/queues").await;
    assert_eq!(named(&listed.body, "dns")["paused"], false);
}

#[tokio::test]
async fn unknown_upstreams_and_queues_are_not_found() {
    let app = TestApp::with_demo().await;

    for path in ["/upstreams/nope/pause", "/queues/authentik/pause"] {
        assert_eq!(post(&app, path).await.summary(), "404 not_found", "{path}");
    }
}

#[tokio::test]
async fn a_queue_shows_its_backlog_and_oldest_job() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    app.create("third").await;
    let now = app.state.store.now().timestamp_millis();
    let jobs = app.jobs().await;
    let due = bson::DateTime::from_millis(now - 90_000);
    let later = bson::DateTime::from_millis(now + 90_000);
    app.set_job(jobs[0].id, doc! { "runAt": due }).await;
    app.set_job(jobs[1].id, doc! { "runAt": later }).await;
    app.set_job(jobs[2].id, doc! { "state": "running" }).await;
    add_worker(&app, 1_000).await;
    add_worker(&app, 60_000).await;

    let listed = get(&app, "/queues").await;
    let paused = post(&app, "/queues/provisioning/pause").await;

    let queue = named(&listed.body, "provisioning");
    let counts = ["due", "scheduled", "running", "workers", "slots"].map(|name| &queue[name]);
    assert_eq!(counts, [1, 1, 1, 1, 16]);
    let oldest = queue["oldestDueSeconds"].as_f64().unwrap();
    assert!((90.0..150.0).contains(&oldest), "{oldest}");
    assert_eq!(listed.items().len(), 5);
    assert_eq!(
        (&paused.body["paused"], &paused.body["due"]),
        (&true.into(), &1.into())
    );
}

#[tokio::test]
async fn workers_are_listed_with_their_liveness() {
    let app = TestApp::with_demo().await;
    add_worker(&app, 1_000).await;
    add_worker(&app, 60_000).await;

    let listed = get(&app, "/workers").await;

    let items = listed.items();
    let alive: Vec<&Value> = items.iter().map(|item| &item["alive"]).collect();
    assert_eq!(alive, [true, false]);
    assert_eq!(items[0]["slots"]["provisioning"], 16);
}

#[tokio::test]
async fn a_job_explanation_reflects_current_state() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;

    let without_worker = reason_codes(&app, job, Caller::Member).await;
    add_worker(&app, 1_000).await;
    let next = reason_codes(&app, job, Caller::Member).await;
    post(&app, "/queues/provisioning/pause").await;
    let paused = reason_codes(&app, job, Caller::Member).await;
    app.set_job(job, doc! { "state": "completed" }).await;
    let done = reason_codes(&app, job, Caller::Member).await;

    assert_eq!(without_worker, ["no_worker"]);
    assert_eq!(next, ["next"]);
    assert_eq!(paused, ["queue_paused"]);
    assert_eq!(done, ["final"]);
}

#[tokio::test]
async fn a_due_job_waits_behind_those_of_a_more_urgent_or_its_own_priority() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;
    add_worker(&app, 1_000).await;
    let now = app.state.store.now();
    let due = doc! { "priority": 1, "runAt": now };
    app.set_job(job, due).await;
    let like = app.document("jobs", doc! { "_id": job }).await;
    let ages = [(0, 0), (1, 60), (2, 3_600), (1, 0)];
    let others = ages.map(|(priority, age)| {
        let mut other = like.clone();
        let run_at = bson::DateTime::from_millis(now.timestamp_millis() - age * 1_000);
        let lock_key = format!("job:{priority}-{age}");
        other.extend(doc! { "_id": JobId::new(), "lockKey": lock_key, "priority": priority, "runAt": run_at });
        other.remove("uniqueKey");
        other
    });
    app.collection("jobs").insert_many(others).await.unwrap();
    let path = format!("/jobs/{job}/explain");

    let member = app.client(Caller::Member).get(&path).await.body["reasons"][0].clone();
    let operator = app.operator().get(&path).await.body["reasons"][0].clone();

    assert_eq!(
        (&member["code"], &member["jobsAhead"]),
        (&json!("backlog"), &Value::Null)
    );
    assert_eq!(
        (&operator["code"], &operator["jobsAhead"]),
        (&json!("backlog"), &json!(2))
    );
}

#[tokio::test]
async fn worker_and_pause_details_are_shown_to_operators_only() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;
    add_worker(&app, 1_000).await;
    post(&app, "/queues/provisioning/pause").await;
    let path = format!("/jobs/{job}/explain");
    let explain = async |caller| app.client(caller).get(&path).await.body["reasons"][0].clone();

    let paused = [
        explain(Caller::Member).await,
        explain(Caller::Operator).await,
    ];
    let now = app.state.store.now();
    let lease = doc! { "token": JobId::new(), "worker": "one", "until": now, "startedAt": now };
    app.set_job(job, doc! { "state": "running", "lease": lease })
        .await;
    let running = [
        explain(Caller::Member).await,
        explain(Caller::Operator).await,
    ];

    assert!(paused[0]["by"].is_null() && paused[1]["by"].is_string());
    assert_eq!(running[0]["code"], "running");
    assert!(running[0]["since"].is_string() && running[0]["worker"].is_null());
    assert_eq!(running[1]["worker"], "one");
}

#[tokio::test]
async fn the_explanation_of_a_discarded_job_names_the_error_the_upstream_and_the_party() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;
    let error = JobFailure::permanent(ErrorCode::DomainInvalid, "x:Domain rejected");
    let error = to_bson(&error).unwrap();
    let step = doc! { "name": "stalwart", "state": "error", "attempts": 1, "error": &error };
    let ended = doc! { "state": "discarded", "error": error, "steps": [step], "finishedAt": app.state.store.now() };
    app.set_job(job, ended).await;

    let explained = app.owner().get(format!("/jobs/{job}/explain")).await;

    let reason = &explained.body["reasons"][0];
    assert_eq!(
        [
            &reason["code"],
            &reason["upstream"],
            &reason["error"]["code"],
            &reason["error"]["class"],
            &reason["responsible"],
        ],
        [
            "final",
            "stalwart",
            "domain_invalid",
            "user_action",
            "customer"
        ]
    );
    let message = reason["message"].as_str().unwrap();
    assert!(message.contains("It is not retried"), "{message}");
}

#[tokio::test]
async fn the_explanation_names_the_job_that_holds_the_lock() {
    let app = TestApp::with_demo().await;
    let holder = app.first_job().await;
    add_worker(&app, 1_000).await;
    app.set_job(holder, doc! { "state": "running" }).await;
    app.operator().post_empty("/tenants/demo/reconcile").await;
    let waiting = app.jobs().await[1].id;

    let path = format!("/jobs/{waiting}/explain");
    let reply = app.owner().get(&path).await;

    let reason = &reply.body["reasons"][0];
    assert_eq!(reason["code"], "lock_held", "{reply:?}");
    assert_eq!(reason["jobId"], holder.to_string());
}

#[tokio::test]
async fn a_domain_step_is_explained_as_waiting_for_stalwart() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;
    add_worker(&app, 1_000).await;
    let later = clock::later(app.state.store.now(), Duration::from_mins(1));
    let step = doc! { "name": "mail_domain", "state": "pending" };
    app.set_job(job, doc! { "runAt": later, "steps": [step] })
        .await;

    post(&app, "/upstreams/stalwart/pause").await;
    let reasons = reason_codes(&app, job, Caller::Member).await;

    assert_eq!(reasons, ["scheduled", "upstream_paused"]);
}

#[tokio::test]
async fn a_missing_permission_is_shown_with_its_operation_and_explained() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;
    add_worker(&app, 1_000).await;
    let now = app.state.store.now();
    let missing =
        doc! { "since": now, "operation": "create_group", "detail": "403", "jobs": 3_i64 };
    let upstream = doc! { "_id": "authentik", "fingerprint": "x", "permission": missing };
    app.collection("upstreams")
        .insert_one(upstream)
        .await
        .unwrap();
    let later = clock::later(now, Duration::from_mins(30));
    let error = doc! {
        "code": "upstream_permission_missing", "class": "credentials", "message": "refused", "detail": "403",
        "operation": "create_group", "retryable": true,
    };
    let step = doc! { "name": "authentik", "state": "error", "nextAt": later, "finishedAt": now, "error": error.clone() };
    let held = doc! { "runAt": later, "snoozes": 1, "steps": [step], "error": error };
    app.set_job(job, held).await;
    let path = format!("/jobs/{job}/explain");

    let upstream = get(&app, "/upstreams/authentik").await;
    let member = app.client(Caller::Member).get(&path).await;
    let operator = get(&app, &path).await;

    assert_eq!(upstream.body["state"], "permission_missing");
    assert_eq!(upstream.body["permission"]["operation"], "create_group");
    assert_eq!(upstream.body["permission"]["jobs"], 3);
    let codes = reason_codes(&app, job, Caller::Operator).await;
    assert_eq!(codes, ["snoozed", "permission_missing"]);
    assert_eq!(operator.body["reasons"][0]["error"]["class"], "credentials");
    let reason = |reply: &Reply| reply.body["reasons"][1].clone();
    assert_eq!(reason(&operator)["operation"], "create_group");
    assert!(reason(&operator)["until"].is_string());
    assert!(reason(&member)["operation"].is_null());
}

#[tokio::test]
async fn the_explanation_of_a_final_job_has_its_error() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;
    let error = doc! {
        "code": "upstream_rejected", "class": "bug", "message": "rejected", "detail": "400", "retryable": false,
    };
    app.set_job(job, doc! { "state": "discarded", "error": error })
        .await;

    let reply = app.member().get(format!("/jobs/{job}/explain")).await;

    let reason = &reply.body["reasons"][0];
    assert_eq!(
        (&reason["code"], &reason["error"]["code"]),
        (&json!("final"), &json!("upstream_rejected"))
    );
    assert_eq!(reason["responsible"], "developers");
    assert_eq!(
        reason["message"],
        "The job is discarded. rejected (upstream_rejected, bug). Our developers have to act. It is not retried: requeue it once the cause is removed."
    );
    assert!(reason["error"]["detail"].is_null());
}

#[tokio::test]
async fn the_cause_of_a_deferred_job_is_shown_and_its_detail_to_operators_only() {
    let app = TestApp::with_demo().await;
    let job = app.first_job().await;
    let cause = doc! { "code": "upstream_unreachable", "detail": "connection refused", "operation": "create_group" };
    let error = doc! {
        "code": "upstream_circuit_open", "class": "upstream", "message": "away", "detail": "open", "retryable": true,
        "cause": cause,
    };
    let later = clock::later(app.state.store.now(), Duration::from_mins(1));
    app.set_job(job, doc! { "runAt": later, "snoozes": 1, "error": error })
        .await;

    let path = format!("/jobs/{job}");
    let member = app.client(Caller::Member).get(&path).await.body["error"]["cause"].clone();
    let operator = get(&app, &path).await.body["error"]["cause"].clone();
    let explained = get(&app, &format!("{path}/explain")).await.body["reasons"][0].clone();

    assert_eq!(member, json!({ "code": "upstream_unreachable" }));
    assert_eq!(operator["detail"], "connection refused");
    assert_eq!(operator["operation"], "create_group");
    assert_eq!(explained["responsible"], "upstream");
}
