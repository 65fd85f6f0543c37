//! Editing, rechecking and removing domains.

use std::time::Duration;

use bson::doc;
use dezky_shared::platform::clock;
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use super::{add, claim, domain, edit, jobs, prove, recheck, remove, set_domain, show};
use crate::app::TestApp;

#[tokio::test]
async fn a_new_dmarc_policy_enqueues_a_job_for_owned_domains_only() {
    let app = TestApp::with_demo().await;
    claim(&app, "demo", Caller::Owner, "claimed.test").await;
    let policy = json!({ "dmarc": { "policy": "reject", "rua": "dmarc@demo.test" } });

    let owned = edit(&app, "demo.test", policy.clone()).await;
    let claimed = edit(&app, "claimed.test", policy.clone()).await;
    let nothing = edit(&app, "demo.test", policy.clone()).await;

    assert_eq!(owned.status, 202);
    assert_eq!(owned.body["dmarc"], policy["dmarc"]);
    assert_eq!(owned.body["generation"], 2);
    assert_eq!(claimed.status, 200);
    assert_eq!(claimed.body["dmarc"], policy["dmarc"]);
    assert_eq!(
        (nothing.status.as_u16(), &nothing.body["generation"]),
        (200, &json!(2))
    );
    assert_eq!(jobs(&app, "set_dmarc").await.len(), 1);
}

#[tokio::test]
async fn null_clears_the_report_address_and_omission_keeps_it() {
    let app = TestApp::with_demo().await;
    edit(
        &app,
        "demo.test",
        json!({ "dmarc": { "policy": "quarantine", "rua": "a@demo.test" } }),
    )
    .await;

    let stays = edit(
        &app,
        "demo.test",
        json!({ "dmarc": { "policy": "reject" } }),
    )
    .await;
    let removed = edit(&app, "demo.test", json!({ "dmarc": { "rua": null } })).await;

    assert_eq!(
        stays.body["dmarc"],
        json!({ "policy": "reject", "rua": "a@demo.test" })
    );
    assert_eq!(removed.body["dmarc"], json!({ "policy": "reject" }));
}

#[tokio::test]
async fn the_primary_domain_can_be_moved_but_not_unset() {
    let app = TestApp::with_demo().await;
    add(&app, "demo", Caller::Operator, "new.test").await;

    let taken_away = edit(&app, "demo.test", json!({ "primary": false })).await;
    let moved = edit(&app, "new.test", json!({ "primary": true })).await;
    let already = edit(&app, "new.test", json!({ "primary": true })).await;

    assert_eq!(taken_away.summary(), "409 domain_is_primary");
    assert_eq!(moved.status, 200);
    assert_eq!(moved.body["primary"], true);
    assert_eq!(already.body["generation"], moved.body["generation"]);
    let other = show(&app, "demo", "demo.test").await.body;
    assert_eq!(
        (&other["primary"], &other["generation"]),
        (&json!(false), &json!(2))
    );
    let tenant = app.member().get("/tenants/demo").await.body;
    assert_eq!(tenant["primaryDomain"], "new.test");
}

#[tokio::test]
async fn a_claim_marked_primary_becomes_primary_once_proved() {
    let app = TestApp::with_demo().await;
    app.owner()
        .post(
            "/tenants/demo/domains",
            json!({ "name": "new.test", "primary": true }),
        )
        .await;
    let claim = domain(&app, "demo", "new.test").await;
    assert!(!claim.primary && domain(&app, "demo", "demo.test").await.primary);

    prove(&app, &claim).await.unwrap();

    assert!(domain(&app, "demo", "new.test").await.primary);
    assert!(!domain(&app, "demo", "demo.test").await.primary);
    assert_eq!(
        app.tenant("demo").await.primary_domain.as_deref(),
        Some("new.test")
    );
}

#[tokio::test]
async fn a_recheck_is_limited_to_once_per_10_seconds_and_joins_the_scheduled_one() {
    let app = TestApp::with_demo().await;
    claim(&app, "demo", Caller::Owner, "new.test").await;
    let waiting = jobs(&app, "recheck_domain").await;

    let first = recheck(&app, "new.test").await;
    let second = recheck(&app, "new.test").await;
    let other = recheck(&app, "demo.test").await;
    let ten_seconds_ago = clock::earlier(app.state.store.now(), Duration::from_secs(10));
    set_domain(&app, "new.test", doc! { "recheckAskedAt": ten_seconds_ago }).await;
    let later = recheck(&app, "new.test").await;

    assert_eq!(first.status, 202);
    assert_eq!(first.body["job"]["id"], waiting[0].id.to_string());
    assert_eq!(second.summary(), "429 recheck_too_soon");
    let wait: u64 = second.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!((other.status.as_u16(), later.status.as_u16()), (202, 202));
    let rechecks = jobs(&app, "recheck_domain").await;
    assert_eq!(rechecks.len(), 2, "one for each domain");
    assert!(rechecks[0].run_at < waiting[0].run_at, "it is due now");
    assert_eq!(
        domain(&app, "demo", "new.test").await.generation,
        1,
        "a recheck keeps the generation"
    );
}

#[tokio::test]
async fn an_owned_domain_is_removed_by_a_job_and_the_primary_domain_last() {
    let app = TestApp::with_demo().await;
    add(&app, "demo", Caller::Operator, "new.test").await;

    let primary = remove(&app, "demo.test").await;
    let removed = remove(&app, "new.test").await;
    let again = remove(&app, "new.test").await;
    let edited = edit(&app, "new.test", json!({ "primary": true })).await;

    assert_eq!(primary.summary(), "409 domain_is_primary");
    assert_eq!(removed.status, 202);
    assert_eq!(removed.body["removing"], true);
    assert_eq!(again.body["job"]["id"], removed.body["job"]["id"]);
    assert_eq!(again.body["generation"], removed.body["generation"]);
    assert_eq!(edited.summary(), "409 domain_removing");
    // The tenant owns the domain until the job has removed it.
    assert_eq!(app.tenant("demo").await.domains, ["demo.test", "new.test"]);
    assert_eq!(jobs(&app, "remove_domain").await.len(), 1);
}

#[tokio::test]
async fn the_only_domain_can_be_removed_even_if_primary() {
    let app = TestApp::with_demo().await;

    let reply = remove(&app, "demo.test").await;

    assert_eq!(reply.status, 202);
}

#[tokio::test]
async fn if_match_compares_only_the_generation_of_a_domain() {
    let app = TestApp::with_demo().await;
    let etag = show(&app, "demo", "demo.test").await.etag().to_owned();
    let edit = |policy: &str| {
        app.owner()
            .patch(
                "/tenants/demo/domains/demo.test",
                json!({ "dmarc": { "policy": policy } }),
            )
            .if_match(&etag)
    };
    // A status update by a DNS check.
    set_domain(&app, "demo.test", doc! { "status": "verified" }).await;

    let after_check = edit("reject").await;
    let edited = edit("quarantine").await;

    assert_eq!(after_check.status, 202);
    assert_eq!(edited.summary(), "412 precondition_failed");
}

#[tokio::test]
async fn domain_actions_are_audited_without_the_token() {
    let app = TestApp::with_demo().await;
    let claim = claim(&app, "demo", Caller::Owner, "new.test").await;
    edit(&app, "new.test", json!({ "dmarc": { "policy": "reject" } })).await;
    recheck(&app, "new.test").await;
    remove(&app, "new.test").await;

    let actions = app.actions().await;
    assert_eq!(
        actions[actions.len() - 4..],
        [
            "domain.create",
            "domain.update",
            "domain.recheck",
            "domain.delete"
        ]
    );
    let updated = app.audit_event("domain.update").await;
    let updated: Value = bson::deserialize_from_document(updated).unwrap();
    assert_eq!(updated["target"]["name"], "new.test");
    assert_eq!(updated["before"]["dmarc"]["policy"], "none");
    assert_eq!(updated["after"]["dmarc"]["policy"], "reject");
    assert!(!updated.to_string().contains(&claim.token));
}
