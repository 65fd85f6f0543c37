//! Creating, reading and editing tenants.

use bson::doc;
use dezky_shared::{
    queue::args::ReconcileTenant,
    tenant::{PerUpstream, ProvisioningState},
};
use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

async fn edit(app: &TestApp, body: Value) -> Reply {
    app.patch("/tenants/demo")
        .by(Caller::Operator)
        .json(&body)
        .send()
        .await
}

#[tokio::test]
async fn a_new_tenant_is_answered_with_the_job_that_brings_it_into_the_upstreams() {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;

    let reply = app
        .post("/tenants")
        .by(Caller::Operator)
        .header("x-request-id", "create-acme")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .json(&json!({
            "slug": "acme", "name": " Acme A/S ", "plan": "business", "domains": ["Acme.TEST."],
            "industry": "anvils", "brandColor": "#AABBCC", "owner": { "email": "Ada@Acme.test", "name": "Ada" },
        }))
        .send()
        .await;

    assert_eq!(reply.status, 202);
    assert_eq!(reply.header("x-request-id"), Some("create-acme"));
    assert_eq!(reply.etag(), "\"1.1\"");
    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".job.id" => "[id]", ".job.href" => "[href]", ".createdAt" => "[time]", ".updatedAt" => "[time]",
        ".conditions[].lastTransitionAt" => "[time]", ".conditions[].nextAttemptAt" => "[time]",
    }, @r##"
    {
      "billingInfo": {},
      "brandColor": "#aabbcc",
      "branding": {},
      "conditions": [
        {
          "lastTransitionAt": "[time]",
          "message": "Waiting to be carried out.",
          "nextAttemptAt": "[time]",
          "observedGeneration": 1,
          "reason": "Pending",
          "status": "unknown",
          "type": "AuthentikReady"
        },
        {
          "lastTransitionAt": "[time]",
          "message": "Waiting to be carried out.",
          "nextAttemptAt": "[time]",
          "observedGeneration": 1,
          "reason": "Pending",
          "status": "unknown",
          "type": "StalwartReady"
        },
        {
          "lastTransitionAt": "[time]",
          "message": "Waiting to be carried out.",
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
    assert_eq!(
        jobs[0].traceparent.as_deref(),
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    );
    assert_eq!(app.actions().await, ["user.create", "tenant.create"]);
    app.all_told().await;
    assert_eq!(app.state.ready.len(jobs[0].queue).await.unwrap(), 1);
}

#[tokio::test]
async fn what_get_shows_is_what_the_answer_showed() {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;
    let mut created = app.create("acme").await.body;

    let shown = app
        .get("/tenants/acme")
        .by(Caller::Operator)
        .send()
        .await
        .body;

    created.as_object_mut().unwrap().remove("job");
    assert_eq!(created, shown);
}

#[tokio::test]
async fn a_slug_and_a_domain_are_taken_once() {
    let app = TestApp::with_demo().await;

    let slug = app.create("demo").await;
    let domain = app
        .post("/tenants")
        .by(Caller::Operator)
        .json(&json!({ "slug": "acme", "name": "Acme", "domains": ["demo.test"] }))
        .send()
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
async fn of_many_who_want_a_slug_at_once_one_gets_it() {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;

    let replies = join_all((0..8).map(|_| app.create("acme"))).await;

    let mut found: Vec<String> = replies.iter().map(Reply::summary).collect();
    found.sort();
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
async fn an_edit_concerns_the_upstreams_that_hold_what_was_edited() {
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
async fn an_edit_that_changes_nothing_is_no_new_generation() {
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
async fn null_removes_and_missing_stays() {
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
async fn domains_that_are_given_up_are_remembered_until_they_come_back() {
    let app = TestApp::with_demo().await;

    edit(&app, json!({ "domains": ["two.test"] })).await;
    let given_up = app.tenant("demo").await.former_domains;
    edit(&app, json!({ "domains": ["demo.test"] })).await;
    let swapped = app.tenant("demo").await.former_domains;

    assert_eq!(given_up, ["demo.test"]);
    assert_eq!(swapped, ["two.test"]);
}

#[tokio::test]
async fn if_match_refuses_an_edit_of_another_generation_only() {
    let app = TestApp::with_demo().await;
    let etag = app
        .get("/tenants/demo")
        .by(Caller::Operator)
        .send()
        .await
        .etag()
        .to_owned();
    let edit = |etag: &str, name: &str| {
        let call = app
            .patch("/tenants/demo")
            .by(Caller::Operator)
            .header("if-match", etag);
        call.json(&json!({ "name": name })).send()
    };
    // A step's progress.
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
    let show = |etag: &str| {
        app.get("/tenants/demo")
            .by(Caller::Member)
            .header("if-none-match", etag)
            .send()
    };
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
        let reply = app.post(&path).by(Caller::Owner).json(&body).send().await;
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
async fn intents_that_wait_are_joined() {
    let app = TestApp::with_demo().await;

    let first = edit(&app, json!({ "name": "One" })).await;
    let second = edit(&app, json!({ "name": "Two" })).await;

    assert_eq!(first.body["job"]["id"], second.body["job"]["id"]);
    assert_eq!(app.count("jobs").await, 1);
}

#[tokio::test]
async fn an_audit_event_tells_what_changed_and_who_changed_it() {
    let app = TestApp::with_demo().await;

    app.patch("/tenants/demo")
        .by(Caller::Owner)
        .header("user-agent", "portal/1")
        .header("x-request-id", "rename")
        .json(&json!({ "name": "New" }))
        .send()
        .await;

    let renamed = doc! { "action": "tenant.update" };
    let event = app
        .collection("audit_events")
        .find_one(renamed)
        .await
        .unwrap()
        .unwrap();
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
async fn lists_go_page_by_page_and_a_cursor_belongs_to_its_filters() {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;
    for n in 0..5 {
        app.create(&format!("acme-{n}")).await;
    }
    let list = |query: String| {
        app.get(&format!("/tenants?{query}"))
            .by(Caller::Operator)
            .send()
    };

    let first = list("limit=2&plan=business".into()).await.body;
    let cursor = first["nextCursor"].as_str().unwrap().to_owned();
    let second = list(format!("limit=3&plan=business&cursor={cursor}"))
        .await
        .body;
    let foreign = list(format!("limit=3&plan=starter&cursor={cursor}")).await;
    let nonsense = list("cursor=nonsense".into()).await;

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
    assert_eq!(nonsense.summary(), "400 invalid_cursor");
}

#[tokio::test]
async fn more_than_may_wait_for_one_tenant_are_sent_away() {
    let app = TestApp::with_demo().await;
    let turn = app.state.turns.lock("demo").await.unwrap();
    let edits = join_all((0..72).map(|n| edit(&app, json!({ "name": format!("N{n}") }))));
    let release = async {
        // Those who are sent away are sent away while the others wait.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        drop(turn);
    };

    let (replies, ()) = tokio::join!(edits, release);

    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert_eq!(refused.len(), 8);
    assert_eq!(refused[0].code(), "too_many_requests");
    assert!(refused[0].header("retry-after").is_some());
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == 429 || reply.status == 202)
    );
}
