//! Schedules: looking at them, and running one before its time.

use bson::{DateTime, doc};
use dezky_shared::{id::JobId, platform::clock, queue::schedule::MisfirePolicy};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};
use std::time::Duration;

use crate::app::{TestApp, id_of};

const NIGHTLY: &str = "/schedules/nightly_reconcile";

async fn operator() -> TestApp {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;
    app
}

async fn get(app: &TestApp, path: &str) -> Value {
    let reply = app.get(path).by(Caller::Operator).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

#[tokio::test]
async fn a_schedule_says_what_it_is_for_and_when_it_comes() {
    let app = operator().await;

    let shown = get(&app, NIGHTLY).await;
    let list = get(&app, "/schedules").await;
    let unknown = app
        .get("/schedules/weekly")
        .by(Caller::Operator)
        .send()
        .await;

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
async fn a_schedule_shows_when_it_was_run_last_and_what_was_missed() {
    let app = operator().await;
    let schedule = app.state.schedules[0].clone();
    assert_eq!(schedule.missed, MisfirePolicy::Once);
    let now = DateTime::from_millis(1_795_339_800_000);
    let seen = clock::earlier(now, Duration::from_hours(72));
    app.state
        .schedule_ledger
        .run_due(&schedule, seen)
        .await
        .unwrap();

    let jobs = app
        .state
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
async fn a_schedule_is_run_when_an_operator_says_so() {
    let app = operator().await;

    let reply = app
        .post(&format!("{NIGHTLY}/run"))
        .by(Caller::Operator)
        .header("idempotency-key", "once")
        .json(&json!({ "dryRun": true }))
        .send()
        .await;
    let again = app
        .post(&format!("{NIGHTLY}/run"))
        .by(Caller::Operator)
        .header("idempotency-key", "once")
        .json(&json!({ "dryRun": true }))
        .send()
        .await;

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
async fn a_run_that_is_misspelt_or_of_nothing_is_refused_and_not_recorded() {
    let app = operator().await;
    let run = async |path: &str, body: Value| {
        let call = app.post(path).by(Caller::Operator).json(&body);
        call.send().await.summary()
    };

    let misspelt = run(&format!("{NIGHTLY}/run"), json!({ "dryrun": true })).await;
    let wrong = run(&format!("{NIGHTLY}/run"), json!({ "dryRun": "yes" })).await;
    let unknown = run("/schedules/weekly/run", json!({})).await;

    assert_eq!(misspelt, "400 invalid_request");
    assert_eq!(wrong, "400 invalid_request");
    assert_eq!(unknown, "404 not_found");
    assert!(app.jobs().await.is_empty());
    assert!(!app.actions().await.contains(&"schedule.run".to_owned()));
}

#[tokio::test]
async fn a_job_counts_the_jobs_it_made_and_they_are_listed_by_it() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let run = app
        .post(&format!("{NIGHTLY}/run"))
        .by(Caller::Operator)
        .send()
        .await;
    let parent: JobId = id_of(&run.body["job"]["id"]);
    let before = app
        .get(&format!("/jobs/{parent}"))
        .by(Caller::Operator)
        .send()
        .await;
    let jobs = app.jobs().await;
    app.set_job(jobs[0].id, doc! { "parent": parent, "state": "completed" })
        .await;
    let step = doc! { "name": "ocis", "state": "ok", "attempts": 0, "changes": ["space created"] };
    app.set_job(jobs[1].id, doc! { "parent": parent, "steps": [step] })
        .await;

    let after = app
        .get(&format!("/jobs/{parent}"))
        .by(Caller::Operator)
        .header("if-none-match", before.etag())
        .send()
        .await;
    let all = get(&app, &format!("/jobs?parent={parent}")).await;
    let done = get(&app, &format!("/jobs?parent={parent}&state=completed")).await;
    let drifted = get(&app, &format!("/jobs?parent={parent}&changed=true")).await;
    let sound = get(&app, &format!("/jobs?parent={parent}&changed=false")).await;
    let of_nothing = get(&app, &format!("/jobs?parent={}", jobs[0].id)).await;

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
    assert_eq!(drifted["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        drifted["items"][0]["steps"][0]["changes"],
        json!(["space created"])
    );
    assert_eq!(sound["items"][0]["id"], jobs[0].id.to_string());
    assert_eq!(sound["items"].as_array().unwrap().len(), 1);
    assert_eq!(of_nothing["items"], json!([]));
}

#[tokio::test]
async fn looking_for_the_jobs_that_a_job_made_reads_no_others() {
    let app = TestApp::with_demo().await;
    let parent = JobId::new();
    let like = app
        .collection("jobs")
        .find_one(doc! {})
        .await
        .unwrap()
        .unwrap();
    let jobs = (0..300).map(|n| {
        let mut job = like.clone();
        job.insert("_id", JobId::new());
        job.remove("uniqueKey");
        if n % 100 == 0 {
            job.insert("parent", parent);
        }
        job
    });
    app.collection("jobs").insert_many(jobs).await.unwrap();
    let find =
        doc! { "find": "jobs", "filter": { "parent": parent }, "sort": { "_id": -1 }, "limit": 26 };
    let count = doc! {
        "aggregate": "jobs", "cursor": {},
        "pipeline": [{ "$match": { "parent": parent } }, { "$group": { "_id": "$state", "jobs": { "$sum": 1 } } }],
    };

    for command in [find, count] {
        let explain = doc! { "explain": command, "verbosity": "executionStats" };
        let plan = app
            .state
            .store
            .database()
            .run_command(explain)
            .await
            .unwrap();

        let plan = format!("{plan:?}");
        assert!(plan.contains("\"children\""), "{plan}");
        assert!(plan.contains("\"totalKeysExamined\": Int32(3)"), "{plan}");
    }
}
