//! Death of a process before and after each write of a command: the repeated request ends as if nothing had happened, and
//! the change is made and audited once.

use bson::doc;
use dezky_shared::platform::clock;
use dezky_sim::{
    callers::Caller,
    proxy::{Death, Proxy, is_command, is_commit_after},
};
use futures::future::join_all;
use serde_json::json;
use tokio::time::{Duration, sleep, timeout};

use crate::{
    app::TestApp,
    billing_summary::{credit, partner},
    client::{Call, Reply},
};

/// Time limit for the transaction of a dead process to end.
const DEADLINE: Duration = Duration::from_mins(1);

const DEATHS: [Death; 2] = [Death::BeforeRequest, Death::AfterRequest];

/// A write, by the way in which it kills its process.
type Kill = fn(&Proxy, Death);

/// Sends the request to a process that dies at a write, and waits until it is dead. No client receives its response.
async fn sent_to_a_dying_process(proxy: &Proxy, request: Call<'_>) {
    let dead = async {
        while !proxy.is_cut() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        reply = request.open() => assert!(proxy.is_cut(), "{reply:?}"),
        () = dead => {}
    }
}

/// Repeats a request until the transaction of the dead process, which holds the idempotency key, was ended by MongoDB.
async fn repeated<'a>(request: impl Fn() -> Call<'a>) -> Reply {
    let answered = async {
        loop {
            let reply = request().await;
            if reply.summary() != "409 idempotency_in_progress" {
                return reply;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(DEADLINE, answered).await.unwrap()
}

/// Each write with each death.
fn rows(writes: [Kill; 3]) -> impl Iterator<Item = (usize, Kill, Death)> {
    let writes = writes.into_iter().enumerate();
    writes.flat_map(|(row, kill)| DEATHS.map(|death| (row, kill, death)))
}

#[tokio::test]
async fn the_first_request_of_a_person_creates_one_user_whenever_its_process_dies() {
    let writes: [Kill; 3] = [
        |proxy, death| proxy.die_at(death, is_command("insert", "users", "")),
        |proxy, death| proxy.die_at(death, is_command("insert", "audit_events", "user.create")),
        |proxy, death| {
            let begins = is_command("insert", "users", "");
            proxy.die_at(death, is_commit_after(begins));
        },
    ];
    let creations = rows(writes).map(|(row, kill, death)| async move {
        let app = TestApp::start().await;
        let proxy = app.proxy().await;
        let dying = app.process_behind(&proxy).await;
        kill(&proxy, death);

        let request = app.client(Caller::Stranger).get("/users/me");
        sent_to_a_dying_process(&proxy, request.through(&dying)).await;
        let repeated = app.client(Caller::Stranger).get("/users/me").await;

        assert_eq!(repeated.status, 200, "{row} {death:?}: {repeated:?}");
        assert_eq!(app.count("users").await, 1, "{row} {death:?}");
        assert_eq!(app.actions().await, ["user.create"], "{row} {death:?}");
    });
    join_all(creations).await;
}

#[tokio::test]
async fn tenants_created_at_the_same_time_are_created_once_each_whenever_the_process_dies() {
    const CREATIONS: usize = 6;
    let creations = DEATHS.map(|death| async move {
        let app = TestApp::with_operator().await;
        let proxy = app.proxy().await;
        let dying = app.process_behind(&proxy).await;
        let begins = is_command("insert", "tenants", "acme-5");
        proxy.die_at(death, is_commit_after(begins));
        let create = |n: usize| {
            let body = json!({ "slug": format!("acme-{n}"), "name": "Acme" });
            let call = app.operator().post("/tenants", body);
            call.idempotency_key(&n.to_string())
        };

        let sent = (0..CREATIONS).map(|n| create(n).through(&dying).open());
        let dead = async {
            while !proxy.is_cut() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = join_all(sent) => {}
            () = dead => {}
        }
        let replies = join_all((0..CREATIONS).map(|n| repeated(move || create(n)))).await;

        assert!(proxy.is_cut());
        for reply in replies {
            assert_eq!(reply.status, 202, "{death:?}: {reply:?}");
        }
        let actions = app.actions().await;
        let created = actions
            .iter()
            .filter(|action| action.as_str() == "tenant.create");
        assert_eq!(created.count(), CREATIONS, "{death:?}");
        for collection in ["tenants", "jobs"] {
            assert_eq!(app.count(collection).await, 6, "{death:?}");
        }
    });
    join_all(creations).await;
}

#[tokio::test]
async fn a_job_is_dismissed_once_whenever_the_process_dies() {
    let writes: [Kill; 3] = [
        |proxy, death| proxy.die_at(death, is_command("findAndModify", "jobs", "dismissed")),
        |proxy, death| proxy.die_at(death, is_command("insert", "audit_events", "job.dismiss")),
        |proxy, death| {
            let begins = is_command("findAndModify", "jobs", "dismissed");
            proxy.die_at(death, is_commit_after(begins));
        },
    ];
    let dismissals = rows(writes).map(|(row, kill, death)| async move {
        let app = TestApp::with_demo().await;
        let id = app.first_job().await;
        app.set_job(id, doc! { "state": "discarded" }).await;
        let proxy = app.proxy().await;
        let dying = app.process_behind(&proxy).await;
        kill(&proxy, death);
        let dismiss = || {
            let call = app.operator().post_empty(format!("/jobs/{id}/dismiss"));
            call.idempotency_key("once")
        };

        sent_to_a_dying_process(&proxy, dismiss().through(&dying)).await;
        let repeated = repeated(dismiss).await;

        assert_eq!(repeated.status, 200, "{row} {death:?}: {repeated:?}");
        assert!(repeated.body["dismissedAt"].is_string(), "{repeated:?}");
        let dismissals = app.actions().await.into_iter();
        let dismissals = dismissals.filter(|action| action == "job.dismiss");
        assert_eq!(dismissals.count(), 1, "{row} {death:?}");
    });
    join_all(dismissals).await;
}

#[tokio::test]
async fn a_saved_report_is_deleted_once_whenever_the_process_dies() {
    let writes: [Kill; 3] = [
        |proxy, death| proxy.die_at(death, is_command("delete", "saved_reports", "")),
        |proxy, death| {
            let audited = is_command("insert", "audit_events", "savedReport.delete");
            proxy.die_at(death, audited);
        },
        |proxy, death| {
            let begins = is_command("delete", "saved_reports", "");
            proxy.die_at(death, is_commit_after(begins));
        },
    ];
    let deletions = rows(writes).map(|(row, kill, death)| async move {
        let app = TestApp::with_operator().await;
        let body = json!({ "name": "Quarter", "report": "growth", "last": 3 });
        let saved = app.operator().post("/reports/saved", body).await;
        let path = saved.header("location").unwrap().to_owned();
        let proxy = app.proxy().await;
        let dying = app.process_behind(&proxy).await;
        kill(&proxy, death);
        let delete = || app.operator().delete(&path).idempotency_key("once");

        sent_to_a_dying_process(&proxy, delete().through(&dying)).await;
        let repeated = repeated(delete).await;

        assert_eq!(repeated.status, 200, "{row} {death:?}: {repeated:?}");
        assert_eq!(repeated.body["name"], "Quarter");
        assert_eq!(app.count("saved_reports").await, 0, "{row} {death:?}");
        let deletions = app.actions().await.into_iter();
        let deletions = deletions.filter(|action| action == "savedReport.delete");
        assert_eq!(deletions.count(), 1, "{row} {death:?}");
    });
    join_all(deletions).await;
}

#[tokio::test]
async fn an_event_is_replayed_once_whenever_the_process_dies() {
    let writes: [Kill; 3] = [
        |proxy, death| proxy.die_at(death, is_command("update", "webhook_events", "")),
        |proxy, death| {
            let enqueued = is_command("findAndModify", "jobs", "mirror_stripe_object");
            proxy.die_at(death, enqueued);
        },
        |proxy, death| {
            let begins = is_command("update", "webhook_events", "");
            proxy.die_at(death, is_commit_after(begins));
        },
    ];
    let replays = rows(writes).map(|(row, kill, death)| async move {
        let app = TestApp::with_operator().await;
        let now = app.state.store.now();
        let customer = doc! { "objectType": "customer", "objectId": "cus_1" };
        let event = doc! {
            "_id": "evt_1", "type": "customer.updated", "objectType": "customer", "objectId": "cus_1",
            "mirrored": customer, "created": now, "receivedAt": now, "enqueuedAt": now, "source": "webhook",
            "state": "processed", "expireAt": clock::later(now, Duration::from_hours(1)),
        };
        let events = app.collection("webhook_events");
        events.insert_one(event).await.unwrap();
        let proxy = app.proxy().await;
        let dying = app.process_behind(&proxy).await;
        kill(&proxy, death);
        let replay = || {
            let call = app.operator().post_empty("/webhook-events/evt_1/replay");
            call.idempotency_key("once")
        };

        sent_to_a_dying_process(&proxy, replay().through(&dying)).await;
        let repeated = repeated(replay).await;

        assert_eq!(repeated.status, 202, "{row} {death:?}: {repeated:?}");
        let event = app.document("webhook_events", doc! {}).await;
        assert_eq!(event.get_str("state").unwrap(), "received");
        let jobs = app.jobs().await.into_iter();
        let mut jobs = jobs.filter(|job| job.kind == "mirror_stripe_object");
        let job = jobs.next().unwrap().id.to_string();
        assert_eq!(repeated.body["job"]["id"], job, "{row} {death:?}");
        assert_eq!(jobs.count(), 0, "{row} {death:?}");
        let replays = app.actions().await.into_iter();
        let replays = replays.filter(|action| action == "webhookEvent.replay");
        assert_eq!(replays.count(), 1, "{row} {death:?}");
    });
    join_all(replays).await;
}

/// Sends a request to a process that dies at a write or a read, and again to one that lives.
async fn died_and_repeated<'a>(
    app: &'a TestApp,
    death: Death,
    is_it: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    request: impl Fn() -> Call<'a>,
) -> Reply {
    let proxy = app.proxy().await;
    let dying = app.process_behind(&proxy).await;
    proxy.die_at(death, is_it);
    sent_to_a_dying_process(&proxy, request().through(&dying)).await;
    repeated(request).await
}

#[tokio::test]
async fn payouts_and_saved_reports_are_changed_once_whenever_the_process_dies() {
    let app = TestApp::with_demo().await;
    let (id, slug) = partner(&app).await;
    credit(&app, id, 700).await;
    let payout = app.add_payout(id, 700).await;
    app.operator().get("/users/me").await;
    let jobs = app.jobs().await.len();
    let request = |month: &'static str| {
        let body = json!({ "partner": slug, "currency": "DKK", "month": month });
        let call = app.operator().post("/payouts", body);
        call.idempotency_key(month)
    };
    let cancel = || {
        let path = format!("/payouts/{}/cancel", payout.id);
        app.operator().post_empty(path).idempotency_key("cancel")
    };
    let save = || {
        let body = json!({ "name": "Quarter", "report": "growth", "last": 3 });
        let call = app.operator().post("/reports/saved", body);
        call.idempotency_key("save")
    };
    let audited = |action: &str| is_commit_after(is_command("insert", "audit_events", action));
    // What is owed is read in the transaction that requests the payout.
    let owed = is_command("find", "partner_balances", "autocommit");
    let (requested, cancelled) = (audited("payout.request"), audited("payout.cancel"));
    let saved = audited("savedReport.create");

    let (undecided, requested, cancelled, saved) = tokio::join!(
        died_and_repeated(&app, Death::BeforeRequest, owed, || request("2025-01")),
        died_and_repeated(&app, Death::AfterRequest, requested, || request("2025-02")),
        died_and_repeated(&app, Death::BeforeRequest, cancelled, cancel),
        died_and_repeated(&app, Death::AfterRequest, saved, save),
    );

    let statuses = [&undecided, &requested, &cancelled, &saved].map(|reply| reply.status.as_u16());
    assert_eq!(
        statuses,
        [202, 202, 200, 201],
        "{undecided:?} {requested:?}"
    );
    let mut actions = app.actions().await;
    actions.retain(|action| action.starts_with("payout.") || action.starts_with("savedReport."));
    actions.sort();
    let once = [
        "payout.cancel",
        "payout.request",
        "payout.request",
        "savedReport.create",
    ];
    assert_eq!(actions, once);
    assert_eq!(app.jobs().await.len(), jobs + 3);
    assert_eq!(app.count("saved_reports").await, 1);
    let balance = app.document("partner_balances", doc! {}).await;
    assert_eq!(balance.get_i64("unsettledMinor").unwrap(), 1_400);
}
