//! Billing of a tenant: selling under the flag, what an enrolled subscription refuses, and invoice runs by hand.

use bson::doc;
use dezky_api::Config;
use dezky_shared::{
    invoice::{FreeToPaid, Invoice, InvoicingConfig, Parties},
    queue::args::InvoiceSubscription,
    subscription::Subscription,
};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::{
    app::{TestApp, shared_issuer},
    client::Reply,
};

const DAY: i64 = 24 * 60 * 60 * 1_000;

impl TestApp {
    /// The app with the tenant `demo`, which is invoiced here.
    pub(crate) async fn with_billing() -> Self {
        let app = Self::with_demo().await;
        app.turn_billing_on().await;
        app
    }

    async fn turn_billing_on(&self) {
        let flag =
            json!({ "key": "new_billing_engine", "description": "Billing.", "default": true });
        let created = self.operator().post("/flags", flag).await;
        assert_eq!(created.status, 201, "{created:?}");
    }

    pub(crate) async fn billing(&self) -> Value {
        self.operator().get("/tenants/demo/billing").await.body
    }

    /// The stored live subscription of `demo`.
    pub(crate) async fn live_subscription(&self) -> Subscription {
        let id = self.tenant("demo").await.id;
        let mut live = self.state.db.subscriptions.list_live(&[id]).await.unwrap();
        live.remove(&id).flatten().unwrap()
    }

    /// Issues the invoice of the next period, as the worker does.
    pub(crate) async fn issue(&self) -> Invoice {
        let tenant = self.tenant("demo").await;
        let sold = self.live_subscription().await;
        let through = sold.invoiced_through.unwrap();
        let period = sold.periods().unwrap().starting_at(through).unwrap();
        let partner = match tenant.partner_id {
            Some(id) => self.state.db.partners.find(id).await.unwrap(),
            None => None,
        };
        let parties = Parties {
            tenant: &tenant,
            partner: partner.as_ref(),
        };
        let (config, now) = (InvoicingConfig::default(), self.state.store.now());
        let mut invoice = Invoice::of_period(&sold, period, parties, &config, now);
        let count = self.count("invoices").await;
        invoice.number = Some(format!("TEST-{count}"));
        let invoices = self.state.store.collection::<Invoice>("invoices");
        invoices.insert_one(&invoice).await.unwrap();
        let through = doc! { "invoicedThrough": period.end };
        self.set("subscriptions", doc! { "_id": sold.id }, through)
            .await;
        invoice
    }
}

/// A time this many days ago, in whole seconds.
fn days_ago(app: &TestApp, days: i64) -> String {
    let millis = app.state.store.now().timestamp_millis() - days * DAY;
    let time = bson::DateTime::from_millis(millis - millis.rem_euclid(1_000));
    time.try_to_rfc3339_string().unwrap()
}

async fn run(app: &TestApp, body: Value) -> Reply {
    let path = "/tenants/demo/billing/invoice";
    app.operator().post(path, body).await
}

#[tokio::test]
async fn a_sale_under_the_flag_is_enrolled_and_its_invoice_requested() {
    let app = TestApp::with_billing().await;
    let started = "2026-01-31T10:00:00.250Z";

    let sold = app.subscribe("demo", json!({ "startedAt": started })).await;

    assert_eq!(sold.status, 202, "{sold:?}");
    let job = &sold.body["job"];
    assert_eq!(sold.header("location"), job["href"].as_str());
    let stored = app.live_subscription().await;
    let text = |time: Option<bson::DateTime>| time.unwrap().try_to_rfc3339_string().unwrap();
    assert_eq!(text(stored.started_at), "2026-01-31T10:00:00Z");
    assert_eq!(stored.billing_anchor, stored.started_at);
    let due = stored.due_periods(app.state.store.now());
    // Only the period in progress.
    assert_eq!(due.len(), 1);
    let jobs = app.jobs().await;
    let job = jobs.last().unwrap();
    assert_eq!(job.kind, "invoice_subscription");
    let args: InvoiceSubscription = job.args().unwrap();
    assert_eq!(args.subscription_id, stored.id);
    assert_eq!(job.lock_key, format!("billing:{}", stored.tenant_id));
    let event = app.audit_event("subscription.create").await;
    assert_eq!(event.get_str("outcome").unwrap(), "accepted");
}

#[tokio::test]
async fn a_sale_without_the_flag_is_not_enrolled() {
    let app = TestApp::with_demo().await;

    let sold = app.subscribe("demo", json!({})).await;
    let ends = app
        .operator()
        .patch(
            format!("/subscriptions/{}", sold.body["id"].as_str().unwrap()),
            json!({ "cancelAtPeriodEnd": true }),
        )
        .await;

    assert_eq!(sold.status, 201);
    assert_eq!(app.live_subscription().await.invoiced_through, None);
    assert_eq!(ends.summary(), "409 billing_off");
    let billing = app.billing().await;
    assert_eq!(billing["enabled"], false);
    assert_eq!(billing["nextInvoice"], Value::Null);
    assert_eq!(run(&app, json!({})).await.summary(), "409 billing_off");
}

#[tokio::test]
async fn an_enrolled_subscription_refuses_what_its_invoices_decide() {
    let app = TestApp::with_billing().await;
    let sold = app.subscribe("demo", json!({})).await;
    let path = format!("/subscriptions/{}", sold.body["id"].as_str().unwrap());
    let edit = async |body: Value| app.operator().patch(&path, &body).await;

    for (body, expected) in [
        (json!({ "status": "past_due" }), "409 managed_by_billing"),
        (
            json!({ "startedAt": "2026-01-01T00:00:00Z" }),
            "409 managed_by_billing",
        ),
        (
            json!({ "renewsAt": "2030-01-01T00:00:00Z" }),
            "409 managed_by_billing",
        ),
        (json!({ "renewsAt": null }), "409 managed_by_billing"),
        (
            json!({ "currency": "EUR", "priceMinor": 1 }),
            "409 currency_fixed",
        ),
        (json!({ "currency": "DKK", "seats": 7 }), "200"),
        (json!({ "cancelAtPeriodEnd": true }), "200"),
        (json!({ "cancelAtPeriodEnd": null }), "400 invalid_request"),
    ] {
        assert_eq!(edit(body.clone()).await.summary(), expected, "{body}");
    }
    let ending = app.billing().await;
    assert_eq!(ending["subscription"]["cancelAtPeriodEnd"], true);
    assert_eq!(ending["nextInvoice"], Value::Null);
    let before = app.live_subscription().await;
    let yearly = json!({ "cycle": "yearly", "priceMinor": 499_000, "cancelAtPeriodEnd": false });
    edit(yearly).await;
    let after = app.live_subscription().await;
    assert_eq!(after.billing_anchor, before.invoiced_through);
    let next = &app.billing().await["nextInvoice"];
    assert_eq!(next["subtotalMinor"], 499_000);
    let cancelled = app.operator().delete(&path).await;
    assert_eq!(cancelled.body["endedBy"], "operator");
}

#[tokio::test]
async fn billing_shows_balance_and_next_invoice() {
    let app = TestApp::with_billing().await;
    app.subscribe("demo", json!({})).await;

    let before = app.billing().await;
    let invoice = app.issue().await;
    let after = app.billing().await;
    let due = doc! { "dueAt": bson::DateTime::from_millis(0) };
    app.set("invoices", doc! { "_id": invoice.id }, due).await;
    let late = app.billing().await;

    assert_eq!(before["balanceDue"], json!({}));
    assert_eq!(before["nextInvoice"]["subtotalMinor"], 49_900);
    assert_eq!(before["nextInvoice"]["exponent"], 2);
    assert_eq!(after["balanceDue"], json!({ "DKK": 49_900 }));
    assert_eq!(after["balanceOverdue"], json!({}));
    assert_eq!(
        after["nextInvoice"]["at"],
        before["nextInvoice"]["periodEnd"]
    );
    assert_eq!(late["balanceOverdue"], json!({ "DKK": 49_900 }));
    assert_eq!(after["held"], Value::Null);
}

#[tokio::test]
async fn an_operator_releases_or_skips_periods_that_are_held() {
    let app = TestApp::with_billing().await;
    assert_eq!(run(&app, json!({})).await.summary(), "409 no_subscription");
    app.subscribe("demo", json!({})).await;
    let anchor = days_ago(&app, 130);
    let anchor = bson::DateTime::parse_rfc3339_str(anchor).unwrap();
    let sold = app.live_subscription().await;
    let fields = doc! { "invoicedThrough": anchor, "billingAnchor": anchor };
    app.set("subscriptions", doc! { "_id": sold.id }, fields)
        .await;
    let sold = app.live_subscription().await;
    let due = sold.due_periods(app.state.store.now());
    let start = |n: usize| due[n].start.try_to_rfc3339_string().unwrap();

    let held = app.billing().await["held"].clone();
    let asked = run(&app, json!({ "periods": due.len() })).await;
    let repeated = run(&app, json!({ "periods": due.len(), "dryRun": true })).await;

    assert_eq!(due.len(), 5);
    assert_eq!(held["periods"], 5);
    assert_eq!(asked.status, 202, "{asked:?}");
    assert_eq!(asked.header("location"), asked.body["job"]["href"].as_str());
    assert_ne!(asked.body["job"]["id"], repeated.body["job"]["id"]);
    let event = app.audit_event("subscription.invoice").await;
    let after = event.get_document("after").unwrap();
    assert_eq!(after, &doc! { "dryRun": true, "periods": 5_i64 });
    let far = due[4].end.try_to_rfc3339_string().unwrap();
    let beyond = sold.periods().unwrap().starting_at(due[4].end).unwrap().end;
    let beyond = beyond.try_to_rfc3339_string().unwrap();
    for (body, expected) in [
        (json!({ "periods": 4 }), "409 periods_differ"),
        (json!({ "skipTo": start(3), "periods": 2 }), "202"),
        (
            json!({ "skipTo": start(3), "periods": 5 }),
            "409 periods_differ",
        ),
        (json!({ "skipTo": far }), "202"),
        (json!({ "skipTo": beyond }), "422 validation_failed"),
        (json!({ "skipTo": start(0) }), "422 validation_failed"),
        (
            json!({ "skipTo": days_ago(&app, 1) }),
            "422 validation_failed",
        ),
        (json!({ "periods": 0 }), "422 validation_failed"),
    ] {
        assert_eq!(run(&app, body.clone()).await.summary(), expected, "{body}");
    }
}

#[tokio::test]
async fn a_plain_run_joins_the_job_that_waits() {
    let app = TestApp::with_billing().await;
    let sold = app.subscribe("demo", json!({})).await;

    let run = app
        .operator()
        .post_empty("/tenants/demo/billing/invoice")
        .await;

    assert_eq!(run.status, 202);
    assert_eq!(run.body["job"]["id"], sold.body["job"]["id"]);
}

#[tokio::test]
async fn members_without_a_say_in_billing_see_none_of_it() {
    let app = TestApp::with_billing().await;
    app.with_partner("support").await;

    for (caller, expected) in [
        (Caller::Member, "403 forbidden"),
        (Caller::Partner, "403 forbidden"),
        (Caller::Stranger, "404 not_found"),
        (Caller::Owner, "200"),
    ] {
        for path in ["/tenants/demo/billing", "/tenants/demo/invoices"] {
            let reply = app.client(caller).get(path).await;
            assert_eq!(reply.summary(), expected, "{path} {caller:?}");
        }
    }
}

#[tokio::test]
async fn a_sync_is_requested_and_its_result_shown_without_ids() {
    let app = TestApp::with_billing().await;
    let before = app.billing().await;

    let path = "/tenants/demo/billing/sync";
    let asked = app.operator().post_empty(path).await;
    let joined = app.operator().post_empty(path).await;
    let preview = app.operator().post(path, json!({ "dryRun": true })).await;
    let account = doc! {
        "_id": app.tenant("demo").await.id, "stripeCustomerId": "cus_1", "livemode": false,
        "syncedAt": app.state.store.now(),
        "defaultCard": {
            "paymentMethodId": "pm_1", "brand": "visa", "last4": "4242", "expMonth": 4, "expYear": 2029,
        },
    };
    app.collection("billing_accounts")
        .insert_one(account)
        .await
        .unwrap();
    let after = app.billing().await;

    assert_eq!(asked.status, 202, "{asked:?}");
    assert_eq!(asked.header("location"), asked.body["job"]["href"].as_str());
    assert_eq!(asked.body["job"]["id"], joined.body["job"]["id"]);
    assert_ne!(asked.body["job"]["id"], preview.body["job"]["id"]);
    let event = app.audit_event("billing.sync").await;
    let after_event = event.get_document("after").unwrap();
    assert!(after_event.contains_key("dryRun"));
    assert_eq!(before["customer"], "none");
    assert_eq!(before["defaultCard"], Value::Null);
    assert_eq!(after["customer"], "ready");
    let card = json!({ "brand": "visa", "last4": "4242", "expMonth": 4, "expYear": 2029 });
    assert_eq!(after["defaultCard"], card);
    assert!(!after.to_string().contains("cus_1"));
}

#[tokio::test]
async fn a_sync_without_the_flag_is_refused() {
    let app = TestApp::with_demo().await;

    let refused = app
        .operator()
        .post_empty("/tenants/demo/billing/sync")
        .await;

    assert_eq!(refused.summary(), "409 billing_off");
}

/// A tenant of a free plan buys one within a period over nothing.
#[tokio::test]
async fn a_price_where_there_was_none_counts_at_once_if_so_configured() {
    let change = |config: &mut Config| config.invoicing.free_to_paid = FreeToPaid::Now;
    let app = TestApp::start_with(shared_issuer(), change).await;
    app.demo().await;
    app.turn_billing_on().await;
    let terms = json!({ "priceMinor": 0, "startedAt": days_ago(&app, 3) });
    let sold = app.subscribe("demo", terms).await;
    let path = format!("/subscriptions/{}", sold.body["id"].as_str().unwrap());
    let free = app.issue().await;
    let price = |minor: i64| json!({ "priceMinor": minor });
    // From now on its periods are counted from the end of this one.
    let yearly = json!({ "cycle": "yearly", "priceMinor": 0 });
    app.operator().patch(&path, yearly).await;

    let bought = app.operator().patch(&path, price(30_000)).await;
    let after = app.live_subscription().await;
    let invoices = app.state.store.collection::<Invoice>("invoices");
    let ended = invoices.find_one(doc! { "_id": free.id }).await.unwrap();
    let ended = ended.unwrap().period.unwrap();
    let paid = app.issue().await;
    // It is paid for by now: another change of the price counts from the next period.
    app.operator().patch(&path, price(0)).await;
    app.operator().patch(&path, price(40_000)).await;

    assert_eq!(bought.status, 202, "{bought:?}");
    assert_eq!(app.jobs().await.pop().unwrap().kind, "invoice_subscription");
    assert_eq!(Some(ended.end), after.invoiced_through);
    assert_eq!(after.billing_anchor, after.invoiced_through);
    assert!(ended.end < free.period.unwrap().end);
    assert_eq!(paid.subtotal_minor, 30_000);
    assert_eq!(paid.period.unwrap().start, ended.end);
    let through = app.live_subscription().await.invoiced_through;
    assert_eq!(through, Some(paid.period.unwrap().end));
}
