//! Saved reports: for their owner only, a limited number of them, and under a name each.

use bson::doc;
use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    app::TestApp,
    client::{Reply, sorted_summaries},
};

fn growth(name: &str) -> Value {
    json!({ "name": name, "report": "growth", "last": 3, "currency": "DKK" })
}

async fn save(app: &TestApp, body: Value) -> Reply {
    app.operator().post("/reports/saved", body).await
}

#[tokio::test]
async fn a_report_is_saved_run_listed_and_deleted() {
    let app = TestApp::with_operator().await;

    let saved = save(&app, growth("Quarter")).await;
    let again = save(&app, growth("Quarter")).await;
    let path = saved.header("location").unwrap().to_owned();
    let shown = app.operator().get(&path).await;
    let result = app.operator().get(format!("{path}/result")).await;
    let listed = app.operator().get("/reports/saved").await;
    let file = app.operator().get(format!("{path}/result"));
    let file = file.header("accept", "text/csv").open().await;
    let deleted = app.operator().delete(&path).await;
    let gone = app.operator().get(format!("{path}/result")).await;

    assert_eq!(saved.status, 201, "{saved:?}");
    assert_eq!(saved.body["last"], 3);
    assert_eq!(again.summary(), "409 saved_report_exists");
    assert_eq!(shown.body, saved.body);
    assert_eq!(listed.items(), std::slice::from_ref(&saved.body));
    assert_eq!(result.body["report"], "growth");
    let points = result.body["series"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    assert_eq!(
        file.headers()["content-type"],
        "text/csv; charset=utf-8; header=present"
    );
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(gone.summary(), "404 not_found");
    let actions = app.actions().await;
    let expected = ["savedReport.create", "savedReport.delete"].map(str::to_owned);
    assert!(actions.ends_with(&expected), "{actions:?}");
}

#[tokio::test]
async fn the_arrangement_of_a_report_is_saved_with_it() {
    let app = TestApp::with_operator().await;
    let body = |group_by: &str, sort: &str| {
        json!({
            "name": "Partners", "report": "partner-revenue", "last": 3, "groupBy": group_by, "sort": sort, "limit": 5,
        })
    };

    let wrong = save(&app, body("plan", "paid")).await;
    let unsorted = save(&app, body("month", "paid")).await;
    let saved = save(&app, body("partner", "-paid")).await;
    let path = saved.header("location").unwrap().to_owned();
    let result = app.operator().get(format!("{path}/result")).await;

    let not_supported = [("/groupBy", "not_supported"), ("/sort", "not_supported")];
    assert_eq!(wrong.errors(), not_supported);
    assert_eq!(unsorted.errors(), [("/sort", "not_supported")]);
    assert_eq!(saved.status, 201, "{saved:?}");
    for (field, expected) in [
        ("groupBy", json!("partner")),
        ("sort", json!("-paid")),
        ("limit", json!(5)),
    ] {
        assert_eq!(saved.body[field], expected);
    }
    assert_eq!(result.status, 200, "{result:?}");
}

#[tokio::test]
async fn a_saved_report_is_concealed_from_others_and_from_another_scope() {
    let app = TestApp::with_demo().await;
    app.with_partner("manager").await;
    let own = app.partner().post("/partner/reports/saved", growth("Mine"));
    let own = own.await;
    let of_operator = save(&app, growth("Mine")).await;

    assert_eq!(own.status, 201, "{own:?}");
    let path = own.header("location").unwrap();
    let id = own.body["id"].as_str().unwrap();
    let foreign = of_operator.header("location").unwrap();
    for (caller, path) in [
        (Caller::Operator, format!("/reports/saved/{id}")),
        (Caller::Operator, format!("/reports/saved/{id}/result")),
        (Caller::Partner, format!("/partner{foreign}")),
        (Caller::Partner, format!("/partner{foreign}/result")),
    ] {
        let reply = app.client(caller).get(&path).await;
        assert_eq!(reply.summary(), "404 not_found", "{path}");
    }
    let deleted = app.operator().delete(format!("/reports/saved/{id}")).await;
    assert_eq!(deleted.summary(), "404 not_found");
    assert_eq!(app.partner().get(path).await.status, 200);

    let staff = app.user(Caller::Partner).await.id;
    app.operator().delete(format!("/users/{staff}")).await;
    let left = app.operator().get("/reports/saved").await;
    assert_eq!(left.items(), std::slice::from_ref(&of_operator.body));
    assert_eq!(app.count("saved_reports").await, 1);
}

#[tokio::test]
async fn an_owner_has_at_most_fifty_saved_reports() {
    let app = TestApp::with_operator().await;
    let owner = app.user(Caller::Operator).await.id;
    let now = app.state.store.now();
    let others = (0..49).map(|n| {
        doc! {
            "_id": bson::Uuid::new(), "ownerId": owner, "scope": "platform", "name": format!("{n}"),
            "query": { "report": "mrr" }, "revision": 1_i64, "createdAt": now, "updatedAt": now,
        }
    });
    let saved = app.collection("saved_reports");
    saved.insert_many(others).await.unwrap();

    let names = ["a", "b", "c"];
    let replies = join_all(names.map(|name| save(&app, growth(name)))).await;

    let expected = [
        "201",
        "409 too_many_saved_reports",
        "409 too_many_saved_reports",
    ];
    assert_eq!(sorted_summaries(&replies), expected);
}

#[tokio::test]
async fn a_report_that_could_not_be_run_is_not_saved() {
    let app = TestApp::with_operator().await;
    let body = |fields: Value| {
        let mut body = json!({ "name": "Long", "report": "mrr" });
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        body
    };

    let long = save(&app, body(json!({ "from": "2020-01", "to": "2025-01" }))).await;
    let both = save(&app, body(json!({ "last": 3, "from": "2025-01" }))).await;

    assert_eq!(long.summary(), "422 report_too_long");
    assert_eq!(both.errors(), [("/last", "not_supported")]);
    assert_eq!(app.count("saved_reports").await, 0);
}
