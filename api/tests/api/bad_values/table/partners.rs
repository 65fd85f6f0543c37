//! Bodies about partners and their teams.

use serde_json::json;

use super::{Row, by_operator, by_partner, patch, post, put};

/// A VAT id is validated against its country, and not reported beside an invalid country.
const COUNTRY: &[&str] = &["/billingInfo/country"];

/// A row with these fields and their pointers, and with invalid contact, billing and support fields.
macro_rules! settings_row {
    ($by:ident, $route:expr, { $($own:tt)* }, [$($invalid:literal),*]) => {
        $by(
            $route,
            json!({
                $($own)*,
                "contactInfo": { "name": "", "email": "ada", "phone": "112" },
                "billingInfo": { "company": "", "vatId": "DK1", "country": "DK", "email": "ada" },
                "supportEmail": "a@b", "supportUrl": "http://a.test", "defaultPlan": "gold",
            }),
            &[
                $($invalid,)*
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
        )
    };
}

pub(super) fn rows() -> Vec<Row> {
    let country = json!({ "billingInfo": { "country": "XX" } });
    let new = json!({ "slug": "acme", "name": "Acme", "billingInfo": { "country": "XX" } });
    vec![
        by_operator(post("/partners"), new, COUNTRY),
        by_operator(patch("/partners/{slug}"), country, COUNTRY),
        settings_row!(
            by_operator, post("/partners"),
            { "slug": "WWW", "name": " ", "domain": "localhost", "marginPct": 12.345 },
            ["/slug", "/name", "/domain", "/marginPct"]
        ),
        settings_row!(
            by_operator, patch("/partners/{slug}"),
            { "name": " ", "domain": "localhost", "status": "terminated", "marginPct": 100.01 },
            ["/name", "/domain", "/status", "/marginPct"]
        ),
        by_operator(
            post("/partners/{slug}/team"),
            json!({ "email": "ada", "name": "", "accessLevel": "boss" }),
            &["/email", "/name", "/accessLevel"],
        ),
    ]
}

pub(super) fn own_partner() -> Vec<Row> {
    let country = json!({ "billingInfo": { "country": "XX" } });
    vec![
        settings_row!(
            by_partner, patch("/partner/settings"),
            { "name": " ", "domain": "localhost", "status": "terminated", "marginPct": -1 },
            ["/name", "/domain", "/status", "/marginPct"]
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
