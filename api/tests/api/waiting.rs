//! Requests that wait for a change.

use std::time::Duration;

use bson::doc;
use dezky_shared::{id::JobId, platform::change_feed::DocumentChange};
use dezky_sim::callers::Caller;
use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::app::{Reply, TestApp, shared_issuer};

/// How long what should be prompt may take on a busy machine.
const PROMPT: Duration = Duration::from_secs(8);

async fn timed(call: impl Future<Output = Reply>) -> (Reply, Duration) {
    let began = Instant::now();
    (call.await, began.elapsed())
}

async fn soon(action: impl Future) {
    sleep(Duration::from_millis(300)).await;
    action.await;
}

async fn job(app: &TestApp) -> JobId {
    app.jobs().await[0].id
}

#[tokio::test]
async fn a_tenant_is_answered_when_it_changes() {
    let app = TestApp::with_demo().await;
    let etag = app
        .get("/tenants/demo")
        .by(Caller::Member)
        .send()
        .await
        .etag()
        .to_owned();
    let wait = app
        .get("/tenants/demo?wait=25s")
        .by(Caller::Member)
        .header("if-none-match", &etag)
        .send();

    let ((reply, took), ()) = tokio::join!(
        timed(wait),
        soon(app.set_tenant("demo", doc! { "authentikGroupId": "g" })),
    );

    assert_eq!(
        (reply.status.as_u16(), &reply.body["authentikGroupId"]),
        (200, &json!("g"))
    );
    assert!(
        took >= Duration::from_millis(250) && took < PROMPT,
        "{took:?}"
    );
}

#[tokio::test]
async fn a_tenant_that_changed_already_is_answered_at_once() {
    let app = TestApp::with_demo().await;

    let wait = app
        .get("/tenants/demo?wait=25")
        .by(Caller::Member)
        .header("if-none-match", "\"0.0\"")
        .send();
    let (reply, took) = timed(wait).await;

    assert_eq!(reply.status, 200);
    assert!(took < PROMPT, "{took:?}");
}

#[tokio::test]
async fn a_tenant_that_does_not_change_is_not_modified_when_the_wait_ends() {
    let app = TestApp::with_demo().await;
    let etag = app
        .get("/tenants/demo")
        .by(Caller::Member)
        .send()
        .await
        .etag()
        .to_owned();

    let wait = app
        .get("/tenants/demo?wait=1s")
        .by(Caller::Member)
        .header("if-none-match", &etag)
        .send();
    let (reply, took) = timed(wait).await;

    assert_eq!(reply.status, 304);
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_wait_for_a_tenant_needs_the_version_that_is_known() {
    let app = TestApp::with_demo().await;

    let without = app
        .get("/tenants/demo?wait=25s")
        .by(Caller::Member)
        .send()
        .await;
    let long = app
        .get("/tenants/demo?wait=31s")
        .by(Caller::Member)
        .header("if-none-match", "*")
        .send()
        .await;
    let odd = app
        .get("/tenants/demo?wait=soon")
        .by(Caller::Member)
        .send()
        .await;

    assert_eq!(without.summary(), "422 validation_failed");
    assert_eq!(long.summary(), "422 validation_failed");
    assert_eq!(odd.summary(), "400 invalid_request");
}

#[tokio::test]
async fn who_loses_their_rights_while_they_wait_sees_nothing_more() {
    let waits = async |path: &str, known: Option<&str>| -> Reply {
        let app = TestApp::with_demo().await;
        let id = job(&app).await;
        let member = app.user(Caller::Member).await.id;
        let mut wait = app
            .get(&format!(
                "{}?wait=25s",
                path.replace("{id}", &id.to_string())
            ))
            .by(Caller::Member);
        if let Some(known) = known {
            wait = wait.header("if-none-match", known);
        }
        let removed = app
            .patch(&format!("/users/{member}"))
            .by(Caller::Operator)
            .json(&json!({ "tenantRoles": { "demo": null } }));

        let (reply, ()) = tokio::join!(
            wait.send(),
            soon(async {
                assert_eq!(removed.send().await.status, 200);
                app.set_tenant("demo", doc! { "industry": "secret" }).await;
                app.set_job(id, doc! { "state": "completed" }).await;
            })
        );
        reply
    };

    for (path, known) in [
        ("/tenants/demo", Some("*")),
        ("/jobs/{id}", None),
        ("/jobs/{id}", Some("\"1.1\"")),
    ] {
        let reply = waits(path, known).await;

        assert_eq!(reply.summary(), "404 not_found", "{path} {known:?}");
    }
}

#[tokio::test]
async fn a_redis_that_hangs_keeps_nobody_waiting() {
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hung.local_addr().unwrap();
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = format!("redis://{address}/");
    })
    .await;
    app.demo().await;
    let mut quickest = Duration::MAX;

    for attempt in 0..5 {
        let write = app
            .patch("/tenants/demo")
            .by(Caller::Operator)
            .json(&json!({ "industry": attempt.to_string() }))
            .send();
        let (reply, took) = timed(write).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        quickest = quickest.min(took);
    }

    assert!(quickest < Duration::from_millis(400), "{quickest:?}");
}

#[tokio::test]
async fn without_redis_changes_are_found_all_the_same() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = "redis://127.0.0.1:1/".to_owned();
    })
    .await;
    app.demo().await;
    let id = job(&app).await;

    let wait = app
        .get(&format!("/jobs/{id}?wait=25s"))
        .by(Caller::Member)
        .send();
    let ((reply, took), ()) = tokio::join!(
        timed(wait),
        soon(app.set_job(id, doc! { "state": "completed" }))
    );

    assert_eq!(reply.body["state"], "completed");
    assert!(took < PROMPT, "{took:?}");
}

#[tokio::test]
async fn a_hint_is_followed_without_waiting_for_the_next_look() {
    let app = TestApp::with_demo().await;
    let id = job(&app).await;
    let mut quickest = Duration::MAX;

    for n in 0..5 {
        let state = if n % 2 == 0 { "completed" } else { "discarded" };
        app.set_job(id, doc! { "state": "running" }).await;
        let wait = app
            .get(&format!("/jobs/{id}?wait=25s"))
            .by(Caller::Member)
            .send();
        let change = async {
            app.set_job(id, doc! { "state": state }).await;
            app.state.changes.publish(&[DocumentChange::Job(id)]).await;
        };
        let ((_, took), ()) = tokio::join!(timed(wait), soon(change));
        quickest = quickest.min(took);
    }

    assert!(quickest < Duration::from_millis(800), "{quickest:?}");
}

#[tokio::test]
async fn a_wait_for_a_job_ends_when_it_is_over_and_not_before() {
    let app = TestApp::with_demo().await;
    let id = job(&app).await;
    let wait = app
        .get(&format!("/jobs/{id}?wait=25s"))
        .by(Caller::Member)
        .send();

    let (reply, ()) = tokio::join!(wait, async {
        soon(app.set_job(id, doc! { "state": "running" })).await;
        soon(app.set_job(id, doc! { "state": "discarded" })).await;
    });

    assert_eq!(
        (reply.status.as_u16(), &reply.body["state"]),
        (200, &json!("discarded"))
    );
}

#[tokio::test]
async fn whoever_waits_for_a_job_is_taken_along_to_the_one_that_does_its_work() {
    let app = TestApp::with_demo().await;
    app.post("/tenants/demo/suspend")
        .by(Caller::Operator)
        .send()
        .await;
    let jobs = app.jobs().await;
    let (first, second) = (jobs[0].id, jobs[1].id);
    let wait = app
        .get(&format!("/jobs/{first}?wait=25s"))
        .by(Caller::Member)
        .send();

    let (reply, ()) = tokio::join!(wait, async {
        soon(app.set_job(first, doc! { "state": "cancelled", "supersededBy": second })).await;
        soon(app.set_job(second, doc! { "state": "completed" })).await;
    });

    assert_eq!(
        (&reply.body["id"], &reply.body["state"]),
        (&json!(second.to_string()), &json!("completed"))
    );
    assert_eq!(
        reply.header("content-location").unwrap(),
        format!("/jobs/{second}")
    );
}

#[tokio::test]
async fn a_preference_to_wait_is_answered_with_the_final_state() {
    let app = TestApp::with_demo().await;
    let suspend = app
        .post("/tenants/demo/suspend")
        .by(Caller::Operator)
        .header("prefer", "wait=25")
        .send();
    let finish = async {
        let suspended = async || {
            app.jobs()
                .await
                .into_iter()
                .find(|job| job.kind == "suspend_tenant")
        };
        let job = loop {
            if let Some(job) = suspended().await {
                break job.id;
            }
            sleep(Duration::from_millis(20)).await;
        };
        app.set_job(job, doc! { "state": "completed" }).await;
    };

    let (reply, ()) = tokio::join!(suspend, finish);

    assert_eq!(
        (reply.status.as_u16(), &reply.body["status"]),
        (200, &json!("suspended"))
    );
    assert_eq!(reply.body["job"]["state"], "completed");
    assert_eq!(reply.header("preference-applied"), Some("wait"));
}

#[tokio::test]
async fn a_preference_that_cannot_be_met_is_answered_with_202() {
    let app = TestApp::with_demo().await;

    let suspend = app
        .post("/tenants/demo/suspend")
        .by(Caller::Operator)
        .header("prefer", "wait=1")
        .send();
    let (reply, took) = timed(suspend).await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["job"]["state"]),
        (202, &json!("available"))
    );
    assert!(took >= Duration::from_secs(1));
}

#[tokio::test]
async fn when_the_process_is_to_end_whoever_waits_is_answered_at_once() {
    let app = TestApp::with_demo().await;
    let id = job(&app).await;
    let wait = app
        .get(&format!("/jobs/{id}?wait=25s"))
        .by(Caller::Member)
        .send();

    let ((reply, took), ()) = tokio::join!(timed(wait), soon(async { app.shutdown.cancel() }));

    assert_eq!(
        (reply.status.as_u16(), &reply.body["state"]),
        (200, &json!("available"))
    );
    assert!(took < PROMPT, "{took:?}");
}
