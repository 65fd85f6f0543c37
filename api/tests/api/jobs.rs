//! Looking at jobs, running them again, stopping them.

use bson::doc;
use dezky_shared::{
    id::{JobId, LeaseToken},
    queue::{
        error_code::ErrorCode,
        job::{JobFailure, JobState},
    },
    store::to_bson,
};
use dezky_sim::callers::Caller;
use serde_json::Value;

use crate::app::TestApp;

async fn only_job(app: &TestApp) -> JobId {
    app.jobs().await[0].id
}

#[tokio::test]
async fn a_job_shows_its_steps_and_keeps_its_arguments_to_itself() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    let error = to_bson(&JobFailure::permanent(
        ErrorCode::DomainInvalid,
        "x:Domain said no",
    ))
    .unwrap();
    let now = app.state.store.now();
    app.set_job(id, doc! {
        "state": "discarded", "error": &error, "finishedAt": now,
        "steps": [{ "name": "stalwart", "state": "error", "attempts": 2, "nextAt": now, "changes": ["domain created"], "error": &error }],
        "attempts": [{ "n": 1, "worker": "w", "startedAt": now, "finishedAt": now, "outcome": "discard", "upstreamRequestIds": ["r"] }],
    }).await;

    let for_member = app
        .get(&format!("/jobs/{id}"))
        .by(Caller::Member)
        .send()
        .await;
    let for_operator = app
        .get(&format!("/jobs/{id}"))
        .by(Caller::Operator)
        .send()
        .await;

    insta::assert_json_snapshot!(for_member.body, {
        ".id" => "[id]", ".tenantId" => "[id]", ".**.nextAttemptAt" => "[time]", ".createdAt" => "[time]", ".updatedAt" => "[time]",
        ".runAt" => "[time]", ".finishedAt" => "[time]", ".giveUpAt" => "[time]",
    }, @r#"
    {
      "attempt": 0,
      "crashes": 0,
      "createdAt": "[time]",
      "error": {
        "class": "user_action",
        "code": "domain_invalid",
        "message": "The mail service does not accept this domain. Please check its name.",
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
            "message": "The mail service does not accept this domain. Please check its name.",
            "retryable": false
          },
          "name": "stalwart",
          "nextAttemptAt": "[time]",
          "state": "error"
        }
      ],
      "tenantId": "[id]",
      "tenantSlug": "demo",
      "updatedAt": "[time]"
    }
    "#);
    assert_eq!(for_operator.body["error"]["detail"], "x:Domain said no");
    assert_eq!(
        for_operator.body["steps"][0]["error"]["detail"],
        "x:Domain said no"
    );
    assert_eq!(
        for_operator.body["attempts"][0]["upstreamRequestIds"][0],
        "r"
    );
    assert_eq!(for_operator.body.get("args"), None);
}

#[tokio::test]
async fn a_job_is_known_by_its_version() {
    let app = TestApp::with_demo().await;
    let path = format!("/jobs/{}", only_job(&app).await);
    let etag = app
        .get(&path)
        .by(Caller::Member)
        .send()
        .await
        .etag()
        .to_owned();

    let known = app
        .get(&path)
        .by(Caller::Member)
        .header("if-none-match", &etag)
        .send()
        .await;

    assert_eq!((etag.as_str(), known.status.as_u16()), ("\"1.1\"", 304));
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_its_tenant_told() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;

    let reply = app
        .post(&format!("/jobs/{id}/cancel"))
        .by(Caller::Operator)
        .send()
        .await;
    let again = app
        .post(&format!("/jobs/{id}/cancel"))
        .by(Caller::Operator)
        .send()
        .await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["state"]),
        (200, &Value::from("cancelled"))
    );
    assert_eq!(again.summary(), "409 job_final");
    let shown = app
        .get("/tenants/demo")
        .by(Caller::Member)
        .send()
        .await
        .body;
    assert_eq!(shown["provisioningStatus"]["ocis"], "error");
    assert_eq!(app.actions().await.last().unwrap(), "job.cancel");
}

#[tokio::test]
async fn a_scheduled_purge_is_neither_brought_forward_nor_cancelled() {
    let app = TestApp::with_demo().await;
    app.delete("/tenants/demo?confirm=demo")
        .by(Caller::Operator)
        .send()
        .await;
    let purges = app
        .get("/jobs?kind=deprovision_tenant")
        .by(Caller::Operator)
        .send()
        .await;
    let purge = purges.body["items"][0].clone();
    let path = format!("/jobs/{}", purge["id"].as_str().unwrap());

    let requeue = app
        .post(&format!("{path}/requeue"))
        .by(Caller::Operator)
        .send()
        .await;
    let cancel = app
        .post(&format!("{path}/cancel"))
        .by(Caller::Operator)
        .send()
        .await;

    assert_eq!(requeue.summary(), "409 purge_scheduled");
    assert_eq!(cancel.summary(), "409 purge_scheduled");
    let later = app.get(&path).by(Caller::Operator).send().await.body;
    assert_eq!(later, purge);
}

#[tokio::test]
async fn a_running_job_is_asked_to_stop() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    let lease = doc! { "token": LeaseToken::new(), "worker": "w", "until": app.state.store.now() };
    app.set_job(id, doc! { "state": "running", "lease": lease })
        .await;

    let cancel = app
        .post(&format!("/jobs/{id}/cancel"))
        .by(Caller::Operator)
        .send()
        .await;
    let again = app
        .post(&format!("/jobs/{id}/cancel"))
        .by(Caller::Operator)
        .send()
        .await;
    let requeue = app
        .post(&format!("/jobs/{id}/requeue"))
        .by(Caller::Operator)
        .send()
        .await;

    assert_eq!(
        (cancel.status.as_u16(), &cancel.body["cancelRequested"]),
        (202, &Value::from(true))
    );
    assert_eq!(
        (again.status, &again.body, again.etag()),
        (cancel.status, &cancel.body, cancel.etag()),
        "it was asked before, and nothing changes"
    );
    let cancels = app.actions().await;
    let cancels = cancels.iter().filter(|action| *action == "job.cancel");
    assert_eq!(cancels.count(), 1);
    assert_eq!(requeue.summary(), "409 job_running");
}

#[tokio::test]
async fn requeuing_a_final_job_makes_a_new_one() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    app.set_job(id, doc! { "state": "discarded" }).await;

    let reply = app
        .post(&format!("/jobs/{id}/requeue"))
        .by(Caller::Operator)
        .send()
        .await;

    let jobs = app.jobs().await;
    assert_eq!(reply.status, 202);
    assert_eq!(reply.body["requeuedFrom"], id.to_string());
    assert_eq!(
        reply.header("location").unwrap(),
        format!("/jobs/{}", jobs[1].id)
    );
    assert_eq!((jobs.len(), jobs[1].state), (2, JobState::Available));
}

#[tokio::test]
async fn requeuing_a_waiting_job_gives_it_its_attempts_back() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    let far = bson::DateTime::from_millis(4_000_000_000_000);
    app.set_job(id, doc! { "attempt": 7, "runAt": far }).await;

    let reply = app
        .post(&format!("/jobs/{id}/requeue"))
        .by(Caller::Operator)
        .send()
        .await;

    let job = app.jobs().await.remove(0);
    assert_eq!((reply.status.as_u16(), job.attempt), (202, 0));
    assert!(job.run_at < far);
}

#[tokio::test]
async fn a_job_that_had_secrets_cannot_be_repeated() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    app.set_job(id, doc! { "state": "discarded", "hadSecrets": true })
        .await;

    let reply = app
        .post(&format!("/jobs/{id}/requeue"))
        .by(Caller::Operator)
        .send()
        .await;

    assert_eq!(reply.summary(), "409 secrets_gone");
}

#[tokio::test]
async fn a_job_that_belongs_to_no_tenant_is_the_operators() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    let no_tenant = doc! { "$unset": { "tenantId": "" } };
    app.collection("jobs")
        .update_one(doc! { "_id": id }, no_tenant)
        .await
        .unwrap();

    let for_owner = app
        .get(&format!("/jobs/{id}"))
        .by(Caller::Owner)
        .send()
        .await;
    let for_operator = app
        .get(&format!("/jobs/{id}"))
        .by(Caller::Operator)
        .send()
        .await;

    assert_eq!(
        (for_owner.status.as_u16(), for_operator.status.as_u16()),
        (404, 200)
    );
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let app = TestApp::with_demo().await;

    for path in [
        format!("/jobs/{}", JobId::new()),
        "/jobs/7".to_owned(),
        "/tenants/nobody".to_owned(),
    ] {
        let reply = app.get(&path).by(Caller::Operator).send().await;

        assert_eq!(reply.summary(), "404 not_found", "{path}");
    }
    for action in ["requeue", "cancel"] {
        let path = format!("/jobs/{}/{action}", JobId::new());
        let reply = app.post(&path).by(Caller::Operator).send().await;

        assert_eq!(reply.summary(), "404 not_found", "{path}");
    }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_filtered() {
    let app = TestApp::with_demo().await;
    app.post("/tenants/demo/suspend")
        .by(Caller::Operator)
        .send()
        .await;
    let tenant = app.tenant("demo").await.id;
    let kinds = async |query: &str| -> Vec<String> {
        let reply = app
            .get(&format!("/jobs?{query}"))
            .by(Caller::Operator)
            .send()
            .await;
        let items = reply.body["items"].as_array().unwrap().clone();
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
    let reply = app
        .get("/tenants/demo/jobs")
        .by(Caller::Member)
        .send()
        .await;
    assert_eq!(reply.body["items"][0]["tenantSlug"], "demo");
}
