//! Domains: claimed, proved, vouched for, changed, removed. That a claim is proved is the worker's to find out; here
//! it is written as the worker writes it.

mod changing;
mod claiming;
mod names;
mod owning;
mod races;

use bson::{Document, doc};
use dezky_shared::{
    domain::{Domain, OwnershipProof},
    queue::job::Job,
    store::{StoreError, TransactionError},
};
use dezky_sim::callers::Caller;
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

/// The app with `demo`, whose owner is the owner, and `globex`, whose owner is the stranger.
async fn two_tenants() -> TestApp {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    let stranger = app.user(Caller::Stranger).await.id;
    let reply = app
        .patch(&format!("/users/{stranger}"))
        .by(Caller::Operator)
        .json(&json!({ "tenantRoles": { "globex": "owner" } }))
        .send()
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    app
}

async fn add(app: &TestApp, slug: &str, by: Caller, body: Value) -> Reply {
    app.post(&format!("/tenants/{slug}/domains"))
        .by(by)
        .json(&body)
        .send()
        .await
}

async fn claim(app: &TestApp, slug: &str, by: Caller, name: &str) -> Domain {
    let reply = add(app, slug, by, json!({ "name": name })).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    domain(app, slug, name).await
}

async fn show(app: &TestApp, slug: &str, name: &str) -> Reply {
    app.get(&format!("/tenants/{slug}/domains/{name}"))
        .by(Caller::Operator)
        .send()
        .await
}

async fn edit(app: &TestApp, name: &str, body: Value) -> Reply {
    app.patch(&format!("/tenants/demo/domains/{name}"))
        .by(Caller::Owner)
        .json(&body)
        .send()
        .await
}

async fn remove(app: &TestApp, name: &str) -> Reply {
    app.delete(&format!("/tenants/demo/domains/{name}"))
        .by(Caller::Owner)
        .send()
        .await
}

async fn recheck(app: &TestApp, name: &str) -> Reply {
    app.post(&format!("/tenants/demo/domains/{name}/recheck"))
        .by(Caller::Owner)
        .send()
        .await
}

async fn domain(app: &TestApp, slug: &str, name: &str) -> Domain {
    find(app, slug, name).await.unwrap()
}

async fn find(app: &TestApp, slug: &str, name: &str) -> Option<Domain> {
    let tenant = app.tenant(slug).await;
    let found = app.state.domains.find_by_name(tenant.id, name).await;
    found.unwrap()
}

/// Finds the proof of a claim, as a look at the DNS does.
async fn prove(app: &TestApp, claim: &Domain) -> Result<(), StoreError> {
    let proved = app
        .state
        .store
        .transaction((&app.state, claim), |session, (app, claim)| {
            async move {
                let now = app.store.now();
                let tenant = app
                    .tenants
                    .find_for_update(session, claim.tenant_id)
                    .await?;
                let mut tenant = tenant.unwrap();
                let Some(mut domain) = app.domains.find_for_update(session, claim.id).await? else {
                    return Err(TransactionError::Aborted(StoreError::custom(
                        "the claim is gone",
                    )));
                };
                app.domains
                    .grant(
                        session,
                        &mut domain,
                        &mut tenant,
                        OwnershipProof::Proof,
                        now,
                    )
                    .await?;
                app.domains.save(session, &domain).await?;
                tenant.generation += 1;
                app.tenants.save(session, &tenant).await?;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        })
        .await;
    proved.map_err(|error| match error {
        TransactionError::Store(error) | TransactionError::Aborted(error) => error,
    })
}

/// The jobs of this kind, oldest first.
async fn jobs(app: &TestApp, kind: &str) -> Vec<Job> {
    let jobs = app.jobs().await.into_iter();
    jobs.filter(|job| job.kind == kind).collect()
}

async fn set_domain(app: &TestApp, name: &str, fields: Document) {
    let domains = app.collection("domains");
    let set = doc! { "$set": fields, "$inc": { "revision": 1_i64 } };
    domains
        .update_one(doc! { "name": name }, set)
        .await
        .unwrap();
}
