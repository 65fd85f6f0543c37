//! For each route with a body, a request in which every field is invalid.

use http::Method;
use serde_json::{Value, json};

use super::Row;
use crate::personas::Persona;

/// A VAT id is validated against its country, and not reported beside an invalid country.
const COUNTRY: &[&str] = &["/billingInfo/country"];

pub(super) fn rows() -> Vec<Row> {
    let all = [
        tenants(),
        tenant_settings(),
        people(),
        money(),
        partners(),
        own_partner(),
        flags(),
        job_operations(),
    ];
    all.into_iter().flatten().collect()
}

fn row(
    persona: Persona,
    (method, route): (Method, &'static str),
    body: Value,
    invalid: &'static [&'static str],
) -> Row {
    Row {
        persona,
        method,
        route,
        body,
        invalid,
    }
}

fn by_operator(
    route: (Method, &'static str),
    body: Value,
    invalid: &'static [&'static str],
) -> Row {
    row(Persona::Operator, route, body, invalid)
}

fn by_partner(route: (Method, &'static str), body: Value, invalid: &'static [&'static str]) -> Row {
    row(Persona::PartnerOwner, route, body, invalid)
}

const fn post(route: &'static str) -> (Method, &'static str) {
    (Method::POST, route)
}

const fn put(route: &'static str) -> (Method, &'static str) {
    (Method::PUT, route)
}

const fn patch(route: &'static str) -> (Method, &'static str) {
    (Method::PATCH, route)
}

fn tenants() -> Vec<Row> {
    vec![
        by_operator(
            post("/tenants"),
            json!({
                "slug": "WWW", "name": " ", "plan": "gold", "domains": ["a.test", "A.test", "*.b.test"],
                "partnerId": "7", "industry": "x".repeat(121), "brandColor": "red",
                "owner": { "email": "ada", "name": "" },
            }),
            &[
                "/slug",
                "/name",
                "/plan",
                "/domains/1",
                "/domains/2",
                "/partnerId",
                "/industry",
                "/brandColor",
                "/owner/email",
                "/owner/name",
            ],
        ),
        by_operator(
            patch("/tenants/{slug}"),
            json!({
                "name": "a\nb", "plan": "", "domains": ["localhost"], "partnerId": "", "industry": "\u{202e}",
                "brandColor": "#fff",
            }),
            &[
                "/name",
                "/plan",
                "/domains/0",
                "/partnerId",
                "/industry",
                "/brandColor",
            ],
        ),
        by_operator(
            post("/tenants/{slug}/domains"),
            json!({ "name": "a..test", "dmarc": { "policy": "strict", "rua": "mailto:a@b.test" } }),
            &["/name", "/dmarc/policy", "/dmarc/rua"],
        ),
        by_operator(
            patch("/tenants/{slug}/domains/{domain}"),
            json!({ "dmarc": { "policy": "None", "rua": "a@b" } }),
            &["/dmarc/policy", "/dmarc/rua"],
        ),
    ]
}

fn tenant_settings() -> Vec<Row> {
    vec![
        by_operator(
            patch("/tenants/{slug}/billing-info"),
            json!({ "company": "", "vatId": "DK1", "country": "DK", "email": "ada" }),
            &["/company", "/vatId", "/email"],
        ),
        by_operator(
            patch("/tenants/{slug}/billing-info"),
            json!({ "country": "XX" }),
            &["/country"],
        ),
        by_operator(
            put("/tenants/{slug}/branding"),
            json!({
                "productName": "", "accentColor": "red", "logoUrl": "http://a.test/l.png",
                "emailTemplates": {
                    "invite": { "subject": "{{unknown}}", "body": "" },
                    "welcome": { "subject": "", "body": "{{name" },
                    "recovery": { "subject": "a\nb", "body": "{{unknown}}" },
                },
            }),
            &[
                "/productName",
                "/accentColor",
                "/logoUrl",
                "/emailTemplates/invite/subject",
                "/emailTemplates/invite/body",
                "/emailTemplates/welcome/subject",
                "/emailTemplates/welcome/body",
                "/emailTemplates/recovery/subject",
                "/emailTemplates/recovery/body",
            ],
        ),
        by_operator(
            patch("/tenants/{slug}/security-policy"),
            json!({
                "mfaMode": "maybe", "sessionIdleMinutes": 0, "sessionAbsoluteMinutes": 43_201,
                "allowedCountries": ["XX"], "ipAllowlist": ["10.0.0.1/8", "::1/129"],
            }),
            &[
                "/mfaMode",
                "/sessionIdleMinutes",
                "/sessionAbsoluteMinutes",
                "/allowedCountries/0",
                "/ipAllowlist/0",
                "/ipAllowlist/1",
            ],
        ),
    ]
}

fn people() -> Vec<Row> {
    vec![
        by_operator(
            post("/users"),
            json!({
                "authentikSubjectId": "7", "email": "ada", "name": "", "tenantRoles": { "demo": "boss" },
                "partnerId": "7", "partnerRole": "boss",
            }),
            &[
                "/authentikSubjectId",
                "/email",
                "/name",
                "/tenantRoles/demo",
                "/partnerId",
                "/partnerRole",
            ],
        ),
        by_operator(
            patch("/users/{id}"),
            json!({
                "email": "a@b", "name": "\u{202e}", "tenantRoles": { "demo": "boss", "a/b": "OWNER" },
                "partnerId": "nordic", "partnerRole": "Owner",
            }),
            &[
                "/email",
                "/name",
                "/tenantRoles/demo",
                "/tenantRoles/a~1b",
                "/partnerId",
                "/partnerRole",
            ],
        ),
        by_operator(
            patch("/tenants/{slug}/users/{id}"),
            json!({ "role": "boss" }),
            &["/role"],
        ),
    ]
}

fn money() -> Vec<Row> {
    vec![
        by_operator(
            post("/subscriptions"),
            json!({
                "tenant": "a", "plan": "gold", "cycle": "weekly", "seats": 0, "currency": "kr", "priceMinor": -1,
                "startedAt": "yesterday", "renewsAt": "2026-13-01T00:00:00Z",
            }),
            &[
                "/tenant",
                "/plan",
                "/cycle",
                "/seats",
                "/currency",
                "/priceMinor",
                "/startedAt",
                "/renewsAt",
            ],
        ),
        by_operator(
            patch("/subscriptions/{id}"),
            json!({
                "plan": "", "cycle": "", "seats": 100_001, "currency": "dkk", "priceMinor": 1_000_000_000_001_i64,
                "status": "cancelled", "startedAt": "", "renewsAt": "never",
            }),
            &[
                "/plan",
                "/cycle",
                "/seats",
                "/currency",
                "/priceMinor",
                "/status",
                "/startedAt",
                "/renewsAt",
            ],
        ),
        by_operator(
            post("/prices"),
            json!({
                "plan": "gold", "cycle": "daily", "currency": "EURO", "amountMinor": -1, "stripePriceId": "prod_1",
            }),
            &[
                "/plan",
                "/cycle",
                "/currency",
                "/amountMinor",
                "/stripePriceId",
            ],
        ),
        by_operator(
            patch("/prices/{id}"),
            json!({ "amountMinor": -1, "stripePriceId": "" }),
            &["/amountMinor", "/stripePriceId"],
        ),
    ]
}

fn partners() -> Vec<Row> {
    let country = json!({ "billingInfo": { "country": "XX" } });
    let new = json!({ "slug": "acme", "name": "Acme", "billingInfo": { "country": "XX" } });
    vec![
        by_operator(post("/partners"), new, COUNTRY),
        by_operator(patch("/partners/{slug}"), country, COUNTRY),
        by_operator(
            post("/partners"),
            json!({
                "slug": "WWW", "name": " ", "domain": "localhost", "marginPct": 12.345,
                "contactInfo": { "name": "", "email": "ada", "phone": "112" },
                "billingInfo": { "company": "", "vatId": "DK1", "country": "DK", "email": "ada" },
                "supportEmail": "a@b", "supportUrl": "http://a.test", "defaultPlan": "gold",
            }),
            &[
                "/slug",
                "/name",
                "/domain",
                "/marginPct",
                "/contactInfo/name",
                "/contactInfo/email",
                "/contactInfo/phone",
                "/billingInfo/company",
                "/billingInfo/vatId",
                "/billingInfo/email",
                "/supportEmail",
                "/supportUrl",
                "/defaultPlan",
            ],
        ),
        by_operator(
            patch("/partners/{slug}"),
            json!({
                "name": " ", "domain": "localhost", "status": "terminated", "marginPct": 100.01,
                "contactInfo": { "name": "", "email": "ada", "phone": "112" },
                "billingInfo": { "company": "", "vatId": "DK1", "country": "DK", "email": "ada" },
                "supportEmail": "a@b", "supportUrl": "http://a.test", "defaultPlan": "gold",
            }),
            &[
                "/name",
                "/domain",
                "/status",
                "/marginPct",
                "/contactInfo/name",
                "/contactInfo/email",
                "/contactInfo/phone",
                "/billingInfo/company",
                "/billingInfo/vatId",
                "/billingInfo/email",
                "/supportEmail",
                "/supportUrl",
                "/defaultPlan",
            ],
        ),
        by_operator(
            post("/partners/{slug}/team"),
            json!({ "email": "ada", "name": "", "accessLevel": "boss" }),
            &["/email", "/name", "/accessLevel"],
        ),
    ]
}

fn own_partner() -> Vec<Row> {
    let country = json!({ "billingInfo": { "country": "XX" } });
    vec![
        by_partner(
            patch("/partner/settings"),
            json!({
                "name": " ", "domain": "localhost", "status": "terminated", "marginPct": -1,
                "contactInfo": { "name": "", "email": "ada", "phone": "112" },
                "billingInfo": { "company": "", "vatId": "DK1", "country": "DK", "email": "ada" },
                "supportEmail": "a@b", "supportUrl": "http://a.test", "defaultPlan": "gold",
            }),
            &[
                "/name",
                "/domain",
                "/status",
                "/marginPct",
                "/contactInfo/name",
                "/contactInfo/email",
                "/contactInfo/phone",
                "/billingInfo/company",
                "/billingInfo/vatId",
                "/billingInfo/email",
                "/supportEmail",
                "/supportUrl",
                "/defaultPlan",
            ],
        ),
        by_partner(patch("/partner/settings"), country, COUNTRY),
        by_partner(
            put("/partner/branding"),
            json!({ "productName": "", "accentColor": "red", "logoUrl": "http://a.test/logo.png" }),
            &["/productName", "/accentColor", "/logoUrl"],
        ),
        by_partner(
            post("/partner/tenants"),
            json!({
                "slug": "WWW", "name": "", "plan": "gold", "industry": "", "brandColor": "red",
                "owner": { "email": "ada", "name": "" },
            }),
            &[
                "/slug",
                "/name",
                "/plan",
                "/industry",
                "/brandColor",
                "/owner/email",
                "/owner/name",
            ],
        ),
        by_partner(
            patch("/partner/tenants/{slug}"),
            json!({
                "name": "a\nb", "plan": "", "domains": ["localhost"], "partnerId": "", "industry": "\u{202e}",
                "brandColor": "#fff",
            }),
            &[
                "/name",
                "/plan",
                "/domains/0",
                "/partnerId",
                "/industry",
                "/brandColor",
            ],
        ),
        by_partner(
            post("/partner/team"),
            json!({ "email": "ada", "name": "", "accessLevel": "boss" }),
            &["/email", "/name", "/accessLevel"],
        ),
        by_partner(
            patch("/partner/team/{id}"),
            json!({ "accessLevel": "boss" }),
            &["/accessLevel"],
        ),
    ]
}

fn flags() -> Vec<Row> {
    let rules = json!([{
        "tenants": ["demo"], "partners": ["nordic"], "plans": ["gold"], "percentage": 101, "from": "yesterday",
        "until": "", "value": true,
    }]);
    let unknown = json!([{ "tenants": ["unknown"], "partners": ["unknown"], "value": true }]);
    vec![
        by_operator(
            post("/flags"),
            json!({ "key": "New-Flag", "description": "", "rules": rules }),
            &[
                "/key",
                "/description",
                "/rules/0/plans/0",
                "/rules/0/percentage",
                "/rules/0/from",
                "/rules/0/until",
            ],
        ),
        by_operator(
            patch("/flags/{key}"),
            json!({ "description": "", "rules": rules }),
            &[
                "/description",
                "/rules/0/plans/0",
                "/rules/0/percentage",
                "/rules/0/from",
                "/rules/0/until",
            ],
        ),
        by_operator(
            post("/flags"),
            json!({ "key": "a_flag", "description": "New", "rules": unknown }),
            &["/rules/0/tenants/0", "/rules/0/partners/0"],
        ),
        by_operator(
            patch("/flags/{key}"),
            json!({ "rules": unknown }),
            &["/rules/0/tenants/0", "/rules/0/partners/0"],
        ),
    ]
}

fn job_operations() -> Vec<Row> {
    vec![by_operator(
        post("/job-operations"),
        json!({
            "action": "delete", "rate": 0,
            "filter": {
                "state": "failed", "kind": "", "queue": "mail", "tenantId": "demo", "errorCode": "odd",
                "errorClass": "odd", "createdAfter": "yesterday", "createdBefore": "2026-13-01T00:00:00Z",
            },
        }),
        &[
            "/action",
            "/filter/state",
            "/filter/kind",
            "/filter/queue",
            "/filter/tenantId",
            "/filter/errorCode",
            "/filter/errorClass",
            "/filter/createdAfter",
            "/filter/createdBefore",
            "/rate",
        ],
    )]
}
