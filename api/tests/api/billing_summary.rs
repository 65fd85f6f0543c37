//! Monthly summaries of billing, payouts by request, and invoices that a partner owes.

use bson::{DateTime, doc};
use dezky_shared::{
    billing::month::Month,
    id::{LedgerEntryId, PartnerId},
    ledger::{EntryKind, LedgerEntry},
    queue::args::{ClosePayouts, ReleasePayout},
    store::TransactionError,
};
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::{app::TestApp, client::Reply};

async fn issue(app: &TestApp, body: Value) -> Value {
    let issued = app.operator().post("/tenants/demo/invoices", body).await;
    assert_eq!(issued.status, 201, "{issued:?}");
    issued.body
}

fn over(amount: i64, currency: &str) -> Value {
    json!({
        "lines": [{ "description": "Setup", "amountMinor": amount }], "reason": "Agreed", "currency": currency,
    })
}

async fn act(app: &TestApp, invoice: &Value, action: &str, body: Value) {
    let id = invoice["id"].as_str().unwrap();
    let path = format!("/tenants/demo/invoices/{id}/{action}");
    let reply = app.operator().post(path, body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// The slug of a partner of `demo` with a margin of 20 %.
pub(crate) async fn partner(app: &TestApp) -> (PartnerId, String) {
    let partner = app.with_partner("owner").await;
    let slug = "seller".to_owned();
    let change = doc! { "marginBasisPoints": 2_000, "slug": &slug };
    app.set("partners", doc! { "_id": partner }, change).await;
    (partner, slug)
}

#[tokio::test]
async fn a_summary_adds_up_what_was_recorded_in_the_month_by_currency() {
    let app = TestApp::with_demo().await;
    let (_, slug) = partner(&app).await;
    let paid = issue(&app, over(10_000, "DKK")).await;
    let voided = issue(&app, over(700, "DKK")).await;
    issue(&app, over(50, "JPY")).await;

    act(&app, &paid, "mark-paid", json!({ "reference": "Bank 1" })).await;
    act(&app, &voided, "void", json!({ "reason": "Wrong" })).await;
    let mut correction = over(-1_000, "DKK");
    correction["corrects"] = paid["id"].clone();
    issue(&app, correction).await;
    let bonus = json!({ "currency": "EUR", "amountMinor": 5, "reason": "Bonus" });
    let path = format!("/partners/{slug}/ledger");
    app.operator().post(path, bonus).await;

    let platform = app.operator().get("/billing/summary").await.body;
    let own = app.partner().get("/partner/billing/summary").await.body;
    assert_eq!(platform["complete"], false);
    let row = |currency: &str, exponent: i64, amounts: [i64; 6]| {
        json!({
            "currency": currency, "exponent": exponent, "billedMinor": amounts[0], "voidedMinor": amounts[1],
            "paidMinor": amounts[2], "accruedMinor": amounts[3], "reversedMinor": amounts[4],
            "adjustedMinor": amounts[5],
        })
    };
    let with = |mut row: Value, fields: Value| {
        let fields = fields.as_object().unwrap().clone();
        row.as_object_mut().unwrap().extend(fields);
        row
    };
    let dkk = row("DKK", 2, [9_700, 700, 9_000, 2_000, 200, 0]);
    let eur = row("EUR", 2, [0, 0, 0, 0, 0, 5]);
    let jpy = row("JPY", 0, [50, 0, 0, 0, 0, 0]);
    assert_eq!(
        platform["currencies"],
        json!([
            with(dkk.clone(), json!({ "platformMinor": 7_200 })),
            with(eur.clone(), json!({ "platformMinor": -5 })),
            with(jpy.clone(), json!({ "platformMinor": 0 })),
        ])
    );
    assert_eq!(
        own["currencies"],
        json!([
            with(dkk, json!({ "unsettledMinor": 1_800, "pendingMinor": 0 })),
            with(eur, json!({ "unsettledMinor": 5, "pendingMinor": 0 })),
            jpy,
        ])
    );
    let past = app.operator().get("/billing/summary?month=2020-01").await;
    let expected = json!({ "month": "2020-01", "complete": true, "currencies": [] });
    assert_eq!(past.body, expected);
}

#[tokio::test]
async fn a_partner_sees_the_summary_of_its_own_invoices_only() {
    let app = TestApp::with_demo().await;
    issue(&app, over(300, "DKK")).await;
    let (id, _) = partner(&app).await;
    let paid = issue(&app, over(500, "DKK")).await;
    act(&app, &paid, "mark-paid", json!({ "reference": "Bank 1" })).await;
    // The correction counts for the partner of the corrected invoice, which the tenant has left.
    app.set_tenant("demo", doc! { "partnerId": null }).await;
    let mut correction = over(-100, "DKK");
    correction["corrects"] = paid["id"].clone();
    issue(&app, correction).await;

    let own = app.partner().get("/partner/billing/summary").await.body;
    let platform = app.operator().get("/billing/summary").await.body;

    let own = &own["currencies"][0];
    assert_eq!(
        (&own["billedMinor"], &own["paidMinor"]),
        (&json!(400), &json!(400))
    );
    assert_eq!(
        (&own["accruedMinor"], &own["reversedMinor"]),
        (&json!(100), &json!(20))
    );
    assert_eq!(platform["currencies"][0]["billedMinor"], 700);
    let corrections = doc! { "corrects": { "$exists": true }, "partnerId": id };
    let stored = app.document("invoices", corrections).await;
    assert_eq!(stored.get_i32("marginBasisPoints").unwrap(), 2_000);
}

pub(crate) async fn credit(app: &TestApp, partner: PartnerId, amount: i64) {
    let at = DateTime::parse_rfc3339_str("2025-01-10T10:00:00Z").unwrap();
    let entry = LedgerEntry {
        id: LedgerEntryId::new(),
        partner_id: partner,
        kind: EntryKind::Adjustment,
        currency: "DKK".to_owned(),
        amount_minor: amount,
        tenant_id: None,
        invoice_id: None,
        sequence: None,
        base_minor: None,
        margin_basis_points: None,
        reason: None,
        occurred_at: at,
        recorded_at: at,
        payout_id: None,
    };
    let appended = app.state.store.transaction(
        (&app.state.db.ledger, &entry),
        |session, (ledger, entry)| {
            async move { Ok::<_, TransactionError<()>>(ledger.append(session, entry).await?) }
                .boxed()
        },
    );
    appended.await.unwrap();
}

async fn request(app: &TestApp, slug: &str, month: &str) -> Reply {
    let body = json!({ "partner": slug, "currency": "DKK", "month": month });
    app.operator().post("/payouts", body).await
}

#[tokio::test]
async fn a_payout_is_requested_only_if_something_is_owed_at_the_end_of_the_month() {
    let app = TestApp::with_demo().await;
    let (id, slug) = partner(&app).await;
    credit(&app, id, 700).await;
    let this_month = Month::of(app.state.store.now()).to_string();

    let early = request(&app, &slug, "2024-12").await;
    let unknown = request(&app, "absent", "2025-01").await;
    let running = request(&app, &slug, &this_month).await;
    let accepted = request(&app, &slug, "2025-01").await;

    assert_eq!(early.summary(), "409 nothing_to_pay");
    assert_eq!(unknown.errors(), [("/partner", "unknown_partner")]);
    assert_eq!(running.errors(), [("/month", "in_future")]);
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let jobs = app.jobs().await;
    let args: ClosePayouts = jobs.last().unwrap().args().unwrap();
    let only = args.only.unwrap();
    assert_eq!((only.partner_id, only.currency.as_str()), (id, "DKK"));
    let event = app.audit_event("payout.request").await;
    let after = event.get_document("after").unwrap();
    assert_eq!(after.get_str("month").unwrap(), "2025-01");
}

#[tokio::test]
async fn a_cancelled_payout_is_owed_again_and_its_entries_are_released() {
    let app = TestApp::with_demo().await;
    let (id, slug) = partner(&app).await;
    credit(&app, id, 700).await;
    let payout = app.add_payout(id, 700).await;
    let path = format!("/payouts/{}", payout.id);

    let cancelled = app.operator().post_empty(format!("{path}/cancel")).await;
    let again = app.operator().post_empty(format!("{path}/cancel")).await;
    let shown = app.operator().get(&path).await;
    let own = app.partner().get(format!("/partner{path}")).await;
    let exists = request(&app, &slug, &payout.month.to_string()).await;

    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(shown.body, cancelled.body);
    assert_eq!(own.body["status"], "cancelled");
    assert_eq!(again.summary(), "409 payout_not_pending");
    assert_eq!(exists.summary(), "409 payout_exists");
    let jobs = app.jobs().await;
    let args: ReleasePayout = jobs.last().unwrap().args().unwrap();
    assert_eq!(args.payout_id, payout.id);
    let balance = app.document("partner_balances", doc! {}).await;
    let amount = |field: &str| balance.get_i64(field).unwrap();
    assert_eq!(
        (amount("unsettledMinor"), amount("pendingMinor")),
        (1_400, 0)
    );
}

#[tokio::test]
async fn a_payout_of_another_partner_is_concealed() {
    let app = TestApp::with_demo().await;
    partner(&app).await;
    let payout = app.add_payout(PartnerId::new(), 700).await;

    let foreign = app.partner().get(format!("/partner/payouts/{}", payout.id));

    assert_eq!(foreign.await.summary(), "404 not_found");
}

#[tokio::test]
async fn an_invoice_is_billed_to_the_partner_without_a_margin() {
    let app = TestApp::with_billing().await;
    let by_partner = json!({ "partnerBilled": true });
    let without = app.subscribe("demo", by_partner.clone()).await;
    let (id, _) = partner(&app).await;

    let sold = app.subscribe("demo", by_partner).await;
    let invoice = app.issue().await;
    let path = format!("/subscriptions/{}", sold.body["id"].as_str().unwrap());
    let by_tenant = json!({ "partnerBilled": false });
    let changed = app.operator().patch(path, by_tenant).await;
    let next = app.issue().await;

    assert_eq!(without.errors(), [("/partnerBilled", "needs_partner")]);
    assert_eq!(sold.body["partnerBilled"], true, "{sold:?}");
    assert_eq!(changed.body["partnerBilled"], Value::Null, "{changed:?}");
    assert_eq!(
        (invoice.partner_billed, invoice.partner_id),
        (true, Some(id))
    );
    assert_eq!(invoice.margin_basis_points, 0);
    let stored = app.document("partners", doc! { "_id": id }).await;
    let name = stored.get_str("name").unwrap();
    assert_eq!(invoice.bill_to.company.as_deref(), Some(name));
    assert_eq!(
        (next.partner_billed, next.margin_basis_points),
        (false, 2_000)
    );
}
