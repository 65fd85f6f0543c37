//! Claims, before anybody has proved anything.

use std::time::Duration;

use dezky_shared::{domain::OwnershipProof, platform::clock, queue::args::RecheckDomain};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use super::{add, claim, domain, find, jobs, prove, remove, show, two_tenants};
use crate::app::TestApp;

#[tokio::test]
async fn a_claim_shows_the_record_that_proves_it_and_no_others() {
    let app = TestApp::with_demo().await;

    let reply = add(
        &app,
        "demo",
        Caller::Owner,
        json!({ "name": "new.test", "dmarc": { "policy": "reject", "rua": "DMARC@new.test" } }),
    )
    .await;

    assert_eq!(reply.status, 202);
    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".job.id" => "[id]", ".job.href" => "[href]", ".ownership.value" => "[token]",
        ".createdAt" => "[time]", ".updatedAt" => "[time]", ".nextCheckAt" => "[time]", ".history[].at" => "[time]",
        ".conditions[].lastTransitionAt" => "[time]", ".conditions[].nextAttemptAt" => "[time]",
    }, @r#"
    {
      "checks": [],
      "conditions": [
        {
          "class": "user_action",
          "lastTransitionAt": "[time]",
          "message": "Publish the ownership record, so that we know that the domain is yours.",
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
async fn the_proof_of_a_claim_is_looked_for_once_its_owner_can_have_published_it() {
    let app = TestApp::with_demo().await;

    let claim = claim(&app, "demo", Caller::Owner, "new.test").await;

    let looks = jobs(&app, "recheck_domain").await;
    assert_eq!(looks.len(), 1);
    assert_eq!(
        looks[0].args::<RecheckDomain>().unwrap().domain_id,
        claim.id
    );
    assert_eq!(
        looks[0].run_at,
        clock::later(claim.created_at, Duration::from_mins(1))
    );
    assert_eq!(claim.next_check_at, Some(looks[0].run_at));
    assert!(jobs(&app, "provision_domain").await.is_empty());
}

#[tokio::test]
async fn tenants_that_claim_a_name_have_a_token_each_and_the_first_to_prove_it_has_it() {
    let app = two_tenants().await;
    let demos = claim(&app, "demo", Caller::Owner, "new.test").await;
    let globexs = claim(&app, "globex", Caller::Stranger, "new.test").await;

    prove(&app, &globexs).await.unwrap();
    let refused = prove(&app, &demos).await;
    let third = add(
        &app,
        "demo",
        Caller::Owner,
        json!({ "name": "globex.test" }),
    )
    .await;

    assert_ne!(demos.token, globexs.token);
    assert!(refused.is_err());
    let theirs = domain(&app, "globex", "new.test").await;
    assert_eq!(theirs.owned_by, Some(OwnershipProof::Proof));
    assert_eq!(
        app.tenant("globex").await.domains,
        ["globex.test", "new.test"]
    );
    let told = show(&app, "demo", "new.test").await.body;
    assert_eq!(told["status"], "failed");
    assert_eq!(told["conditions"][0]["type"], "Owned");
    assert_eq!(told["conditions"][0]["status"], "false");
    assert_eq!(told["conditions"][0]["reason"], "TakenByAnother");
    assert_eq!(told["history"][1]["code"], "taken_by_another");
    assert_eq!(told["nextCheckAt"], Value::Null);
    assert_eq!(app.tenant("demo").await.domains, ["demo.test"]);
    assert_eq!(third.summary(), "409 domain_taken");
}

#[tokio::test]
async fn a_claim_is_forgotten_at_once_and_a_later_one_has_another_token() {
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
async fn a_tenant_has_a_hundred_domains_at_most() {
    let app = TestApp::with_demo().await;
    let more = (0..98).map(|n| format!("d{n}.test"));
    let names: Vec<String> = more.chain(["demo.test".to_owned()]).collect();
    app.patch("/tenants/demo")
        .by(Caller::Operator)
        .json(&json!({ "domains": names }))
        .send()
        .await;
    claim(&app, "demo", Caller::Owner, "last.test").await;

    let reply = add(&app, "demo", Caller::Owner, json!({ "name": "more.test" })).await;

    assert_eq!(reply.summary(), "409 too_many_domains");
    assert_eq!(find(&app, "demo", "more.test").await, None);
}

#[tokio::test]
async fn a_repeated_request_is_one_claim() {
    let app = TestApp::with_demo().await;
    let send = || {
        app.post("/tenants/demo/domains")
            .by(Caller::Owner)
            .header("idempotency-key", "claim-1")
            .json(&json!({ "name": "new.test" }))
            .send()
    };

    let first = send().await;
    let second = send().await;

    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(first.body, second.body);
    assert_eq!(jobs(&app, "recheck_domain").await.len(), 1);
}

#[tokio::test]
async fn a_tenant_that_ends_claims_nothing_more() {
    let app = TestApp::with_demo().await;
    app.delete("/tenants/demo?confirm=demo")
        .by(Caller::Operator)
        .send()
        .await;

    for by in [Caller::Owner, Caller::Operator] {
        let reply = add(&app, "demo", by, json!({ "name": "new.test" })).await;
        assert_eq!(reply.summary(), "409 tenant_terminating");
    }
    let reply = remove(&app, "demo.test").await;
    assert_eq!(reply.summary(), "409 tenant_terminating");
}

#[tokio::test]
async fn lists_go_page_by_page_and_belong_to_their_tenant() {
    let app = two_tenants().await;
    for n in 0..3 {
        claim(&app, "demo", Caller::Owner, &format!("d{n}.test")).await;
    }
    let list = |slug: &str, query: String| {
        app.get(&format!("/tenants/{slug}/domains?{query}"))
            .by(Caller::Operator)
            .send()
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
