//! Searching, sorting and counting: tenants and jobs.

use bson::doc;
use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{JobFailure, JobState},
    },
    store::to_bson,
};
use serde_json::json;

use crate::app::TestApp;

/// An app with the tenants `acme` and `bolt`, of which `bolt` is suspended.
async fn with_tenants() -> TestApp {
    let app = TestApp::with_operator().await;
    let acme = json!({ "slug": "acme", "name": "Ärger & Söhne", "domains": ["shop.example.test"] });
    app.operator().post("/tenants", acme).await;
    app.create("bolt").await;
    app.set_tenant("bolt", doc! { "status": "suspended" }).await;
    app
}

async fn slugs(app: &TestApp, query: &str) -> Vec<String> {
    let reply = app.operator().get(format!("/tenants?{query}")).await;
    reply
        .texts("/slug")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn tenants_are_found_by_words_of_slug_name_and_domains() {
    let app = with_tenants().await;

    assert_eq!(slugs(&app, "q=bolt").await, ["bolt"]);
    assert_eq!(slugs(&app, "q=S%C3%96HNE").await, ["acme"]);
    assert_eq!(slugs(&app, "q=shop.example").await, ["acme"]);
    assert_eq!(slugs(&app, "q=shop%20bolt").await, [""; 0]);
    assert_eq!(slugs(&app, "q=bolt&status=active").await, [""; 0]);

    app.operator()
        .patch("/tenants/bolt", json!({ "name": "Nuts" }))
        .await;
    assert_eq!(slugs(&app, "q=nuts").await, ["bolt"]);
}

#[tokio::test]
async fn tenants_of_an_earlier_build_become_searchable() {
    let app = with_tenants().await;
    let tenants = app.collection("tenants");
    let unset = doc! { "$unset": { "words": "" } };
    tenants.update_many(doc! {}, unset).await.unwrap();
    assert_eq!(slugs(&app, "q=bolt").await, [""; 0]);

    let mut after = None;
    while let Some(last) = app
        .state
        .db
        .tenants
        .add_missing_words(after, 1)
        .await
        .unwrap()
    {
        after = Some(last);
    }

    assert_eq!(slugs(&app, "q=bolt").await, ["bolt"]);
    assert_eq!(slugs(&app, "q=acme").await, ["acme"]);
}

#[tokio::test]
async fn a_list_of_tenants_has_an_order_that_its_pages_keep() {
    let app = with_tenants().await;
    for (sort, expected) in [
        ("createdAt", ["acme", "bolt"]),
        ("-createdAt", ["bolt", "acme"]),
        ("slug", ["acme", "bolt"]),
        ("-slug", ["bolt", "acme"]),
    ] {
        let first = app
            .operator()
            .get(format!("/tenants?sort={sort}&limit=1"))
            .await;
        let cursor = first.body["nextCursor"].as_str().unwrap();
        let second = app
            .operator()
            .get(format!("/tenants?sort={sort}&limit=1&cursor={cursor}"))
            .await;

        let found = [first.texts("/slug"), second.texts("/slug")].concat();
        assert_eq!(found, expected, "{sort}");
        assert_eq!(second.body["nextCursor"], json!(null), "{sort}");
    }
    let unknown = app.operator().get("/tenants?sort=name").await;
    assert_eq!(unknown.summary(), "400 invalid_request");
}

#[tokio::test]
async fn tenants_are_filtered_by_health() {
    let app = with_tenants().await;
    for sort in ["createdAt", "-slug"] {
        let critical = slugs(&app, &format!("health=critical&sort={sort}")).await;
        let healthy = slugs(&app, &format!("health=healthy&limit=1&sort={sort}")).await;

        assert_eq!(
            (critical, healthy),
            (vec!["bolt".to_owned()], vec!["acme".to_owned()])
        );
    }
}

#[tokio::test]
async fn a_page_of_tenants_in_one_health_goes_on_after_those_that_were_read() {
    let app = TestApp::with_operator().await;
    let documents = app.collection("tenants");
    app.create("t00").await;
    app.create("zzz").await;
    let template = app.document("tenants", doc! { "slug": "t00" }).await;
    let copies = (1..600).map(|n| {
        let mut copy = template.clone();
        copy.insert("_id", dezky_shared::id::TenantId::new());
        copy.insert("slug", format!("t{n}"));
        copy.insert("domains", bson::Bson::Array(vec![]));
        copy
    });
    documents.insert_many(copies).await.unwrap();
    app.set_tenant("zzz", doc! { "status": "suspended" }).await;

    let path = "/tenants?health=critical&sort=slug&limit=1";
    let first = app.operator().get(path).await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = app.operator().get(format!("{path}&cursor={cursor}")).await;

    assert_eq!(first.items().len(), 0);
    assert_eq!(second.texts("/slug"), ["zzz"]);
    assert_eq!(second.body["nextCursor"], json!(null));
}

/// An app with a discarded job of `acme`, and a waiting one of `bolt`.
async fn with_jobs() -> TestApp {
    let app = with_tenants().await;
    let mut failure = JobFailure::permanent(ErrorCode::DomainInvalid, "x:Domain said no");
    "The name is not accepted.".clone_into(&mut failure.message);
    let tenant = app.tenant("acme").await.id;
    let failed = app.jobs().await;
    let failed = failed
        .iter()
        .find(|job| job.tenant_id == Some(tenant))
        .unwrap();
    let fields = doc! {
        "state": JobState::Discarded.name(), "error": to_bson(&failure).unwrap(), "requestId": "req-7",
    };
    app.set_job(failed.id, fields).await;
    app
}

#[tokio::test]
async fn jobs_are_filtered_by_state_queue_tenant_and_error() {
    let app = with_jobs().await;
    for (query, expected) in [
        ("state=discarded,cancelled", 1),
        ("state=discarded,available", 2),
        ("queue=provisioning", 2),
        ("queue=dns", 0),
        ("tenant=acme", 1),
        ("tenant=absent", 0),
        ("tenant=acme&state=available", 0),
        ("errorCode=domain_invalid", 1),
        ("errorCode=domain_in_use", 0),
        ("errorClass=user_action", 1),
        ("errorClass=bug", 0),
        ("q=accepted", 1),
        ("q=provision%20said", 1),
        ("q=req%207", 1),
        ("q=nothing", 0),
        ("since=2020-01-01T00:00:00Z", 2),
        ("before=2020-01-01T00:00:00Z", 0),
        (
            "since=2020-01-01T00:00:00Z&before=2999-01-01T00:00:00Z&state=discarded",
            1,
        ),
    ] {
        let reply = app.operator().get(format!("/jobs?{query}")).await;

        assert_eq!(reply.items().len(), expected, "{query} {reply:?}");
    }
    for query in [
        "state=odd",
        "state=",
        "queue=odd",
        "errorCode=odd",
        "errorClass=odd",
    ] {
        let reply = app.operator().get(format!("/jobs?{query}")).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{query}");
    }
}

#[tokio::test]
async fn a_search_of_a_member_ignores_fields_for_operators() {
    let app = TestApp::with_demo().await;
    let failure = JobFailure::permanent(ErrorCode::DomainInvalid, "x:Domain secretive");
    let id = app.first_job().await;
    app.set_job(id, doc! { "error": to_bson(&failure).unwrap() })
        .await;

    let by_operator = app.operator().get("/jobs?q=secretive").await;
    let by_member = app.member().get("/tenants/demo/jobs?q=secretive").await;

    assert_eq!((by_operator.items().len(), by_member.items().len()), (1, 0));
}

#[tokio::test]
async fn jobs_are_counted() {
    let app = with_jobs().await;

    let all = app.operator().get("/jobs/stats").await;
    let failed = app.operator().get("/jobs/stats?state=discarded").await;

    assert_eq!(
        all.body,
        json!({
            "counted": 2, "isComplete": true, "states": { "available": 1, "discarded": 1 },
            "kinds": { "provision_tenant": 2 }, "queues": { "provisioning": 2 },
            "errorCodes": { "domain_invalid": 1 }, "errorClasses": { "user_action": 1 },
        })
    );
    assert_eq!(failed.body["counted"], 1);
}
