//! Invoices: adjustments and corrections, payment, voiding, numbers, and lists.

use bson::doc;
use dezky_shared::{
    id::InvoiceId,
    queue::{args::MirrorStripeObject, job::JobArgs as _},
};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    app::{TestApp, id_of},
    client::{Reply, sorted_summaries},
};

const PATH: &str = "/tenants/demo/invoices";

async fn adjust(app: &TestApp, amount: i64, fields: Value) -> Reply {
    let mut body = json!({
        "lines": [{ "description": "Setup", "amountMinor": amount }], "reason": "Agreed by phone",
        "currency": "DKK",
    });
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    app.operator().post(PATH, body).await
}

async fn act(app: &TestApp, invoice: &Value, action: &str, body: Value) -> Reply {
    let id = invoice["id"].as_str().unwrap();
    app.operator()
        .post(format!("{PATH}/{id}/{action}"), body)
        .await
}

async fn pay(app: &TestApp, invoice: &Value) -> Reply {
    act(app, invoice, "mark-paid", json!({ "reference": "Bank 1" })).await
}

async fn void(app: &TestApp, invoice: &Value) -> Reply {
    act(app, invoice, "void", json!({ "reason": "Wrong" })).await
}

async fn show(app: &TestApp, invoice: &Value) -> Reply {
    let id = invoice["id"].as_str().unwrap();
    app.owner().get(format!("{PATH}/{id}")).await
}

async fn pdf(app: &TestApp, invoice: &Value) -> Reply {
    let id = invoice["id"].as_str().unwrap();
    app.owner().get(format!("{PATH}/{id}/pdf")).await
}

/// Position in the number.
fn position(invoice: &Reply) -> i64 {
    let number = invoice.body["number"].as_str().unwrap();
    number.rsplit('-').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_adjustment_is_issued_with_a_number_and_a_due_time() {
    let app = TestApp::with_demo().await;
    let info = json!({ "company": "Demo A/S", "vatId": "DE136695976", "email": "ada@demo.test" });
    let info = app
        .operator()
        .patch("/tenants/demo/billing-info", info)
        .await;
    assert_eq!(info.status, 200, "{info:?}");

    let issued = adjust(&app, 1_250, json!({})).await;

    assert_eq!(issued.status, 201, "{issued:?}");
    let id = issued.body["id"].as_str().unwrap();
    let location = format!("{PATH}/{id}");
    assert_eq!(issued.header("location"), Some(location.as_str()));
    assert_eq!(show(&app, &issued.body).await.body, issued.body);
    let number = issued.body["number"].as_str().unwrap().to_owned();
    assert!(
        number.starts_with("DEZKY-") && number.ends_with("-000001"),
        "{number}"
    );
    insta::assert_json_snapshot!(issued.body, {
        ".id" => "[id]", ".tenantId" => "[id]", ".number" => "[number]", ".issuedAt" => "[time]", ".dueAt" => "[time]",
        ".createdAt" => "[time]", ".updatedAt" => "[time]",
    }, @r#"
    {
      "amountRemainingMinor": 1250,
      "billTo": {
        "company": "Demo A/S",
        "vatId": "DE136695976"
      },
      "createdAt": "[time]",
      "currency": "DKK",
      "dueAt": "[time]",
      "exponent": 2,
      "id": "[id]",
      "issuedAt": "[time]",
      "kind": "adjustment",
      "lines": [
        {
          "amountMinor": 1250,
          "description": "Setup"
        }
      ],
      "number": "[number]",
      "origin": "operator",
      "reason": "Agreed by phone",
      "revision": 1,
      "status": "open",
      "subtotalMinor": 1250,
      "taxNote": "reverse_charge",
      "taxText": "Reverse charge: the recipient accounts for VAT.",
      "tenantId": "[id]",
      "updatedAt": "[time]"
    }
    "#);
    let event = app.audit_event("invoice.create").await;
    let target = event.get_document("target").unwrap();
    assert_eq!(target.get_str("name").unwrap(), number);
    assert_eq!(
        event.get("tenantId"),
        Some(&app.tenant("demo").await.id.into())
    );
}

#[tokio::test]
async fn numbers_have_no_gap_whatever_is_rejected_or_concurrent() {
    let app = TestApp::with_demo().await;

    let rejected = adjust(&app, 5, json!({ "corrects": InvoiceId::new().to_string() })).await;
    let unknown = json!({ "lines": [{ "description": "Credit", "amountMinor": -5 }],
        "reason": "Late", "corrects": InvoiceId::new().to_string() });
    let unknown = app.operator().post(PATH, unknown).await;
    let no_currency =
        json!({ "lines": [{ "description": "Setup", "amountMinor": 5 }], "reason": "New" });
    let no_currency = app.operator().post(PATH, no_currency).await;
    let issued = join_all((0..8).map(|_| adjust(&app, 100, json!({})))).await;

    assert_eq!(rejected.errors(), [("/lines", "invalid_total")]);
    assert_eq!(unknown.errors(), [("/corrects", "unknown_invoice")]);
    assert_eq!(no_currency.errors(), [("/currency", "no_currency")]);
    let mut positions: Vec<i64> = issued.iter().map(position).collect();
    positions.sort_unstable();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn an_open_invoice_is_paid_once() {
    let app = TestApp::with_demo().await;
    let open = adjust(&app, 100, json!({})).await;
    let ahead = json!({ "reference": "Bank 1", "paidAt": "2999-01-01T00:00:00Z" });

    let ahead = act(&app, &open.body, "mark-paid", ahead).await;
    let stale = app
        .operator()
        .post(
            format!("{PATH}/{}/mark-paid", open.body["id"].as_str().unwrap()),
            json!({ "reference": "Bank 1" }),
        )
        .if_match("\"7.7\"")
        .await;
    let replies = join_all((0..4).map(|_| pay(&app, &open.body))).await;
    let voided = void(&app, &open.body).await;

    assert_eq!(ahead.errors(), [("/paidAt", "in_future")]);
    assert_eq!(stale.summary(), "412 precondition_failed");
    let mut expected = vec!["200".to_owned()];
    expected.extend(vec!["409 invoice_not_open".to_owned(); 3]);
    assert_eq!(sorted_summaries(&replies), expected);
    assert_eq!(voided.summary(), "409 invoice_not_open");
    let paid = show(&app, &open.body).await.body;
    assert_eq!(paid["status"], "paid");
    assert_eq!(paid["amountRemainingMinor"], 0);
    assert_eq!(paid["paymentReference"], "Bank 1");
    let event = app.audit_event("invoice.markPaid").await;
    let after = event.get_document("after").unwrap();
    assert_eq!(after.get_str("status").unwrap(), "paid");
}

#[tokio::test]
async fn a_voided_invoice_keeps_its_number_and_frees_its_period() {
    let app = TestApp::with_billing().await;
    app.subscribe("demo", json!({})).await;
    let invoice = app.issue().await;
    let body = json!({ "id": invoice.id.to_string() });

    let voided = void(&app, &body).await;
    let replacement = adjust(&app, 100, json!({})).await;

    assert_eq!(voided.status, 200, "{voided:?}");
    assert_eq!(voided.body["status"], "void");
    assert_eq!(voided.body["number"], invoice.number.unwrap());
    assert_eq!(voided.body["voidReason"], "Wrong");
    assert!(voided.body["periodStart"].is_string());
    let stored = app.document("invoices", doc! { "_id": invoice.id }).await;
    assert_eq!(stored.get("periodKey"), None);
    assert_eq!(pay(&app, &body).await.summary(), "409 invoice_not_open");
    assert_eq!(position(&replacement), 1);
}

#[tokio::test]
async fn settling_the_last_overdue_invoice_makes_the_subscription_active() {
    let app = TestApp::with_billing().await;
    app.subscribe("demo", json!({})).await;
    let [one, two] = [app.issue().await, app.issue().await];
    for invoice in [&one, &two] {
        let overdue = doc! { "isOverdue": true };
        app.set("invoices", doc! { "_id": invoice.id }, overdue)
            .await;
    }
    let past_due = doc! { "status": "past_due" };
    let sold = app.live_subscription().await.id;
    app.set("subscriptions", doc! { "_id": sold }, past_due)
        .await;
    let status = async || app.billing().await["subscription"]["status"].clone();

    pay(&app, &json!({ "id": one.id.to_string() })).await;
    let still = status().await;
    void(&app, &json!({ "id": two.id.to_string() })).await;

    assert_eq!(still, "past_due");
    assert_eq!(status().await, "active");
    let event = app.audit_event("subscription.update").await;
    let after = event.get_document("after").unwrap();
    assert_eq!(after, &doc! { "status": "active" });
}

#[tokio::test]
async fn corrections_reduce_a_paid_invoice_and_no_more_than_it() {
    let app = TestApp::with_demo().await;
    let invoice = adjust(&app, 1_000, json!({})).await.body;
    let correct =
        async |amount: i64| adjust(&app, amount, json!({ "corrects": invoice["id"] })).await;

    let too_early = correct(-100).await;
    pay(&app, &invoice).await;
    let euro = json!({ "corrects": invoice["id"], "currency": "EUR" });
    let euro = adjust(&app, -100, euro).await;
    let first = correct(-400).await;
    let replies = join_all((0..3).map(|_| correct(-600))).await;

    assert_eq!(too_early.summary(), "409 invoice_not_paid");
    assert_eq!(euro.errors(), [("/currency", "wrong_currency")]);
    assert_eq!(first.body["status"], "paid");
    assert_eq!(first.body["amountRemainingMinor"], 0);
    assert_eq!(first.body["corrects"], invoice["id"]);
    let mut expected = vec!["201".to_owned()];
    expected.extend(vec!["422 validation_failed".to_owned(); 2]);
    assert_eq!(sorted_summaries(&replies), expected);
    let corrected = show(&app, &invoice).await.body;
    let reductions = corrected["reductions"].as_array().unwrap();
    let amounts: Vec<_> = reductions
        .iter()
        .map(|it| it["netMinor"].as_i64())
        .collect();
    assert_eq!(amounts, [Some(400), Some(600)]);
    assert_eq!(corrected["subtotalMinor"], 1_000);
    // A correction is settled, and is not corrected itself.
    let of_correction = json!({ "corrects": first.body["id"] });
    let again = adjust(&app, -1, of_correction).await;
    assert_eq!(again.summary(), "409 invoice_not_paid");
    assert_eq!(
        void(&app, &first.body).await.summary(),
        "409 invoice_not_open"
    );
}

#[tokio::test]
async fn an_adjustment_is_in_the_currency_of_the_subscription_by_default() {
    let app = TestApp::with_demo().await;
    app.subscribe("demo", json!({ "currency": "JPY", "priceMinor": 500 }))
        .await;
    let body =
        json!({ "lines": [{ "description": "Setup", "amountMinor": 500 }], "reason": "New" });

    let issued = app.operator().post(PATH, body).await;

    assert_eq!(issued.body["currency"], "JPY");
    assert_eq!(issued.body["exponent"], 0);
}

#[tokio::test]
async fn a_repeated_request_issues_one_invoice() {
    let app = TestApp::with_demo().await;
    let body = json!({
        "lines": [{ "description": "Setup", "amountMinor": 5 }], "reason": "New", "currency": "DKK",
    });
    let send = async || {
        let call = app.operator().post(PATH, &body);
        call.idempotency_key("one").await
    };

    let (first, again) = (send().await, send().await);

    assert!(again.is_replayed());
    assert_eq!(first.body, again.body);
    assert_eq!(app.count("invoices").await, 1);
}

#[tokio::test]
async fn lists_are_newest_first_in_pages_and_by_status() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let mut issued = Vec::new();
    for amount in 1..=5 {
        issued.push(adjust(&app, amount, json!({})).await.body);
    }
    let elsewhere = json!({
        "lines": [{ "description": "Setup", "amountMinor": 9 }], "reason": "New", "currency": "DKK",
    });
    let elsewhere = app
        .operator()
        .post("/tenants/other/invoices", elsewhere)
        .await;
    pay(&app, &issued[1]).await;

    let first = app.owner().get(format!("{PATH}?limit=2")).await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let second = app
        .owner()
        .get(format!("{PATH}?limit=9&cursor={cursor}"))
        .await;
    let paid = app.owner().get(format!("{PATH}?status=paid")).await;
    let all = app.operator().get("/invoices").await;
    let open = app.operator().get("/invoices?status=open").await;

    let amounts = |reply: &Reply| {
        let items = reply.items().iter();
        items
            .map(|it| it["subtotalMinor"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(amounts(&first), [5, 4]);
    assert_eq!(amounts(&second), [3, 2, 1]);
    assert_eq!(amounts(&paid), [2]);
    assert_eq!(amounts(&all), [9, 5, 4, 3, 2, 1]);
    assert_eq!(amounts(&open), [9, 5, 4, 3, 1]);
    // Another tenant's invoice does not exist here.
    let id: InvoiceId = id_of(&elsewhere.body["id"]);
    let foreign = app.operator().get(format!("{PATH}/{id}")).await;
    assert_eq!(foreign.summary(), "404 not_found");
}

#[tokio::test]
async fn a_partner_lists_the_invoices_of_tenants_that_it_managed_at_the_time() {
    let app = TestApp::with_demo().await;
    let before = adjust(&app, 1, json!({})).await;
    app.with_partner("manager").await;
    adjust(&app, 2, json!({})).await;
    app.set_tenant("demo", doc! { "partnerId": null }).await;
    adjust(&app, 3, json!({})).await;

    let listed = app.partner().get("/partner/invoices").await;

    assert_eq!(before.status, 201);
    let amounts = listed.items().iter().map(|it| it["subtotalMinor"].as_i64());
    assert_eq!(amounts.collect::<Vec<_>>(), [Some(2)]);
}

#[tokio::test]
async fn an_invoice_of_stripe_is_shown_with_its_taxes_and_is_changed_there_only() {
    let app = TestApp::with_demo().await;
    let invoice = adjust(&app, 10_000, json!({})).await.body;
    let refund = doc! {
        "kind": "refund", "sourceId": "re_1", "status": "succeeded", "netMinor": 1_000_i64,
        "at": app.state.store.now(),
    };
    let stripe = doc! {
        "id": "in_1", "totalMinor": 11_900_i64, "amountRemainingMinor": 11_900_i64, "reductions": [refund],
        "hostedUrl": "https://invoice.stripe.test/i", "pdfUrl": "https://invoice.stripe.test/pdf",
    };
    let none = pdf(&app, &invoice).await;
    app.set("invoices", doc! {}, doc! { "stripe": stripe })
        .await;

    let shown = show(&app, &invoice).await.body;
    let document = pdf(&app, &invoice).await;
    let listed = app.owner().get(PATH).await.items()[0].clone();
    let refused = [
        void(&app, &invoice).await,
        pay(&app, &invoice).await,
        adjust(&app, -1, json!({ "corrects": invoice["id"] })).await,
    ];

    assert_eq!(none.summary(), "404 no_document");
    assert_eq!(document.status, 302);
    assert_eq!(
        document.header("location"),
        Some("https://invoice.stripe.test/pdf")
    );
    assert_eq!(shown["hostedInvoiceUrl"], "https://invoice.stripe.test/i");
    assert_eq!(listed["hostedInvoiceUrl"], Value::Null);
    assert_eq!(shown["origin"], "stripe");
    assert_eq!(
        (&shown["taxMinor"], &shown["totalMinor"]),
        (&json!(1_900), &json!(11_900))
    );
    assert_eq!(shown["amountRemainingMinor"], 11_900);
    let reduction = &shown["reductions"][0];
    assert_eq!(
        (&reduction["kind"], &reduction["netMinor"]),
        (&json!("refund"), &json!(1_000))
    );
    assert!(!shown.to_string().contains("in_1"));
    for refused in refused {
        assert_eq!(refused.summary(), "409 billed_by_stripe");
    }
    // One that Stripe sends for us is changed there by a job.
    app.set("invoices", doc! {}, doc! { "sentByStripe": true })
        .await;
    for (reply, kind) in [
        (pay(&app, &invoice).await, "settle_invoice"),
        (void(&app, &invoice).await, "void_invoice"),
    ] {
        assert_eq!(reply.status, 202, "{reply:?}");
        assert_eq!(reply.body["origin"], "operator");
        let jobs = app.jobs().await;
        assert!(jobs.iter().any(|job| job.kind == kind), "{kind}");
    }
}

#[tokio::test]
async fn an_invoice_of_stripe_is_read_again_by_a_job() {
    let app = TestApp::with_billing().await;
    let invoice = adjust(&app, 10_000, json!({})).await.body;
    let path = format!("{PATH}/{}/refresh", invoice["id"].as_str().unwrap());
    let refresh = |key: &str| app.owner().post_empty(path.as_str()).idempotency_key(key);

    let ours = refresh("ours").await;
    let stripe =
        doc! { "id": "in_1", "totalMinor": 11_900_i64, "amountRemainingMinor": 11_900_i64 };
    app.set("invoices", doc! {}, doc! { "stripe": stripe })
        .await;
    let requested = refresh("one").await;
    let paid = doc! { "stripe.amountRemainingMinor": 0_i64, "status": "paid" };
    app.set("invoices", doc! {}, paid).await;
    let again = refresh("one").await;
    let joined = refresh("two").wait(1).await;

    assert_eq!(ours.status, 200, "{ours:?}");
    assert_eq!(ours.body["job"], Value::Null);
    assert_eq!(requested.status, 202, "{requested:?}");
    assert_eq!(again.body, requested.body);
    // No worker runs the job: the invoice is that of the end of the wait.
    assert_eq!(joined.status, 202, "{joined:?}");
    assert_eq!(joined.body["status"], "paid");
    assert_eq!(joined.body["job"]["id"], requested.body["job"]["id"]);
    let jobs = app.jobs().await;
    let job = jobs.iter().find(|job| job.kind == MirrorStripeObject::KIND);
    let args: MirrorStripeObject = job.unwrap().args().unwrap();
    let expected = MirrorStripeObject {
        object_type: "invoice".to_owned(),
        object_id: "in_1".to_owned(),
        tenant_id: Some(app.tenant("demo").await.id),
    };
    assert_eq!(args, expected);
    app.audit_event("invoice.refresh").await;
}
