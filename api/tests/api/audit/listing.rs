//! Listing and filtering of an audit trail.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use dezky_api::error::{ApiError, ProblemCode};
use dezky_shared::audit::{Action, ActorKind, AuditEvent, Outcome};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::{event, record};
use crate::{app::TestApp, client::Reply};

const TRAIL: &str = "/tenants/demo/audit";

#[tokio::test]
async fn a_tenants_trail_lists_events_newest_first() {
    let app = TestApp::with_demo().await;
    app.owner()
        .patch("/tenants/demo", json!({ "industry": "boats" }))
        .header("user-agent", "curl/8")
        .await;

    let reply = app.owner().get(TRAIL).await;

    assert_eq!(
        reply.texts("/action"),
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
async fn operator_identities_are_shown_to_operators_only() {
    let app = TestApp::with_demo().await;
    let created = "/tenants/demo/audit?action=tenant.create";

    let shown = app.operator().get(created).await;
    let hidden = app.owner().get(created).await;

    let actor = |reply: &Reply| reply.body["items"][0]["actor"].clone();
    assert_eq!(actor(&shown)["email"], "operator@demo.test");
    assert_eq!(actor(&hidden)["kind"], "operator");
    assert_eq!(actor(&hidden)["name"], "Demo operator");
    assert_eq!(actor(&hidden)["email"], Value::Null);
    assert!(!hidden.body.to_string().contains("operator@demo.test"));
    let by_address = "/tenants/demo/audit?actorEmail=operator@demo.test";
    let found = app.operator().get(by_address).await;
    assert_eq!(found.items().len(), 2);
    for search in [by_address, "/tenants/demo/audit?q=operator"] {
        let found = app.owner().get(search).await;
        assert!(found.texts("/id").is_empty(), "{search}");
    }
}

#[tokio::test]
async fn a_tenants_trail_contains_only_its_own_events() {
    let app = TestApp::with_demo().await;
    app.create("globex").await;

    let demo = app.owner().get(TRAIL).await;
    let globex = app.operator().get("/tenants/globex/audit").await;
    let same = app.operator().get("/audit?tenant=globex").await;
    let all = app.operator().get("/audit").await;
    let unknown = app.operator().get("/audit?tenant=unknown").await;

    assert!(!demo.texts("/target/name").contains(&"globex"));
    assert_eq!(globex.texts("/action"), ["tenant.create"]);
    assert_eq!(same.body["items"], globex.body["items"]);
    assert_eq!(
        all.texts("/id").len() as u64,
        app.count("audit_events").await
    );
    assert!(all.texts("/action").contains(&"user.create"));
    assert_eq!(unknown.summary(), "422 validation_failed");
}

/// The app with six events of `demo`, one second apart.
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
async fn filters_are_combined_with_and() {
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
        // u and a combining diaeresis.
        ("q=bu%CC%88cher", "3"),
        ("q=domain%20lost", "0"),
        ("q=example&since=1970-01-01T00:00:04Z", "54"),
        ("q=example&before=1970-01-01T00:00:02Z", "10"),
        ("q=example&before=1970-01-01T01:00:02%2B01:00", "10"),
        // An unescaped + of the offset.
        ("q=example&before=1970-01-01T01:00:02+01:00", "10"),
        (
            "since=1970-01-01T00:00:01Z&before=1970-01-01T00:00:03Z",
            "21",
        ),
        ("q=ada", "53210"),
        ("q=buch", ""),
        ("q=domain%20unknown", ""),
        ("actorEmail=unknown@acme.test", ""),
        ("before=1970-01-01T00:00:00Z", ""),
    ] {
        let found = app.owner().get(format!("{TRAIL}?{query}")).await;

        assert_eq!(found.status, 200, "{query} {found:?}");
        assert_eq!(found.texts("/target/id").concat(), expected, "{query}");
    }
}

#[tokio::test]
async fn invalid_filters_are_rejected() {
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
        let reply = app.owner().get(format!("{TRAIL}?{query}")).await;

        let found = reply.body["errors"].as_array().cloned().unwrap_or_default();
        let found: Vec<&str> = found
            .iter()
            .filter_map(|error| error["code"].as_str())
            .collect();
        assert_eq!((reply.status.as_u16(), found), (status, errors), "{query}");
    }
}

#[tokio::test]
async fn pagination_is_stable_for_events_with_equal_times() {
    let app = with_events(|_, event| event.at = bson::DateTime::from_millis(5)).await;
    let all = app.owner().get(TRAIL).await;

    let mut seen = Vec::new();
    let mut path = format!("{TRAIL}?limit=3");
    loop {
        let page = app.owner().get(path).await;
        seen.extend(page.texts("/id").into_iter().map(str::to_owned));
        let Some(cursor) = page.body["nextCursor"].as_str() else {
            break;
        };
        // An event recorded between two pages appears on neither.
        let demo = Some(app.tenant("demo").await.id);
        record(&app, &[event(demo, 4_000_000_000_000)]).await;
        path = format!("{TRAIL}?limit=3&cursor={cursor}");
    }

    assert_eq!(seen.len(), 8);
    assert_eq!(seen, all.texts("/id"));
}

#[tokio::test]
async fn every_filter_uses_an_index_sorted_by_time() {
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
            app.operator().get(format!("{path}?{query}")).await;
        }
    }

    profile(0).await.unwrap();
    let finds = doc! { "command.find": "audit_events" };
    let queries = app.collection("system.profile").find(finds).await.unwrap();
    let queries: Vec<Document> = queries.try_collect().await.unwrap();
    assert_eq!(queries.len(), 10);
    for query in queries {
        assert!(
            query.get_str("planSummary").unwrap().starts_with("IXSCAN"),
            "{query:#?}"
        );
        assert!(query.get_bool("hasSortStage").is_err(), "{query:#?}");
        assert!(query.get_i32("docsExamined").unwrap() <= 26, "{query:#?}");
    }
}

#[tokio::test]
async fn an_undecodable_event_does_not_hide_others() {
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
    let first = app.owner().get(path).await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = app.owner().get(format!("{path}&cursor={cursor}")).await;

    assert_eq!(first.texts("/outcome"), ["done", "done", "unknown"]);
    assert_eq!(first.texts("/actor/kind")[2], "unknown");
    assert_eq!(second.texts("/at"), ["1970-01-01T00:00:00.000Z"]);
}

#[tokio::test]
async fn a_search_timeout_returns_search_too_long() {
    let app = TestApp::with_demo().await;
    let slow = doc! { "$where": "sleep(1000) || true" };
    let events = app.collection("audit_events");
    let search = events.find(slow).max_time(Duration::from_millis(10));
    let error = search.await.unwrap_err();

    let elsewhere = ApiError::from(error.clone());
    let rejected = ApiError::from_search(error);

    // Outside a search, there is no time range that the caller could narrow.
    assert_eq!(elsewhere.code, ProblemCode::ServiceUnavailable);
    assert_eq!(rejected.code, ProblemCode::SearchTooLong);
    assert_eq!(rejected.code.status(), 422);
    let detail = &rejected.detail;
    assert!(
        detail.contains("since") && detail.contains("before"),
        "{detail}"
    );
}
