//! Looking through a trail.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use dezky_api::error::{ApiError, ProblemCode};
use dezky_shared::audit::{Action, ActorKind, AuditEvent, Outcome};
use dezky_sim::callers::Caller;
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::{event, get, listed, record};
use crate::app::TestApp;

const TRAIL: &str = "/tenants/demo/audit";

#[tokio::test]
async fn a_tenants_trail_says_who_did_what_newest_first() {
    let app = TestApp::with_demo().await;
    app.patch("/tenants/demo")
        .by(Caller::Owner)
        .header("user-agent", "curl/8")
        .json(&json!({ "industry": "boats" }))
        .send()
        .await;

    let reply = get(&app, TRAIL, Caller::Owner).await;

    assert_eq!(
        listed(&reply, "/action"),
        ["tenant.update", "user.update", "tenant.create"]
    );
    insta::assert_json_snapshot!(
        reply.body["items"][0],
        {
            ".id" => "[id]", ".at" => "[time]", ".tenantId" => "[id]", ".actor.id" => "[id]",
            ".target.id" => "[id]", ".requestId" => "[id]",
        },
        @r#"
    {
      "action": "tenant.update",
      "actor": {
        "audience": [
          "dezky-portal"
        ],
        "email": "owner@demo.test",
        "id": "[id]",
        "kind": "tenant",
        "name": "Demo owner"
      },
      "after": {
        "generation": 2,
        "industry": "boats"
      },
      "at": "[time]",
      "before": {
        "generation": 1
      },
      "id": "[id]",
      "outcome": "done",
      "requestId": "[id]",
      "target": {
        "id": "[id]",
        "kind": "tenant",
        "name": "demo"
      },
      "tenantId": "[id]",
      "userAgent": "curl/8"
    }
    "#
    );
}

#[tokio::test]
async fn what_an_operator_is_known_by_is_shown_to_operators_alone() {
    let app = TestApp::with_demo().await;
    let created = "/tenants/demo/audit?action=tenant.create";

    let shown = get(&app, created, Caller::Operator).await;
    let hidden = get(&app, created, Caller::Owner).await;

    let actor = |reply: &crate::app::Reply| reply.body["items"][0]["actor"].clone();
    assert_eq!(actor(&shown)["email"], "operator@demo.test");
    assert_eq!(actor(&hidden)["kind"], "operator");
    assert_eq!(actor(&hidden)["name"], "Demo operator");
    assert_eq!(actor(&hidden)["email"], Value::Null);
    assert!(!hidden.body.to_string().contains("operator@demo.test"));
    let by_address = "/tenants/demo/audit?actorEmail=operator@demo.test";
    assert_eq!(
        listed(&get(&app, by_address, Caller::Operator).await, "/id").len(),
        2
    );
    for search in [by_address, "/tenants/demo/audit?q=operator"] {
        let found = get(&app, search, Caller::Owner).await;
        assert!(listed(&found, "/id").is_empty(), "{search}");
    }
}

#[tokio::test]
async fn a_tenants_trail_holds_nothing_of_another_one() {
    let app = TestApp::with_demo().await;
    app.create("globex").await;

    let demo = get(&app, TRAIL, Caller::Owner).await;
    let globex = get(&app, "/tenants/globex/audit", Caller::Operator).await;
    let same = get(&app, "/audit?tenant=globex", Caller::Operator).await;
    let all = get(&app, "/audit", Caller::Operator).await;
    let unknown = get(&app, "/audit?tenant=nobody", Caller::Operator).await;

    assert!(!listed(&demo, "/target/name").contains(&"globex"));
    assert_eq!(listed(&globex, "/action"), ["tenant.create"]);
    assert_eq!(same.body["items"], globex.body["items"]);
    assert_eq!(
        listed(&all, "/id").len() as u64,
        app.count("audit_events").await
    );
    assert!(listed(&all, "/action").contains(&"user.create"));
    assert_eq!(unknown.summary(), "422 validation_failed");
}

/// Events a second apart, the newest last.
async fn with_events(change: impl Fn(i64, &mut AuditEvent)) -> TestApp {
    let app = TestApp::with_demo().await;
    let demo = Some(app.tenant("demo").await.id);
    let events = (0..6).map(|n| {
        let mut event = event(demo, n * 1_000);
        event.target.id = n.to_string();
        change(n, &mut event);
        event
    });
    record(&app, &events.collect::<Vec<_>>()).await;
    app
}

#[tokio::test]
async fn filters_let_through_what_matches_all_of_them() {
    let app = with_events(|n, event| match n {
        0 => event.action = Action::DomainLost,
        1 => event.outcome = Outcome::Accepted,
        2 => event.actor.email = Some("Grace.Hopper@acme.test".to_owned()),
        3 => event.target.name = "Bücher.example".to_owned(),
        4 => event.actor.kind = ActorKind::Operator,
        _ => {}
    })
    .await;

    for (query, expected) in [
        ("action=domain.lost", "0"),
        ("outcome=accepted&action=domain.update", "1"),
        ("actorEmail=grace.hopper@ACME.test", "2"),
        ("q=Hopper", "2"),
        ("q=b%C3%BCcher", "3"),
        ("q=B%C3%9CCHER.example", "3"),
        ("q=domain%20lost", "0"),
        ("q=example&since=1970-01-01T00:00:04Z", "54"),
        ("q=example&before=1970-01-01T00:00:02Z", "10"),
        (
            "since=1970-01-01T00:00:01Z&before=1970-01-01T00:00:03Z",
            "21",
        ),
        ("q=ada", "53210"),
        ("q=buch", ""),
        ("q=domain%20nobody", ""),
        ("actorEmail=nobody@acme.test", ""),
        ("before=1970-01-01T00:00:00Z", ""),
    ] {
        let found = get(&app, &format!("{TRAIL}?{query}"), Caller::Owner).await;

        assert_eq!(found.status, 200, "{query} {found:?}");
        assert_eq!(listed(&found, "/target/id").concat(), expected, "{query}");
    }
}

#[tokio::test]
async fn filters_that_mean_nothing_are_refused() {
    let app = TestApp::with_demo().await;
    let long = format!("q={}", "a".repeat(201));

    for (query, status, errors) in [
        ("action=tenant.clone", 400, vec!["invalid"]),
        ("action=unknown", 400, vec!["invalid"]),
        ("outcome=refused", 400, vec!["invalid"]),
        ("q=", 422, vec!["out_of_range"]),
        ("q=%2A%2A", 422, vec!["out_of_range"]),
        ("q=a+b+c+d+e+f+g+h+i", 422, vec!["out_of_range"]),
        (long.as_str(), 422, vec!["too_long"]),
        ("since=yesterday&before=x", 422, vec!["invalid_time"; 2]),
        ("tenant=demo", 400, vec!["unknown_parameter"]),
        ("limit=101", 422, vec!["out_of_range"]),
        ("cursor=x", 400, vec![]),
    ] {
        let reply = get(&app, &format!("{TRAIL}?{query}"), Caller::Owner).await;

        let found = reply.body["errors"].as_array().cloned().unwrap_or_default();
        let found: Vec<&str> = found
            .iter()
            .filter_map(|error| error["code"].as_str())
            .collect();
        assert_eq!((reply.status.as_u16(), found), (status, errors), "{query}");
    }
}

#[tokio::test]
async fn pages_neither_repeat_nor_leave_out_events_of_the_same_time() {
    let app = with_events(|_, event| event.at = bson::DateTime::from_millis(5)).await;
    let all = get(&app, TRAIL, Caller::Owner).await;

    let mut seen = Vec::new();
    let mut path = format!("{TRAIL}?limit=3");
    loop {
        let page = get(&app, &path, Caller::Owner).await;
        seen.extend(listed(&page, "/id").into_iter().map(str::to_owned));
        let Some(cursor) = page.body["nextCursor"].as_str() else {
            break;
        };
        // What comes in between belongs to none of the pages.
        let demo = Some(app.tenant("demo").await.id);
        record(&app, &[event(demo, 4_000_000_000_000)]).await;
        path = format!("{TRAIL}?limit=3&cursor={cursor}");
    }

    assert_eq!(seen.len(), 8);
    assert_eq!(seen, listed(&all, "/id"));
}

#[tokio::test]
async fn every_filter_is_answered_by_an_index_in_the_order_of_time() {
    let app = TestApp::with_demo().await;
    let demo = Some(app.tenant("demo").await.id);
    let events: Vec<AuditEvent> = (0..400)
        .map(|n| {
            let mut event = event(demo, n);
            if n % 100 == 0 {
                event.action = Action::DomainLost;
                event.target.name = "rare".to_owned();
            }
            event
        })
        .collect();
    record(&app, &events).await;
    let database = app.state.store.database();
    let profile = async |level: i32| database.run_command(doc! { "profile": level }).await;
    profile(2).await.unwrap();

    for path in [TRAIL, "/audit"] {
        for query in [
            "limit=2",
            "q=rare",
            "action=domain.lost",
            "q=rare&outcome=done",
            "limit=2&actorEmail=ada@acme.test",
        ] {
            get(&app, &format!("{path}?{query}"), Caller::Operator).await;
        }
    }

    profile(0).await.unwrap();
    let finds = doc! { "command.find": "audit_events" };
    let looks = app.collection("system.profile").find(finds).await.unwrap();
    let looks: Vec<Document> = looks.try_collect().await.unwrap();
    assert_eq!(looks.len(), 10);
    for look in looks {
        assert!(
            look.get_str("planSummary").unwrap().starts_with("IXSCAN"),
            "{look:#?}"
        );
        assert!(look.get_bool("hasSortStage").is_err(), "{look:#?}");
        assert!(look.get_i32("docsExamined").unwrap() <= 26, "{look:#?}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_hides_no_other() {
    let app = TestApp::with_demo().await;
    let demo = Some(app.tenant("demo").await.id);
    let events: Vec<_> = (0..5).map(|n| event(demo, n)).collect();
    record(&app, &events).await;
    let stored = app.collection("audit_events");
    for (n, set) in [
        (1, doc! { "target": 7 }),
        (2, doc! { "actor.kind": "robot", "outcome": "perhaps" }),
    ] {
        let nth = doc! { "at": DateTime::from_millis(n) };
        let change = doc! { "$set": set };
        stored.update_one(nth, change).await.unwrap();
    }

    let path = "/tenants/demo/audit?before=1970-01-02T00:00:00Z&limit=3";
    let first = get(&app, path, Caller::Owner).await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = get(&app, &format!("{path}&cursor={cursor}"), Caller::Owner).await;

    assert_eq!(listed(&first, "/outcome"), ["done", "done", "unknown"]);
    assert_eq!(listed(&first, "/actor/kind")[2], "unknown");
    assert_eq!(listed(&second, "/at"), ["1970-01-01T00:00:00.000Z"]);
}

#[tokio::test]
async fn a_search_that_takes_too_long_is_refused_with_what_makes_it_shorter() {
    let app = TestApp::with_demo().await;
    let slow = doc! { "$where": "sleep(1000) || true" };
    let events = app.collection("audit_events");
    let search = events.find(slow).max_time(Duration::from_millis(10));
    let error = search.await.unwrap_err();

    let elsewhere = ApiError::from(error.clone());
    let refused = ApiError::from_search(error);

    // There is nothing to ask for less of.
    assert_eq!(elsewhere.code, ProblemCode::ServiceUnavailable);
    assert_eq!(refused.code, ProblemCode::SearchTooLong);
    assert_eq!(refused.code.status(), 422);
    assert_eq!(refused.detail, "Narrow it by since and before.");
}
