//! Jobs: reading, requeuing and cancelling.

use bson::doc;
use dezky_shared::{
    id::{JobId, LeaseToken},
    queue::{
        error_code::ErrorCode,
        job::{JobFailure, JobState},
    },
    store::to_bson,
};
use serde_json::{Value, json};

use crate::app::TestApp;

#[tokio::test]
async fn a_job_shows_its_steps_and_hides_its_arguments() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let error = to_bson(&JobFailure::permanent(
        ErrorCode::DomainInvalid,
        "x:Domain rejected",
    ))
    .unwrap();
    let now = app.state.store.now();
    app.set_job(id, doc! {
        "state": "discarded", "error": &error, "finishedAt": now,
        "steps": [{ "name": "stalwart", "state": "error", "attempts": 2, "nextAt": now, "changes": ["domain created"], "error": &error,
            "progress": { "done": 250_i64, "total": 1_000_i64, "note": "mailboxes closed", "cursor": "x" } }],
        "attempts": [{ "n": 1, "worker": "w", "startedAt": now, "finishedAt": now, "outcome": "discard", "upstreamRequestIds": ["r"] }],
    }).await;

    let for_member = app.member().get(format!("/jobs/{id}")).await;
    let for_operator = app.operator().get(format!("/jobs/{id}")).await;

    insta::assert_json_snapshot!(for_member.body, {
        ".id" => "[id]", ".tenantId" => "[id]", ".**.nextAttemptAt" => "[time]", ".createdAt" => "[time]", ".updatedAt" => "[time]",
        ".runAt" => "[time]", ".finishedAt" => "[time]", ".giveUpAt" => "[time]", ".**.message" => "[text]",
    }, @r#"
    {
      "attempt": 0,
      "crashes": 0,
      "createdAt": "[time]",
      "error": {
        "class": "user_action",
        "code": "domain_invalid",
        "message": "[text]",
        "retryable": false
      },
      "finishedAt": "[time]",
      "giveUpAt": "[time]",
      "id": "[id]",
      "kind": "provision_tenant",
      "maxAttempts": 12,
      "priority": 1,
      "queue": "provisioning",
      "revision": 2,
      "runAt": "[time]",
      "snoozes": 0,
      "state": "discarded",
      "steps": [
        {
          "attempts": 2,
          "changes": [
            "domain created"
          ],
          "error": {
            "class": "user_action",
            "code": "domain_invalid",
            "message": "[text]",
            "retryable": false
          },
          "name": "stalwart",
          "nextAttemptAt": "[time]",
          "progress": {
            "done": 250,
            "note": "mailboxes closed",
            "total": 1000
          },
          "state": "error"
        }
      ],
      "tenantId": "[id]",
      "tenantSlug": "demo",
      "updatedAt": "[time]"
    }
    "#);
    assert_eq!(for_operator.body["error"]["detail"], "x:Domain rejected");
    assert_eq!(
        for_operator.body["steps"][0]["error"]["detail"],
        "x:Domain rejected"
    );
    assert_eq!(
        for_operator.body["attempts"][0]["upstreamRequestIds"][0],
        "r"
    );
    assert_eq!(for_operator.body.get("args"), None);
}

#[tokio::test]
async fn if_none_match_with_a_jobs_etag_returns_304() {
    let app = TestApp::with_demo().await;
    let path = format!("/jobs/{}", app.first_job().await);
    let etag = app.member().get(&path).await.etag().to_owned();

    let cached = app.member().get(&path).if_none_match(&etag).await;

    assert_eq!((etag.as_str(), cached.status.as_u16()), ("\"1.1\"", 304));
}

#[tokio::test]
async fn cancelling_an_available_job_takes_effect_and_updates_its_tenant() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;

    let reply = app
        .operator()
        .post_empty(format!("/jobs/{id}/cancel"))
        .await;
    let again = app
        .operator()
        .post_empty(format!("/jobs/{id}/cancel"))
        .await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["state"]),
        (200, &Value::from("cancelled"))
    );
    assert_eq!(again.summary(), "409 job_final");
    let shown = app.member().get("/tenants/demo").await.body;
    assert_eq!(shown["provisioningStatus"]["ocis"], "error");
    assert_eq!(app.actions().await.last().unwrap(), "job.cancel");
}

#[tokio::test]
async fn a_scheduled_purge_cannot_be_requeued_or_cancelled() {
    let app = TestApp::with_demo().await;
    app.operator().delete("/tenants/demo?confirm=demo").await;
    let purges = app.operator().get("/jobs?kind=deprovision_tenant").await;
    let purge = purges.body["items"][0].clone();
    let path = format!("/jobs/{}", purge["id"].as_str().unwrap());

    let requeue = app.operator().post_empty(format!("{path}/requeue")).await;
    let cancel = app.operator().post_empty(format!("{path}/cancel")).await;

    assert_eq!(requeue.summary(), "409 purge_scheduled");
    assert_eq!(cancel.summary(), "409 purge_scheduled");
    let later = app.operator().get(&path).await.body;
    assert_eq!(later, purge);
}

#[tokio::test]
async fn cancelling_a_running_job_requests_cancellation() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let lease = doc! { "token": LeaseToken::new(), "worker": "w", "until": app.state.store.now() };
    app.set_job(id, doc! { "state": "running", "lease": lease })
        .await;

    let cancel = app
        .operator()
        .post_empty(format!("/jobs/{id}/cancel"))
        .await;
    let again = app
        .operator()
        .post_empty(format!("/jobs/{id}/cancel"))
        .await;
    let requeue = app
        .operator()
        .post_empty(format!("/jobs/{id}/requeue"))
        .await;

    assert_eq!(
        (cancel.status.as_u16(), &cancel.body["cancelRequested"]),
        (202, &Value::from(true))
    );
    assert_eq!(
        (again.status, &again.body, again.etag()),
        (cancel.status, &cancel.body, cancel.etag()),
        "cancellation was already requested"
    );
    let cancels = app.actions().await;
    let cancels = cancels.iter().filter(|action| *action == "job.cancel");
    assert_eq!(cancels.count(), 1);
    assert_eq!(requeue.summary(), "409 job_running");
}

#[tokio::test]
async fn requeuing_a_final_job_creates_a_new_job() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    app.set_job(id, doc! { "state": "discarded" }).await;

    let reply = app
        .operator()
        .post_empty(format!("/jobs/{id}/requeue"))
        .await;

    let jobs = app.jobs().await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.body["requeuedFrom"], id.to_string());
    let original = app.operator().get(format!("/jobs/{id}")).await;
    assert_eq!(original.body["requeuedTo"], reply.body["id"]);
    assert_eq!(
        reply.header("location").unwrap(),
        format!("/jobs/{}", jobs[1].id)
    );
    assert_eq!((jobs.len(), jobs[1].state), (2, JobState::Available));
}

#[tokio::test]
async fn requeued_and_dismissed_jobs_are_no_longer_selected_in_bulk() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let ids: Vec<JobId> = app.jobs().await.iter().map(|job| job.id).collect();
    let post = async |id: JobId, action: &str| {
        let path = format!("/jobs/{id}/{action}");
        app.operator().post_empty(path).await
    };
    let selected = async || {
        let filter = json!({ "state": "discarded" });
        let request = json!({ "action": "requeue", "filter": filter, "dryRun": true });
        let preview = app.operator().post("/job-operations", request).await;
        preview.body["total"].as_u64().unwrap()
    };

    let too_early = post(ids[0], "dismiss").await;
    for id in &ids {
        app.set_job(*id, doc! { "state": "discarded" }).await;
    }
    let before = selected().await;
    let dismissed = post(ids[0], "dismiss").await;
    let again = post(ids[0], "dismiss").await;
    let after = selected().await;
    post(ids[1], "requeue").await;
    let requeued = selected().await;

    assert_eq!(too_early.summary(), "409 not_discarded");
    assert!(dismissed.body["dismissedBy"].is_string(), "{dismissed:?}");
    assert_eq!(again.body, dismissed.body);
    assert_eq!((before, after, requeued), (2, 1, 0));
    let actions = app.actions().await;
    let dismissals = actions.iter().filter(|action| *action == "job.dismiss");
    assert_eq!(dismissals.count(), 1);
}

#[tokio::test]
async fn requeuing_an_available_job_resets_its_attempts() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let far = bson::DateTime::from_millis(4_000_000_000_000);
    app.set_job(id, doc! { "attempt": 7, "runAt": far }).await;

    let reply = app
        .operator()
        .post_empty(format!("/jobs/{id}/requeue"))
        .await;

    let job = app.jobs().await.remove(0);
    assert_eq!((reply.status.as_u16(), job.attempt), (202, 0));
    assert!(job.run_at < far);
}

#[tokio::test]
async fn a_job_that_had_secrets_cannot_be_requeued() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    app.set_job(id, doc! { "state": "discarded", "hadSecrets": true })
        .await;

    let reply = app
        .operator()
        .post_empty(format!("/jobs/{id}/requeue"))
        .await;

    assert_eq!(reply.summary(), "409 secrets_gone");
}

#[tokio::test]
async fn a_job_without_a_tenant_is_visible_to_operators_only() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let no_tenant = doc! { "$unset": { "tenantId": "" } };
    app.collection("jobs")
        .update_one(doc! { "_id": id }, no_tenant)
        .await
        .unwrap();

    let for_owner = app.owner().get(format!("/jobs/{id}")).await;
    let for_operator = app.operator().get(format!("/jobs/{id}")).await;

    assert_eq!(
        (for_owner.status.as_u16(), for_operator.status.as_u16()),
        (404, 200)
    );
}

#[tokio::test]
async fn unknown_resources_are_not_found() {
    let app = TestApp::with_demo().await;

    for path in [
        format!("/jobs/{}", JobId::new()),
        "/jobs/7".to_owned(),
        "/tenants/unknown".to_owned(),
    ] {
        let reply = app.operator().get(&path).await;

        assert_eq!(reply.summary(), "404 not_found", "{path}");
    }
    for action in ["requeue", "cancel"] {
        let path = format!("/jobs/{}/{action}", JobId::new());
        let reply = app.operator().post_empty(&path).await;

        assert_eq!(reply.summary(), "404 not_found", "{path}");
    }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_filtered() {
    let app = TestApp::with_demo().await;
    app.operator().post_empty("/tenants/demo/suspend").await;
    let tenant = app.tenant("demo").await.id;
    let kinds = async |query: &str| -> Vec<String> {
        let reply = app.operator().get(format!("/jobs?{query}")).await;
        let items = reply.items().to_vec();
        items
            .iter()
            .map(|item| item["kind"].as_str().unwrap().to_owned())
            .collect()
    };

    assert_eq!(kinds("").await, ["suspend_tenant", "provision_tenant"]);
    assert_eq!(kinds("kind=provision_tenant").await, ["provision_tenant"]);
    assert_eq!(kinds("state=completed").await, Vec::<String>::new());
    assert_eq!(
        kinds(&format!("tenantId={tenant}&limit=1")).await,
        ["suspend_tenant"]
    );
    let reply = app.member().get("/tenants/demo/jobs").await;
    assert_eq!(reply.body["items"][0]["tenantSlug"], "demo");
}
