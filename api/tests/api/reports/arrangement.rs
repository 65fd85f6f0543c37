//! Arrangement of reports: groups by plan and partner, and the order and number of rows.

use bson::doc;
use dezky_shared::{billing::Plan, id::PartnerId};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::{Sale, add_up, sale, values};
use crate::app::TestApp;

#[tokio::test]
async fn recurring_revenue_is_grouped_by_plan() {
    let app = TestApp::with_operator().await;
    let starter = |price_minor| Sale {
        plan: Plan::Starter,
        ..sale(2, "DKK", price_minor)
    };
    let months = [
        ("2025-01", vec![sale(1, "DKK", 120), starter(24)]),
        ("2025-02", vec![sale(1, "DKK", 120), starter(36)]),
    ];
    add_up(&app, &months).await;

    let path = "/reports/mrr?from=2025-01&to=2025-02&groupBy=plan";
    let all = app.operator().get(path).await;
    let one = app.operator().get(format!("{path}&plan=starter")).await;

    let series = &all.body["currencies"][0]["series"];
    assert_eq!(values(series, "mrr.business"), [json!(10), json!(10)]);
    assert_eq!(values(series, "mrr.starter"), [json!(2), json!(3)]);
    assert_eq!(values(series, "mrr.enterprise"), [json!(0), json!(0)]);
    assert_eq!(values(series, "expansion.starter"), [json!(0), json!(12)]);
    let labels: Vec<&Value> = series
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["label"])
        .collect();
    assert!(labels.contains(&&json!("Net revenue retention, Starter")));
    let series = one.body["currencies"][0]["series"].as_array().unwrap();
    let is_starter = |it: &Value| it["key"].as_str().unwrap().ends_with(".starter");
    assert!(series.iter().all(is_starter), "{series:?}");
}

/// Writes the totals of partners in a month, as their invoices and ledger entries would.
async fn write_totals(app: &TestApp, month: &str, totals: &[(PartnerId, &str, i64, i64)]) {
    let totals = totals.iter().map(|(partner, currency, paid, accrued)| {
        doc! {
            "_id": format!("{month}/{partner}/{currency}/0"), "scope": partner.to_string(), "month": month,
            "currency": currency, "paidMinor": paid, "accruedMinor": accrued,
        }
    });
    let stored = app.collection("billing_totals");
    stored.insert_many(totals).await.unwrap();
}

/// Keys of the rows of a currency, with the values of a column.
fn column(report: &Value, currency: usize, column: &str) -> Vec<(String, i64)> {
    let rows = report["currencies"][currency]["rows"].as_array().unwrap();
    let value = |row: &Value| {
        let cells = row["cells"].as_array().unwrap();
        let cell = cells.iter().find(|cell| cell["key"] == column).unwrap();
        cell["valueMinor"].as_i64().unwrap()
    };
    rows.iter()
        .map(|row| (row["key"].as_str().unwrap().to_owned(), value(row)))
        .collect()
}

#[tokio::test]
async fn the_revenue_of_partners_is_grouped_sorted_and_limited() {
    let app = TestApp::with_demo().await;
    let own = app.with_partner("owner").await;
    let change = doc! { "slug": "own", "name": "=Own" };
    app.set("partners", doc! { "_id": own }, change).await;
    let other = app.insert_partner("other", "active").await;
    let gone = PartnerId::new();
    let january = [(own, "DKK", 1_000, 200), (other, "DKK", 900, 300)];
    write_totals(&app, "2025-01", &january).await;
    let february = [
        (own, "DKK", 500, 50),
        (gone, "DKK", 2_000, 10),
        (other, "EUR", 7, 1),
    ];
    write_totals(&app, "2025-02", &february).await;
    let path = "reports/partner-revenue?from=2025-01&to=2025-02&groupBy=partner";
    let rows = async |more: &str| app.operator().get(format!("/{path}{more}")).await.body;

    let owed = rows("").await;
    let paid = rows("&sort=-paid&limit=2&currency=DKK").await;
    let ascending = rows("&sort=accrued").await;
    let seen = app.partner().get(format!("/partner/{path}")).await.body;
    let file = app.operator().get(format!("/{path}&limit=2"));
    let file = file.header("accept", "text/csv").open().await;

    let row = |key: &str, value| (key.to_owned(), value);
    let gone = gone.to_string();
    let expected = [row("other", 300), row("own", 250), row(&gone, 10)];
    assert_eq!(column(&owed, 0, "owed"), expected);
    assert_eq!(column(&owed, 1, "owed"), [row("other", 1)]);
    assert_eq!(owed["currencies"][0]["rows"][1]["label"], "=Own");
    let expected = [row(&gone, 2_000), row("own", 1_500)];
    assert_eq!(column(&paid, 0, "paid"), expected);
    assert_eq!(paid["currencies"].as_array().unwrap().len(), 1);
    let expected = [row(&gone, 10), row("own", 250), row("other", 300)];
    assert_eq!(column(&ascending, 0, "accrued"), expected);
    assert_eq!(column(&seen, 0, "owed"), [row("own", 250)]);
    let body = file.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(text.lines().count(), 1 + 3 * 5, "{text}");
    let line = r#""partner-revenue","DKK","2","own","'=Own","owed","minor","250""#;
    assert!(text.lines().any(|it| it == line), "{text}");
}

#[tokio::test]
async fn sums_by_partner_are_read_from_a_limited_number_of_totals() {
    let app = TestApp::with_operator().await;
    let many: Vec<_> = (0..10_001)
        .map(|_| (PartnerId::new(), "DKK", 1, 1))
        .collect();
    write_totals(&app, "2025-01", &many).await;
    write_totals(&app, "2025-02", &many[..1]).await;

    let path = "/reports/partner-revenue?groupBy=partner&to=2025-02";
    let long = app.operator().get(path).await;
    let short = app.operator().get(format!("{path}&from=2025-02")).await;

    assert_eq!(long.summary(), "422 report_too_long");
    assert_eq!(column(&short.body, 0, "owed").len(), 1);
}

#[tokio::test]
async fn customers_and_cohorts_are_sorted_and_limited() {
    let app = TestApp::with_operator().await;
    let sales = vec![
        sale(1, "DKK", 120),
        sale(2, "DKK", 600),
        sale(3, "DKK", 360),
    ];
    add_up(&app, &[("2025-01", sales)]).await;
    let keys = async |more: &str| {
        let path = format!("/reports/top-customers?to=2025-01{more}");
        let report = app.operator().get(path).await;
        let rows = column(&report.body, 0, "arr").into_iter();
        rows.map(|(key, _)| key).collect::<Vec<_>>()
    };

    assert_eq!(keys("&limit=1").await, ["tenant-2"]);
    let by_key = keys("&sort=key&groupBy=tenant").await;
    assert_eq!(by_key, ["tenant-1", "tenant-2", "tenant-3"]);
    assert_eq!(keys("&sort=mrr&limit=2").await, ["tenant-1", "tenant-3"]);
    let path = "/reports/cohorts?from=2025-01&to=2025-01&sort=-size";
    let cohorts = app.operator().get(path).await.body;
    assert_eq!(cohorts["rows"][0]["cells"][0]["value"], 3);
}
