//! Every route with every kind of caller, against one table: what they are answered, and that what they change is
//! recorded once.

use std::collections::BTreeSet;

use bson::doc;
use dezky_shared::id::JobId;
use dezky_sim::callers::Caller;
use http::Method;
use serde_json::json;

use crate::{
    app::{self, TestApp},
    everyone::Who,
};

/// The status for each of [`Who::ALL`], in that order.
type Expected = [u16; Who::ALL.len()];
/// Method, route, body, and what everybody is answered.
type Row = (&'static str, &'static str, &'static str, Expected);

/// Everybody, nobody included.
const fn anybody(ok: u16) -> Expected {
    [ok; Who::ALL.len()]
}

/// What those of `chosen` are answered with `ok`, those of `known` with 403, and all others with `other`; nobody
/// and whoever comes with an old token with 401.
const fn answers(chosen: &[Who], ok: u16, known: &[Who], other: u16) -> Expected {
    let mut expected = [other; Who::ALL.len()];
    let mut place = 0;
    while place < known.len() {
        expected[known[place] as usize] = 403;
        place += 1;
    }
    place = 0;
    while place < chosen.len() {
        expected[chosen[place] as usize] = ok;
        place += 1;
    }
    expected[Who::Nobody as usize] = 401;
    expected[Who::Expired as usize] = 401;
    expected
}

/// Whoever is signed in.
const fn signed_in(ok: u16) -> Expected {
    answers(&[], ok, &[], ok)
}

/// Operators, where no tenant is named.
const fn operators(ok: u16) -> Expected {
    answers(&[Who::Operator], ok, &[], 403)
}

/// Whoever may know that the tenant exists.
const READERS: &[Who] = &[
    Who::Member,
    Who::Admin,
    Who::Owner,
    Who::PartnerOwner,
    Who::PartnerManager,
    Who::PartnerSupport,
    Who::PartnerReadOnly,
    Who::Operator,
];
/// Half an operator each.
const HALF_OPERATORS: &[Who] = &[Who::OperatorWithoutFlag, Who::FlagWithoutAudience];

/// The tenant's members, its partner's staff, operators. For others it does not exist.
const fn readers(ok: u16) -> Expected {
    answers(READERS, ok, &[], 404)
}

/// The tenant's owners and admins, its partner's staff, operators.
const fn inspectors(ok: u16) -> Expected {
    let inspectors = [
        Who::Admin,
        Who::Owner,
        Who::PartnerOwner,
        Who::PartnerManager,
        Who::PartnerSupport,
        Who::PartnerReadOnly,
        Who::Operator,
    ];
    answers(&inspectors, ok, READERS, 404)
}

/// The tenant's owners and admins, its partner's staff who may write, operators.
const fn writers(ok: u16) -> Expected {
    let writers = [
        Who::Admin,
        Who::Owner,
        Who::PartnerOwner,
        Who::PartnerManager,
        Who::Operator,
    ];
    answers(&writers, ok, READERS, 404)
}

/// The tenant's owners and admins, its partner's staff, operators.
const fn overseers(ok: u16) -> Expected {
    let mut expected = readers(ok);
    expected[Who::Member as usize] = 403;
    expected
}

/// The tenant's owners, operators.
const fn owners(ok: u16) -> Expected {
    answers(&[Who::Owner, Who::Operator], ok, READERS, 404)
}

/// The tenant's partner's staff who may write, operators.
const fn managers(ok: u16) -> Expected {
    let managers = [Who::PartnerOwner, Who::PartnerManager, Who::Operator];
    answers(&managers, ok, READERS, 404)
}

/// Operators; whoever else may know that the tenant exists learns that it is not for them.
const fn operators_among_readers(ok: u16) -> Expected {
    answers(&[Who::Operator], ok, READERS, 404)
}

/// The same on a route that is for operators alone: half an operator learns what is missing.
const fn operators_of_tenant(ok: u16) -> Expected {
    let mut expected = operators_among_readers(ok);
    let mut place = 0;
    while place < HALF_OPERATORS.len() {
        expected[HALF_OPERATORS[place] as usize] = 403;
        place += 1;
    }
    expected
}

/// Staff of a partner that was not terminated, each of their own.
const STAFF: &[Who] = &[
    Who::PartnerOwner,
    Who::PartnerManager,
    Who::PartnerSupport,
    Who::PartnerReadOnly,
    Who::OtherPartner,
];
/// Those of them who may write.
const MANAGING_STAFF: &[Who] = &[Who::PartnerOwner, Who::PartnerManager, Who::OtherPartner];

/// Staff of any partner, about their own.
const fn staff(ok: u16) -> Expected {
    answers(STAFF, ok, &[], 403)
}

/// Staff of any partner who may write, about their own.
const fn managing_staff(ok: u16) -> Expected {
    answers(MANAGING_STAFF, ok, &[], 403)
}

/// Staff of the tenant's partner. For those of another it does not exist.
const fn staff_of_tenant(ok: u16) -> Expected {
    without_another_partners(staff(ok))
}

/// The same, if they may write.
const fn managing_staff_of_tenant(ok: u16) -> Expected {
    without_another_partners(managing_staff(ok))
}

const fn without_another_partners(mut expected: Expected) -> Expected {
    expected[Who::OtherPartner as usize] = 404;
    expected
}

/// Owners of any partner, about their own.
const fn partner_owners(ok: u16) -> Expected {
    answers(&[Who::PartnerOwner, Who::OtherPartner], ok, &[], 403)
}

const TABLE: &[Row] = &[
    ("GET", "/healthz", "", anybody(200)),
    ("GET", "/readyz", "", anybody(200)),
    ("GET", "/users/me", "", signed_in(200)),
    ("PATCH", "/users/{id}", "{}", operators(200)),
    ("GET", "/users", "", operators(200)),
    (
        "POST",
        "/users",
        "{\"authentikSubjectId\":\"00000000-0000-4000-a000-000000000000\",\"email\":\"a@b.test\",\"name\":\"A\"}",
        operators(201),
    ),
    ("GET", "/users/{id}", "", operators(200)),
    ("DELETE", "/users/{id}", "", operators(200)),
    ("GET", "/tenants/{slug}/users", "", overseers(200)),
    ("GET", "/tenants/{slug}/users/{id}", "", overseers(200)),
    (
        "PATCH",
        "/tenants/{slug}/users/{id}",
        "{\"role\":\"admin\"}",
        writers(200),
    ),
    (
        "PATCH",
        "/tenants/{slug}/users/{id}",
        "{\"role\":\"owner\"}",
        owners(200),
    ),
    ("DELETE", "/tenants/{slug}/users/{id}", "", writers(200)),
    ("GET", "/subscriptions", "", signed_in(200)),
    (
        "POST",
        "/subscriptions",
        "{\"tenant\":\"other\",\"plan\":\"starter\",\"cycle\":\"monthly\",\"seats\":1,\"currency\":\"DKK\",\"priceMinor\":0}",
        operators(201),
    ),
    ("GET", "/subscriptions/{id}", "", operators(200)),
    (
        "PATCH",
        "/subscriptions/{id}",
        "{\"seats\":2}",
        operators(200),
    ),
    ("DELETE", "/subscriptions/{id}", "", operators(200)),
    ("GET", "/plans", "", signed_in(200)),
    ("GET", "/prices", "", operators(200)),
    (
        "POST",
        "/prices",
        "{\"plan\":\"starter\",\"cycle\":\"monthly\",\"currency\":\"DKK\",\"amountMinor\":1}",
        operators(201),
    ),
    ("GET", "/prices/{id}", "", operators(200)),
    (
        "PATCH",
        "/prices/{id}",
        "{\"amountMinor\":2}",
        operators(200),
    ),
    ("DELETE", "/prices/{id}", "", operators(200)),
    ("GET", "/tenants", "", signed_in(200)),
    (
        "POST",
        "/tenants",
        "{\"slug\":\"acme\",\"name\":\"Acme\"}",
        operators(202),
    ),
    ("GET", "/tenants/{slug}", "", readers(200)),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"industry\":\"x\"}",
        writers(200),
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"plan\":\"starter\"}",
        operators_among_readers(202),
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"domains\":[]}",
        operators_among_readers(202),
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"partnerId\":null}",
        operators_among_readers(200),
    ),
    ("POST", "/tenants/{slug}/reconcile", "", writers(202)),
    ("POST", "/tenants/{slug}/suspend", "", managers(202)),
    ("POST", "/tenants/{slug}/resume", "", managers(200)),
    (
        "DELETE",
        "/tenants/{slug}?confirm=demo",
        "",
        operators_of_tenant(202),
    ),
    (
        "POST",
        "/tenants/{slug}/restore",
        "",
        operators_of_tenant(409),
    ),
    ("GET", "/tenants/{slug}/summary", "", readers(200)),
    ("GET", "/tenants/{slug}/billing-info", "", writers(200)),
    (
        "PATCH",
        "/tenants/{slug}/billing-info",
        "{\"company\":\"Demo A/S\"}",
        writers(200),
    ),
    ("GET", "/tenants/{slug}/branding", "", readers(200)),
    (
        "PUT",
        "/tenants/{slug}/branding",
        "{\"productName\":\"Desk\"}",
        writers(200),
    ),
    (
        "GET",
        "/tenants/{slug}/security-policy",
        "",
        inspectors(200),
    ),
    (
        "PATCH",
        "/tenants/{slug}/security-policy",
        "{\"mfaMode\":\"required\"}",
        writers(200),
    ),
    ("GET", "/snapshots?month=2026-11", "", operators(200)),
    ("GET", "/tenants/{slug}/domains", "", readers(200)),
    (
        "POST",
        "/tenants/{slug}/domains",
        "{\"name\":\"new.test\"}",
        writers(202),
    ),
    ("GET", "/tenants/{slug}/domains/{domain}", "", readers(200)),
    (
        "PATCH",
        "/tenants/{slug}/domains/{domain}",
        "{\"dmarc\":{\"policy\":\"reject\"}}",
        writers(202),
    ),
    (
        "DELETE",
        "/tenants/{slug}/domains/{domain}",
        "",
        writers(202),
    ),
    (
        "POST",
        "/tenants/{slug}/domains/{domain}/recheck",
        "",
        writers(202),
    ),
    ("GET", "/tenants/{slug}/jobs", "", readers(200)),
    ("GET", "/tenants/{slug}/events", "", readers(200)),
    ("GET", "/jobs/{id}/events", "", readers(200)),
    ("GET", "/job-operations", "", operators(200)),
    (
        "POST",
        "/job-operations",
        "{\"action\":\"requeue\",\"filter\":{\"state\":\"discarded\"}}",
        operators(202),
    ),
    ("GET", "/job-operations/{id}", "", operators(404)),
    ("GET", "/job-operations/{id}/items", "", operators(404)),
    ("GET", "/jobs", "", signed_in(200)),
    ("GET", "/jobs/{id}", "", readers(200)),
    ("POST", "/jobs/{id}/requeue", "", operators(202)),
    ("POST", "/jobs/{id}/cancel", "", operators(200)),
    ("GET", "/schedules", "", operators(200)),
    ("GET", "/schedules/{name}", "", operators(200)),
    (
        "POST",
        "/schedules/{name}/run",
        "{\"dryRun\":true}",
        operators(202),
    ),
    ("GET", "/jobs/{id}/explain", "", readers(200)),
    ("GET", "/queues", "", operators(200)),
    ("POST", "/queues/{name}/pause", "", operators(200)),
    ("POST", "/queues/{name}/resume", "", operators(200)),
    ("GET", "/upstreams", "", operators(200)),
    ("GET", "/upstreams/{name}", "", operators(200)),
    ("POST", "/upstreams/{name}/pause", "", operators(200)),
    ("POST", "/upstreams/{name}/resume", "", operators(200)),
    ("GET", "/workers", "", operators(200)),
    ("GET", "/partners", "", operators(200)),
    (
        "POST",
        "/partners",
        "{\"slug\":\"new-partner\",\"name\":\"New\"}",
        operators(201),
    ),
    ("GET", "/partners/{slug}", "", operators(200)),
    (
        "PATCH",
        "/partners/{slug}",
        "{\"marginPct\":7.5}",
        operators(200),
    ),
    ("DELETE", "/partners/{slug}", "", operators(200)),
    ("GET", "/partners/{slug}/tenants", "", operators(200)),
    ("GET", "/partner", "", staff(200)),
    ("GET", "/partner/settings", "", managing_staff(200)),
    (
        "PATCH",
        "/partner/settings",
        "{\"supportEmail\":\"help@nordic.test\"}",
        managing_staff(200),
    ),
    (
        "PATCH",
        "/partner/settings",
        "{\"marginPct\":100}",
        managing_staff(403),
    ),
    ("GET", "/partner/branding", "", staff(200)),
    (
        "PUT",
        "/partner/branding",
        "{\"accentColor\":\"#0a7cff\"}",
        managing_staff(200),
    ),
    ("GET", "/partner/tenants", "", staff(200)),
    (
        "POST",
        "/partner/tenants",
        "{\"slug\":\"customer\",\"name\":\"Customer\"}",
        managing_staff(202),
    ),
    ("GET", "/partner/tenants/{slug}", "", staff_of_tenant(200)),
    (
        "PATCH",
        "/partner/tenants/{slug}",
        "{\"industry\":\"x\"}",
        managing_staff_of_tenant(200),
    ),
    (
        "PATCH",
        "/partner/tenants/{slug}",
        "{\"plan\":\"starter\"}",
        managing_staff_of_tenant(403),
    ),
    (
        "POST",
        "/partner/tenants/{slug}/suspend",
        "",
        managing_staff_of_tenant(202),
    ),
    (
        "POST",
        "/partner/tenants/{slug}/resume",
        "",
        managing_staff_of_tenant(200),
    ),
    ("GET", "/partner/team", "", staff(200)),
    (
        "POST",
        "/partner/team",
        "{\"email\":\"new@people.test\",\"name\":\"New\",\"accessLevel\":\"support\"}",
        partner_owners(202),
    ),
    // The stranger works for nobody.
    (
        "PATCH",
        "/partner/team/{id}",
        "{\"accessLevel\":\"support\"}",
        partner_owners(404),
    ),
    ("DELETE", "/partner/team/{id}", "", partner_owners(404)),
    ("POST", "/partner/team/refresh", "", managing_staff(202)),
    ("GET", "/partners/{slug}/team", "", operators(200)),
    (
        "POST",
        "/partners/{slug}/team",
        "{\"email\":\"new@people.test\",\"name\":\"New\",\"accessLevel\":\"owner\"}",
        operators(202),
    ),
    ("POST", "/invitations/{id}/link", "", signed_in(404)),
    ("GET", "/audit", "", operators(200)),
    ("GET", "/audit/verify", "", operators(200)),
    ("GET", "/tenants/{slug}/audit", "", inspectors(200)),
    ("GET", "/tenants/{slug}/audit/verify", "", inspectors(200)),
    ("GET", "/infrastructure", "", operators(200)),
    ("GET", "/flags", "", operators(200)),
    (
        "POST",
        "/flags",
        "{\"key\":\"beta_search\",\"description\":\"A new search.\"}",
        operators(201),
    ),
    ("GET", "/flags/{key}", "", operators(200)),
    (
        "PATCH",
        "/flags/{key}",
        "{\"killSwitch\":true}",
        operators(200),
    ),
    ("DELETE", "/flags/{key}", "", operators(200)),
    (
        "POST",
        "/flags/evaluate",
        "{\"tenantSlug\":\"demo\"}",
        readers(200),
    ),
];

/// Those rows of the table that find all as it is wanted, or only look: nothing is recorded of them.
const CHANGE_NOTHING: &[(&str, &str, &str)] = &[
    ("PATCH", "/users/{id}", "{}"),
    ("POST", "/tenants/{slug}/resume", ""),
    ("POST", "/partner/tenants/{slug}/resume", ""),
    ("POST", "/flags/evaluate", "{\"tenantSlug\":\"demo\"}"),
];

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
