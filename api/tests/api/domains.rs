//! Domains: claims, ownership, edits and removal. The worker proves claims; here the tests write the proof as the
//! worker does.

mod changing;
mod claiming;
mod names;
mod owning;
mod races;

use bson::{Document, doc};
use dezky_shared::{
    domain::{Domain, OwnershipProof},
    queue::job::Job,
    store::{StoreError, TransactionError, VersionedRepository as _},
};
use dezky_sim::callers::Caller;
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::Reply;

/// The app with `demo`, owned by [`Caller::Owner`], and `globex`, owned by [`Caller::Stranger`].
async fn two_tenants() -> TestApp {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    let stranger = app.user(Caller::Stranger).await.id;
    let reply = app
        .operator()
        .patch(
            format!("/users/{stranger}"),
            json!({ "tenantRoles": { "globex": "owner" } }),
        )
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    app
}

async fn add(app: &TestApp, slug: &str, by: Caller, name: &str) -> Reply {
    let body = json!({ "name": name });
    app.client(by)
        .post(format!("/tenants/{slug}/domains"), &body)
        .await
}

async fn claim(app: &TestApp, slug: &str, by: Caller, name: &str) -> Domain {
    let reply = add(app, slug, by, name).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    domain(app, slug, name).await
}

async fn show(app: &TestApp, slug: &str, name: &str) -> Reply {
    app.operator()
        .get(format!("/tenants/{slug}/domains/{name}"))
        .await
}

async fn edit(app: &TestApp, name: &str, body: Value) -> Reply {
    app.owner()
        .patch(format!("/tenants/demo/domains/{name}"), &body)
        .await
}

async fn remove(app: &TestApp, name: &str) -> Reply {
    app.owner()
        .delete(format!("/tenants/demo/domains/{name}"))
        .await
}

async fn recheck(app: &TestApp, name: &str) -> Reply {
    app.owner()
        .post_empty(format!("/tenants/demo/domains/{name}/recheck"))
        .await
}

async fn domain(app: &TestApp, slug: &str, name: &str) -> Domain {
    find(app, slug, name).await.unwrap()
}

async fn find(app: &TestApp, slug: &str, name: &str) -> Option<Domain> {
    let tenant = app.tenant(slug).await;
    let found = app.state.db.domains.find_by_name(tenant.id, name).await;
    found.unwrap()
}

/// Marks a claim as proved, as a DNS check does.
async fn prove(app: &TestApp, claim: &Domain) -> Result<(), StoreError> {
    let proved = app
        .state
        .store
        .transaction((&app.state, claim), |session, (app, claim)| {
            async move {
                let now = app.store.now();
                let tenant = app
                    .db
                    .tenants
                    .find_for_update(session, claim.tenant_id)
                    .await?;
                let mut tenant = tenant.unwrap();
                let Some(mut domain) = app.db.domains.find_for_update(session, claim.id).await?
                else {
                    return Err(TransactionError::Aborted(StoreError::custom(
                        "the claim is gone",
                    )));
                };
                app.db
                    .domains
                    .grant(
                        session,
                        &mut domain,
                        &mut tenant,
                        OwnershipProof::Proof,
                        now,
                    )
                    .await?;
                app.db.domains.save(session, &domain).await?;
                tenant.generation += 1;
                app.db.tenants.save(session, &tenant).await?;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        })
        .await;
    proved.map_err(|error| match error {
        TransactionError::Store(error) | TransactionError::Aborted(error) => error,
    })
}

/// Jobs of this kind, oldest first.
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
