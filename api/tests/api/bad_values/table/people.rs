//! Bodies about users, members and their passwords.

use serde_json::json;

use super::{Row, by_operator, patch, post};

pub(super) fn rows() -> Vec<Row> {
    vec![
        by_operator(
            post("/users"),
            json!({
                "authentikSubjectId": "7", "email": "ada", "name": "", "tenantRoles": { "demo": "boss" },
                "partnerId": "7", "partnerRole": "boss", "platformRole": "boss",
            }),
            &[
                "/authentikSubjectId",
                "/email",
                "/name",
                "/tenantRoles/demo",
                "/partnerId",
                "/partnerRole",
                "/platformRole",
            ],
        ),
        by_operator(
            patch("/users/{id}"),
            json!({
                "email": "a@b", "name": "\u{202e}", "tenantRoles": { "demo": "boss", "a/b": "OWNER" },
                "partnerId": "nordic", "partnerRole": "Owner", "platformRole": "boss",
            }),
            &[
                "/email",
                "/name",
                "/tenantRoles/demo",
                "/tenantRoles/a~1b",
                "/partnerId",
                "/partnerRole",
                "/platformRole",
            ],
        ),
        by_operator(
            patch("/tenants/{slug}/users/{id}"),
            json!({
                "name": "\u{202e}", "role": "boss", "aliases": ["a..b"], "mailboxQuotaBytes": 1,
            }),
            &["/name", "/role", "/aliases/0", "/mailboxQuotaBytes"],
        ),
        by_operator(
            post("/tenants/{slug}/users"),
            json!({
                "email": "ada", "localPart": "\"a\"", "name": "", "role": "boss", "aliases": ["ä"],
                "mailboxQuotaBytes": 0, "password": "hunter2",
            }),
            &[
                "/email",
                "/localPart",
                "/name",
                "/role",
                "/aliases/0",
                "/mailboxQuotaBytes",
                "/password",
            ],
        ),
    ]
}
