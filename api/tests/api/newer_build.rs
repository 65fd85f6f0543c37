//! Rolling deploys: a document with a name that only a newer build knows is left out of lists, and hides no other.

use std::time::Duration;

use bson::{Document, Uuid, doc};
use dezky_shared::platform::clock;
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::{app::TestApp, client::Reply};

/// Name of an enum value that this build does not define.
const NEWER: &str = "of_a_newer_build";

/// A list, its collection, and a field in which a stored item holds the name of an enum value.
const LISTS: [(&str, &str, &str); 24] = [
    ("/tenants", "tenants", "status"),
    ("/tenants", "tenants", "plan"),
    ("/tenants", "tenants", "provisioningStatus.ocis"),
    ("/tenants", "tenants", "conditions.0.status"),
    ("/tenants?plan=business", "tenants", "status"),
    ("/users", "users", "platformAdminSource"),
    ("/users", "users", "partnerRole"),
    ("/partners", "partners", "status"),
    ("/subscriptions", "subscriptions", "status"),
    ("/subscriptions", "subscriptions", "plan"),
    ("/subscriptions", "subscriptions", "cycle"),
    ("/invoices", "invoices", "status"),
    ("/invoices", "invoices", "kind"),
    ("/tenants/demo/invoices", "invoices", "taxNote"),
    ("/prices", "prices", "plan"),
    ("/prices", "prices", "cycle"),
    ("/tenants/demo/domains", "domains", "status"),
    ("/tenants/demo/domains", "domains", "ownedBy"),
    ("/jobs", "jobs", "state"),
    ("/jobs", "jobs", "queue"),
    ("/jobs", "jobs", "priority"),
    ("/jobs", "jobs", "steps.0.state"),
    ("/job-operations", "job_operations", "action"),
    ("/job-operations", "job_operations", "filter.state"),
];

/// The demo tenant with a second of everything.
async fn seeded() -> TestApp {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    for tenant in ["demo", "other"] {
        app.subscribe(tenant, json!({})).await;
        app.insert_partner(&format!("partner-of-{tenant}"), "active")
            .await;
    }
    for amount in [1, 2] {
        let line = json!({ "description": "Setup", "amountMinor": amount });
        let body = json!({ "lines": [line], "reason": "New", "currency": "DKK" });
        app.operator().post("/tenants/demo/invoices", body).await;
    }
    app.set_price("starter", "monthly", "DKK", 100).await;
    app.set_price("starter", "yearly", "DKK", 1_000).await;
    let second = json!({ "name": "second.test" });
    app.operator().post("/tenants/demo/domains", second).await;
    for action in ["requeue", "cancel"] {
        operate(&app, action).await;
    }
    app
}

/// Starts an operation on all available jobs.
async fn operate(app: &TestApp, action: &str) -> Reply {
    let body = json!({ "action": action, "filter": { "state": "available" } });
    let started = app.operator().post("/job-operations", body).await;
    assert_eq!(started.status, 202, "{started:?}");
    started
}

fn ids(list: &Reply) -> Vec<&str> {
    list.texts("/id")
}

#[tokio::test]
async fn a_document_of_a_newer_build_is_left_out_of_its_list_and_hides_no_other() {
    let app = seeded().await;

    for (path, collection, field) in LISTS {
        let whole = app.operator().get(path).await;
        let (last, others) = ids(&whole)
            .split_last()
            .map(|(last, others)| (*last, others.to_vec()))
            .unwrap();
        assert!(!others.is_empty(), "{path} lists a single item");
        let last = doc! { "_id": Uuid::parse_str(last).unwrap() };
        let before = app.document(collection, last.clone()).await;
        app.set(collection, last.clone(), doc! { field: NEWER })
            .await;
        let listed = app.operator().get(path).await;
        let restored = app.collection(collection).replace_one(last, before).await;

        restored.unwrap();
        assert_eq!(listed.status, 200, "{field}: {listed:?}");
        assert_eq!(ids(&listed), others, "{path} {field}");
    }
}

#[tokio::test]
async fn an_item_of_a_newer_build_is_left_out_of_its_operation() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let started = operate(&app, "cancel").await;
    let path = format!(
        "/job-operations/{}/items",
        started.body["id"].as_str().unwrap()
    );
    let whole = app.operator().get(&path).await;

    for field in ["outcome", "reason"] {
        let second = doc! { "n": 2_i64 };
        let before = app.document("job_operation_items", second.clone()).await;
        let newer = doc! { field: NEWER };
        app.set("job_operation_items", second.clone(), newer).await;
        let listed = app.operator().get(&path).await;
        let items = app.collection("job_operation_items");
        items.replace_one(second, before).await.unwrap();

        assert_eq!(listed.status, 200, "{field}: {listed:?}");
        let (first, rest) = (&whole.items()[..1], &whole.items()[2..]);
        assert_eq!(listed.items(), [first, rest].concat(), "{field}");
    }
}

#[tokio::test]
async fn a_page_is_full_although_a_document_of_a_newer_build_is_left_out() {
    let app = TestApp::with_demo().await;
    for slug in ["one", "two", "three"] {
        app.create(slug).await;
    }
    app.set_tenant("one", doc! { "plan": NEWER }).await;

    let first = app.operator().get("/tenants?limit=2").await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let next = format!("/tenants?limit=2&cursor={cursor}");
    let second = app.operator().get(next).await;

    assert_eq!(first.texts("/slug"), ["demo", "two"]);
    assert_eq!(second.texts("/slug"), ["three"]);
}

#[tokio::test]
async fn resources_of_a_newer_build_do_not_hide_their_tenant() {
    let app = seeded().await;
    let demo = app.tenant("demo").await.id;
    let managed = app.insert_partner("managing", "active").await;
    app.set_tenant("demo", doc! { "partnerId": managed }).await;
    let of_demo = doc! { "tenantId": demo };
    let cycle = doc! { "cycle": NEWER };
    app.set("subscriptions", of_demo.clone(), cycle).await;
    let status = doc! { "status": NEWER };
    app.set("domains", of_demo.clone(), status).await;

    for path in ["/tenants", "/tenants/demo", "/subscriptions", "/partners"] {
        let shown = app.operator().get(path).await;
        assert_eq!(shown.status, 200, "{path}: {shown:?}");
    }
    let partners = app.operator().get("/partners").await;
    let mut listed = partners.items().iter();
    let managing = listed.find(|partner| partner["slug"] == "managing");
    assert_eq!(managing.unwrap()["customers"], 1);
}

#[tokio::test]
async fn a_member_of_a_tenant_of_a_newer_build_keeps_the_role_and_signs_in() {
    let app = TestApp::with_demo().await;
    let before = app.user(Caller::Member).await.memberships;
    app.set_tenant("demo", doc! { "plan": NEWER }).await;

    let me = app.member().get("/users/me").await;

    assert_eq!(me.status, 200, "{me:?}");
    assert_eq!(me.body["tenants"], json!([]));
    assert_eq!(app.user(Caller::Member).await.memberships, before);
}

#[tokio::test]
async fn control_documents_of_a_newer_build_do_not_hide_those_of_this_one() {
    let app = TestApp::with_demo().await;
    let now = app.state.store.now();
    let documents: [(&str, Document); 4] = [
        ("upstreams", doc! { "_id": NEWER }),
        (
            "queues",
            doc! { "_id": NEWER, "paused": { "at": now, "by": "operator" } },
        ),
        (
            "workers",
            doc! {
                "_id": Uuid::new(), "name": "newer", "host": "newer", "slots": { NEWER: 3_i64 }, "kinds": [],
                "startedAt": now, "seenAt": now, "stopping": false,
            },
        ),
        (
            "probes",
            doc! { "_id": NEWER, "kind": NEWER, "name": NEWER, "checkedAt": now, "outcome": NEWER },
        ),
    ];
    for (collection, document) in documents {
        let inserted = app.collection(collection).insert_one(document).await;
        inserted.unwrap();
    }

    let infrastructure = app.operator().get("/infrastructure").await;
    let upstreams = app.operator().get("/upstreams").await;
    let queues = app.operator().get("/queues").await;

    assert_eq!(infrastructure.status, 200, "{infrastructure:?}");
    let count = |value: &Value| value.as_array().map(Vec::len);
    assert_eq!(count(&infrastructure.body["upstreams"]), Some(3));
    assert_eq!(upstreams.status, 200, "{upstreams:?}");
    assert_eq!(queues.status, 200, "{queues:?}");
}

#[tokio::test]
async fn a_document_of_a_newer_build_fails_no_request_that_reads_others_beside_it() {
    let app = seeded().await;
    let demo = app.tenant("demo").await.id;
    let tomorrow = clock::later(app.state.store.now(), Duration::from_hours(24));
    let awaiting = doc! {
        "_id": Uuid::new(), "state": "awaitingConsent", "subject": Caller::Member.subject(), "expireAt": tomorrow,
        "role": NEWER,
    };
    let claim = doc! {
        "_id": Uuid::new(), "tenantId": Uuid::new(), "name": "wanted.test", "status": NEWER,
    };
    let newer: [(&str, Document); 5] = [
        ("allowances", doc! { "_id": NEWER }),
        ("prices", doc! { "_id": Uuid::new(), "plan": NEWER }),
        (
            "invoices",
            doc! { "_id": Uuid::new(), "tenantId": demo, "status": "open", "kind": NEWER },
        ),
        ("invitations", awaiting),
        ("domains", claim),
    ];
    for (collection, document) in newer {
        let inserted = app.collection(collection).insert_one(document).await;
        inserted.unwrap();
    }

    let plans = app.stranger().get("/plans").await;
    let allowances = app.operator().get("/allowances").await;
    let billing = app.owner().get("/tenants/demo/billing").await;
    let me = app.member().get("/users/me").await;
    let wanted = json!({ "name": "wanted.test" });
    let added = app.operator().post("/tenants/demo/domains", wanted).await;

    for reply in [plans, allowances, billing, me] {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert!(added.status.is_success(), "{added:?}");
}
