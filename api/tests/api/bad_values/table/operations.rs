//! Bodies about flags, bulk job operations and pauses.

use serde_json::json;

use super::{Row, by_operator, patch, post};

pub(super) fn flags() -> Vec<Row> {
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

pub(super) fn job_operations() -> Vec<Row> {
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

pub(super) fn pauses() -> Vec<Row> {
    let routes = ["/queues/{name}/pause", "/upstreams/{name}/pause"];
    let row = |route| {
        let body = json!({ "reason": "", "until": "tomorrow" });
        by_operator(post(route), body, &["/reason", "/until"])
    };
    routes.map(row).into()
}
