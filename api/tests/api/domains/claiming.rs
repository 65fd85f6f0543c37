//! Domain claims before ownership is proved.

use std::time::Duration;

use dezky_shared::{domain::OwnershipProof, platform::clock, queue::args::RecheckDomain};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use super::{add, claim, domain, find, jobs, prove, remove, show, two_tenants};
use crate::app::TestApp;

#[tokio::test]
async fn a_claim_shows_only_its_ownership_record() {
    let app = TestApp::with_demo().await;

    let reply = app
        .owner()
        .post(
            "/tenants/demo/domains",
            json!({ "name": "new.test", "dmarc": { "policy": "reject", "rua": "DMARC@new.test" } }),
        )
        .await;

    assert_eq!(reply.status, 202);
    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".job.id" => "[id]", ".job.href" => "[href]", ".ownership.value" => "[token]",
        ".createdAt" => "[time]", ".updatedAt" => "[time]", ".nextCheckAt" => "[time]", ".history[].at" => "[time]",
        ".conditions[].lastTransitionAt" => "[time]", ".conditions[].nextAttemptAt" => "[time]",
        ".conditions[].message" => "[text]",
    }, @r#"
    {
      "checks": [],
      "conditions": [
        {
          "class": "user_action",
          "lastTransitionAt": "[time]",
          "message": "[text]",
          "nextAttemptAt": "[time]",
          "observedGeneration": 1,
          "reason": "AwaitingProof",
          "status": "unknown",
          "type": "Owned"
        }
      ],
      "createdAt": "[time]",
      "dmarc": {
        "policy": "reject",
        "rua": "dmarc@new.test"
      },
      "generation": 1,
      "history": [
        {
          "at": "[time]",
          "to": "pending",
          "what": "status"
        }
      ],
      "id": "[id]",
      "job": {
        "href": "[href]",
        "id": "[id]",
        "state": "available"
      },
      "name": "new.test",
      "nextCheckAt": "[time]",
      "ownership": {
        "check": "ownership",
        "name": "_dezky.new.test",
        "type": "TXT",
        "value": "[token]"
      },
      "primary": false,
      "records": [],
      "removing": false,
      "revision": 1,
      "status": "pending",
      "unicodeName": "new.test",
      "updatedAt": "[time]"
    }
    "#);
    let claim = domain(&app, "demo", "new.test").await;
    assert_eq!(
        reply.body["ownership"]["value"],
        format!("dezky-verification={}", claim.token)
    );
    assert_eq!(app.tenant("demo").await.domains, ["demo.test"]);
    assert_eq!(
        app.actions().await.last().map(String::as_str),
        Some("domain.create")
    );
}

#[tokio::test]
async fn the_first_ownership_check_is_delayed_after_a_claim() {
    let app = TestApp::with_demo().await;

    let claim = claim(&app, "demo", Caller::Owner, "new.test").await;

    let rechecks = jobs(&app, "recheck_domain").await;
    assert_eq!(rechecks.len(), 1);
    assert_eq!(
        rechecks[0].args::<RecheckDomain>().unwrap().domain_id,
        claim.id
    );
    assert_eq!(
        rechecks[0].run_at,
        clock::later(claim.created_at, Duration::from_mins(1))
    );
    assert_eq!(claim.next_check_at, Some(rechecks[0].run_at));
    assert!(jobs(&app, "provision_domain").await.is_empty());
}

#[tokio::test]
async fn competing_claims_have_separate_tokens_and_the_first_proof_wins() {
    let app = two_tenants().await;
    let demos = claim(&app, "demo", Caller::Owner, "new.test").await;
    let globexs = claim(&app, "globex", Caller::Stranger, "new.test").await;

    prove(&app, &globexs).await.unwrap();
    let rejected = prove(&app, &demos).await;
    let third = add(&app, "demo", Caller::Owner, "globex.test").await;

    assert_ne!(demos.token, globexs.token);
    assert!(rejected.is_err());
    let winner = domain(&app, "globex", "new.test").await;
    assert_eq!(winner.owned_by, Some(OwnershipProof::Proof));
    assert_eq!(
        app.tenant("globex").await.domains,
        ["globex.test", "new.test"]
    );
    let shown = show(&app, "demo", "new.test").await.body;
    assert_eq!(shown["status"], "failed");
    assert_eq!(shown["conditions"][0]["type"], "Owned");
    assert_eq!(shown["conditions"][0]["status"], "false");
    assert_eq!(shown["conditions"][0]["reason"], "TakenByAnother");
    assert_eq!(shown["history"][1]["code"], "taken_by_another");
    assert_eq!(shown["nextCheckAt"], Value::Null);
    assert_eq!(app.tenant("demo").await.domains, ["demo.test"]);
    assert_eq!(third.summary(), "409 domain_taken");
}

#[tokio::test]
async fn a_deleted_claim_is_removed_and_a_new_claim_gets_a_new_token() {
    let app = TestApp::with_demo().await;
    let first = claim(&app, "demo", Caller::Owner, "new.test").await;

    let removed = remove(&app, "new.test").await;
    let gone = remove(&app, "new.test").await;
    let second = claim(&app, "demo", Caller::Owner, "new.test").await;

    assert_eq!(removed.status, 200);
    assert_eq!(removed.body["job"], Value::Null);
    assert_eq!(gone.summary(), "404 not_found");
    assert_ne!(first.token, second.token);
    assert!(jobs(&app, "remove_domain").await.is_empty());
}

#[tokio::test]
async fn a_tenant_has_at_most_100_domains() {
    let app = TestApp::with_demo().await;
    let more = (0..98).map(|n| format!("d{n}.test"));
    let names: Vec<String> = more.chain(["demo.test".to_owned()]).collect();
    app.operator()
        .patch("/tenants/demo", json!({ "domains": names }))
        .await;
    claim(&app, "demo", Caller::Owner, "last.test").await;

    let reply = add(&app, "demo", Caller::Owner, "more.test").await;

    assert_eq!(reply.summary(), "409 too_many_domains");
    assert_eq!(find(&app, "demo", "more.test").await, None);
}

#[tokio::test]
async fn a_repeated_request_creates_one_claim() {
    let app = TestApp::with_demo().await;
    let send = || {
        app.owner()
            .post("/tenants/demo/domains", json!({ "name": "new.test" }))
            .idempotency_key("claim-1")
    };

    let first = send().await;
    let second = send().await;

    assert!(second.is_replayed());
    assert_eq!(first.body, second.body);
    assert_eq!(jobs(&app, "recheck_domain").await.len(), 1);
}

#[tokio::test]
async fn a_terminating_tenant_cannot_claim_domains() {
    let app = TestApp::with_demo().await;
    app.operator().delete("/tenants/demo?confirm=demo").await;

    for by in [Caller::Owner, Caller::Operator] {
        let reply = add(&app, "demo", by, "new.test").await;
        assert_eq!(reply.summary(), "409 tenant_terminating");
    }
    let reply = remove(&app, "demo.test").await;
    assert_eq!(reply.summary(), "409 tenant_terminating");
}

#[tokio::test]
async fn domain_lists_are_paginated_and_scoped_to_their_tenant() {
    let app = two_tenants().await;
    for n in 0..3 {
        claim(&app, "demo", Caller::Owner, &format!("d{n}.test")).await;
    }
    let list = |slug: &str, query: String| {
        app.operator()
            .get(format!("/tenants/{slug}/domains?{query}"))
    };

    let first = list("demo", "limit=3".into()).await.body;
    let cursor = first["nextCursor"].as_str().unwrap().to_owned();
    let second = list("demo", format!("limit=3&cursor={cursor}")).await.body;
    let foreign = list("globex", format!("cursor={cursor}")).await;

    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["demo.test", "d0.test", "d1.test"]);
    assert_eq!(names(&second), ["d2.test"]);
    assert_eq!(second["nextCursor"], Value::Null);
    assert_eq!(foreign.summary(), "400 invalid_cursor");
}
