//! Long polling, and `Prefer: wait` on writes.

use std::time::Duration;

use bson::doc;
use dezky_shared::platform::change_feed::DocumentChange;
use dezky_sim::callers::Caller;
use serde_json::json;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::app::{TestApp, shared_issuer};
use crate::client::Reply;

/// Upper limit for immediate responses on a slow test machine.
const PROMPT: Duration = Duration::from_secs(8);

async fn timed(call: impl IntoFuture<Output = Reply>) -> (Reply, Duration) {
    let started = Instant::now();
    (call.await, started.elapsed())
}

async fn after_delay(action: impl Future) {
    sleep(Duration::from_millis(300)).await;
    action.await;
}

#[tokio::test]
async fn a_long_poll_on_a_tenant_returns_on_change() {
    let app = TestApp::with_demo().await;
    let etag = app.member().get("/tenants/demo").await.etag().to_owned();
    let wait = app
        .member()
        .get("/tenants/demo?wait=25s")
        .if_none_match(&etag);

    let ((reply, took), ()) = tokio::join!(
        timed(wait),
        after_delay(app.set_tenant("demo", doc! { "authentikGroupId": "g" })),
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
async fn a_long_poll_with_a_stale_etag_returns_immediately() {
    let app = TestApp::with_demo().await;

    let wait = app
        .member()
        .get("/tenants/demo?wait=25")
        .if_none_match("\"0.0\"");
    let (reply, took) = timed(wait).await;

    assert_eq!(reply.status, 200);
    assert!(took < PROMPT, "{took:?}");
}

#[tokio::test]
async fn a_long_poll_without_a_change_returns_304() {
    let app = TestApp::with_demo().await;
    let etag = app.member().get("/tenants/demo").await.etag().to_owned();

    let wait = app
        .member()
        .get("/tenants/demo?wait=1s")
        .if_none_match(&etag);
    let (reply, took) = timed(wait).await;

    assert_eq!(reply.status, 304);
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_long_poll_without_if_none_match_returns_when_the_tenant_is_settled() {
    let app = TestApp::with_demo().await;
    let wait = || app.member().get("/tenants/demo?wait=25s");
    let settled = doc! { "authentik": "ok", "stalwart": "skipped", "ocis": "error" };

    let ((first, took), ()) = tokio::join!(
        timed(wait()),
        after_delay(async {
            app.set_tenant("demo", doc! { "industry": "retail" }).await;
            app.set_tenant("demo", doc! { "provisioningStatus": settled })
                .await;
        }),
    );
    let (again, took_again) = timed(wait()).await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (200, 200));
    assert_eq!(first.body["provisioningStatus"]["ocis"], "error");
    assert!(
        took >= Duration::from_millis(250) && took < PROMPT,
        "{took:?}"
    );
    assert!(took_again < PROMPT, "{took_again:?}");
}

#[tokio::test]
async fn an_invalid_wait_is_rejected() {
    let app = TestApp::with_demo().await;

    let long = app
        .member()
        .get("/tenants/demo?wait=31s")
        .if_none_match("*")
        .await;
    let odd = app.member().get("/tenants/demo?wait=soon").await;

    assert_eq!(long.summary(), "422 validation_failed");
    assert_eq!(odd.summary(), "400 invalid_request");
}

#[tokio::test]
async fn losing_access_during_a_long_poll_returns_404() {
    let reply_for = async |path: &str, etag: Option<&str>| -> Reply {
        let app = TestApp::with_demo().await;
        let id = app.first_job().await;
        let member = app.user(Caller::Member).await.id;
        let path = path.replace("{id}", &id.to_string());
        let mut wait = app.member().get(format!("{path}?wait=25s"));
        if let Some(etag) = etag {
            wait = wait.if_none_match(etag);
        }

        let (reply, ()) = tokio::join!(
            wait.send(),
            after_delay(async {
                app.set_tenant_roles(member, json!({ "demo": null })).await;
                app.set_tenant("demo", doc! { "industry": "secret" }).await;
                app.set_job(id, doc! { "state": "completed" }).await;
            })
        );
        reply
    };

    for (path, etag) in [
        ("/tenants/demo", Some("*")),
        ("/tenants/demo", None),
        ("/jobs/{id}", None),
        ("/jobs/{id}", Some("\"1.1\"")),
    ] {
        let reply = reply_for(path, etag).await;

        assert_eq!(reply.summary(), "404 not_found", "{path} {etag:?}");
    }
}

#[tokio::test]
async fn an_unresponsive_redis_does_not_delay_writes() {
    let unresponsive = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unresponsive.local_addr().unwrap();
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = format!("redis://{address}/");
    })
    .await;
    app.demo().await;
    let mut fastest = Duration::MAX;

    for attempt in 0..5 {
        let write = app
            .operator()
            .patch("/tenants/demo", json!({ "industry": attempt.to_string() }));
        let (reply, took) = timed(write).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        fastest = fastest.min(took);
    }

    assert!(fastest < Duration::from_millis(400), "{fastest:?}");
}

#[tokio::test]
async fn without_redis_long_polls_detect_changes() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = "redis://127.0.0.1:1/".to_owned();
    })
    .await;
    app.demo().await;
    let id = app.first_job().await;

    let wait = app.member().get(format!("/jobs/{id}?wait=25s"));
    let ((reply, took), ()) = tokio::join!(
        timed(wait),
        after_delay(app.set_job(id, doc! { "state": "completed" }))
    );

    assert_eq!(reply.body["state"], "completed");
    assert!(took < PROMPT, "{took:?}");
}

#[tokio::test]
async fn a_change_hint_ends_a_long_poll_before_the_next_database_poll() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let mut fastest = Duration::MAX;

    for n in 0..5 {
        let state = if n % 2 == 0 { "completed" } else { "discarded" };
        app.set_job(id, doc! { "state": "running" }).await;
        let wait = app.member().get(format!("/jobs/{id}?wait=25s"));
        let change = async {
            app.set_job(id, doc! { "state": state }).await;
            app.state
                .hints
                .changes
                .publish(&[DocumentChange::Job(id)])
                .await;
        };
        let ((_, took), ()) = tokio::join!(timed(wait), after_delay(change));
        fastest = fastest.min(took);
    }

    assert!(fastest < Duration::from_millis(800), "{fastest:?}");
}

#[tokio::test]
async fn a_long_poll_on_a_job_returns_when_the_job_is_final() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let wait = app.member().get(format!("/jobs/{id}?wait=25s"));

    let (reply, ()) = tokio::join!(wait.send(), async {
        after_delay(app.set_job(id, doc! { "state": "running" })).await;
        after_delay(app.set_job(id, doc! { "state": "discarded" })).await;
    });

    assert_eq!(
        (reply.status.as_u16(), &reply.body["state"]),
        (200, &json!("discarded"))
    );
}

#[tokio::test]
async fn a_long_poll_on_a_superseded_job_follows_its_successor() {
    let app = TestApp::with_demo().await;
    app.operator().post_empty("/tenants/demo/suspend").await;
    let jobs = app.jobs().await;
    let (first, second) = (jobs[0].id, jobs[1].id);
    let wait = app.member().get(format!("/jobs/{first}?wait=25s"));

    let (reply, ()) = tokio::join!(wait.send(), async {
        after_delay(app.set_job(first, doc! { "state": "cancelled", "supersededBy": second }))
            .await;
        after_delay(app.set_job(second, doc! { "state": "completed" })).await;
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
async fn prefer_wait_returns_the_final_state() {
    let app = TestApp::with_demo().await;
    let suspend = app.operator().post_empty("/tenants/demo/suspend").wait(25);
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

    let (reply, ()) = tokio::join!(suspend.send(), finish);

    assert_eq!(
        (reply.status.as_u16(), &reply.body["status"]),
        (200, &json!("suspended"))
    );
    assert_eq!(reply.body["job"]["state"], "completed");
    assert_eq!(reply.header("preference-applied"), Some("wait"));
}

#[tokio::test]
async fn a_wait_that_times_out_returns_202() {
    let app = TestApp::with_demo().await;

    let suspend = app.operator().post_empty("/tenants/demo/suspend").wait(1);
    let (reply, took) = timed(suspend).await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["job"]["state"]),
        (202, &json!("available"))
    );
    assert!(took >= Duration::from_secs(1));
}

#[tokio::test]
async fn shutdown_ends_long_polls_immediately() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let wait = app.member().get(format!("/jobs/{id}?wait=25s"));

    let ((reply, took), ()) =
        tokio::join!(timed(wait), after_delay(async { app.shutdown.cancel() }));

    assert_eq!(
        (reply.status.as_u16(), &reply.body["state"]),
        (200, &json!("available"))
    );
    assert!(took < PROMPT, "{took:?}");
}

#[tokio::test]
async fn a_long_poll_on_a_domain_returns_when_it_is_settled_or_changed() {
    let app = TestApp::with_demo().await;
    let created = app
        .owner()
        .post("/tenants/demo/domains", json!({ "name": "new.test" }))
        .await;
    let etag = created.etag().to_owned();
    let wait = || app.member().get("/tenants/demo/domains/new.test?wait=25s");
    let set = async |fields: bson::Document| {
        let domains = app.collection("domains");
        let update = doc! { "$set": fields, "$inc": { "revision": 1_i64 } };
        let named = doc! { "name": "new.test" };
        domains.update_one(named, update).await.unwrap();
    };

    let (changed, ()) = tokio::join!(
        wait().if_none_match(&etag).send(),
        after_delay(set(doc! { "wantsPrimary": true })),
    );
    let (settled, ()) = tokio::join!(
        wait().send(),
        after_delay(set(doc! { "status": "verified" }))
    );
    let removed = doc! { "removing": true };
    set(removed).await;
    let (gone, ()) = tokio::join!(
        wait().send(),
        after_delay(async {
            let domains = app.collection("domains");
            let named = doc! { "name": "new.test" };
            domains.delete_one(named).await.unwrap();
        })
    );

    assert_eq!(
        (&changed.body["status"], &changed.body["revision"]),
        (&json!("pending"), &json!(2))
    );
    assert_eq!(settled.body["status"], "verified");
    assert_eq!(gone.summary(), "404 not_found");
}
