//! Customers and monthly revenue of a partner.

use bson::doc;
use dezky_shared::id::{PartnerId, TenantId};
use serde_json::{Value, json};

use crate::{app::TestApp, tenant_health};

/// Inserts a tenant of `partner` directly into the database.
async fn add_tenant(app: &TestApp, partner: PartnerId, slug: &str, status: &str) -> TenantId {
    app.create(slug).await;
    app.set_tenant(slug, doc! { "partnerId": partner, "status": status })
        .await;
    app.tenant(slug).await.id
}

async fn subscribe(app: &TestApp, tenant: TenantId, cycle: &str, price: (i64, &str), status: &str) {
    let fields = doc! {
        "cycle": cycle, "currency": price.1, "priceMinor": price.0, "status": status,
    };
    tenant_health::subscribe(app, tenant, fields).await;
}

async fn listed(app: &TestApp, query: &str) -> Vec<Value> {
    let path = format!("/partners{query}");
    let reply = app.operator().get(&path).await;
    assert_eq!(reply.summary(), "200", "{reply:?}");
    reply.items().to_vec()
}

#[tokio::test]
async fn the_partner_list_shows_customer_count_and_monthly_revenue() {
    let app = TestApp::with_operator().await;
    let nordic = app.insert_partner("nordic", "active").await;
    let elsewhere = app.insert_partner("elsewhere", "active").await;
    app.insert_partner("newcomer", "active").await;
    for (partner, slug, status, cycle, price, of) in [
        (
            nordic,
            "monthly",
            "active",
            "monthly",
            (10_000, "DKK"),
            "active",
        ),
        (
            nordic,
            "quarterly",
            "suspended",
            "quarterly",
            (10_000, "DKK"),
            "past_due",
        ),
        (
            nordic,
            "yearly",
            "pending",
            "yearly",
            (10_000, "DKK"),
            "active",
        ),
        (
            nordic,
            "euros",
            "active",
            "yearly",
            (2_000, "EUR"),
            "active",
        ),
        (
            nordic,
            "cancelled",
            "terminating",
            "monthly",
            (70_000, "DKK"),
            "cancelled",
        ),
        (
            nordic,
            "removed",
            "terminated",
            "monthly",
            (90_000, "DKK"),
            "active",
        ),
        (
            elsewhere,
            "foreign",
            "active",
            "monthly",
            (500, "SEK"),
            "active",
        ),
    ] {
        let tenant = add_tenant(&app, partner, slug, status).await;
        subscribe(&app, tenant, cycle, price, of).await;
    }
    add_tenant(&app, nordic, "free-of-charge", "active").await;

    let items = listed(&app, "").await;

    let figures: Vec<Value> = items
        .iter()
        .map(|item| {
            json!([
                item["slug"],
                item["customers"],
                item["monthlyRecurringRevenue"]
            ])
        })
        .collect();
    assert_eq!(
        figures,
        [
            // 10,000 + 3,333.33 + 833.33, and 166.67.
            json!(["nordic", 6, { "DKK": 14_167, "EUR": 167 }]),
            json!(["elsewhere", 1, { "SEK": 500 }]),
            json!(["newcomer", 0, {}]),
        ]
    );
}

#[tokio::test]
async fn the_customer_count_uses_an_index() {
    let app = TestApp::with_operator().await;
    let partner = app.insert_partner("nordic", "active").await;
    for n in 0..20 {
        let tenant = add_tenant(&app, partner, &format!("tenant-{n}"), "active").await;
        subscribe(&app, tenant, "monthly", (100, "DKK"), "active").await;
    }
    let database = app.state.store.database();
    let profile = |level: i32| database.run_command(doc! { "profile": level });
    profile(2).await.unwrap();

    let items = listed(&app, "").await;

    profile(0).await.unwrap();
    let profiled = app.collection("system.profile");
    let of_list = doc! { "ns": { "$regex": "\\.tenants$" }, "command.aggregate": "tenants" };
    let profiled = profiled.find_one(of_list).await.unwrap().unwrap();
    assert_eq!(items[0]["customers"], 20);
    // One document per tenant and one per subscription.
    let examined = profiled.get("docsExamined").unwrap();
    let examined = examined.as_i64().or(examined.as_i32().map(i64::from));
    assert!(examined.unwrap() <= 40, "{profiled:?}");
}

#[tokio::test]
async fn the_partner_list_is_paginated_and_filtered_by_status() {
    let app = TestApp::with_operator().await;
    for n in 0..3 {
        app.insert_partner(&format!("active-{n}"), "active").await;
    }
    app.insert_partner("former", "terminated").await;

    let active = listed(&app, "?status=active").await;
    let former = listed(&app, "?status=terminated").await;
    let first = app.operator().get("/partners?limit=3").await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let rest = listed(&app, &format!("?cursor={cursor}")).await;
    let odd = app.operator().get("/partners?status=gone").await;

    assert_eq!((active.len(), former.len(), rest.len()), (3, 1, 1));
    assert_eq!(rest[0]["slug"], "former");
    assert_eq!(odd.summary(), "400 invalid_request");
}

#[tokio::test]
async fn only_the_partners_tenants_are_listed_in_pages() {
    let app = TestApp::with_operator().await;
    let nordic = app.insert_partner("nordic", "active").await;
    let elsewhere = app.insert_partner("elsewhere", "active").await;
    for slug in ["one", "two", "three"] {
        add_tenant(&app, nordic, slug, "active").await;
    }
    add_tenant(&app, elsewhere, "foreign", "active").await;
    let list = async |query: String| {
        let path = format!("/partners/nordic/tenants{query}");
        app.operator().get(&path).await.body
    };
    let slugs = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| item["slug"].as_str().unwrap().to_owned())
            .collect()
    };

    let first = list("?limit=2".to_owned()).await;
    let cursor = first["nextCursor"].as_str().unwrap();
    let second = list(format!("?cursor={cursor}")).await;
    let elsewhere = app
        .operator()
        .get(format!("/partners/elsewhere/tenants?cursor={cursor}"))
        .await;

    assert_eq!(slugs(&first), ["one", "two"]);
    assert_eq!(slugs(&second), ["three"]);
    assert_eq!(elsewhere.summary(), "400 invalid_cursor");
}
