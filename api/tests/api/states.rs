//! Tenant actions in every state.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    platform::clock,
    queue::job::JobState,
    tenant::{ProvisioningState, TenantStatus},
    upstream::Upstream,
};
use serde_json::json;

use crate::app::TestApp;
use crate::client::Reply;

const STATES: [&str; 5] = [
    "pending",
    "active",
    "suspended",
    "terminating",
    "terminated",
];

async fn act(app: &TestApp, action: &str) -> Reply {
    let operator = app.operator();
    let call = match action {
        "patch" => operator.patch("/tenants/demo", json!({ "name": "Another" })),
        "delete" => operator.delete("/tenants/demo?confirm=demo"),
        action => operator.post_empty(format!("/tenants/demo/{action}")),
    };
    call.await
}

#[tokio::test]
async fn every_action_in_every_state_matches_the_table() {
    #[rustfmt::skip]
    let table = [
        ("suspend", ["202", "202", "200", "409 tenant_terminating", "409 tenant_terminated"]),
        ("resume", ["200", "200", "202", "409 tenant_terminating", "409 tenant_terminated"]),
        ("reconcile", ["202", "202", "202", "202", "409 tenant_terminated"]),
        ("patch", ["202", "202", "202", "409 tenant_terminating", "409 tenant_terminated"]),
        ("delete", ["202", "202", "202", "200", "200"]),
        ("restore", ["409 not_terminating", "409 not_terminating", "409 not_terminating", "202", "409 tenant_terminated"]),
    ];
    let app = TestApp::with_demo().await;
    let later = clock::later(clock::now(), Duration::from_hours(1));
    let tenants = app.collection("tenants");
    let original = app.document("tenants", doc! { "slug": "demo" }).await;

    for (action, expected) in table {
        for (state, expected) in STATES.into_iter().zip(expected) {
            let mut tenant = original.clone();
            tenant.insert("status", state);
            if state == "terminating" {
                tenant.insert("purgeAt", later);
                tenant.insert("statusBefore", "active");
            }
            tenants
                .replace_one(doc! { "slug": "demo" }, &tenant)
                .await
                .unwrap();
            let before = app.tenant("demo").await;
            let events = app.count("audit_events").await;

            let reply = act(&app, action).await;

            let what = format!("{action} {state}: {reply:?}");
            assert_eq!(reply.summary(), expected, "{what}");
            let after = app.tenant("demo").await;
            let recorded = app.count("audit_events").await - events;
            if reply.status == 202 {
                assert!(
                    reply.header("location").unwrap().starts_with("/jobs/"),
                    "{what}"
                );
                assert!(reply.header("retry-after").is_some(), "{what}");
                assert_eq!(reply.body["job"]["state"], "available", "{what}");
                assert_eq!(reply.body["slug"], "demo", "{what}");
                assert_eq!(recorded, 1, "{what}");
            } else {
                assert_eq!(after, before, "{what}");
                assert_eq!(recorded, 0, "{what}");
            }
            let is_new_generation = reply.status == 202 && action != "reconcile";
            assert_eq!(
                after.generation - before.generation,
                i64::from(is_new_generation),
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn suspending_and_resuming_reset_every_step_and_enqueue_a_job() {
    let app = TestApp::with_demo().await;
    app.set_tenant("demo", doc! { "status": "active", "provisioningStatus": { "authentik": "ok", "stalwart": "ok", "ocis": "ok" } }).await;

    act(&app, "suspend").await;
    let suspended = app.tenant("demo").await;
    act(&app, "resume").await;
    let resumed = app.tenant("demo").await;

    assert_eq!(suspended.status, TenantStatus::Suspended);
    assert_eq!(resumed.status, TenantStatus::Pending);
    for upstream in Upstream::ALL {
        assert_eq!(
            *suspended.provisioning_status.get(upstream),
            ProvisioningState::Pending
        );
    }
    assert_eq!(
        app.kinds().await,
        ["provision_tenant", "suspend_tenant", "resume_tenant"]
    );
}

#[tokio::test]
async fn deleting_a_tenant_suspends_it_and_schedules_the_purge() {
    let app = TestApp::with_demo().await;

    let reply = act(&app, "delete").await;

    let tenant = app.tenant("demo").await;
    let jobs = app.jobs().await;
    let [_, freeze, purge] = &jobs[..] else {
        panic!("{jobs:?}")
    };
    assert_eq!(tenant.status, TenantStatus::Terminating);
    assert_eq!(reply.body["job"]["id"], freeze.id.to_string());
    assert_eq!(
        (freeze.kind.as_str(), purge.kind.as_str()),
        ("suspend_tenant", "deprovision_tenant")
    );
    assert_eq!(Some(purge.run_at), tenant.purge_at);
    assert!(clock::until(clock::now(), purge.run_at) > Duration::from_hours(29 * 24));
    assert_eq!(purge.state, JobState::Available);
}

#[tokio::test]
async fn deleting_a_tenant_requires_the_slug_as_confirmation() {
    let app = TestApp::with_demo().await;

    let missing = app.operator().delete("/tenants/demo").await;
    let other = app.operator().delete("/tenants/demo?confirm=dem0").await;

    assert_eq!(missing.summary(), "422 confirmation_required");
    assert_eq!(other.summary(), "422 validation_failed");
    assert_eq!(app.tenant("demo").await.status, TenantStatus::Pending);
}

#[tokio::test]
async fn restoring_a_tenant_returns_it_to_its_previous_status() {
    for (before, kind) in [
        ("pending", "resume_tenant"),
        ("active", "resume_tenant"),
        ("suspended", "suspend_tenant"),
    ] {
        let app = TestApp::with_demo().await;
        app.set_tenant("demo", doc! { "status": before }).await;
        act(&app, "delete").await;

        let reply = act(&app, "restore").await;

        assert_eq!(reply.body["status"], before);
        let tenant = app.tenant("demo").await;
        assert_eq!((tenant.purge_at, tenant.status_before), (None, None));
        assert!(app.kinds().await.contains(&kind.to_owned()));
    }
}

#[tokio::test]
async fn a_tenant_cannot_be_restored_after_its_purge_time() {
    let issuer = crate::app::shared_issuer();
    let app = TestApp::start_with(issuer, |config| config.purge_after = Duration::ZERO).await;
    app.demo().await;
    act(&app, "delete").await;

    let reply = act(&app, "restore").await;

    assert_eq!(reply.summary(), "409 purge_started");
}
