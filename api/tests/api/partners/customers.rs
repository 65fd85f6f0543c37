//! What a partner's customers come to, and who they are.

use bson::doc;
use dezky_shared::{
    id::{PartnerId, SubscriptionId, TenantId},
    platform::clock,
};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use super::operator;
use crate::app::TestApp;

/// A tenant of `partner`'s, put into the database as it is.
async fn add_tenant(app: &TestApp, partner: PartnerId, slug: &str, status: &str) -> TenantId {
    app.create(slug).await;
    app.set_tenant(slug, doc! { "partnerId": partner, "status": status })
        .await;
    app.tenant(slug).await.id
}

async fn subscribe(app: &TestApp, tenant: TenantId, cycle: &str, price: (i64, &str), status: &str) {
    let now = clock::now();
    let subscription = doc! {
        "_id": SubscriptionId::new(), "tenantId": tenant, "plan": "business", "cycle": cycle, "seats": 5,
        "currency": price.1, "priceMinor": price.0, "status": status,
        "revision": 1_i64, "createdAt": now, "updatedAt": now,
    };
    app.collection("subscriptions")
        .insert_one(subscription)
        .await
        .unwrap();
}

async fn listed(app: &TestApp, query: &str) -> Vec<Value> {
    let path = format!("/partners{query}");
    let reply = app.get(&path).by(Caller::Operator).send().await;
    assert_eq!(reply.summary(), "200", "{reply:?}");
    reply.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_list_says_how_many_customers_a_partner_has_and_what_they_pay_in_a_month() {
    let app = operator().await;
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
            "theirs",
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
async fn the_customers_of_a_page_are_counted_by_index() {
    let app = operator().await;
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
    // One document for each tenant, and one for its subscription.
    let examined = profiled.get("docsExamined").unwrap();
    let examined = examined.as_i64().or(examined.as_i32().map(i64::from));
    assert!(examined.unwrap() <= 40, "{profiled:?}");
}

#[tokio::test]
async fn the_list_is_paged_and_filtered_by_status() {
    let app = operator().await;
    for n in 0..3 {
        app.insert_partner(&format!("active-{n}"), "active").await;
    }
    app.insert_partner("former", "terminated").await;

    let active = listed(&app, "?status=active").await;
    let former = listed(&app, "?status=terminated").await;
    let first = app
        .get("/partners?limit=3")
        .by(Caller::Operator)
        .send()
        .await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let rest = listed(&app, &format!("?cursor={cursor}")).await;
    let odd = app
        .get("/partners?status=gone")
        .by(Caller::Operator)
        .send()
        .await;

    assert_eq!((active.len(), former.len(), rest.len()), (3, 1, 1));
    assert_eq!(rest[0]["slug"], "former");
    assert_eq!(odd.summary(), "400 invalid_request");
}

#[tokio::test]
async fn a_partners_tenants_are_listed_in_pages_and_nobody_elses() {
    let app = operator().await;
    let nordic = app.insert_partner("nordic", "active").await;
    let elsewhere = app.insert_partner("elsewhere", "active").await;
    for slug in ["one", "two", "three"] {
        add_tenant(&app, nordic, slug, "active").await;
    }
    add_tenant(&app, elsewhere, "theirs", "active").await;
    let list = async |query: String| {
        let path = format!("/partners/nordic/tenants{query}");
        app.get(&path).by(Caller::Operator).send().await.body
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
        .get(&format!("/partners/elsewhere/tenants?cursor={cursor}"))
        .by(Caller::Operator)
        .send()
        .await;

    assert_eq!(slugs(&first), ["one", "two"]);
    assert_eq!(slugs(&second), ["three"]);
    assert_eq!(elsewhere.summary(), "400 invalid_cursor");
}
