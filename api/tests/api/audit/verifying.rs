//! Verification of an audit trail against its hash chain.

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::AuditEvent,
    id::{AuditEventId, TenantId},
    store::audit::Trimmed,
};
use serde_json::{Value, json};

use super::{event, record, seal, tamper};
use crate::app::TestApp;

/// The app with eight sealed events of `demo`: two from its setup and six more, one second apart.
async fn sealed() -> (TestApp, TenantId) {
    let app = TestApp::with_demo().await;
    let demo = app.tenant("demo").await.id;
    let events: Vec<AuditEvent> = (0..6).map(|n| event(Some(demo), n * 1_000)).collect();
    record(&app, &events).await;
    seal(&app, Some(demo)).await;
    (app, demo)
}

async fn verify(app: &TestApp) -> Value {
    let reply = app.owner().get("/tenants/demo/audit/verify").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

/// Reported problems: kind, first and last sequence number.
async fn problems(app: &TestApp) -> Vec<(String, i64, i64)> {
    let found = verify(app).await;
    let problems: Vec<(String, i64, i64)> = found["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            let number = |name: &str| problem[name].as_i64().unwrap();
            let kind = problem["kind"].as_str().unwrap();
            (kind.to_owned(), number("seq"), number("lastSeq"))
        })
        .collect();
    assert_eq!(found["ok"], problems.is_empty());
    problems
}

fn problem(kind: &str, seq: i64, last_seq: i64) -> (String, i64, i64) {
    (kind.to_owned(), seq, last_seq)
}

#[tokio::test]
async fn an_untouched_trail_verifies() {
    let (app, demo) = sealed().await;
    record(&app, &[event(Some(demo), 0)]).await;

    let found = verify(&app).await;

    insta::assert_json_snapshot!(found, { ".head.hash" => "[hash]" }, @r#"
    {
      "anchor": {
        "hash": "0000000000000000000000000000000000000000000000000000000000000000",
        "seq": 0
      },
      "checked": 8,
      "firstSeq": 1,
      "head": {
        "hash": "[hash]",
        "seq": 8
      },
      "lastSeq": 8,
      "ok": true,
      "problems": [],
      "unsealed": 1
    }
    "#);
}

#[tokio::test]
async fn an_unsealed_trail_verifies() {
    let app = TestApp::with_demo().await;
    app.create("globex").await;

    let reply = app.operator().get("/tenants/globex/audit/verify").await;

    assert_eq!(reply.body["ok"], true);
    assert_eq!(reply.body["checked"], 0);
    assert_eq!(reply.body["unsealed"], 1);
}

#[tokio::test]
async fn platform_events_have_their_own_trail() {
    let app = TestApp::with_demo().await;
    seal(&app, None).await;

    let reply = app.operator().get("/audit/verify").await;

    let of_platform = doc! { "tenantId": null };
    let events = app.collection("audit_events");
    let events = events.count_documents(of_platform).await.unwrap();
    assert_eq!(reply.body["checked"], events);
    assert_eq!(reply.body["ok"], true);
}

#[tokio::test]
async fn a_change_to_any_field_is_detected() {
    let (app, _) = sealed().await;
    for (seq, set) in [
        (2, doc! { "actor.email": "other@else.test" }),
        (3, doc! { "at": DateTime::from_millis(7) }),
        (4, doc! { "after": { "name": "Other" } }),
        (5, doc! { "added": true }),
        (6, doc! { "terms": [] }),
        (7, doc! { "hash": "0".repeat(64) }),
    ] {
        tamper(&app, seq, set).await;
    }

    let found = problems(&app).await;

    // A changed hash also breaks the link from the next event.
    let mut expected: Vec<_> = (2..=7).map(|seq| problem("changed", seq, seq)).collect();
    expected.push(problem("unlinked", 8, 8));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn deleted_events_are_reported_as_missing() {
    let (app, _) = sealed().await;
    let gone = doc! { "seq": { "$in": [1_i64, 4_i64, 5_i64, 8_i64] } };
    app.collection("audit_events")
        .delete_many(gone)
        .await
        .unwrap();

    let found = problems(&app).await;

    let expected = [
        problem("missing", 1, 1),
        problem("missing", 4, 5),
        problem("missing", 8, 8),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_event_rewritten_with_a_valid_hash_breaks_the_next_link() {
    let (app, _) = sealed().await;
    let events = app.collection("audit_events");
    let mut third = events
        .find_one(doc! { "seq": 3_i64 })
        .await
        .unwrap()
        .unwrap();
    let before = dezky_shared::audit::hash_chain::Link {
        seq: 2,
        hash: third.get_str("prevHash").unwrap().to_owned(),
    };
    third.insert("after", doc! { "name": "Other" });
    let _ = before.seal(&mut third);
    events
        .replace_one(doc! { "seq": 3_i64 }, third)
        .await
        .unwrap();

    assert_eq!(problems(&app).await, [problem("unlinked", 4, 4)]);
}

#[tokio::test]
async fn swapped_events_are_detected() {
    let (app, _) = sealed().await;
    tamper(&app, 3, doc! { "seq": 99_i64 }).await;
    tamper(&app, 4, doc! { "seq": 3_i64 }).await;
    tamper(&app, 99, doc! { "seq": 4_i64 }).await;

    let found = problems(&app).await;

    assert_eq!(
        found[..2],
        [problem("changed", 3, 3), problem("changed", 4, 4)]
    );
}

#[tokio::test]
async fn a_modified_chain_head_is_detected() {
    let (app, demo) = sealed().await;
    let chains = app.collection("audit_chains");
    let one = doc! { "tenantId": demo };
    let set = async |set: Document| {
        app.set("audit_chains", one.clone(), set).await;
    };
    let original = chains.find_one(one.clone()).await.unwrap().unwrap();

    set(doc! { "head.hash": "f".repeat(64) }).await;
    let other_hash = problems(&app).await;
    let sixth = doc! { "seq": 6_i64 };
    let sixth = app.document("audit_events", sixth).await;
    set(doc! { "head": { "seq": 6_i64, "hash": sixth.get_str("hash").unwrap() } }).await;
    let set_back = problems(&app).await;
    chains.delete_one(one.clone()).await.unwrap();
    let removed = problems(&app).await;
    chains.insert_one(original).await.unwrap();

    assert_eq!(other_hash, [problem("head", 8, 8)]);
    assert_eq!(set_back, [problem("head", 8, 8)]);
    assert_eq!(removed, [problem("head", 8, 8)]);
    assert!(problems(&app).await.is_empty());
}

#[tokio::test]
async fn a_modified_chain_anchor_is_detected() {
    let (app, demo) = sealed().await;
    let third = doc! { "seq": 3_i64 };
    let third = app.document("audit_events", third).await;
    let chains = app.collection("audit_chains");
    let set =
        doc! { "$set": { "anchor": { "seq": 3_i64, "hash": third.get_str("hash").unwrap() } } };
    chains
        .update_one(doc! { "tenantId": demo }, set)
        .await
        .unwrap();

    let kept = problems(&app).await;
    let old = doc! { "seq": { "$lte": 3_i64 } };
    app.collection("audit_events")
        .delete_many(old)
        .await
        .unwrap();
    let other_hash = doc! { "$set": { "anchor.hash": "f".repeat(64) } };
    chains
        .update_one(doc! { "tenantId": demo }, other_hash)
        .await
        .unwrap();

    assert_eq!(kept[0].0, "anchor");
    assert_eq!(problems(&app).await, [problem("unlinked", 4, 4)]);
}

#[tokio::test]
async fn events_deleted_by_retention_are_not_missing_and_the_rest_still_verifies() {
    let (app, demo) = sealed().await;
    // The two setup events are recent and first in the chain, so that no prefix is old enough to trim.
    let cutoff = DateTime::from_millis(3_000);
    assert_eq!(
        app.state
            .db
            .audit
            .trim(Some(demo), cutoff, 500)
            .await
            .unwrap(),
        Trimmed::Nothing
    );
    let now = app.state.store.now();

    let trimmed = app.state.db.audit.trim(Some(demo), now, 500).await.unwrap();
    record(&app, &[event(Some(demo), 9_000)]).await;
    seal(&app, Some(demo)).await;

    assert_eq!(trimmed, Trimmed::Events(8));
    let found = verify(&app).await;
    assert_eq!((&found["ok"], &found["checked"]), (&json!(true), &json!(1)));
    assert_eq!(
        (&found["firstSeq"], &found["anchor"]["seq"]),
        (&json!(9), &json!(8))
    );
    tamper(&app, 9, doc! { "outcome": "accepted" }).await;
    assert_eq!(problems(&app).await, [problem("changed", 9, 9)]);
}

#[tokio::test]
async fn at_most_100_problems_are_reported() {
    let (app, demo) = sealed().await;
    let events: Vec<AuditEvent> = (0..250).map(|n| event(Some(demo), n)).collect();
    record(&app, &events).await;
    seal(&app, Some(demo)).await;
    let all = app.collection("audit_events");
    let set = doc! { "$set": { "target.name": "x" } };
    all.update_many(doc! { "tenantId": demo }, set)
        .await
        .unwrap();

    assert_eq!(problems(&app).await.len(), 100);
}

#[tokio::test]
async fn an_event_inserted_outside_the_chain_is_detected() {
    let (app, demo) = sealed().await;
    let events = app.collection("audit_events");
    let second = doc! { "tenantId": demo, "seq": 2_i64 };
    let sealed = events.find_one(second).await.unwrap().unwrap();
    for flag in [Some(true), None] {
        let mut inserted = sealed.clone();
        for field in ["seq", "prevHash", "hash", "sealed"] {
            inserted.remove(field);
        }
        inserted.insert("_id", AuditEventId::new());
        inserted.extend(flag.map(|flag| ("sealed".to_owned(), flag.into())));
        events.insert_one(inserted).await.unwrap();
    }
    record(&app, &[event(Some(demo), 0)]).await;

    let found = problems(&app).await;

    assert_eq!(found, [problem("stray", 0, 0), problem("stray", 0, 0)]);
}
