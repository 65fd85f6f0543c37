//! Reports by month and currency: their shape, whom they show what, months without data, and CSV files.

mod arrangement;

use bson::doc;
use dezky_shared::{
    billing::{Cycle, Plan, month::Month},
    id::{PartnerId, SnapshotId, SubscriptionId, TenantId},
    report::{MonthBuilder, TenantMonth},
    subscription::SubscriptionStatus,
    subscription_snapshot::{SubscriptionSnapshot, SubscriptionTerms},
    tenant::TenantStatus,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::app::TestApp;

/// Sale to a tenant, with its price per year.
pub(crate) struct Sale {
    tenant: u8,
    currency: &'static str,
    plan: Plan,
    price_minor: i64,
    partner: Option<PartnerId>,
}

impl Sale {
    fn snapshot(&self, month: Month) -> SubscriptionSnapshot {
        let tenant = TenantId::from_bytes([self.tenant; 16]);
        SubscriptionSnapshot {
            id: SnapshotId::deterministic(tenant, &month.to_string()),
            month,
            tenant_id: tenant,
            slug: format!("tenant-{}", self.tenant),
            tenant_status: TenantStatus::Active,
            plan: self.plan,
            partner_id: self.partner,
            subscription: Some(SubscriptionTerms {
                id: SubscriptionId::from_bytes([self.tenant; 16]),
                status: SubscriptionStatus::Active,
                plan: self.plan,
                cycle: Cycle::Yearly,
                seats: 1,
                currency: self.currency.to_owned(),
                price_minor: self.price_minor,
            }),
            taken_at: month.end(),
        }
    }
}

pub(crate) fn sale(tenant: u8, currency: &'static str, price_minor: i64) -> Sale {
    Sale {
        tenant,
        currency,
        plan: Plan::Business,
        price_minor,
        partner: None,
    }
}

/// Adds the months up, as the worker does. Each tenant is in every month.
pub(crate) async fn add_up(app: &TestApp, months: &[(&str, Vec<Sale>)]) {
    let mut before: Vec<SubscriptionSnapshot> = Vec::new();
    let first: Month = months[0].0.parse().unwrap();
    for (month, sales) in months {
        let month: Month = month.parse().unwrap();
        let mut builder = MonthBuilder::new(month, month.end());
        let after: Vec<_> = sales.iter().map(|sale| sale.snapshot(month)).collect();
        for (index, snapshot) in after.iter().enumerate() {
            let before = before.get(index);
            builder.add(TenantMonth {
                before,
                after: Some(snapshot),
                first_paid: before.and(Some(first)),
            });
        }
        let months = &app.state.db.report_months;
        months.replace_month(&builder.finish()).await.unwrap();
        before = after;
    }
}

/// The values of a series, in order.
fn values(series: &Value, key: &str) -> Vec<Value> {
    let series = series.as_array().unwrap();
    let series = series.iter().find(|it| it["key"] == key).unwrap();
    let field = if series["unit"] == "minor" {
        "valueMinor"
    } else {
        "value"
    };
    let points = series["points"].as_array().unwrap();
    points.iter().map(|point| point[field].clone()).collect()
}

#[tokio::test]
async fn recurring_revenue_is_reported_with_movements_that_add_up() {
    let app = TestApp::with_operator().await;
    add_up(
        &app,
        &[
            ("2025-01", vec![sale(1, "DKK", 120_000), sale(2, "DKK", 18)]),
            ("2025-02", vec![sale(1, "DKK", 90_000), sale(2, "JPY", 600)]),
        ],
    )
    .await;

    let report = app
        .operator()
        .get("/reports/mrr?from=2024-12&to=2025-02")
        .await;

    assert_eq!(report.status, 200, "{report:?}");
    assert_eq!(report.body["complete"], true);
    assert_eq!(report.body["timeZone"], "UTC");
    assert_eq!(report.body["asOf"], "2025-03-01T00:00:00.000Z");
    let currencies = report.body["currencies"].as_array().unwrap();
    let names: Vec<&Value> = currencies.iter().map(|it| &it["currency"]).collect();
    assert_eq!(names, ["DKK", "JPY"]);
    assert_eq!(currencies[1]["exponent"], 0);
    let dkk = |key: &str| values(&currencies[0]["series"], key);
    // 120018 / 12 is rounded once.
    assert_eq!(dkk("mrr"), [Value::Null, json!(10_002), json!(7_500)]);
    assert_eq!(dkk("arrStart"), [Value::Null, json!(0), json!(120_018)]);
    assert_eq!(dkk("new"), [Value::Null, json!(120_018), json!(0)]);
    assert_eq!(dkk("contraction"), [Value::Null, json!(0), json!(30_000)]);
    assert_eq!(dkk("transferOut"), [Value::Null, json!(0), json!(18)]);
    assert_eq!(dkk("churn"), [Value::Null, json!(0), json!(0)]);
    assert_eq!(dkk("arrEnd"), [Value::Null, json!(120_018), json!(90_000)]);
    assert_eq!(dkk("grossChurn"), [Value::Null, Value::Null, json!(2_500)]);
    let jpy = values(&currencies[1]["series"], "transferIn");
    assert_eq!(jpy, [Value::Null, json!(0), json!(600)]);
}

#[tokio::test]
async fn a_report_is_restricted_to_a_currency_and_a_plan() {
    let app = TestApp::with_operator().await;
    let starter = Sale {
        plan: Plan::Starter,
        ..sale(2, "DKK", 24)
    };
    let sales = vec![sale(1, "DKK", 120), starter, sale(3, "EUR", 12)];
    add_up(&app, &[("2025-01", sales)]).await;

    let path = "/reports/mrr?from=2025-01&to=2025-01&currency=DKK&plan=starter";
    let report = app.operator().get(path).await;

    let currencies = report.body["currencies"].as_array().unwrap();
    assert_eq!(currencies.len(), 1);
    assert_eq!(values(&currencies[0]["series"], "mrr"), [json!(2)]);
    let path = "/reports/revenue-by-plan?from=2025-01&to=2025-01";
    let by_plan = app.operator().get(path).await.body;
    let series = &by_plan["currencies"][0]["series"];
    assert_eq!(values(series, "mrr.business"), [json!(10)]);
    assert_eq!(values(series, "mrr.starter"), [json!(2)]);
    assert_eq!(values(series, "paid.other"), [json!(0)]);
}

#[tokio::test]
async fn a_partner_sees_the_tenants_that_were_its_own_in_each_month() {
    let app = TestApp::with_demo().await;
    let own = app.with_partner("manager").await;
    let of = |partner| Sale {
        partner,
        ..sale(1, "DKK", 120)
    };
    let months = [
        ("2025-01", vec![of(Some(own)), sale(2, "DKK", 600)]),
        ("2025-02", vec![of(None), sale(2, "DKK", 600)]),
        ("2025-03", vec![of(None), sale(2, "DKK", 600)]),
    ];
    add_up(&app, &months).await;

    let path = "/partner/reports/growth?from=2024-12&to=2025-03";
    let growth = app.partner().get(path).await;
    let mrr = app.partner().get(path.replace("growth", "mrr")).await;
    let top = app
        .partner()
        .get("/partner/reports/top-customers?to=2025-01");
    let top = top.await;

    let paying = values(&growth.body["series"], "paying");
    assert_eq!(paying, [Value::Null, json!(1), json!(0), json!(0)]);
    let series = &mrr.body["currencies"][0]["series"];
    let ends = values(series, "mrr");
    assert_eq!(ends, [Value::Null, json!(10), json!(0), json!(0)]);
    let out = values(series, "transferOut");
    assert_eq!(out, [Value::Null, json!(0), json!(120), json!(0)]);
    let rows = top.body["currencies"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["key"], "tenant-1");
}

#[tokio::test]
async fn customers_cohorts_and_states_are_rows() {
    let app = TestApp::with_operator().await;
    let months = [
        ("2025-01", vec![sale(1, "DKK", 120), sale(2, "DKK", 600)]),
        ("2025-02", vec![sale(1, "DKK", 0), sale(2, "DKK", 600)]),
    ];
    add_up(&app, &months).await;
    let range = "from=2025-01&to=2025-02";
    let rows = async |name: &str| {
        let report = app.operator().get(format!("/reports/{name}?{range}")).await;
        assert_eq!(report.status, 200, "{report:?}");
        report.body
    };

    let top = rows("top-customers").await;
    let cohorts = rows("cohorts").await;
    let health = rows("health").await;

    let expected = json!([{
        "key": "tenant-2", "label": "Business",
        "cells": [
            { "key": "arr", "unit": "minor", "valueMinor": 600 },
            { "key": "mrr", "unit": "minor", "valueMinor": 50 },
        ],
    }]);
    assert_eq!(top["currencies"][0]["rows"], expected);
    let cells = cohorts["rows"][0]["cells"].as_array().unwrap();
    let cells: Vec<_> = cells
        .iter()
        .map(|cell| (&cell["key"], &cell["value"]))
        .collect();
    assert_eq!(
        json!(cells),
        json!([
            ["size", 2],
            ["paying.0", 10_000],
            ["churned.0", 0],
            ["paying.1", 5_000],
            ["churned.1", 5_000],
        ])
    );
    let states: Vec<&Value> = health["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["key"])
        .collect();
    assert_eq!(states, ["free_of_charge", "paying"]);
}

#[tokio::test]
async fn payments_and_shares_of_the_current_month_are_reported() {
    let app = TestApp::with_demo().await;
    let partner = app.with_partner("owner").await;
    let margin = doc! { "marginBasisPoints": 2_000 };
    app.set("partners", doc! { "_id": partner }, margin).await;
    let body = json!({
        "lines": [{ "description": "Setup", "amountMinor": 10_000 }], "reason": "Agreed", "currency": "DKK",
    });
    let invoice = app.operator().post("/tenants/demo/invoices", body).await;
    let id = invoice.body["id"].as_str().unwrap();
    let path = format!("/tenants/demo/invoices/{id}/mark-paid");
    app.operator()
        .post(path, json!({ "reference": "Bank 1" }))
        .await;
    let this_month = Month::of(app.state.store.now());
    let range = format!("from={}&to={}", this_month.previous(), this_month.next());

    let path = format!("/partner/reports/partner-revenue?{range}");
    let report = app.partner().get(path).await;
    let by_plan = app
        .operator()
        .get(format!("/reports/revenue-by-plan?{range}"))
        .await;

    assert_eq!(report.body["complete"], false);
    let of = |key: &str| values(&report.body["currencies"][0]["series"], key);
    assert_eq!(of("paid"), [json!(0), json!(10_000), Value::Null]);
    assert_eq!(of("owed"), [json!(0), json!(2_000), Value::Null]);
    let paid = values(&by_plan.body["currencies"][0]["series"], "paid.other");
    assert_eq!(paid, [json!(0), json!(10_000), Value::Null]);
}

#[tokio::test]
async fn a_report_is_also_a_csv_file() {
    let app = TestApp::with_operator().await;
    add_up(&app, &[("2025-01", vec![sale(1, "KWD", 12)])]).await;

    let path = "/reports/growth?from=2024-12&to=2025-01";
    let file = app.operator().get(path).header("accept", "text/csv");
    let (head, body) = file.open().await.into_parts();

    let header = |name: &str| head.headers[name].to_str().unwrap();
    assert_eq!(
        header("content-type"),
        "text/csv; charset=utf-8; header=present"
    );
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"growth.csv\""
    );
    assert_eq!(header("vary"), "accept");
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
    assert_eq!(
        lines,
        [
            r#""report","currency","exponent","key","label","point","unit","value""#,
            r#""growth","","","tenants","Tenants","2024-12","count","""#,
            r#""growth","","","tenants","Tenants","2025-01","count","1""#,
            r#""growth","","","paying","Paying tenants","2024-12","count","""#,
            r#""growth","","","paying","Paying tenants","2025-01","count","1""#,
            r#""growth","KWD","3","mrr","MRR","2024-12","minor","""#,
            r#""growth","KWD","3","mrr","MRR","2025-01","minor","1""#,
        ]
    );
}

#[tokio::test]
async fn the_parameters_of_a_report_are_validated() {
    let app = TestApp::with_operator().await;

    for (query, expected) in [
        ("from=2025-13", "400 invalid_request"),
        ("plan=gold", "400 invalid_request"),
        ("from=2025-02&to=2025-01", "422 validation_failed"),
        ("currency=kr", "422 validation_failed"),
        ("from=2022-01&to=2025-01", "422 report_too_long"),
        ("from=2022-02&to=2025-01", "200"),
        ("groupBy=week", "400 invalid_request"),
        ("groupBy=partner", "422 validation_failed"),
        ("sort=size", "422 validation_failed"),
        ("sort=--size", "400 invalid_request"),
        ("limit=0", "422 validation_failed"),
        ("limit=101", "422 validation_failed"),
        ("limit=x", "400 invalid_request"),
        ("groupBy=month&limit=100", "200"),
    ] {
        let reply = app.operator().get(format!("/reports/mrr?{query}")).await;
        assert_eq!(reply.summary(), expected, "{query}");
    }
    let unknown = app.operator().get("/reports/profit").await;
    assert_eq!(unknown.summary(), "404 not_found");
    let empty = app.operator().get("/reports/mrr").await;
    assert_eq!(empty.body["currencies"], json!([]));
    assert_eq!(empty.body["complete"], false);
}
