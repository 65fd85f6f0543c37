//! Access control: every route with every persona against one table, including that each change is audited once.

mod table;

use std::collections::BTreeSet;

use bson::doc;
use dezky_shared::{id::JobId, member::Member, platform::clock, user::Role};
use dezky_sim::callers::Caller;
use http::Method;
use serde_json::json;

use self::table::{NOT_AUDITED, TABLE};
use crate::{
    app::{self, TestApp},
    personas::Persona,
};

/// Number of the tests that share the table, which run in parallel.
const PARTS: usize = 4;

#[tokio::test]
async fn every_route_of_the_first_part_matches_the_access_table_for_every_persona() {
    routes_match_the_table(0).await;
}

#[tokio::test]
async fn every_route_of_the_second_part_matches_the_access_table_for_every_persona() {
    routes_match_the_table(1).await;
}

#[tokio::test]
async fn every_route_of_the_third_part_matches_the_access_table_for_every_persona() {
    routes_match_the_table(2).await;
}

#[tokio::test]
async fn every_route_of_the_fourth_part_matches_the_access_table_for_every_persona() {
    routes_match_the_table(3).await;
}

/// Calls each route of a part of the table as each persona.
async fn routes_match_the_table(part: usize) {
    let app = TestApp::with_personas().await;
    let original = app.document("tenants", doc! { "slug": "demo" }).await;
    let domain = app.collection("domains");
    let domain = domain.find_one(doc! {}).await.unwrap().unwrap();
    let (stranger, member) = (
        app.user(Caller::Stranger).await,
        app.user(Caller::Member).await,
    );
    let sso_app = app.add_app("wiki").await.body;
    let sso_app_document = app.document("apps", doc! {}).await;
    let subscription = app.subscribe("demo", json!({})).await.body;
    let price = app.set_price("enterprise", "yearly", "EUR", 1).await.body;
    let invoice = json!({
        "lines": [{ "description": "Setup", "amountMinor": 5 }], "reason": "New", "currency": "DKK",
    });
    let invoice = app.operator().post("/tenants/demo/invoices", invoice).await;
    let invoice_document = app.document("invoices", doc! {}).await;
    let nordic = doc! { "slug": "nordic" };
    let partners = app.collection("partners");
    let partner = partners.find_one(nordic.clone()).await.unwrap().unwrap();
    let tenant = app.tenant("demo").await.id;
    let managed = Member::new(tenant, "m@work.test", "M", Role::Member, None, clock::now());
    let members = app.state.store.collection::<Member>("members");
    let mut wrong = Vec::new();

    let mut is_unchanged = false;
    let rows = TABLE.chunks(TABLE.len().div_ceil(PARTS)).nth(part).unwrap();
    for (method, route, body, expected) in rows {
        for (persona, status) in Persona::ALL.into_iter().zip(expected) {
            let is_restricted =
                matches!(persona, Persona::PlatformSupport | Persona::PlatformViewer);
            let expected = if is_restricted {
                table::restricted(persona, method, route, expected)
            } else {
                *status
            };
            let job = app.jobs().await[0].id;
            // Every call starts from the same documents; a rejected call leaves them unchanged.
            if !is_unchanged {
                let demo = doc! { "slug": "demo" };
                let tenants = app.collection("tenants");
                tenants.replace_one(demo, &original).await.unwrap();
                let domains = app.collection("domains");
                domains.delete_many(doc! {}).await.unwrap();
                domains.insert_one(&domain).await.unwrap();
                let apps = app.collection("apps");
                apps.delete_many(doc! {}).await.unwrap();
                apps.insert_one(&sso_app_document).await.unwrap();
                let invoices = app.collection("invoices");
                invoices.delete_many(doc! {}).await.unwrap();
                invoices.insert_one(&invoice_document).await.unwrap();
                members.delete_many(doc! {}).await.unwrap();
                members.insert_one(&managed).await.unwrap();
                for user in [&stranger, &member] {
                    app.put_user(user).await;
                }
                let customer = doc! { "slug": "customer" };
                tenants.delete_one(customer).await.unwrap();
                let replaced = partners.replace_one(nordic.clone(), &partner).await;
                replaced.unwrap();
                let available = doc! { "state": "available" };
                app.set_job(job, available).await;
            }
            let id = match route.split('/').nth(1).unwrap() {
                "jobs" => job.to_string(),
                "tenants" if route.contains("invoices/") => {
                    invoice.body["id"].as_str().unwrap().to_owned()
                }
                "tenants" if route.contains("apps/") => sso_app["id"].as_str().unwrap().to_owned(),
                // A member without a sign-on account has no second factors.
                "tenants" if route.ends_with("/reset-mfa") => member.id.to_string(),
                "tenants" if route.contains("/users/{id}/") => managed.id.to_string(),
                "tenants" => member.id.to_string(),
                "subscriptions" => subscription["id"].as_str().unwrap().to_owned(),
                "prices" => price["id"].as_str().unwrap().to_owned(),
                _ => stranger.id.to_string(),
            };
            let slug = if route.starts_with("/partners") {
                "nordic"
            } else {
                "demo"
            };
            let path = route
                .replace("{slug}", slug)
                .replace("{domain}", "demo.test")
                .replace("{id}", &id)
                .replace("{key}", "beta_search")
                .replace("{plan}", "starter")
                .replace("{name}", app::name_in(route));
            let method_of = Method::from_bytes(method.as_bytes()).unwrap();
            let mut call = app.client(persona).request(method_of, &path);
            if !body.is_empty() {
                let is_file = route.contains("/users/import");
                let media_type = if is_file {
                    "text/csv"
                } else {
                    "application/json"
                };
                call = call.body(media_type, *body);
            }

            let is_read = *method == "GET";
            if !is_read {
                call = call.idempotency_key(&JobId::new().to_string());
            }

            if route.ends_with("{name}/resume") {
                let pause = path.replace("/resume", "/pause");
                app.operator().post(&pause, json!({})).await;
            }
            let before = app.count("audit_events").await;
            // Event streams do not end, so that the body is not read.
            let status = call.clone().open().await.status();
            let recorded = app.count("audit_events").await - before;
            is_unchanged = is_read || !status.is_success();

            if status.as_u16() != expected {
                wrong.push(format!(
                    "{method} {route} {body} by {persona:?}: expected {expected}, found {status}"
                ));
            }
            let is_change = !is_read && !NOT_AUDITED.contains(&(method, route, body));
            let expected = u64::from(is_change && status.is_success());
            if recorded != expected {
                wrong.push(format!(
                    "{method} {route} {body} by {persona:?}: expected {expected} audit events, found {recorded}"
                ));
            }
            if expected == 1 {
                call.open().await;
                let again = app.count("audit_events").await - before - recorded;
                if again != 0 {
                    wrong.push(format!(
                        "{method} {route} {body} by {persona:?}: recorded again"
                    ));
                }
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_table_covers_every_documented_route() {
    let app = TestApp::start().await;
    let document = app.openapi().await;

    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let tested: BTreeSet<String> = TABLE
        .iter()
        .map(|(method, route, ..)| format!("{method} {}", route.split('?').next().unwrap()))
        .collect();

    assert_eq!(documented, tested);
}

#[tokio::test]
async fn operator_routes_reject_callers_missing_flag_or_audience() {
    let app = TestApp::with_demo().await;
    let flag_only = dezky_sim::issuer::TokenSpec {
        application: dezky_sim::issuer::PORTAL.to_owned(),
        ..Caller::Operator.token()
    };

    let without_flag = app
        .client(Caller::OperatorWithoutFlag)
        .post("/tenants", json!({ "slug": "acme", "name": "Acme" }))
        .await;
    let without_audience = app
        .client(&flag_only)
        .delete("/tenants/demo?confirm=demo")
        .await;

    for reply in [without_flag, without_audience] {
        assert_eq!(reply.summary(), "403 forbidden");
        let detail = reply.body["detail"].as_str().unwrap();
        assert!(detail.contains("operator"), "{detail}");
    }
}

#[tokio::test]
async fn partner_staff_without_write_access_can_only_read() {
    let app = TestApp::with_demo().await;

    for (role, expected) in [
        ("read-only", [200, 403, 403]),
        ("support", [200, 403, 403]),
        ("manager", [200, 202, 200]),
        ("owner", [200, 200, 200]),
    ] {
        app.with_partner(role).await;

        let show = app.partner().get("/tenants/demo").await;
        let suspend = app.partner().post_empty("/tenants/demo/suspend").await;
        let patch = app
            .partner()
            .patch("/tenants/demo", json!({ "industry": role }))
            .await;

        let found = [show, suspend, patch].map(|reply| reply.status.as_u16());
        assert_eq!(found, expected, "{role}");
    }
}

#[tokio::test]
async fn lists_show_only_what_the_caller_may_read() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    app.with_partner("read-only").await;

    for (caller, expected) in [
        (Caller::Stranger, 0),
        (Caller::Member, 1),
        (Caller::Owner, 1),
        (Caller::Partner, 1),
        (Caller::OperatorWithoutFlag, 0),
        (Caller::Operator, 2),
    ] {
        for path in ["/tenants", "/jobs"] {
            let reply = app.client(caller).get(path).await;

            let items = reply.items().len();
            assert_eq!(items, expected, "{path} {caller:?}");
        }
    }
}

#[tokio::test]
async fn permissions_are_read_for_every_request() {
    let app = TestApp::with_demo().await;
    let client = app.member();
    assert_eq!(client.get("/tenants/demo").await.status, 200);

    let member = app.user(Caller::Member).await.id;
    app.operator()
        .patch(
            format!("/users/{member}"),
            json!({ "tenantRoles": { "demo": null } }),
        )
        .await;

    assert_eq!(client.get("/tenants/demo").await.status, 404);
    client.get("/users/me").await;
    assert_eq!(client.get("/tenants/demo").await.status, 404);
}
