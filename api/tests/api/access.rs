//! Every route with every kind of caller, against one table: what they are answered, and that what they change is
//! recorded once.

mod table;

use std::collections::BTreeSet;

use bson::doc;
use dezky_shared::id::JobId;
use dezky_sim::callers::Caller;
use http::Method;
use serde_json::json;

use self::table::{CHANGE_NOTHING, TABLE};
use crate::{
    app::{self, TestApp},
    everyone::Who,
};

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_the_table_says() {
    let app = TestApp::with_everyone().await;
    let original = app
        .collection("tenants")
        .find_one(doc! { "slug": "demo" })
        .await
        .unwrap()
        .unwrap();
    let domain = app.collection("domains");
    let domain = domain.find_one(doc! {}).await.unwrap().unwrap();
    let (stranger, member) = (
        app.user(Caller::Stranger).await,
        app.user(Caller::Member).await,
    );
    let subscription = app.subscribe("demo", json!({})).await.body;
    let price = app.set_price("enterprise", "yearly", "EUR", 1).await.body;
    let nordic = doc! { "slug": "nordic" };
    let partners = app.collection("partners");
    let partner = partners.find_one(nordic.clone()).await.unwrap().unwrap();
    let mut wrong = Vec::new();

    let mut is_as_it_was = false;
    for (method, route, body, expected) in TABLE {
        for (who, expected) in Who::ALL.into_iter().zip(expected) {
            let job = app.jobs().await[0].id;
            // Each starts from the same documents. Whoever is refused leaves them as they are.
            if !is_as_it_was {
                let demo = doc! { "slug": "demo" };
                let tenants = app.collection("tenants");
                tenants.replace_one(demo, &original).await.unwrap();
                let domains = app.collection("domains");
                domains.delete_many(doc! {}).await.unwrap();
                domains.insert_one(&domain).await.unwrap();
                for user in [&stranger, &member] {
                    app.put_user(user).await;
                }
                let customer = doc! { "slug": "customer" };
                tenants.delete_one(customer).await.unwrap();
                let replaced = partners.replace_one(nordic.clone(), &partner).await;
                replaced.unwrap();
                let waiting = doc! { "state": "available" };
                app.set_job(job, waiting).await;
            }
            let id = match route.split('/').nth(1).unwrap() {
                "jobs" => job.to_string(),
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
                .replace("{name}", app::name_in(route));
            let mut call = app.call(Method::from_bytes(method.as_bytes()).unwrap(), &path);
            if !body.is_empty() {
                call = call.raw("application/json", body.as_bytes().to_vec());
            }
            if let Some(token) = who.token() {
                call = call.token(&app.token(&token));
            }

            let is_read = *method == "GET";
            if !is_read {
                call = call.header("idempotency-key", &JobId::new().to_string());
            }

            let before = app.count("audit_events").await;
            // Events go on for ever: their body is not read.
            let status = call.clone().open().await.status();
            let recorded = app.count("audit_events").await - before;
            is_as_it_was = is_read || !status.is_success();

            if status.as_u16() != *expected {
                wrong.push(format!(
                    "{method} {route} {body} by {who:?}: expected {expected}, found {status}"
                ));
            }
            let is_change = !is_read && !CHANGE_NOTHING.contains(&(method, route, body));
            let expected = u64::from(is_change && status.is_success());
            if recorded != expected {
                wrong.push(format!(
                    "{method} {route} {body} by {who:?}: expected {expected} audit events, found {recorded}"
                ));
            }
            if expected == 1 {
                call.open().await;
                let again = app.count("audit_events").await - before - recorded;
                if again != 0 {
                    wrong.push(format!(
                        "{method} {route} {body} by {who:?}: recorded again"
                    ));
                }
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_table_holds_every_documented_route() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").send().await.body;

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
async fn an_operators_route_tells_half_an_operator_what_is_missing() {
    let app = TestApp::with_demo().await;
    let flag_only = dezky_sim::issuer::TokenSpec {
        application: dezky_sim::issuer::PORTAL.to_owned(),
        ..Caller::Operator.token()
    };

    let without_flag = app
        .post("/tenants")
        .by(Caller::OperatorWithoutFlag)
        .json(&json!({ "slug": "acme", "name": "Acme" }))
        .send()
        .await;
    let without_audience = app
        .delete("/tenants/demo?confirm=demo")
        .token(&app.token(&flag_only))
        .send()
        .await;

    for reply in [without_flag, without_audience] {
        assert_eq!(reply.summary(), "403 forbidden");
        assert_eq!(
            reply.body["detail"],
            "This endpoint requires an operator-scoped token"
        );
    }
}

#[tokio::test]
async fn partner_staff_without_write_access_only_read() {
    let app = TestApp::with_demo().await;

    for (role, expected) in [
        ("read-only", [200, 403, 403]),
        ("support", [200, 403, 403]),
        ("manager", [200, 202, 200]),
        ("owner", [200, 200, 200]),
    ] {
        app.with_partner(role).await;

        let show = app.get("/tenants/demo").by(Caller::Partner).send().await;
        let suspend = app
            .post("/tenants/demo/suspend")
            .by(Caller::Partner)
            .send()
            .await;
        let patch = app
            .patch("/tenants/demo")
            .by(Caller::Partner)
            .json(&json!({ "industry": role }))
            .send()
            .await;

        let found = [show, suspend, patch].map(|reply| reply.status.as_u16());
        assert_eq!(found, expected, "{role}");
    }
}

#[tokio::test]
async fn lists_show_callers_what_they_may_see() {
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
            let reply = app.get(path).by(caller).send().await;

            let items = reply.body["items"].as_array().unwrap().len();
            assert_eq!(items, expected, "{path} {caller:?}");
        }
    }
}

#[tokio::test]
async fn rights_are_read_anew_for_every_request() {
    let app = TestApp::with_demo().await;
    let token = app.token(&Caller::Member.token());
    assert_eq!(
        app.get("/tenants/demo").token(&token).send().await.status,
        200
    );

    let member = app.user(Caller::Member).await.id;
    app.patch(&format!("/users/{member}"))
        .by(Caller::Operator)
        .json(&json!({ "tenantRoles": { "demo": null } }))
        .send()
        .await;

    assert_eq!(
        app.get("/tenants/demo").token(&token).send().await.status,
        404
    );
    app.get("/users/me").token(&token).send().await;
    assert_eq!(
        app.get("/tenants/demo").token(&token).send().await.status,
        404
    );
}
