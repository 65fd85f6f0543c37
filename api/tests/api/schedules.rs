//! Schedules: reading, and running one manually.

use bson::{DateTime, doc};
use dezky_shared::{id::JobId, platform::clock, queue::schedule::MisfirePolicy};
use serde_json::{Value, json};
use std::time::Duration;

use crate::app::{TestApp, id_of};

const NIGHTLY: &str = "/schedules/nightly_reconcile";

async fn get(app: &TestApp, path: &str) -> Value {
    let reply = app.operator().get(path).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

#[tokio::test]
async fn a_schedule_shows_its_purpose_and_next_run() {
    let app = TestApp::with_operator().await;

    let shown = get(&app, NIGHTLY).await;
    let list = get(&app, "/schedules").await;
    let unknown = app.operator().get("/schedules/weekly").await;

    insta::assert_json_snapshot!(shown, { ".nextAt" => "[time]", ".purpose" => "[text]" }, @r#"
    {
      "canDryRun": true,
      "expression": "0 1 * * *",
      "missed": 0,
      "missedPolicy": "once",
      "name": "nightly_reconcile",
      "nextAt": "[time]",
      "purpose": "[text]",
      "zone": "UTC"
    }
    "#);
    assert!(
        shown["nextAt"]
            .as_str()
            .unwrap()
            .ends_with("T01:00:00.000Z")
    );
    assert_eq!(list["items"][0], shown);
    assert_eq!(unknown.summary(), "404 not_found");
}

#[tokio::test]
async fn a_schedule_shows_its_last_run_and_missed_runs() {
    let app = TestApp::with_operator().await;
    let schedule = app.state.schedules[0].clone();
    assert_eq!(schedule.misfire_policy, MisfirePolicy::Once);
    let now = DateTime::from_millis(1_795_339_800_000);
    let seen = clock::earlier(now, Duration::from_hours(72));
    app.state
        .db
        .schedule_ledger
        .run_due(&schedule, seen)
        .await
        .unwrap();

    let jobs = app
        .state
        .db
        .schedule_ledger
        .run_due(&schedule, now)
        .await
        .unwrap();
    let shown = get(&app, NIGHTLY).await;

    assert_eq!(shown["missed"], 2);
    assert_eq!(shown["last"]["instant"], "2026-11-22T01:00:00.000Z");
    assert_eq!(shown["last"]["job"]["id"], jobs[0].id.to_string());
    assert_eq!(shown["last"]["job"]["state"], "available");
}

#[tokio::test]
async fn an_operator_can_run_a_schedule_manually() {
    let app = TestApp::with_operator().await;

    let call = app
        .operator()
        .post(format!("{NIGHTLY}/run"), json!({ "dryRun": true }));
    let call = call.idempotency_key("once");
    let reply = call.clone().await;
    let again = call.await;

    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(again.body, reply.body);
    let jobs = app.jobs().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].kind, "reconcile_tenants");
    assert_eq!(
        jobs[0].args,
        doc! { "dryRun": true, "spreadSeconds": 0_i64 }
    );
    assert_eq!(id_of::<JobId>(&reply.body["job"]["id"]), jobs[0].id);
    assert_eq!(reply.body["name"], "nightly_reconcile");
    let href = format!("/jobs/{}", jobs[0].id);
    assert_eq!(reply.header("location"), Some(href.as_str()));
    assert_eq!(app.actions().await.last().unwrap(), "schedule.run");
    assert_eq!(get(&app, NIGHTLY).await.get("last"), None);
}

#[tokio::test]
async fn an_invalid_or_unknown_schedule_run_is_rejected_and_not_audited() {
    let app = TestApp::with_operator().await;
    let run = async |path: &str, body: Value| {
        let call = app.operator().post(path, &body);
        call.await.summary()
    };

    let misspelled = run(&format!("{NIGHTLY}/run"), json!({ "dryrun": true })).await;
    let invalid = run(&format!("{NIGHTLY}/run"), json!({ "dryRun": "yes" })).await;
    let unknown = run("/schedules/weekly/run", json!({})).await;

    assert_eq!(misspelled, "400 invalid_request");
    assert_eq!(invalid, "400 invalid_request");
    assert_eq!(unknown, "404 not_found");
    assert!(app.jobs().await.is_empty());
    assert!(!app.actions().await.contains(&"schedule.run".to_owned()));
}

#[tokio::test]
async fn a_parent_job_counts_and_lists_its_children() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let run = app.operator().post_empty(format!("{NIGHTLY}/run")).await;
    let parent: JobId = id_of(&run.body["job"]["id"]);
    let before = app.operator().get(format!("/jobs/{parent}")).await;
    let jobs = app.jobs().await;
    app.set_job(jobs[0].id, doc! { "parent": parent, "state": "completed" })
        .await;
    let step = doc! { "name": "ocis", "state": "ok", "attempts": 0, "changes": ["space created"] };
    app.set_job(jobs[1].id, doc! { "parent": parent, "steps": [step] })
        .await;

    let after = app
        .operator()
        .get(format!("/jobs/{parent}"))
        .if_none_match(before.etag())
        .await;
    let all = get(&app, &format!("/jobs?parent={parent}")).await;
    let done = get(&app, &format!("/jobs?parent={parent}&state=completed")).await;
    let changed = get(&app, &format!("/jobs?parent={parent}&changed=true")).await;
    let unchanged = get(&app, &format!("/jobs?parent={parent}&changed=false")).await;
    let childless = get(&app, &format!("/jobs?parent={}", jobs[0].id)).await;

    assert_eq!(before.body.get("children"), None);
    assert_eq!(after.status, 200);
    assert_eq!(after.header("etag"), None);
    assert_eq!(
        after.body["children"],
        json!({ "available": 1, "completed": 1 })
    );
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    assert_eq!(done["items"][0]["id"], jobs[0].id.to_string());
    assert_eq!(done["items"][0]["parent"], parent.to_string());
    assert_eq!(changed["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        changed["items"][0]["steps"][0]["changes"],
        json!(["space created"])
    );
    assert_eq!(unchanged["items"][0]["id"], jobs[0].id.to_string());
    assert_eq!(unchanged["items"].as_array().unwrap().len(), 1);
    assert_eq!(childless["items"], json!([]));
}
