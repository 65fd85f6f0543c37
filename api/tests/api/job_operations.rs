//! Operations on many jobs: which jobs they take, and what they refuse. What becomes of each is the worker's to test.

use bson::{Document, doc};
use dezky_shared::{
    id::JobId,
    queue::{
        error_code::ErrorCode,
        job::{JobFailure, JobState},
    },
    store::to_bson,
};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

/// Adds jobs like the demo tenant's first, each changed like this.
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

async fn ask(app: &TestApp, body: &Value) -> Reply {
    app.post("/job-operations")
        .by(Caller::Operator)
        .json(body)
        .send()
        .await
}

async fn total(app: &TestApp, filter: Value) -> Value {
    let body = json!({ "action": "requeue", "filter": filter, "dryRun": true });
    let reply = ask(app, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body["total"].clone()
}

#[tokio::test]
async fn an_operation_takes_the_jobs_that_match_when_it_is_accepted() {
    let app = TestApp::with_demo().await;
    let meant = add_jobs(&app, 3, doc! { "state": "discarded" }).await;
    let body = json!({ "action": "requeue", "filter": { "state": "discarded" }, "rate": 5 });

    let accepted = ask(&app, &body).await;
    add_jobs(&app, 2, doc! { "state": "discarded" }).await;

    assert_eq!(accepted.status, 202, "{accepted:?}");
    let job = accepted.body["job"]["href"].as_str().unwrap();
    assert_eq!(accepted.header("location"), Some(job));
    let id = accepted.body["id"].as_str().unwrap();
    let items = app
        .get(&format!("/job-operations/{id}/items?limit=2"))
        .by(Caller::Operator)
        .send()
        .await;
    let cursor = items.body["nextCursor"].as_str().unwrap();
    let rest = app
        .get(&format!(
            "/job-operations/{id}/items?limit=2&cursor={cursor}"
        ))
        .by(Caller::Operator)
        .send()
        .await;
    let listed = [&items.body["items"], &rest.body["items"]].map(|page| page.as_array().unwrap());
    let found: Vec<String> = listed
        .into_iter()
        .flatten()
        .map(|item| item["jobId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        found,
        meant.iter().map(JobId::to_string).collect::<Vec<_>>()
    );
    assert_eq!(rest.body["nextCursor"], Value::Null);
    assert_eq!(app.actions().await.last().unwrap(), "jobOperation.create");
    let shown = app
        .get(&format!("/job-operations/{id}"))
        .by(Caller::Operator)
        .send()
        .await;
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
async fn every_part_of_a_filter_counts() {
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
async fn a_dry_run_says_how_many_and_some_of_them_and_changes_nothing() {
    let app = TestApp::with_demo().await;
    add_jobs(&app, 12, doc! { "state": "discarded" }).await;
    let before = (app.jobs().await, app.actions().await);
    let body = json!({ "action": "requeue", "filter": { "state": "discarded" }, "dryRun": true });

    let reply = ask(&app, &body).await;

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
async fn another_number_than_expected_does_nothing() {
    let app = TestApp::with_demo().await;
    add_jobs(&app, 3, doc! { "state": "discarded" }).await;
    let body = |count: u64| json!({ "action": "requeue", "filter": { "state": "discarded" }, "expectedCount": count });

    let other = ask(&app, &body(2)).await;
    let nothing_done = app.count("job_operations").await;
    let same = ask(&app, &body(3)).await;

    assert_eq!(other.summary(), "409 count_differs");
    assert!(
        other.body["detail"]
            .as_str()
            .unwrap()
            .starts_with("3 jobs match")
    );
    assert_eq!(nothing_done, 0);
    assert_eq!(same.status, 202);
}

#[tokio::test]
async fn a_repeated_request_is_the_same_operation_whatever_matches_by_then() {
    let app = TestApp::with_demo().await;
    add_jobs(&app, 1, doc! { "state": "discarded" }).await;
    let body =
        json!({ "action": "requeue", "filter": { "state": "discarded" }, "expectedCount": 1 });
    let send = async || {
        app.post("/job-operations")
            .by(Caller::Operator)
            .header("idempotency-key", "k")
            .json(&body)
            .send()
            .await
    };

    let first = send().await;
    add_jobs(&app, 1, doc! { "state": "discarded" }).await;
    let second = send().await;

    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!((second.status, second.body), (first.status, first.body));
    assert_eq!(app.count("job_operations").await, 1);
}

#[tokio::test]
async fn more_jobs_than_one_operation_takes_are_refused_and_not_cut_short() {
    let app = TestApp::with_demo().await;
    let lean = doc! { "state": "discarded", "steps": [], "conditions": [] };
    let whole = json!({ "action": "requeue", "filter": { "state": "discarded" } });
    let some = json!({ "action": "requeue", "filter": { "state": "discarded", "kind": "provision_tenant" } });
    add_jobs(&app, 10_000, lean).await;
    add_jobs(&app, 1, doc! { "state": "discarded", "kind": "do_it" }).await;

    let too_many = ask(&app, &whole).await;
    let most = ask(&app, &some).await;

    assert_eq!(too_many.summary(), "409 too_many_jobs");
    assert_eq!(
        (most.status.as_u16(), &most.body["total"]),
        (202, &json!(10_000))
    );
    assert_eq!(app.count("job_operation_items").await, 10_000);
}

#[tokio::test]
async fn operations_never_take_operations() {
    let app = TestApp::with_demo().await;
    ask(
        &app,
        &json!({ "action": "requeue", "filter": { "state": "discarded" } }),
    )
    .await;
    let waiting = |filter: Value| json!({ "action": "cancel", "filter": filter, "dryRun": true });

    let all = ask(&app, &waiting(json!({ "state": "available" }))).await;
    let by_queue = ask(
        &app,
        &waiting(json!({ "state": "available", "queue": "maintenance" })),
    )
    .await;
    let by_kind = ask(
        &app,
        &waiting(json!({ "state": "available", "kind": "run_job_operation" })),
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
async fn an_operation_without_jobs_is_accepted_and_has_nothing_to_do() {
    let app = TestApp::with_demo().await;

    let reply = ask(
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
async fn all_that_is_wrong_is_told_together() {
    let app = TestApp::with_demo().await;
    let body = json!({
        "action": "explode", "rate": 0,
        "filter": {
            "state": "lost", "queue": "x", "tenantId": "demo", "errorCode": "x", "errorClass": "x", "createdAfter": "now",
            "createdBefore": "2026-13-01T00:00:00Z",
        },
    });

    let reply = ask(&app, &body).await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let pointers: Vec<&str> = reply.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
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
async fn an_action_is_for_states_in_which_there_is_a_use_in_it() {
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

            let reply = ask(&app, &body).await;

            assert_eq!(reply.status, expected, "{action} {state:?}");
        }
    }
}

#[tokio::test]
async fn operations_are_listed_newest_first() {
    let app = TestApp::with_demo().await;
    for kind in ["a", "b", "c"] {
        let filter = json!({ "state": "discarded", "kind": kind });
        ask(&app, &json!({ "action": "requeue", "filter": filter })).await;
    }

    let first = app
        .get("/job-operations?limit=2")
        .by(Caller::Operator)
        .send()
        .await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = app
        .get(&format!("/job-operations?limit=2&cursor={cursor}"))
        .by(Caller::Operator)
        .send()
        .await;

    let kinds = |reply: &Reply| -> Vec<Value> {
        let items = reply.body["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["filter"]["kind"].clone())
            .collect()
    };
    assert_eq!(kinds(&first), ["c", "b"]);
    assert_eq!(kinds(&second), ["a"]);
    assert_eq!(second.body["items"][0]["job"]["state"], "available");
}
