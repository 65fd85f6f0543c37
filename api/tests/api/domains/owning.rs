//! Ownership confirmed by operators, and consistency of the collection with the tenant document.

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
use crate::app::TestApp;
use crate::client::Reply;

async fn set_domains(app: &TestApp, domains: Value) -> Reply {
    app.operator()
        .patch("/tenants/demo", json!({ "domains": domains }))
        .await
}

/// The tenant's pending provisioning job.
async fn provisioning(app: &TestApp, tenant: TenantId) -> Job {
    let jobs = jobs(app, "provision_tenant").await;
    let mut jobs = jobs.into_iter();
    jobs.find(|job| job.tenant_id == Some(tenant)).unwrap()
}

#[tokio::test]
async fn a_domain_added_by_an_operator_is_owned_immediately_and_provisioned() {
    let app = two_tenants().await;
    let other = claim(&app, "globex", Caller::Stranger, "new.test").await;
    let before = app.tenant("demo").await;
    let waiting = provisioning(&app, before.id).await;

    let reply = add(&app, "demo", Caller::Operator, "new.test").await;

    assert_eq!(reply.status, 202);
    assert_eq!(reply.body["ownedBy"], "operator");
    assert_eq!(reply.body["status"], "pending");
    assert_eq!(reply.body["conditions"][0]["reason"], "VouchedFor");
    let provision = jobs(&app, "provision_domain").await;
    assert_eq!(reply.body["job"]["id"], provision[0].id.to_string());
    let tenant = app.tenant("demo").await;
    assert_eq!(tenant.domains, ["demo.test", "new.test"]);
    assert_eq!(tenant.generation, before.generation + 1);
    // The mail status is reset, and a provisioning job updates it.
    assert_eq!(
        tenant.provisioning_status.stalwart,
        ProvisioningState::Pending
    );
    let joined = provisioning(&app, tenant.id).await;
    assert_eq!(joined.id, waiting.id);
    assert_eq!(
        joined.revision,
        waiting.revision + 1,
        "the request joined the pending job"
    );
    assert!(prove(&app, &other).await.is_err());
    assert_eq!(
        domain(&app, "globex", "new.test").await.status,
        DomainStatus::Failed
    );
}

#[tokio::test]
async fn an_operator_can_confirm_a_tenants_claim() {
    let app = TestApp::with_demo().await;
    let claim = claim(&app, "demo", Caller::Owner, "new.test").await;

    let confirmed = add(&app, "demo", Caller::Operator, "new.test").await;
    let again = add(&app, "demo", Caller::Operator, "new.test").await;

    assert_eq!(confirmed.status, 202);
    assert_eq!(confirmed.body["id"], claim.id.to_string());
    assert_eq!(confirmed.body["ownedBy"], "operator");
    assert_eq!(again.summary(), "409 domain_exists");
    assert_eq!(app.count("domains").await, 2);
}

#[tokio::test]
async fn a_domain_owned_by_another_tenant_is_rejected_for_every_caller() {
    let app = two_tenants().await;

    let claimed = add(&app, "demo", Caller::Owner, "globex.test").await;
    let confirmed = add(&app, "demo", Caller::Operator, "globex.test").await;
    let edited = set_domains(&app, json!(["demo.test", "globex.test"])).await;

    for reply in [claimed, confirmed, edited] {
        assert_eq!(reply.summary(), "409 domain_taken");
    }
    assert_eq!(app.tenant("demo").await.domains, ["demo.test"]);
    assert_eq!(app.count("domains").await, 2);
}

#[tokio::test]
async fn setting_domains_confirms_the_listed_and_removes_the_others() {
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
    let confirmed = domain(&app, "demo", "claimed.test").await;
    assert_eq!(confirmed.id, claimed.id);
    assert_eq!(confirmed.owned_by, Some(OwnershipProof::Operator));
    assert!(!confirmed.primary);
    assert_eq!(
        domain(&app, "globex", "new.test").await.status,
        DomainStatus::Failed
    );
    assert!(prove(&app, &other).await.is_err());
    let tenant = app.tenant("demo").await;
    assert_eq!(tenant.primary_domain.as_deref(), Some("new.test"));
    assert_eq!(tenant.former_domains, ["demo.test"]);
    // Stalwart still serves the domain.
    let early = add(&app, "globex", Caller::Stranger, "demo.test").await;
    assert_eq!(early.summary(), "409 domain_taken");
}

#[tokio::test]
async fn re_adding_a_domain_cancels_only_its_own_removal() {
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
async fn a_domain_being_removed_cannot_be_added() {
    let app = TestApp::with_demo().await;
    set_domains(&app, json!(["other.test"])).await;

    let reply = add(&app, "demo", Caller::Operator, "demo.test").await;

    assert_eq!(reply.summary(), "409 domain_removing");
    assert_eq!(app.tenant("demo").await.domains, ["other.test"]);
}

#[tokio::test]
async fn a_legacy_domain_stays_until_it_is_removed_from_the_tenant() {
    let app = two_tenants().await;
    app.collection("domains")
        .delete_many(doc! {})
        .await
        .unwrap();

    set_domains(&app, json!(["new.test"])).await;

    let leaving = domain(&app, "demo", "demo.test").await;
    assert!(leaving.is_owned() && leaving.removing);
    let taken = add(&app, "globex", Caller::Stranger, "demo.test").await;
    assert_eq!(taken.summary(), "409 domain_taken");
}

#[tokio::test]
async fn a_legacy_tenants_domains_are_listed() {
    for resource in ["domains", "domains/demo.test", "summary"] {
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

        let reply = app.member().get(format!("/tenants/demo/{resource}")).await;
        let after = app.tenant("demo").await;
        let stolen = add(&app, "demo", Caller::Operator, "globex.test").await;

        assert_eq!(reply.status, 200);
        // Backfilling the domains changes the tenant document, and with it the revision.
        assert!(after.primary_domain.is_some() && after.revision > before.revision);
        let backfilled = domain(&app, "demo", "demo.test").await;
        assert_eq!(backfilled.owned_by, Some(OwnershipProof::Operator));
        assert!(backfilled.primary && backfilled.next_check_at.is_some());
        assert_eq!(stolen.summary(), "409 domain_taken");
        assert_eq!(app.tenant("demo").await.domains, ["demo.test"]);
    }
}

#[tokio::test]
async fn a_legacy_tenants_domains_can_be_changed() {
    let app = TestApp::with_demo().await;
    app.collection("domains")
        .delete_many(doc! {})
        .await
        .unwrap();

    let added = add(&app, "demo", Caller::Operator, "new.test").await;
    let edited = set_domains(&app, json!(["new.test"])).await;

    assert_eq!((added.status.as_u16(), edited.status.as_u16()), (202, 202));
    assert!(domain(&app, "demo", "demo.test").await.removing);
    assert!(domain(&app, "demo", "new.test").await.primary);
    assert_eq!(app.tenant("demo").await.former_domains, ["demo.test"]);
}

#[tokio::test]
async fn the_summary_shows_domain_counts_and_failed_steps() {
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

    let reply = app.member().get("/tenants/demo/summary").await;

    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body["domains"],
        json!({ "total": 5, "verified": 2, "pending": 1, "attention": 1, "failed": 1 })
    );
    assert_eq!(reply.body["domainsNeedingAttention"], json!(["demo.test"]));
    assert_eq!(reply.body["failedSteps"], json!(["ocis"]));
}

#[tokio::test]
async fn if_none_match_with_a_domains_etag_returns_304() {
    let app = TestApp::with_demo().await;
    let etag = show(&app, "demo", "demo.test").await.etag().to_owned();
    let read = || {
        app.member()
            .get("/tenants/demo/domains/demo.test")
            .if_none_match(&etag)
    };

    let same = read().await;
    set_domain(&app, "demo.test", doc! { "status": "verified" }).await;
    let other = read().await;

    assert_eq!((same.status.as_u16(), other.status.as_u16()), (304, 200));
}
