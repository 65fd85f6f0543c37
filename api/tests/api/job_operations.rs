//! Bulk job operations: selection and validation. The worker's tests cover their execution.

use bson::{Document, doc};
use dezky_shared::{
    id::JobId,
    queue::{
        error_code::ErrorCode,
        job::{JobFailure, JobState},
    },
    store::to_bson,
};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::Reply;

/// Adds copies of the demo tenant's first job with `change` applied.
async fn add_jobs(app: &TestApp, count: usize, change: Document) -> Vec<JobId> {
    let jobs = app.collection("jobs");
    let like = jobs
        .find_one(doc! { "kind": "provision_tenant" })
        .await
        .unwrap()
        .unwrap();
    let mut ids = Vec::new();
    let copies: Vec<Document> = (0..count)
        .map(|_| {
            let id = JobId::new();
            ids.push(id);
            let mut copy = like.clone();
            copy.extend(change.clone());
            copy.insert("_id", id);
            copy.remove("uniqueKey");
            copy
        })
        .collect();
    jobs.insert_many(copies).await.unwrap();
    ids
}

async fn create_operation(app: &TestApp, body: &Value) -> Reply {
    app.operator().post("/job-operations", body).await
}

async fn total(app: &TestApp, filter: Value) -> Value {
    let body = json!({ "action": "requeue", "filter": filter, "dryRun": true });
    let reply = create_operation(app, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body["total"].clone()
}

#[tokio::test]
async fn an_operation_selects_the_jobs_that_match_at_creation() {
    let app = TestApp::with_demo().await;
    let matching = add_jobs(&app, 3, doc! { "state": "discarded" }).await;
    let body = json!({ "action": "requeue", "filter": { "state": "discarded" }, "rate": 5 });

    let accepted = create_operation(&app, &body).await;
    add_jobs(&app, 2, doc! { "state": "discarded" }).await;

    assert_eq!(accepted.status, 202, "{accepted:?}");
    let job = accepted.body["job"]["href"].as_str().unwrap();
    assert_eq!(accepted.header("location"), Some(job));
    let id = accepted.body["id"].as_str().unwrap();
    let items = app
        .operator()
        .get(format!("/job-operations/{id}/items?limit=2"))
        .await;
    let cursor = items.body["nextCursor"].as_str().unwrap();
    let rest = app
        .operator()
        .get(format!(
            "/job-operations/{id}/items?limit=2&cursor={cursor}"
        ))
        .await;
    let listed = [&items.body["items"], &rest.body["items"]].map(|page| page.as_array().unwrap());
    let found: Vec<String> = listed
        .into_iter()
        .flatten()
        .map(|item| item["jobId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        found,
        matching.iter().map(JobId::to_string).collect::<Vec<_>>()
    );
    assert_eq!(rest.body["nextCursor"], Value::Null);
    assert_eq!(app.actions().await.last().unwrap(), "jobOperation.create");
    let shown = app.operator().get(format!("/job-operations/{id}")).await;
    assert_eq!(shown.body, accepted.body);
    insta::assert_json_snapshot!(shown.body, {
        ".id" => "[id]", ".job.id" => "[id]", ".job.href" => "[href]", ".requestedBy" => "[id]", ".createdAt" => "[time]",
    }, @r#"
    {
      "action": "requeue",
      "createdAt": "[time]",
      "done": 0,
      "filter": {
        "state": "discarded"
      },
      "id": "[id]",
      "job": {
        "href": "[href]",
        "id": "[id]",
        "state": "available"
      },
      "pending": 3,
      "rate": 5,
      "refused": 0,
      "requestedBy": "[id]",
      "skipped": 0,
      "total": 3
    }
    "#);
}

#[tokio::test]
async fn every_filter_field_is_applied() {
    let app = TestApp::with_demo().await;
    let failed = |code| to_bson(&JobFailure::permanent(code, "no")).unwrap();
    let conflict = doc! { "state": "discarded", "error": failed(ErrorCode::UpstreamConflict) };
    add_jobs(&app, 2, conflict).await;
    let old = bson::DateTime::parse_rfc3339_str("2026-01-01T00:00:00Z").unwrap();
    let others = doc! {
        "state": "discarded", "error": failed(ErrorCode::DomainInvalid), "kind": "recheck_domain",
        "queue": "dns", "createdAt": old, "tenantId": dezky_shared::id::TenantId::new(),
    };
    add_jobs(&app, 3, others).await;
    let tenant = app.tenant("demo").await.id;

    for (filter, expected) in [
        (json!({}), 5),
        (json!({ "kind": "recheck_domain" }), 3),
        (json!({ "queue": "provisioning" }), 2),
        (json!({ "tenantId": tenant }), 2),
        (json!({ "errorCode": "upstream_conflict" }), 2),
        (json!({ "errorClass": "user_action" }), 3),
        (json!({ "createdBefore": "2026-01-01T00:00:00Z" }), 0),
        (json!({ "createdBefore": "2026-01-01T00:00:00.001Z" }), 3),
        (json!({ "createdAfter": "2026-01-01T00:00:00Z" }), 5),
        (json!({ "createdAfter": "2026-01-01T01:00:00+00:30" }), 2),
        (
            json!({ "kind": "recheck_domain", "queue": "provisioning" }),
            0,
        ),
    ] {
        let mut whole = filter.clone();
        whole["state"] = "discarded".into();

        assert_eq!(total(&app, whole).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn a_dry_run_returns_the_total_and_a_sample_and_changes_nothing() {
    let app = TestApp::with_demo().await;
    add_jobs(&app, 12, doc! { "state": "discarded" }).await;
    let before = (app.jobs().await, app.actions().await);
    let body = json!({ "action": "requeue", "filter": { "state": "discarded" }, "dryRun": true });

    let reply = create_operation(&app, &body).await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["total"]),
        (200, &json!(12))
    );
    let sample = reply.body["sample"].as_array().unwrap();
    assert_eq!(sample.len(), 10);
    assert_eq!(sample[0]["tenantSlug"], "demo");
    assert_eq!((app.jobs().await, app.actions().await), before);
    assert_eq!(app.count("job_operations").await, 0);
    assert_eq!(app.count("job_operation_items").await, 0);
}

#[tokio::test]
async fn a_different_total_than_expected_rejects_the_operation() {
    let app = TestApp::with_demo().await;
    add_jobs(&app, 3, doc! { "state": "discarded" }).await;
    let body = |count: u64| json!({ "action": "requeue", "filter": { "state": "discarded" }, "expectedCount": count });

    let other = create_operation(&app, &body(2)).await;
    let operations = app.count("job_operations").await;
    let same = create_operation(&app, &body(3)).await;

    assert_eq!(other.summary(), "409 count_differs");
    let detail = other.body["detail"].as_str().unwrap();
    assert!(detail.contains('3'), "{detail}");
    assert_eq!(operations, 0);
    assert_eq!(same.status, 202);
}

#[tokio::test]
async fn a_repeated_request_returns_the_same_operation() {
    let app = TestApp::with_demo().await;
    add_jobs(&app, 1, doc! { "state": "discarded" }).await;
    let body =
        json!({ "action": "requeue", "filter": { "state": "discarded" }, "expectedCount": 1 });
    let send = async || {
        app.operator()
            .post("/job-operations", &body)
            .idempotency_key("k")
            .await
    };

    let first = send().await;
    add_jobs(&app, 1, doc! { "state": "discarded" }).await;
    let second = send().await;

    assert!(second.is_replayed());
    assert_eq!((second.status, second.body), (first.status, first.body));
    assert_eq!(app.count("job_operations").await, 1);
}

#[tokio::test]
async fn an_operation_over_the_job_limit_is_rejected_not_truncated() {
    let app = TestApp::with_demo().await;
    let lean = doc! { "state": "discarded", "steps": [], "conditions": [] };
    let whole = json!({ "action": "requeue", "filter": { "state": "discarded" } });
    let some = json!({ "action": "requeue", "filter": { "state": "discarded", "kind": "provision_tenant" } });
    add_jobs(&app, 10_000, lean).await;
    add_jobs(&app, 1, doc! { "state": "discarded", "kind": "do_it" }).await;

    let too_many = create_operation(&app, &whole).await;
    let most = create_operation(&app, &some).await;

    assert_eq!(too_many.summary(), "409 too_many_jobs");
    assert_eq!(
        (most.status.as_u16(), &most.body["total"]),
        (202, &json!(10_000))
    );
    assert_eq!(app.count("job_operation_items").await, 10_000);
}

#[tokio::test]
async fn operations_never_select_operation_jobs() {
    let app = TestApp::with_demo().await;
    create_operation(
        &app,
        &json!({ "action": "requeue", "filter": { "state": "discarded" } }),
    )
    .await;
    let cancel = |filter: Value| json!({ "action": "cancel", "filter": filter, "dryRun": true });

    let all = create_operation(&app, &cancel(json!({ "state": "available" }))).await;
    let by_queue = create_operation(
        &app,
        &cancel(json!({ "state": "available", "queue": "maintenance" })),
    )
    .await;
    let by_kind = create_operation(
        &app,
        &cancel(json!({ "state": "available", "kind": "run_job_operation" })),
    )
    .await;

    assert_eq!(
        (&all.body["total"], &by_queue.body["total"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(by_kind.summary(), "422 validation_failed");
    assert_eq!(by_kind.body["errors"][0]["pointer"], "/filter/kind");
}

#[tokio::test]
async fn an_operation_without_matching_jobs_is_accepted() {
    let app = TestApp::with_demo().await;

    let reply = create_operation(
        &app,
        &json!({ "action": "discard", "filter": { "state": "available", "queue": "billing" } }),
    )
    .await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["total"]),
        (202, &json!(0))
    );
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together() {
    let app = TestApp::with_demo().await;
    let body = json!({
        "action": "explode", "rate": 0,
        "filter": {
            "state": "lost", "queue": "x", "tenantId": "demo", "errorCode": "x", "errorClass": "x", "createdAfter": "now",
            "createdBefore": "2026-13-01T00:00:00Z",
        },
    });

    let reply = create_operation(&app, &body).await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let pointers: Vec<&str> = reply.errors().iter().map(|(pointer, _)| *pointer).collect();
    assert_eq!(
        pointers,
        [
            "/action",
            "/filter/state",
            "/filter/queue",
            "/filter/tenantId",
            "/filter/errorCode",
            "/filter/errorClass",
            "/filter/createdAfter",
            "/filter/createdBefore",
            "/rate",
        ]
    );
}

#[tokio::test]
async fn an_action_accepts_only_the_states_it_applies_to() {
    let app = TestApp::with_demo().await;
    let states = [
        JobState::Available,
        JobState::Running,
        JobState::Completed,
        JobState::Discarded,
        JobState::Cancelled,
    ];
    for (action, expected) in [
        ("requeue", [200, 422, 200, 200, 200]),
        ("cancel", [200, 200, 422, 422, 422]),
        ("discard", [200, 422, 422, 422, 422]),
    ] {
        for (state, expected) in states.into_iter().zip(expected) {
            let filter = json!({ "state": state.name() });
            let body = json!({ "action": action, "filter": filter, "dryRun": true });

            let reply = create_operation(&app, &body).await;

            assert_eq!(reply.status, expected, "{action} {state:?}");
        }
    }
}

#[tokio::test]
async fn operations_are_listed_newest_first() {
    let app = TestApp::with_demo().await;
    for kind in ["a", "b", "c"] {
        let filter = json!({ "state": "discarded", "kind": kind });
        create_operation(&app, &json!({ "action": "requeue", "filter": filter })).await;
    }

    let first = app.operator().get("/job-operations?limit=2").await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = app
        .operator()
        .get(format!("/job-operations?limit=2&cursor={cursor}"))
        .await;

    let kinds = |reply: &Reply| -> Vec<Value> {
        let items = reply.items();
        items
            .iter()
            .map(|item| item["filter"]["kind"].clone())
            .collect()
    };
    assert_eq!(kinds(&first), ["c", "b"]);
    assert_eq!(kinds(&second), ["a"]);
    assert_eq!(second.body["items"][0]["job"]["state"], "available");
}
