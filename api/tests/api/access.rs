//! Every route with every kind of caller, against one table.

use std::collections::BTreeSet;

use bson::doc;
use dezky_sim::callers::Caller;
use http::Method;
use serde_json::json;

use crate::app::{self, TestApp};

/// Callers in the order of the table's columns; nobody first.
const CALLERS: [Option<Caller>; 7] = [
    None,
    Some(Caller::Stranger),
    Some(Caller::Member),
    Some(Caller::Owner),
    Some(Caller::Partner),
    Some(Caller::OperatorWithoutFlag),
    Some(Caller::Operator),
];

/// Route, body, and the status for: nobody, a stranger, a member, an owner, a partner's manager, an operator without
/// the flag, an operator.
type Row = (&'static str, &'static str, &'static str, [u16; 7]);

const TABLE: &[Row] = &[
    ("GET", "/healthz", "", [200; 7]),
    ("GET", "/readyz", "", [200; 7]),
    ("GET", "/users/me", "", [401, 200, 200, 200, 200, 200, 200]),
    (
        "PATCH",
        "/users/{id}",
        "{}",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    ("GET", "/tenants", "", [401, 200, 200, 200, 200, 200, 200]),
    (
        "POST",
        "/tenants",
        "{\"slug\":\"acme\",\"name\":\"Acme\"}",
        [401, 403, 403, 403, 403, 403, 202],
    ),
    (
        "GET",
        "/tenants/{slug}",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"industry\":\"x\"}",
        [401, 404, 403, 200, 200, 404, 200],
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"plan\":\"starter\"}",
        [401, 404, 403, 403, 403, 404, 202],
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"domains\":[]}",
        [401, 404, 403, 403, 403, 404, 202],
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"partnerId\":null}",
        [401, 404, 403, 403, 403, 404, 200],
    ),
    (
        "POST",
        "/tenants/{slug}/reconcile",
        "",
        [401, 404, 403, 202, 202, 404, 202],
    ),
    (
        "POST",
        "/tenants/{slug}/suspend",
        "",
        [401, 404, 403, 403, 202, 404, 202],
    ),
    (
        "POST",
        "/tenants/{slug}/resume",
        "",
        [401, 404, 403, 403, 200, 404, 200],
    ),
    (
        "DELETE",
        "/tenants/{slug}?confirm=demo",
        "",
        [401, 404, 403, 403, 403, 403, 202],
    ),
    (
        "POST",
        "/tenants/{slug}/restore",
        "",
        [401, 404, 403, 403, 403, 403, 409],
    ),
    (
        "GET",
        "/tenants/{slug}/summary",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    (
        "GET",
        "/tenants/{slug}/domains",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    (
        "POST",
        "/tenants/{slug}/domains",
        "{\"name\":\"new.test\"}",
        [401, 404, 403, 202, 202, 404, 202],
    ),
    (
        "GET",
        "/tenants/{slug}/domains/{domain}",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    (
        "PATCH",
        "/tenants/{slug}/domains/{domain}",
        "{\"dmarc\":{\"policy\":\"reject\"}}",
        [401, 404, 403, 202, 202, 404, 202],
    ),
    (
        "DELETE",
        "/tenants/{slug}/domains/{domain}",
        "",
        [401, 404, 403, 202, 202, 404, 202],
    ),
    (
        "POST",
        "/tenants/{slug}/domains/{domain}/recheck",
        "",
        [401, 404, 403, 202, 202, 404, 202],
    ),
    (
        "GET",
        "/tenants/{slug}/jobs",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    (
        "GET",
        "/tenants/{slug}/events",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    (
        "GET",
        "/jobs/{id}/events",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    (
        "GET",
        "/job-operations",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    (
        "POST",
        "/job-operations",
        "{\"action\":\"requeue\",\"filter\":{\"state\":\"discarded\"}}",
        [401, 403, 403, 403, 403, 403, 202],
    ),
    (
        "GET",
        "/job-operations/{id}",
        "",
        [401, 403, 403, 403, 403, 403, 404],
    ),
    (
        "GET",
        "/job-operations/{id}/items",
        "",
        [401, 403, 403, 403, 403, 403, 404],
    ),
    ("GET", "/jobs", "", [401, 200, 200, 200, 200, 200, 200]),
    ("GET", "/jobs/{id}", "", [401, 404, 200, 200, 200, 404, 200]),
    (
        "POST",
        "/jobs/{id}/requeue",
        "",
        [401, 403, 403, 403, 403, 403, 202],
    ),
    (
        "POST",
        "/jobs/{id}/cancel",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    ("GET", "/schedules", "", [401, 403, 403, 403, 403, 403, 200]),
    (
        "GET",
        "/schedules/{name}",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    (
        "POST",
        "/schedules/{name}/run",
        "{\"dryRun\":true}",
        [401, 403, 403, 403, 403, 403, 202],
    ),
    (
        "GET",
        "/jobs/{id}/explain",
        "",
        [401, 404, 200, 200, 200, 404, 200],
    ),
    ("GET", "/queues", "", [401, 403, 403, 403, 403, 403, 200]),
    (
        "POST",
        "/queues/{name}/pause",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    (
        "POST",
        "/queues/{name}/resume",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    ("GET", "/upstreams", "", [401, 403, 403, 403, 403, 403, 200]),
    (
        "GET",
        "/upstreams/{name}",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    (
        "POST",
        "/upstreams/{name}/pause",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    (
        "POST",
        "/upstreams/{name}/resume",
        "",
        [401, 403, 403, 403, 403, 403, 200],
    ),
    ("GET", "/workers", "", [401, 403, 403, 403, 403, 403, 200]),
];

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_the_table_says() {
    let app = TestApp::with_demo().await;
    app.with_partner("manager").await;
    let original = app
        .collection("tenants")
        .find_one(doc! { "slug": "demo" })
        .await
        .unwrap()
        .unwrap();
    let domain = app.collection("domains");
    let domain = domain.find_one(doc! {}).await.unwrap().unwrap();
    let mut wrong = Vec::new();

    for (method, route, body, expected) in TABLE {
        for (caller, expected) in CALLERS.into_iter().zip(expected) {
            // Each starts from the same tenant.
            let demo = doc! { "slug": "demo" };
            let tenants = app.collection("tenants");
            tenants.replace_one(demo, &original).await.unwrap();
            let domains = app.collection("domains");
            domains.delete_many(doc! {}).await.unwrap();
            domains.insert_one(&domain).await.unwrap();
            let job = app.jobs().await[0].id;
            let waiting = doc! { "state": "available" };
            app.set_job(job, waiting).await;
            let id = if route.starts_with("/jobs") {
                job.to_string()
            } else {
                app.user(Caller::Stranger).await.id.to_string()
            };
            let path = route
                .replace("{slug}", "demo")
                .replace("{domain}", "demo.test")
                .replace("{id}", &id)
                .replace("{name}", app::name_in(route));
            let mut call = app.call(Method::from_bytes(method.as_bytes()).unwrap(), &path);
            if !body.is_empty() {
                call = call.raw("application/json", body.as_bytes().to_vec());
            }
            if let Some(caller) = caller {
                call = call.by(caller);
            }

            // Events go on for ever: their body is not read.
            let status = call.open().await.status();

            if status.as_u16() != *expected {
                wrong.push(format!(
                    "{method} {route} {body} by {caller:?}: expected {expected}, found {status}"
                ));
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
