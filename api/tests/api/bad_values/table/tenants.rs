//! Bodies about tenants, their settings and apps.

use serde_json::json;

use super::{Row, by_operator, patch, post, put};

pub(super) fn rows() -> Vec<Row> {
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

pub(super) fn apps(collection: &'static str, app: &'static str) -> Vec<Row> {
    vec![
        by_operator(
            post(collection),
            json!({
                "name": "", "slug": "Wiki", "redirectUris": ["http://wiki.test/cb", "https://wiki.test/#a"],
                "clientType": "secret", "scopes": ["groups"], "accessTokenMinutes": 0, "launchUrl": "wiki",
                "logoUrl": "http://wiki.test/logo.svg",
            }),
            &[
                "/name",
                "/slug",
                "/redirectUris/0",
                "/redirectUris/1",
                "/clientType",
                "/scopes/0",
                "/accessTokenMinutes",
                "/launchUrl",
                "/logoUrl",
            ],
        ),
        by_operator(
            patch(app),
            json!({
                "name": " ", "redirectUris": [], "scopes": ["openid", "openid"], "accessTokenMinutes": 61,
                "launchUrl": "javascript:alert(1)", "logoUrl": "https://10.0.0.1/logo.svg",
            }),
            &[
                "/name",
                "/redirectUris",
                "/scopes/1",
                "/accessTokenMinutes",
                "/launchUrl",
                "/logoUrl",
            ],
        ),
    ]
}

pub(super) fn tenant_settings() -> Vec<Row> {
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
