//! Creating, reading and editing tenants.

use bson::doc;
use dezky_shared::{
    queue::args::ReconcileTenant,
    tenant::{PerUpstream, ProvisioningState},
};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::{TestApp, id_of};
use crate::client::{Reply, sorted_summaries};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn edit(app: &TestApp, body: Value) -> Reply {
    app.operator().patch("/tenants/demo", &body).await
}

#[tokio::test]
async fn a_new_tenant_is_fresh_for_the_job_that_is_enqueued_with_it() {
    let app = TestApp::with_operator().await;

    let reply = app.create("acme").await;

    let job = id_of(&reply.body["job"]["id"]);
    let tenant = app.tenant("acme").await;
    assert_eq!(tenant.fresh_for, PerUpstream::all(Some(job)));
    assert!(
        !tenant.ocis_space_absent,
        "a worker of an older build searches"
    );
}

#[tokio::test]
async fn creating_a_tenant_returns_its_provisioning_job() {
    let app = TestApp::with_operator().await;

    let body = json!({
        "slug": "acme", "name": " Acme A/S ", "plan": "business", "domains": ["Acme.TEST."],
        "industry": "anvils", "brandColor": "#AABBCC", "owner": { "email": "Ada@Acme.test", "name": "Ada" },
    });

    let reply = app
        .operator()
        .post("/tenants", body)
        .header("x-request-id", "create-acme")
        .header("traceparent", TRACEPARENT)
        .await;

    assert_eq!(reply.status, 202);
    assert_eq!(reply.header("x-request-id"), Some("create-acme"));
    assert_eq!(reply.etag(), "\"1.1\"");
    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".job.id" => "[id]", ".job.href" => "[href]", ".createdAt" => "[time]", ".updatedAt" => "[time]",
        ".conditions[].lastTransitionAt" => "[time]", ".conditions[].nextAttemptAt" => "[time]",
        ".conditions[].message" => "[text]",
    }, @r##"
    {
      "billingInfo": {},
      "brandColor": "#aabbcc",
      "branding": {},
      "conditions": [
        {
          "lastTransitionAt": "[time]",
          "message": "[text]",
          "nextAttemptAt": "[time]",
          "observedGeneration": 1,
          "reason": "Pending",
          "status": "unknown",
          "type": "AuthentikReady"
        },
        {
          "lastTransitionAt": "[time]",
          "message": "[text]",
          "nextAttemptAt": "[time]",
          "observedGeneration": 1,
          "reason": "Pending",
          "status": "unknown",
          "type": "StalwartReady"
        },
        {
          "lastTransitionAt": "[time]",
          "message": "[text]",
          "nextAttemptAt": "[time]",
          "observedGeneration": 1,
          "reason": "Pending",
          "status": "unknown",
          "type": "OcisReady"
        }
      ],
      "createdAt": "[time]",
      "domains": [
        "acme.test"
      ],
      "generation": 1,
      "id": "[id]",
      "industry": "anvils",
      "job": {
        "href": "[href]",
        "id": "[id]",
        "state": "available"
      },
      "name": "Acme A/S",
      "owner": {
        "email": "ada@acme.test",
        "name": "Ada"
      },
      "plan": "business",
      "primaryDomain": "acme.test",
      "provisioningErrors": {},
      "provisioningStatus": {
        "authentik": "pending",
        "ocis": "pending",
        "stalwart": "pending"
      },
      "revision": 1,
      "securityPolicy": {
        "allowedCountries": [],
        "enforcement": {
          "allowedCountries": "planned",
          "ipAllowlist": "planned",
          "mfaMode": "planned",
          "sessionAbsoluteMinutes": "planned",
          "sessionIdleMinutes": "planned"
        },
        "ipAllowlist": [],
        "mfaMode": "optional"
      },
      "slug": "acme",
      "status": "pending",
      "updatedAt": "[time]"
    }
    "##);
    let jobs = app.jobs().await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].kind, "provision_tenant");
    assert_eq!(
        reply.header("location").unwrap(),
        format!("/jobs/{}", jobs[0].id)
    );
    assert_eq!(jobs[0].request_id.as_deref(), Some("create-acme"));
    assert_eq!(jobs[0].traceparent.as_deref(), Some(TRACEPARENT));
    assert_eq!(app.actions().await, ["user.create", "tenant.create"]);
    app.hints_published().await;
    assert_eq!(
        app.state
            .hints
            .ready
            .len(jobs[0].queue, jobs[0].priority)
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn get_returns_the_same_representation_as_the_write() {
    let app = TestApp::with_operator().await;
    let mut created = app.create("acme").await.body;

    let shown = app.operator().get("/tenants/acme").await.body;

    created.as_object_mut().unwrap().remove("job");
    assert_eq!(created, shown);
}

#[tokio::test]
async fn slugs_and_domains_are_unique() {
    let app = TestApp::with_demo().await;

    let slug = app.create("demo").await;
    let domain = app
        .operator()
        .post(
            "/tenants",
            json!({ "slug": "acme", "name": "Acme", "domains": ["demo.test"] }),
        )
        .await;
    app.create("globex").await;
    let edited = edit(&app, json!({ "domains": ["globex.test"] })).await;

    assert_eq!(slug.summary(), "409 slug_taken");
    assert_eq!(domain.summary(), "409 domain_taken");
    assert_eq!(edited.summary(), "409 domain_taken");
    assert_eq!(app.count("tenants").await, 2);
    assert_eq!(app.count("jobs").await, 2);
}

#[tokio::test]
async fn concurrent_creations_with_one_slug_have_one_winner() {
    let app = TestApp::with_operator().await;

    let replies = join_all((0..8).map(|_| app.create("acme"))).await;

    let found = sorted_summaries(&replies);
    assert_eq!(found[0], "202");
    assert!(
        found[1..].iter().all(|summary| summary == "409 slug_taken"),
        "{found:?}"
    );
    assert_eq!(
        (app.count("tenants").await, app.count("jobs").await),
        (1, 1)
    );
}

#[tokio::test]
async fn an_edit_reprovisions_only_the_affected_upstreams() {
    let none: [&str; 0] = [];
    for (body, pending) in [
        (json!({ "name": "New" }), vec!["ocis"]),
        (json!({ "plan": "enterprise" }), vec!["ocis"]),
        (json!({ "domains": ["new.test"] }), vec!["stalwart"]),
        (
            json!({ "domains": ["new.test"], "name": "New" }),
            vec!["stalwart", "ocis"],
        ),
        (
            json!({ "industry": "x", "brandColor": "#000000" }),
            none.to_vec(),
        ),
    ] {
        let app = TestApp::with_demo().await;
        app.set_tenant("demo", doc! { "status": "active", "provisioningStatus": { "authentik": "ok", "stalwart": "ok", "ocis": "ok" } }).await;

        let reply = edit(&app, body.clone()).await;

        assert_eq!(
            reply.status,
            if pending.is_empty() { 200 } else { 202 },
            "{body}"
        );
        assert_eq!(reply.body["generation"], 2, "{body}");
        assert_eq!(reply.body["status"], "active");
        for upstream in ["authentik", "stalwart", "ocis"] {
            let expected = if pending.contains(&upstream) {
                "pending"
            } else {
                "ok"
            };
            assert_eq!(
                reply.body["provisioningStatus"][upstream], expected,
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn an_edit_without_changes_keeps_the_generation() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;

    let reply = edit(
        &app,
        json!({ "name": "Demo", "plan": "business", "domains": ["DEMO.test"], "industry": null }),
    )
    .await;
    let empty = edit(&app, json!({})).await;

    assert_eq!((reply.status.as_u16(), empty.status.as_u16()), (200, 200));
    assert_eq!(app.tenant("demo").await, before);
    assert_eq!(
        reply.etag(),
        format!("\"{}.{}\"", before.generation, before.revision)
    );
}

#[tokio::test]
async fn null_clears_a_field_and_omission_keeps_it() {
    let app = TestApp::with_demo().await;
    let partner = app.insert_partner("nordic", "active").await;
    edit(
        &app,
        json!({ "industry": "x", "brandColor": "#000000", "partnerId": partner }),
    )
    .await;

    edit(&app, json!({ "partnerId": null, "industry": null })).await;

    let tenant = app.tenant("demo").await;
    assert_eq!((tenant.partner_id, tenant.industry), (None, None));
    assert_eq!(tenant.brand_color.as_deref(), Some("#000000"));
}

#[tokio::test]
async fn removed_domains_are_tracked_until_they_are_added_again() {
    let app = TestApp::with_demo().await;

    edit(&app, json!({ "domains": ["two.test"] })).await;
    let removed = app.tenant("demo").await.former_domains;
    edit(&app, json!({ "domains": ["demo.test"] })).await;
    let swapped = app.tenant("demo").await.former_domains;

    assert_eq!(removed, ["demo.test"]);
    assert_eq!(swapped, ["two.test"]);
}

#[tokio::test]
async fn if_match_compares_only_the_generation_of_a_tenant() {
    let app = TestApp::with_demo().await;
    let etag = app.operator().get("/tenants/demo").await.etag().to_owned();
    let edit = |etag: &str, name: &str| {
        let body = json!({ "name": name });
        app.operator().patch("/tenants/demo", body).if_match(etag)
    };
    // Progress of a step changes the revision, not the generation.
    app.set_tenant("demo", doc! { "authentikGroupId": "g" })
        .await;

    let progressed = edit(&etag, "One").await;
    let edited = edit(&etag, "Two").await;

    assert_eq!(progressed.status, 202);
    assert_eq!(edited.summary(), "412 precondition_failed");
    assert_eq!(app.tenant("demo").await.name, "One");
}

#[tokio::test]
async fn if_none_match_compares_the_whole_version() {
    let app = TestApp::with_demo().await;
    let show = |etag: &str| app.member().get("/tenants/demo").if_none_match(etag);
    let etag = show("\"0.0\"").await.etag().to_owned();

    let same = show(&etag).await;
    app.set_tenant("demo", doc! { "authentikGroupId": "g" })
        .await;
    let progressed = show(&etag).await;

    assert_eq!(
        (same.status.as_u16(), same.etag(), &same.body),
        (304, etag.as_str(), &Value::Null)
    );
    assert_eq!(progressed.status, 200);
}

#[tokio::test]
async fn a_reconcile_changes_nothing_about_the_tenant() {
    let app = TestApp::with_demo().await;
    app.set_tenant(
        "demo",
        doc! { "provisioningStatus": { "authentik": "ok", "stalwart": "ok", "ocis": "ok" } },
    )
    .await;
    let before = app.tenant("demo").await;

    for (path, body) in [
        ("", json!({})),
        ("?dryRun=true", json!({})),
        ("", json!({ "dryRun": true })),
    ] {
        let path = format!("/tenants/demo/reconcile{path}");
        let reply = app.owner().post(&path, &body).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    }

    assert_eq!(app.tenant("demo").await, before);
    assert_eq!(
        before.provisioning_status,
        PerUpstream::all(ProvisioningState::Ok)
    );
    let args = app
        .jobs()
        .await
        .into_iter()
        .skip(1)
        .map(|job| job.args::<ReconcileTenant>().unwrap().dry_run);
    assert_eq!(args.collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test]
async fn identical_pending_requests_share_one_job() {
    let app = TestApp::with_demo().await;

    let first = edit(&app, json!({ "name": "One" })).await;
    let second = edit(&app, json!({ "name": "Two" })).await;

    assert_eq!(first.body["job"]["id"], second.body["job"]["id"]);
    assert_eq!(app.count("jobs").await, 1);
}

#[tokio::test]
async fn an_audit_event_records_the_change_and_the_actor() {
    let app = TestApp::with_demo().await;

    app.owner()
        .patch("/tenants/demo", json!({ "name": "New" }))
        .header("user-agent", "portal/1")
        .header("x-request-id", "rename")
        .await;

    let event = app.audit_event("tenant.update").await;
    let event: Value = bson::deserialize_from_document(event).unwrap();
    assert_eq!(event["before"], json!({ "name": "Demo", "generation": 1 }));
    assert_eq!(event["after"], json!({ "name": "New", "generation": 2 }));
    assert_eq!(event["actor"]["kind"], "tenant");
    assert_eq!(event["actor"]["audience"], json!(["dezky-portal"]));
    assert_eq!(
        (&event["requestId"], &event["userAgent"]),
        (&json!("rename"), &json!("portal/1"))
    );
    assert_eq!(event["sealed"], false);
}

#[tokio::test]
async fn tenant_lists_are_paginated_and_cursors_are_bound_to_their_filters() {
    let app = TestApp::with_operator().await;
    for n in 0..5 {
        app.create(&format!("acme-{n}")).await;
    }
    let list = |query: String| app.operator().get(format!("/tenants?{query}"));

    let first = list("limit=2&plan=business".into()).await.body;
    let cursor = first["nextCursor"].as_str().unwrap().to_owned();
    let second = list(format!("limit=3&plan=business&cursor={cursor}"))
        .await
        .body;
    let foreign = list(format!("limit=3&plan=starter&cursor={cursor}")).await;
    let malformed = list("cursor=malformed".into()).await;

    let slugs = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| item["slug"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(slugs(&first), ["acme-0", "acme-1"]);
    assert_eq!(slugs(&second), ["acme-2", "acme-3", "acme-4"]);
    assert_eq!(second["nextCursor"], Value::Null);
    assert_eq!(foreign.summary(), "400 invalid_cursor");
    assert_eq!(malformed.summary(), "400 invalid_cursor");
}

#[tokio::test]
async fn requests_beyond_the_queue_limit_of_a_tenant_are_rejected() {
    let app = TestApp::with_demo().await;
    let guard = app.state.locks.lock("demo").await.unwrap();
    let edits = join_all((0..72).map(|n| edit(&app, json!({ "name": format!("N{n}") }))));
    let release = async {
        // Rejections are sent while the other requests are still queued.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        drop(guard);
    };

    let (replies, ()) = tokio::join!(edits, release);

    let rejected: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert_eq!(rejected.len(), 8);
    assert_eq!(rejected[0].code(), "too_many_requests");
    assert!(rejected[0].header("retry-after").is_some());
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == 429 || reply.status == 202)
    );
}
