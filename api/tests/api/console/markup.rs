//! Stored markup: a text of any document is shown as text on every page.

use bson::{Document, doc};
use dezky_shared::{
    id::WorkerId,
    queue::{error_code::ErrorCode, job::JobFailure},
    store::to_bson,
};
use dezky_sim::callers::Caller;
use serde_json::json;

use super::{
    browser::Browser,
    forms::{all_pages, app_with_forms},
};
use crate::app::TestApp;

/// Texts that pages show, as collection and field.
const SHOWN: [(&str, &str); 20] = [
    ("tenants", "name"),
    ("partners", "name"),
    ("partners", "domain"),
    ("partners", "supportEmail"),
    ("partners", "contactInfo.name"),
    ("partners", "contactInfo.email"),
    ("partners", "contactInfo.phone"),
    ("partners", "branding.productName"),
    ("partners", "branding.logoUrl"),
    ("members", "email"),
    ("members", "name"),
    ("apps", "name"),
    ("flags", "description"),
    ("invoices", "number"),
    ("payouts", "reference"),
    ("audit_events", "actor.name"),
    ("audit_events", "target.name"),
    ("audit_events", "after.note"),
    ("workers", "name"),
    ("workers", "host"),
];
/// Reasons of pauses, which pages show of what is paused.
const PAUSED: [(&str, &str); 2] = [("queues", "paused.reason"), ("upstreams", "paused.reason")];
/// Texts that no page has shown so far.
const STORED: [(&str, &str); 9] = [
    ("tenants", "industry"),
    ("tenants", "billingInfo.company"),
    ("partners", "billingInfo.company"),
    ("users", "name"),
    ("invoices", "lines.0.description"),
    ("invoices", "reason"),
    ("invoices", "paymentReference"),
    ("invoices", "billTo.company"),
    ("saved_reports", "name"),
];
/// Texts of jobs that pages show.
const OF_JOBS: [&str; 3] = ["change", "detail", "worker"];

/// Markup that ends an attribute and loads an image, named so that it is found on pages.
fn markup(collection: &str, field: &str) -> String {
    format!("\" onfocus=\"x\"><img alt={collection}.{field}>")
}

/// Sets the field to markup in all documents that match.
async fn write(app: &TestApp, (collection, field): (&str, &str), filter: Document) {
    let set = doc! { "$set": { field: markup(collection, field) } };
    let documents = app.collection(collection);
    let written = documents.update_many(filter, set).await.unwrap();
    assert!(written.matched_count > 0, "{collection}.{field}");
}

/// Markup in the steps and attempts of all jobs.
async fn write_jobs(app: &TestApp) {
    let [change, detail, worker] = OF_JOBS.map(|field| markup("jobs", field));
    let error = to_bson(&JobFailure::permanent(ErrorCode::DomainInvalid, &detail)).unwrap();
    let now = app.state.store.now();
    let step = doc! {
        "name": "stalwart", "state": "error", "attempts": 1, "startedAt": now, "finishedAt": now,
        "changes": [change], "error": &error,
    };
    let attempt = doc! {
        "n": 1, "worker": worker, "startedAt": now, "finishedAt": now, "outcome": "discard",
        "upstreamRequestIds": ["r"],
    };
    let set = doc! { "$set": { "error": error, "steps": [step], "attempts": [attempt] } };
    app.collection("jobs")
        .update_many(doc! {}, set)
        .await
        .unwrap();
}

/// An app with documents of all kinds, whose texts are markup.
async fn app_with_markup() -> TestApp {
    let app = app_with_forms().await;
    app.add_app("wiki").await;
    let member = json!({ "localPart": "ada", "name": "Ada King", "role": "member" });
    let report = json!({ "name": "Growth", "report": "growth", "last": 3, "currency": "DKK" });
    for (path, body) in [("/tenants/demo/users", member), ("/reports/saved", report)] {
        let reply = app.operator().post(path, body).await;
        assert!(reply.status.is_success(), "{path}: {reply:?}");
    }
    let now = app.state.store.now();
    let worker = doc! {
        "_id": WorkerId::new(), "name": "one", "host": "here", "slots": { "provisioning": 16_i64 },
        "kinds": ["provision_tenant"], "startedAt": now, "seenAt": now, "stopping": false,
    };
    app.collection("workers").insert_one(worker).await.unwrap();
    app
}

#[tokio::test]
async fn stored_markup_is_text_on_every_page() {
    let app = app_with_markup().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    for text in SHOWN.into_iter().chain(STORED) {
        write(&app, text, doc! {}).await;
    }
    for text in PAUSED {
        write(&app, text, doc! { "paused": { "$exists": true } }).await;
    }
    write_jobs(&app).await;

    let pages = all_pages(&mut browser).await;

    for (path, page) in &pages {
        for raw in ["<img", "onfocus=\""] {
            assert!(!page.text.contains(raw), "{path} has {raw}: {}", page.text);
        }
    }
    let of_jobs = OF_JOBS.map(|field| ("jobs", field));
    for (collection, field) in SHOWN.into_iter().chain(PAUSED).chain(of_jobs) {
        let text = format!("img alt={collection}.{field}");
        let is_shown = pages.values().any(|page| page.text.contains(&text));
        assert!(is_shown, "no page shows {collection}.{field}");
    }
}
