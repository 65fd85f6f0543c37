//! What is a tenant's own: by an operator's word, and in step with the tenant's document.

use bson::doc;
use dezky_shared::{
    domain::{DomainStatus, OwnershipProof},
    id::TenantId,
    queue::job::Job,
    tenant::ProvisioningState,
};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use super::{add, claim, domain, jobs, prove, set_domain, show, two_tenants};
use crate::app::{Reply, TestApp};

async fn set_domains(app: &TestApp, domains: Value) -> Reply {
    app.patch("/tenants/demo")
        .by(Caller::Operator)
        .json(&json!({ "domains": domains }))
        .send()
        .await
}

/// The job that waits to provision a tenant.
async fn provisioning(app: &TestApp, tenant: TenantId) -> Job {
    let jobs = jobs(app, "provision_tenant").await;
    let mut jobs = jobs.into_iter();
    jobs.find(|job| job.tenant_id == Some(tenant)).unwrap()
}

#[tokio::test]
async fn what_an_operator_adds_is_the_tenants_at_once_and_is_provisioned() {
    let app = two_tenants().await;
    let other = claim(&app, "globex", Caller::Stranger, "new.test").await;
    let before = app.tenant("demo").await;
    let waiting = provisioning(&app, before.id).await;

    let reply = add(
        &app,
        "demo",
        Caller::Operator,
        json!({ "name": "new.test" }),
    )
    .await;

    assert_eq!(reply.status, 202);
    assert_eq!(reply.body["ownedBy"], "operator");
    assert_eq!(reply.body["status"], "pending");
    assert_eq!(reply.body["conditions"][0]["reason"], "VouchedFor");
    let provision = jobs(&app, "provision_domain").await;
    assert_eq!(reply.body["job"]["id"], provision[0].id.to_string());
    let tenant = app.tenant("demo").await;
    assert_eq!(tenant.domains, ["demo.test", "new.test"]);
    assert_eq!(tenant.generation, before.generation + 1);
    // Whether mail works is to be said anew, and somebody will.
    assert_eq!(
        tenant.provisioning_status.stalwart,
        ProvisioningState::Pending
    );
    let asked = provisioning(&app, tenant.id).await;
    assert_eq!(asked.id, waiting.id);
    assert_eq!(asked.revision, waiting.revision + 1, "it joined");
    assert!(prove(&app, &other).await.is_err());
    assert_eq!(
        domain(&app, "globex", "new.test").await.status,
        DomainStatus::Failed
    );
}

#[tokio::test]
async fn an_operator_may_vouch_for_what_the_tenant_claims() {
    let app = TestApp::with_demo().await;
    let claim = claim(&app, "demo", Caller::Owner, "new.test").await;

    let vouched = add(
        &app,
        "demo",
        Caller::Operator,
        json!({ "name": "new.test" }),
    )
    .await;
    let again = add(
        &app,
        "demo",
        Caller::Operator,
        json!({ "name": "new.test" }),
    )
    .await;

    assert_eq!(vouched.status, 202);
    assert_eq!(vouched.body["id"], claim.id.to_string());
    assert_eq!(vouched.body["ownedBy"], "operator");
    assert_eq!(again.summary(), "409 domain_exists");
    assert_eq!(app.count("domains").await, 2);
}

#[tokio::test]
async fn what_another_tenant_owns_is_taken_for_everybody() {
    let app = two_tenants().await;

    let claimed = add(
        &app,
        "demo",
        Caller::Owner,
        json!({ "name": "globex.test" }),
    )
    .await;
    let vouched = add(
        &app,
        "demo",
        Caller::Operator,
        json!({ "name": "globex.test" }),
    )
    .await;
    let edited = set_domains(&app, json!(["demo.test", "globex.test"])).await;

    for reply in [claimed, vouched, edited] {
        assert_eq!(reply.summary(), "409 domain_taken");
    }
    assert_eq!(app.tenant("demo").await.domains, ["demo.test"]);
    assert_eq!(app.count("domains").await, 2);
}

#[tokio::test]
async fn the_domains_that_an_operator_sets_are_vouched_for_and_the_others_are_removed() {
    let app = two_tenants().await;
    let claimed = claim(&app, "demo", Caller::Owner, "claimed.test").await;
    let other = claim(&app, "globex", Caller::Stranger, "new.test").await;

    let reply = set_domains(&app, json!(["new.test", "claimed.test"])).await;

    assert_eq!(reply.status, 202);
    let leaving = domain(&app, "demo", "demo.test").await;
    assert!(leaving.is_owned() && leaving.removing && !leaving.primary);
    assert_eq!(jobs(&app, "remove_domain").await.len(), 1);
    let new = domain(&app, "demo", "new.test").await;
    assert_eq!(
        (new.owned_by, new.primary),
        (Some(OwnershipProof::Operator), true)
    );
    let vouched = domain(&app, "demo", "claimed.test").await;
    assert_eq!(vouched.id, claimed.id);
    assert_eq!(vouched.owned_by, Some(OwnershipProof::Operator));
    assert!(!vouched.primary);
    assert_eq!(
        domain(&app, "globex", "new.test").await.status,
        DomainStatus::Failed
    );
    assert!(prove(&app, &other).await.is_err());
    let tenant = app.tenant("demo").await;
    assert_eq!(tenant.primary_domain.as_deref(), Some("new.test"));
    assert_eq!(tenant.former_domains, ["demo.test"]);
    // The mail server serves it still.
    let early = add(
        &app,
        "globex",
        Caller::Stranger,
        json!({ "name": "demo.test" }),
    )
    .await;
    assert_eq!(early.summary(), "409 domain_taken");
}

#[tokio::test]
async fn an_edit_takes_back_the_removals_of_what_it_adds_alone() {
    let app = TestApp::with_demo().await;
    set_domains(&app, json!(["demo.test", "new.test"])).await;
    set_domain(&app, "new.test", doc! { "removing": true }).await;

    set_domains(&app, json!(["new.test"])).await;
    let dropped = domain(&app, "demo", "demo.test").await;
    set_domains(&app, json!(["new.test", "demo.test"])).await;

    assert!(dropped.removing);
    assert!(domain(&app, "demo", "new.test").await.removing);
    let back = domain(&app, "demo", "demo.test").await;
    assert_eq!(back.id, dropped.id);
    assert!(back.is_owned() && !back.removing);
    assert!(app.tenant("demo").await.former_domains.is_empty());
}

#[tokio::test]
async fn what_is_being_removed_is_not_added() {
    let app = TestApp::with_demo().await;
    set_domains(&app, json!(["other.test"])).await;

    let reply = add(
        &app,
        "demo",
        Caller::Operator,
        json!({ "name": "demo.test" }),
    )
    .await;

    assert_eq!(reply.summary(), "409 domain_removing");
    assert_eq!(app.tenant("demo").await.domains, ["other.test"]);
}

#[tokio::test]
async fn a_name_of_before_there_was_the_collection_is_kept_until_it_is_gone_too() {
    let app = two_tenants().await;
    app.collection("domains")
        .delete_many(doc! {})
        .await
        .unwrap();

    set_domains(&app, json!(["new.test"])).await;

    let leaving = domain(&app, "demo", "demo.test").await;
    assert!(leaving.is_owned() && leaving.removing);
    let taken = json!({ "name": "demo.test" });
    let taken = add(&app, "globex", Caller::Stranger, taken).await;
    assert_eq!(taken.summary(), "409 domain_taken");
}

#[tokio::test]
async fn a_tenant_of_before_there_was_the_collection_has_its_domains_all_the_same() {
    for look in ["domains", "domains/demo.test", "summary"] {
        let app = two_tenants().await;
        app.collection("domains")
            .delete_many(doc! {})
            .await
            .unwrap();
        app.collection("tenants")
            .update_many(doc! {}, doc! { "$unset": { "primaryDomain": "" } })
            .await
            .unwrap();
        let before = app.tenant("demo").await;

        let reply = app
            .get(&format!("/tenants/demo/{look}"))
            .by(Caller::Member)
            .send()
            .await;
        let after = app.tenant("demo").await;
        let stolen = add(
            &app,
            "demo",
            Caller::Operator,
            json!({ "name": "globex.test" }),
        )
        .await;

        assert_eq!(reply.status, 200);
        // Another document is another version.
        assert!(after.primary_domain.is_some() && after.revision > before.revision);
        let adopted = domain(&app, "demo", "demo.test").await;
        assert_eq!(adopted.owned_by, Some(OwnershipProof::Operator));
        assert!(adopted.primary && adopted.next_check_at.is_some());
        assert_eq!(stolen.summary(), "409 domain_taken");
        assert_eq!(app.tenant("demo").await.domains, ["demo.test"]);
    }
}

#[tokio::test]
async fn a_tenant_of_before_there_was_the_collection_can_be_changed_all_the_same() {
    let app = TestApp::with_demo().await;
    app.collection("domains")
        .delete_many(doc! {})
        .await
        .unwrap();

    let added = add(
        &app,
        "demo",
        Caller::Operator,
        json!({ "name": "new.test" }),
    )
    .await;
    let edited = set_domains(&app, json!(["new.test"])).await;

    assert_eq!((added.status.as_u16(), edited.status.as_u16()), (202, 202));
    assert!(domain(&app, "demo", "demo.test").await.removing);
    assert!(domain(&app, "demo", "new.test").await.primary);
    assert_eq!(app.tenant("demo").await.former_domains, ["demo.test"]);
}

#[tokio::test]
async fn the_summary_counts_the_domains_and_names_the_steps_that_failed() {
    let app = TestApp::with_demo().await;
    for (name, status) in [
        ("demo.test", "attention"),
        ("a.test", "verified"),
        ("b.test", "verified"),
        ("c.test", "failed"),
        ("d.test", "pending"),
    ] {
        if name != "demo.test" {
            claim(&app, "demo", Caller::Owner, name).await;
        }
        set_domain(&app, name, doc! { "status": status }).await;
    }
    app.set_tenant("demo", doc! { "provisioningStatus.ocis": "error" })
        .await;

    let reply = app
        .get("/tenants/demo/summary")
        .by(Caller::Member)
        .send()
        .await;

    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body["domains"],
        json!({ "total": 5, "verified": 2, "pending": 1, "attention": 1, "failed": 1 })
    );
    assert_eq!(reply.body["domainsNeedingAttention"], json!(["demo.test"]));
    assert_eq!(reply.body["failedSteps"], json!(["ocis"]));
}

#[tokio::test]
async fn if_none_match_knows_a_domain_by_its_version() {
    let app = TestApp::with_demo().await;
    let etag = show(&app, "demo", "demo.test").await.etag().to_owned();
    let look = || {
        app.get("/tenants/demo/domains/demo.test")
            .by(Caller::Member)
            .header("if-none-match", &etag)
            .send()
    };

    let same = look().await;
    set_domain(&app, "demo.test", doc! { "status": "verified" }).await;
    let other = look().await;

    assert_eq!((same.status.as_u16(), other.status.as_u16()), (304, 200));
}
