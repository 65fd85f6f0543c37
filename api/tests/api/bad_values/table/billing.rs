//! Bodies about prices, subscriptions, invoices, payouts and reports.

use serde_json::json;

use super::{Row, by_operator, by_partner, patch, post, put};

pub(super) fn rows() -> Vec<Row> {
    vec![
        by_operator(
            patch("/allowances/{plan}"),
            json!({ "filesBytes": -1, "mailboxBytes": -1, "memberFilesBytes": -1, "seats": 0, "apps": 0, "domains": 100_001 }),
            &[
                "/filesBytes",
                "/mailboxBytes",
                "/memberFilesBytes",
                "/seats",
                "/apps",
                "/domains",
            ],
        ),
        by_operator(
            post("/subscriptions"),
            json!({
                "tenant": "a", "plan": "gold", "cycle": "weekly", "seats": 0, "currency": "kr", "priceMinor": -1,
                "collectionMethod": "cash", "startedAt": "yesterday", "renewsAt": "2026-13-01T00:00:00Z",
            }),
            &[
                "/tenant",
                "/plan",
                "/cycle",
                "/seats",
                "/currency",
                "/priceMinor",
                "/collectionMethod",
                "/startedAt",
                "/renewsAt",
            ],
        ),
        by_operator(
            patch("/subscriptions/{id}"),
            json!({
                "plan": "", "cycle": "", "seats": 100_001, "currency": "dkk", "priceMinor": 1_000_000_000_001_i64,
                "status": "cancelled", "startedAt": "", "renewsAt": "never", "collectionMethod": "",
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
                "/collectionMethod",
            ],
        ),
        by_operator(
            post("/tenants/{slug}/billing/invoice"),
            json!({ "periods": 1_001, "skipTo": "tomorrow" }),
            &["/periods", "/skipTo"],
        ),
        by_operator(
            post("/tenants/{slug}/invoices"),
            json!({
                "lines": [{ "description": "", "amountMinor": 0 }, { "description": "a\nb", "amountMinor": i64::MAX }],
                "currency": "kr", "reason": " ", "corrects": "7",
            }),
            &[
                "/lines/0/description",
                "/lines/0/amountMinor",
                "/lines/1/description",
                "/lines/1/amountMinor",
                "/currency",
                "/reason",
                "/corrects",
            ],
        ),
        by_operator(
            post("/tenants/{slug}/invoices/{id}/void"),
            json!({ "reason": "" }),
            &["/reason"],
        ),
        by_operator(
            post("/tenants/{slug}/invoices/{id}/mark-paid"),
            json!({ "paidAt": "yesterday", "reference": "" }),
            &["/paidAt", "/reference"],
        ),
        by_operator(
            post("/partners/{slug}/ledger"),
            json!({ "currency": "kr", "amountMinor": 0, "reason": "" }),
            &["/currency", "/amountMinor", "/reason"],
        ),
        by_operator(
            post("/reports/saved"),
            json!({
                "name": "", "report": "profit", "last": 37, "from": "2026-13", "to": "now", "currency": "kr", "plan": "gold",
                "groupBy": "moon", "sort": "--paid", "limit": 0,
            }),
            &[
                "/name",
                "/report",
                "/last",
                "/from",
                "/to",
                "/currency",
                "/plan",
                "/groupBy",
                "/sort",
                "/limit",
            ],
        ),
        by_partner(
            post("/partner/reports/saved"),
            json!({
                "name": "", "report": "profit", "last": 37, "from": "2026-13", "to": "now", "currency": "kr", "plan": "gold",
                "groupBy": "moon", "sort": "--paid", "limit": 0,
            }),
            &[
                "/name",
                "/report",
                "/last",
                "/from",
                "/to",
                "/currency",
                "/plan",
                "/groupBy",
                "/sort",
                "/limit",
            ],
        ),
        by_operator(
            post("/payouts"),
            json!({ "partner": "WWW", "currency": "kr", "month": "2026-13" }),
            &["/partner", "/currency", "/month"],
        ),
        by_operator(
            put("/tenants/{slug}/payment-method"),
            json!({ "setupIntentId": "pm_1" }),
            &["/setupIntentId"],
        ),
        by_operator(
            post("/payouts/{id}/mark-paid"),
            json!({ "paidAt": "yesterday", "reference": "" }),
            &["/paidAt", "/reference"],
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
