//! A document that a caller may not know costs the same queries as one that does not exist, and no write.

use bson::{Bson, Document, doc};
use dezky_shared::id::{InvitationId, JobId, UserId};
use dezky_sim::callers::Caller;
use futures::TryStreamExt as _;
use serde_json::json;

use crate::{
    app::{TestApp, id_of},
    client::Call,
};

/// The queries that a request makes, as MongoDB's profiler records them. It does not record commands to other databases:
/// the `hello` after a miss, and commits.
async fn queries(app: &TestApp, call: Call<'_>, response: &str) -> Vec<Document> {
    let database = app.state.store.database();
    let profile = async |level: i32| {
        database
            .run_command(doc! { "profile": level })
            .await
            .unwrap();
    };
    profile(2).await;
    let reply = call.await;
    profile(0).await;
    assert_eq!(reply.summary(), response);
    let recorded = app.collection("system.profile");
    // Flags are refreshed in the background.
    let of_request = doc! { "ns": { "$not": { "$regex": "\\.(flags|flag_sets|system\\.profile)$" } }, "op": { "$ne": "command" } };
    let found = recorded.find(of_request).await.unwrap();
    let queries = found.try_collect().await.unwrap();
    recorded.drop().await.unwrap();
    queries
}

/// Number of queries, with those for the caller's rights as one: a change that takes long reads them again.
fn cost(queries: &[Document]) -> usize {
    let collections = queries.iter().map(|query| query.get_str("ns").unwrap());
    let rights = collections.filter(|name| name.rsplit('.').next() == Some("users"));
    let rights = rights.count();
    queries.len() - rights.saturating_sub(1)
}

#[tokio::test]
async fn a_concealed_document_costs_the_queries_of_a_missing_one() {
    let app = TestApp::with_demo().await;
    app.with_partner("owner").await;
    let (stranger, owner, partner) = (app.stranger(), app.owner(), app.partner());
    app.create("other").await;
    let job = app.first_job().await;
    let user = app.user(Caller::Stranger).await.id;
    let (no_job, no_user) = (JobId::new(), UserId::new());
    let evaluate = |slug: &str| stranger.post("/flags/evaluate", json!({ "tenantSlug": slug }));
    let invite = json!({ "email": "nea@people.test", "name": "Nea", "accessLevel": "support" });
    let invited = partner.post("/partner/team", invite).await;
    let invitation: InvitationId = id_of(&invited.body["id"]);
    let waiting = doc! { "state": "awaitingConsent", "subject": Caller::Member.subject() };
    app.set("invitations", doc! { "_id": invitation }, waiting)
        .await;
    let change_pair = |action: &'static str| {
        let change = |id| stranger.post_empty(format!("/invitations/{id}/{action}"));
        (action, change(invitation), change(InvitationId::new()))
    };
    let pairs = [
        (
            "a tenant",
            stranger.get("/tenants/demo"),
            stranger.get("/tenants/none"),
        ),
        (
            "its members",
            stranger.get("/tenants/demo/users"),
            stranger.get("/tenants/none/users"),
        ),
        (
            "a change",
            stranger.patch("/tenants/demo", json!({ "name": "Mine" })),
            stranger.patch("/tenants/none", json!({ "name": "Mine" })),
        ),
        ("its flags", evaluate("demo"), evaluate("none")),
        (
            "another partner's tenant",
            partner.get("/partner/tenants/other"),
            partner.get("/partner/tenants/none"),
        ),
        (
            "a job",
            stranger.get(format!("/jobs/{job}")),
            stranger.get(format!("/jobs/{no_job}")),
        ),
        (
            "its events",
            stranger.get(format!("/jobs/{job}/events")),
            stranger.get(format!("/jobs/{no_job}/events")),
        ),
        (
            "a user of another tenant",
            owner.get(format!("/tenants/demo/users/{user}")),
            owner.get(format!("/tenants/demo/users/{no_user}")),
        ),
        change_pair("accept"),
        change_pair("decline"),
        change_pair("link"),
    ];

    for (what, concealed, missing) in pairs {
        let concealed = queries(&app, concealed, "404 not_found").await;
        let missing = queries(&app, missing, "404 not_found").await;

        let is_change = ["a change", "accept", "decline", "link"].contains(&what);
        let count = if is_change { cost } else { <[Document]>::len };
        assert_eq!(
            count(&concealed),
            count(&missing),
            "{what}: {concealed:#?} {missing:#?}"
        );
        for query in concealed.iter().chain(&missing) {
            assert_eq!(query.get_str("op").unwrap(), "query", "{what}: {query}");
            let concern = query.get_document("command").unwrap().get("readConcern");
            let level = concern
                .and_then(Bson::as_document)
                .and_then(|concern| concern.get_str("level").ok());
            assert_ne!(level, Some("linearizable"), "{what}: {query}");
        }
    }
}

#[tokio::test]
async fn a_filter_by_a_concealed_tenant_costs_the_queries_of_a_missing_one() {
    let app = TestApp::with_demo().await;
    let stranger = app.stranger();

    let list = |slug| stranger.get(format!("/subscriptions?tenant={slug}"));
    let concealed = queries(&app, list("demo"), "200").await;
    let missing = queries(&app, list("none"), "200").await;

    assert_eq!(
        concealed.len(),
        missing.len(),
        "{concealed:#?} {missing:#?}"
    );
}
