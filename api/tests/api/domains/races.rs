//! Concurrent changes of domains.

use bson::doc;
use dezky_shared::domain::DomainStatus;
use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::json;

use super::{add, claim, domain, edit, find, jobs, prove, recheck, remove, two_tenants};
use crate::app::TestApp;

async fn owners(app: &TestApp, name: &str) -> u64 {
    let owned = doc! { "name": name, "ownedBy": { "$exists": true } };
    app.collection("domains")
        .count_documents(owned)
        .await
        .unwrap()
}

/// Asserts that the tenant document lists exactly the owned domains of the collection.
async fn assert_consistent(app: &TestApp, slug: &str) {
    let tenant = app.tenant(slug).await;
    let domains = app
        .state
        .db
        .domains
        .list(tenant.id, None, 1000)
        .await
        .unwrap();
    let owned = domains.iter().filter(|domain| domain.is_owned());
    let mut owned: Vec<&str> = owned.map(|domain| domain.name.as_str()).collect();
    let mut projected: Vec<&str> = tenant.domains.iter().map(String::as_str).collect();
    owned.sort_unstable();
    projected.sort_unstable();
    assert_eq!(projected, owned);
    let primary: Vec<&str> = domains
        .iter()
        .filter(|domain| domain.primary)
        .map(|domain| domain.name.as_str())
        .collect();
    assert_eq!(
        primary,
        tenant
            .primary_domain
            .as_deref()
            .into_iter()
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn concurrent_proofs_of_one_name_leave_one_owner_and_reject_the_other_claim() {
    let app = two_tenants().await;
    for round in 0..10 {
        let name = format!("r{round}.test");
        let demos = claim(&app, "demo", Caller::Owner, &name).await;
        let globexs = claim(&app, "globex", Caller::Stranger, &name).await;

        let (first, second) = tokio::join!(prove(&app, &demos), prove(&app, &globexs));

        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        assert_eq!(owners(&app, &name).await, 1);
        let loser = if first.is_ok() { "globex" } else { "demo" };
        assert_eq!(
            domain(&app, loser, &name).await.status,
            DomainStatus::Failed
        );
    }
    assert_consistent(&app, "demo").await;
    assert_consistent(&app, "globex").await;
}

#[tokio::test]
async fn concurrent_proof_and_operator_assignment_leave_one_owner() {
    let app = two_tenants().await;
    for round in 0..10 {
        let name = format!("r{round}.test");
        let claim = claim(&app, "demo", Caller::Owner, &name).await;

        let (proved, confirmed) = tokio::join!(
            prove(&app, &claim),
            add(&app, "globex", Caller::Operator, &name)
        );

        assert_eq!(owners(&app, &name).await, 1);
        if proved.is_ok() {
            assert_eq!(confirmed.summary(), "409 domain_taken");
            assert_eq!(find(&app, "globex", &name).await, None);
        } else {
            assert_eq!(confirmed.status, 202);
            assert_eq!(
                domain(&app, "demo", &name).await.status,
                DomainStatus::Failed
            );
        }
    }
    assert_consistent(&app, "demo").await;
    assert_consistent(&app, "globex").await;
}

#[tokio::test]
async fn concurrent_claims_of_one_name_by_one_tenant_create_one_claim() {
    let app = TestApp::with_demo().await;
    let claim = || add(&app, "demo", Caller::Owner, "new.test");

    let replies = join_all((0..8).map(|_| claim())).await;

    let accepted = replies.iter().filter(|reply| reply.status == 202).count();
    assert_eq!(accepted, 1);
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == 202 || reply.code() == "domain_exists")
    );
    assert_eq!(app.count("domains").await, 2);
}

#[tokio::test]
async fn concurrent_primary_domain_changes_leave_one_primary() {
    let app = TestApp::with_demo().await;
    for name in ["a.test", "b.test"] {
        add(&app, "demo", Caller::Operator, name).await;
    }
    for _ in 0..5 {
        let to = |name: &'static str| edit(&app, name, json!({ "primary": true }));

        let (a, b, demo) = tokio::join!(to("a.test"), to("b.test"), to("demo.test"));

        assert!([a, b, demo].iter().all(|reply| reply.status == 200));
        assert_consistent(&app, "demo").await;
    }
}

#[tokio::test]
async fn concurrent_delete_and_proof_leave_the_domain_deleted_or_owned() {
    let app = TestApp::with_demo().await;
    for round in 0..10 {
        let name = format!("r{round}.test");
        let claim = claim(&app, "demo", Caller::Owner, &name).await;

        let (proved, removed) = tokio::join!(prove(&app, &claim), remove(&app, &name));

        match find(&app, "demo", &name).await {
            None => assert_eq!(removed.status, 200),
            Some(domain) => {
                assert!(proved.is_ok() && domain.is_owned() && domain.removing);
                assert_eq!(removed.status, 202);
            }
        }
        assert_consistent(&app, "demo").await;
    }
}

#[tokio::test]
async fn concurrent_delete_and_recheck_delete_the_domain() {
    let app = TestApp::with_demo().await;
    for round in 0..5 {
        let name = format!("r{round}.test");
        claim(&app, "demo", Caller::Owner, &name).await;

        let (rechecked, removed) = tokio::join!(recheck(&app, &name), remove(&app, &name));

        assert_eq!(removed.status, 200);
        assert!(rechecked.status == 202 || rechecked.summary() == "404 not_found");
        assert_eq!(find(&app, "demo", &name).await, None);
    }
    assert_eq!(jobs(&app, "remove_domain").await.len(), 0);
}
