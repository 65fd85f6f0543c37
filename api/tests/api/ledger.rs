//! Ledger of partners: shares of invoices, amounts of operators, balances, and payouts.

use bson::{Document, doc};
use dezky_shared::{
    billing::month::Month,
    id::{PartnerId, PayoutId},
    ledger::{LedgerEntry, Payout, PayoutStatus},
    money::partner_cut,
};
use futures::{TryStreamExt as _, future::join_all};
use serde_json::{Value, json};

use crate::{
    app::TestApp,
    client::{Reply, sorted_summaries},
};

/// A tenant `demo` of a partner with this margin, in basis points.
async fn with_margin(app: &TestApp, margin: i32) -> PartnerId {
    let partner = app.with_partner("owner").await;
    let margin = doc! { "marginBasisPoints": margin };
    app.set("partners", doc! { "_id": partner }, margin).await;
    partner
}

async fn adjust(app: &TestApp, amount: i64, corrects: Option<&Value>) -> Value {
    let mut body = json!({
        "lines": [{ "description": "Setup", "amountMinor": amount }], "reason": "Agreed", "currency": "DKK",
    });
    if let Some(corrected) = corrects {
        body["corrects"] = corrected["id"].clone();
    }
    let issued = app.operator().post("/tenants/demo/invoices", body).await;
    assert_eq!(issued.status, 201, "{issued:?}");
    issued.body
}

async fn pay(app: &TestApp, invoice: &Value) -> Reply {
    let id = invoice["id"].as_str().unwrap();
    let path = format!("/tenants/demo/invoices/{id}/mark-paid");
    let body = json!({ "reference": "Bank 1" });
    app.operator().post(path, body).await
}

/// All entries, oldest first.
async fn entries(app: &TestApp) -> Vec<LedgerEntry> {
    let entries = app.state.store.collection::<LedgerEntry>("ledger_entries");
    let found = entries.find(doc! {}).sort(doc! { "_id": 1 }).await;
    found.unwrap().try_collect().await.unwrap()
}

fn amounts(entries: &[LedgerEntry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.amount_minor).collect()
}

#[tokio::test]
async fn a_share_is_credited_when_the_invoice_is_paid_and_taken_back_by_corrections() {
    let app = TestApp::with_demo().await;
    with_margin(&app, 2_000).await;
    let invoice = adjust(&app, 9_999, None).await;

    let before = entries(&app).await.len();
    pay(&app, &invoice).await;
    pay(&app, &invoice).await;
    // A later margin changes nothing.
    app.set("partners", doc! {}, doc! { "marginBasisPoints": 5_000 })
        .await;
    for _ in 0..3 {
        adjust(&app, -3_333, Some(&invoice)).await;
    }

    assert_eq!(before, 0);
    assert_eq!(amounts(&entries(&app).await), [2_000, -667, -666, -667]);
    let balances = app.partner().get("/partner/balances").await;
    assert_eq!(
        balances.body["items"],
        json!([{
            "currency": "DKK", "exponent": 2, "accruedMinor": 2_000, "reversedMinor": 2_000, "adjustedMinor": 0,
            "unsettledMinor": 0, "pendingMinor": 0, "paidOutMinor": 0,
        }])
    );
    let ledger = app.partner().get("/partner/ledger?limit=2").await;
    assert_eq!(ledger.items().len(), 2);
    assert_eq!(ledger.items()[0]["kind"], "reversal");
    assert_eq!(ledger.items()[0]["baseMinor"], 0);
    assert_eq!(ledger.items()[0]["marginPct"], 20.0);
    assert!(ledger.body["nextCursor"].is_string());
}

#[tokio::test]
async fn concurrent_corrections_end_in_the_share_of_what_is_left() {
    let app = TestApp::with_demo().await;
    with_margin(&app, 3_333).await;
    let invoices = [1_001, 500, 7];
    let mut issued = Vec::new();
    for amount in invoices {
        issued.push(adjust(&app, amount, None).await);
    }

    join_all(issued.iter().map(|invoice| pay(&app, invoice))).await;
    let corrections = issued.iter().flat_map(|invoice| {
        let app = &app;
        (0..3).map(move |_| adjust(app, -2, Some(invoice)))
    });
    join_all(corrections).await;

    let sum: i64 = amounts(&entries(&app).await).iter().sum();
    let expected: i64 = invoices.iter().map(|net| partner_cut(net - 6, 3_333)).sum();
    assert_eq!(sum, expected);
    let balances = app.partner().get("/partner/balances").await;
    assert_eq!(balances.items()[0]["unsettledMinor"], expected);
}

#[tokio::test]
async fn an_invoice_without_a_partner_and_a_voided_one_credit_nothing() {
    let app = TestApp::with_demo().await;
    let without = adjust(&app, 100, None).await;
    with_margin(&app, 2_000).await;
    let voided = adjust(&app, 100, None).await;

    pay(&app, &without).await;
    let id = voided["id"].as_str().unwrap();
    let path = format!("/tenants/demo/invoices/{id}/void");
    let reply = app
        .operator()
        .post(path, json!({ "reason": "Wrong" }))
        .await;

    assert_eq!(reply.status, 200);
    assert_eq!(entries(&app).await.len(), 0);
}

#[tokio::test]
async fn an_operator_writes_amounts_to_a_ledger() {
    let app = TestApp::with_demo().await;
    let partner = app.with_partner("manager").await;
    let partner = app.document("partners", doc! { "_id": partner }).await;
    let path = format!("/partners/{}/ledger", partner.get_str("slug").unwrap());
    let body = |amount: i64| json!({ "currency": "EUR", "amountMinor": amount, "reason": "Bonus" });

    let written = app.operator().post(&path, body(500)).await;
    app.operator().post(&path, body(-200)).await;
    let unknown = app.operator().post("/partners/none/ledger", body(1)).await;

    assert_eq!(written.status, 201, "{written:?}");
    assert_eq!(written.body["kind"], "adjustment");
    assert_eq!(unknown.summary(), "404 not_found");
    let listed = app.operator().get(&path).await;
    assert_eq!(listed.items()[1], written.body);
    let balances = app.operator().get(path.replace("ledger", "balances")).await;
    assert_eq!(balances.items()[0]["adjustedMinor"], 300);
    assert_eq!(balances.items()[0]["unsettledMinor"], 300);
    let event = app.audit_event("ledger.adjust").await;
    let after = event.get_document("after").unwrap();
    assert_eq!(after.get_i64("amountMinor").unwrap(), -200);
}

impl TestApp {
    /// Adds a pending payout in DKK for October 2024, with the partner's balance.
    pub(crate) async fn add_payout(&self, partner: PartnerId, amount: i64) -> Payout {
        let (now, month) = (self.state.store.now(), "2024-10".parse::<Month>().unwrap());
        let payout = Payout {
            id: PayoutId::deterministic(partner, "DKK", month.end()),
            partner_id: partner,
            currency: "DKK".to_owned(),
            month,
            amount_minor: amount,
            entry_count: 2,
            status: PayoutStatus::Pending,
            paid_at: None,
            reference: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let payouts = self.state.store.collection::<Payout>("payouts");
        payouts.insert_one(&payout).await.unwrap();
        let change = doc! {
            "$inc": { "pendingMinor": amount, "unsettledMinor": 0_i64 },
            "$setOnInsert": { "partnerId": partner, "currency": "DKK" },
        };
        let balances = self.collection("partner_balances");
        let id = doc! { "_id": format!("{partner}/DKK") };
        balances.update_one(id, change).upsert(true).await.unwrap();
        payout
    }
}

#[tokio::test]
async fn a_payout_is_paid_once() {
    let app = TestApp::with_demo().await;
    let partner = app.with_partner("owner").await;
    let payout = app.add_payout(partner, 700).await;
    let path = format!("/payouts/{}/mark-paid", payout.id);
    let body = json!({ "reference": "Bank 7" });

    let pending = app.operator().get("/payouts?status=pending").await;
    let replies = (0..3).map(|_| async { app.operator().post(&path, &body).await });
    let replies = join_all(replies).await;

    assert_eq!(pending.items().len(), 1);
    let expected = ["200", "409 payout_not_pending", "409 payout_not_pending"];
    assert_eq!(sorted_summaries(&replies), expected);
    let own = app.partner().get("/partner/payouts").await;
    assert_eq!(own.items()[0]["status"], "paid");
    assert_eq!(own.items()[0]["month"], "2024-10");
    let balance: Document = app.document("partner_balances", doc! {}).await;
    assert_eq!(balance.get_i64("pendingMinor").unwrap(), 0);
    assert_eq!(balance.get_i64("paidOutMinor").unwrap(), 700);
}
