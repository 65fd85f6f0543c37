//! Storage of a tenant, as a job last measured it.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    platform::clock,
    queue::{
        args::MeasureStorage,
        job::{Job, JobArgs as _},
    },
};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{app::TestApp, personas::Persona};

const PATH: &str = "/tenants/demo/storage";

/// A time this long ago.
fn ago(app: &TestApp, age: Duration) -> DateTime {
    clock::earlier(app.state.store.now(), age)
}

impl TestApp {
    /// Stores a report as the job does, measured at `as_of`.
    pub(crate) async fn set_storage(&self, as_of: DateTime, used: i64) {
        let demo = self.tenant("demo").await.id;
        let mailbox = |address: &str, used: i64| {
            doc! { "accountId": address, "address": address, "usedBytes": used, "quotaBytes": 100_i64 }
        };
        let report = doc! {
            "files": { "asOf": as_of, "space": { "totalBytes": 1_000_i64, "usedBytes": used } },
            "mail": {
                "asOf": as_of, "count": 2_i64, "usedBytes": 99_i64,
                "mailboxes": [mailbox("ada@demo.test", 95), mailbox("bob@demo.test", 4)],
            },
        };
        let reports = self.collection("storage_reports");
        let set = doc! { "$set": report };
        let stored = reports.update_one(doc! { "_id": demo }, set).upsert(true);
        stored.await.unwrap();
    }

    async fn measurements(&self) -> Vec<Job> {
        let mut jobs = self.jobs().await;
        jobs.retain(|job| job.kind == MeasureStorage::KIND);
        jobs
    }
}

#[tokio::test]
async fn a_recent_measurement_is_shown_without_a_job() {
    let app = TestApp::with_demo().await;
    app.set_storage(ago(&app, Duration::from_mins(4)), 910)
        .await;

    let reply = app.owner().get(PATH).await;

    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body["space"],
        json!({ "totalBytes": 1_000, "usedBytes": 910, "state": "critical" })
    );
    assert_eq!(
        reply.body["mail"],
        json!({ "mailboxes": 2, "usedBytes": 99 })
    );
    assert_eq!(
        reply.items()[0],
        json!({
            "address": "ada@demo.test",
            "mailbox": { "totalBytes": 100, "usedBytes": 95, "state": "critical" },
        })
    );
    assert_eq!(reply.items()[1]["mailbox"]["state"], "normal");
    assert_eq!(reply.body["allowance"]["plan"], "business");
    assert_eq!(reply.body["allowance"]["filesBytes"], 500_000_000_000_i64);
    assert_eq!(reply.body["asOf"], reply.body["filesAsOf"]);
    assert_eq!(reply.body["job"], Value::Null);
    assert!(app.measurements().await.is_empty());
}

#[tokio::test]
async fn an_old_measurement_is_shown_with_the_one_job_that_repeats_it() {
    let app = TestApp::with_demo().await;
    app.set_storage(ago(&app, Duration::from_mins(6)), 1).await;

    let owner = app.owner();
    let replies = join_all((0..8).map(|_| owner.get(PATH).send())).await;
    let by_partner = app.operator().get(PATH).await;

    let [job] = &app.measurements().await[..] else {
        panic!("{:#?}", app.measurements().await);
    };
    for reply in replies.iter().chain([&by_partner]) {
        assert_eq!(reply.body["space"]["usedBytes"], 1);
        assert_eq!(reply.body["job"]["id"], job.id.to_string());
    }
    assert_eq!(
        app.actions().await.len() as u64,
        app.count("audit_events").await
    );
}

#[tokio::test]
async fn a_failed_measurement_is_not_repeated_within_a_minute() {
    let app = TestApp::with_demo().await;
    app.owner().get(PATH).await;
    let [job] = &app.measurements().await[..] else {
        panic!("no job");
    };
    app.set_job(job.id, doc! { "state": "discarded" }).await;

    let reply = app.owner().get(PATH).await;

    // Another minute may have begun.
    let jobs = app.measurements().await.len();
    let same_minute = jobs == 1;
    assert!(jobs <= 2);
    assert_eq!(reply.body["job"].is_null(), same_minute);
    assert_eq!(reply.body["asOf"], Value::Null);
}

#[tokio::test]
async fn a_caller_who_waits_is_answered_with_the_new_measurement() {
    let app = TestApp::with_demo().await;
    app.set_storage(ago(&app, Duration::from_hours(1)), 1).await;
    let measure = async {
        let job = loop {
            if let Some(job) = app.measurements().await.pop() {
                break job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        app.set_storage(app.state.store.now(), 2).await;
        app.set_job(job.id, doc! { "state": "completed" }).await;
    };

    let (reply, ()) = tokio::join!(app.owner().get(PATH).wait(20).send(), measure);

    assert_eq!(reply.body["space"]["usedBytes"], 2);
    assert_eq!(reply.body["job"]["state"], "completed");
    assert_eq!(reply.header("preference-applied"), Some("wait"));
}

#[tokio::test]
async fn an_admin_who_is_demoted_while_waiting_is_rejected() {
    let app = TestApp::with_personas().await;
    let admin = app.user(Persona::Admin).await.id;
    let demote = async {
        let job = loop {
            if let Some(job) = app.measurements().await.pop() {
                break job;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        app.set_user(admin, doc! { "memberships.0.role": "member" })
            .await;
        app.set_storage(app.state.store.now(), 2).await;
        app.set_job(job.id, doc! { "state": "completed" }).await;
    };

    let call = app.client(Persona::Admin).get(PATH).wait(20);
    let (reply, ()) = tokio::join!(call.send(), demote);

    assert_eq!(reply.summary(), "403 forbidden");
}

#[tokio::test]
async fn mailboxes_are_paged_by_address() {
    let app = TestApp::with_demo().await;
    app.set_storage(app.state.store.now(), 1).await;

    let first = app.owner().get(format!("{PATH}?limit=1")).await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = app
        .owner()
        .get(format!("{PATH}?limit=1&cursor={cursor}"))
        .await;

    assert_eq!(first.items()[0]["address"], "ada@demo.test");
    assert_eq!(second.items()[0]["address"], "bob@demo.test");
    assert_eq!(second.body["nextCursor"], Value::Null);
    assert_eq!(second.body["mail"]["mailboxes"], 2);
}

#[tokio::test]
async fn rows_name_members_and_members_without_a_mailbox_follow() {
    let app = TestApp::with_demo().await;
    app.set_storage(app.state.store.now(), 1).await;
    let users = "/tenants/demo/users";
    let ada = json!({ "localPart": "ada", "name": "Ada", "role": "member" });
    let ada = app.owner().post(users, ada).await;
    let guests = ["x@work.test", "y@work.test"].map(
        |email| json!({ "email": email, "name": "Guest", "role": "member", "mailbox": false }),
    );
    for guest in guests {
        assert_eq!(app.owner().post(users, guest).await.status, 202);
    }
    let space = doc! {
        "personalSpace": { "asOf": app.state.store.now(), "totalBytes": 10_i64, "usedBytes": 10_i64 },
    };
    app.set("members", doc! { "email": "x@work.test" }, space)
        .await;

    let mut rows = Vec::new();
    let mut path = format!("{PATH}?limit=1");
    loop {
        let reply = app.owner().get(&path).await;
        rows.extend(reply.items().to_vec());
        let Some(cursor) = reply.body["nextCursor"].as_str() else {
            break;
        };
        path = format!("{PATH}?limit=1&cursor={cursor}");
    }

    let addresses: Vec<&str> = rows
        .iter()
        .map(|row| row["address"].as_str().unwrap())
        .collect();
    let expected = [
        "ada@demo.test",
        "bob@demo.test",
        "x@work.test",
        "y@work.test",
    ];
    assert_eq!(addresses, expected);
    assert_eq!(rows[0]["memberId"], ada.body["id"]);
    assert_eq!(rows[1]["memberId"], Value::Null, "not managed here");
    assert_eq!(rows[2]["mailbox"], Value::Null);
    assert_eq!(rows[2]["files"]["state"], "exceeded");
    assert_eq!(rows[3]["files"], Value::Null);
}

#[tokio::test]
async fn a_terminated_tenant_is_not_measured() {
    let app = TestApp::with_demo().await;
    app.set_tenant("demo", doc! { "status": "terminated" })
        .await;

    let reply = app.operator().get(PATH).await;

    assert_eq!(reply.status, 200);
    assert!(app.measurements().await.is_empty());
}

#[tokio::test]
async fn health_follows_the_share_of_the_space_that_is_used() {
    let app = TestApp::with_demo().await;
    let ok = doc! { "authentik": "ok", "stalwart": "ok", "ocis": "ok" };
    let active: Document = doc! { "status": "active", "provisioningStatus": ok };
    app.set_tenant("demo", active).await;
    for (used, status, reason) in [
        (900, "healthy", None),
        (910, "attention", Some("storage_nearly_full")),
        (1_000, "critical", Some("storage_full")),
    ] {
        app.set_storage(app.state.store.now(), used).await;

        let list = app.operator().get("/tenants").await;
        let summary = app.owner().get("/tenants/demo/summary").await;

        let demo = list.items().iter().find(|it| it["slug"] == "demo").unwrap();
        for health in [&demo["health"], &summary.body["health"]] {
            assert_eq!(health["status"], status, "{used}");
            assert_eq!(health["reasons"][0]["code"].as_str(), reason, "{used}");
        }
    }
}
