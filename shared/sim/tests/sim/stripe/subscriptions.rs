//! Rules of products, prices and subscriptions.

use serde_json::{Value, json};

use super::{Answer, Api};

/// Longer than a month, in seconds.
const MONTH: i64 = 32 * 24 * 60 * 60;

/// A new price of this amount a month.
async fn price(api: &Api, amount: &str) -> String {
    if api.sim.objects("product").is_empty() {
        let product = [("id", "plan_business"), ("name", "Business")];
        api.post("products", &product).await;
    }
    let price = [
        ("product", "plan_business"),
        ("currency", "dkk"),
        ("unit_amount", amount),
        ("recurring[interval]", "month"),
        ("lookup_key", amount),
    ];
    api.post("prices", &price).await.id().to_owned()
}

/// A customer with this default card.
async fn customer_with(api: &Api, card: &str) -> String {
    let customer = api.customer().await;
    api.sim.add_default_card(&customer, card).unwrap();
    customer
}

/// A new subscription of a customer with a card, over DKK 310.00 a month.
pub(super) async fn subscribed(api: &Api, customer: &str) -> Answer {
    let price = price(api, "31000").await;
    let form = [("customer", customer), ("items[0][price]", price.as_str())];
    api.post("subscriptions", &form).await
}

fn item_of(subscription: &Value) -> &Value {
    &subscription["items"]["data"][0]
}

/// Statuses and totals of all invoices, oldest first.
fn invoices(api: &Api) -> Vec<(Value, Value)> {
    let invoices = api.sim.objects("invoice").into_iter();
    let state = |invoice: Value| (invoice["status"].clone(), invoice["total"].clone());
    invoices.map(state).collect()
}

#[tokio::test]
async fn a_lookup_key_is_of_one_price_and_moves_only_on_request() {
    let api = Api::start().await;
    price(&api, "31000").await;
    let again = [("id", "plan_business"), ("name", "Business")];
    let product = api.post("products", &again).await;
    let mut form = vec![
        ("product", "plan_business"),
        ("currency", "dkk"),
        ("unit_amount", "1"),
        ("recurring[interval]", "month"),
        ("lookup_key", "31000"),
    ];

    let refused = api.post("prices", &form).await;
    form.push(("transfer_lookup_key", "true"));
    let moved = api.post("prices", &form).await;

    assert_eq!(product.error(), (400, "resource_already_exists"));
    assert_eq!(refused.error(), (400, "resource_already_exists"));
    let found = [("lookup_keys[]", "31000"), ("active", "true")];
    let found = api.get("prices", &found).await.body;
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(found["data"][0]["id"], moved.id());
}

#[tokio::test]
async fn each_period_is_charged_as_it_begins() {
    let api = Api::start().await;
    let customer = customer_with(&api, "pm_card_visa").await;
    let created = subscribed(&api, &customer).await.body;

    api.sim.advance(2 * MONTH);

    assert_eq!(created["status"], "active");
    let paid = (json!("paid"), json!(31_000));
    assert_eq!(invoices(&api), vec![paid; 3]);
    let current = &api.sim.objects("subscription")[0];
    let (before, after) = (item_of(&created), item_of(current));
    assert!(after["current_period_start"].as_i64() > before["current_period_end"].as_i64());
    assert_eq!(after["id"], before["id"]);
}

#[tokio::test]
async fn without_a_card_or_in_a_second_currency_there_is_no_subscription() {
    let api = Api::start().await;
    let bare = api.customer().await;
    let refused = subscribed(&api, &bare).await;
    assert_eq!(refused.error(), (400, "resource_missing"));

    let customer = customer_with(&api, "pm_card_visa").await;
    let form = [
        ("product", "plan_business"),
        ("currency", "eur"),
        ("unit_amount", "1"),
        ("recurring[interval]", "year"),
    ];
    let euros = api.post("prices", &form).await;
    subscribed_to(&api, &customer, "31000").await;
    let form = [
        ("customer", customer.as_str()),
        ("items[0][price]", euros.id()),
    ];
    assert_eq!(api.post("subscriptions", &form).await.status, 400);
}

async fn subscribed_to(api: &Api, customer: &str, lookup_key: &str) {
    let found = [("lookup_keys[]", lookup_key)];
    let found = api.get("prices", &found).await.body;
    let price = found["data"][0]["id"].as_str().unwrap();
    let form = [("customer", customer), ("items[0][price]", price)];
    assert_eq!(api.post("subscriptions", &form).await.status, 200);
}

#[tokio::test]
async fn an_anchor_in_the_next_period_is_free_until_then_and_others_are_refused() {
    let api = Api::start().await;
    let customer = customer_with(&api, "pm_card_visa").await;
    let price = price(&api, "31000").await;
    let now = dezky_shared::platform::clock::now().timestamp_millis() / 1_000;
    let create = async |anchor: i64| {
        let anchor = anchor.to_string();
        let form = [
            ("customer", customer.as_str()),
            ("items[0][price]", price.as_str()),
            ("billing_cycle_anchor", anchor.as_str()),
            ("proration_behavior", "none"),
        ];
        api.post("subscriptions", &form).await
    };

    assert_eq!(create(now - 60).await.status, 400);
    assert_eq!(create(now + 2 * MONTH).await.status, 400);
    let anchored = create(now + 10 * 24 * 60 * 60).await.body;
    assert_eq!(invoices(&api), [(json!("paid"), json!(0))]);
    let item = item_of(&anchored);
    assert_eq!(item["current_period_end"], anchored["billing_cycle_anchor"]);
    api.sim.advance(11 * 24 * 60 * 60);
    assert_eq!(invoices(&api)[1], (json!("paid"), json!(31_000)));
}

#[tokio::test]
async fn another_price_is_prorated_on_the_next_invoice() {
    let api = Api::start().await;
    let customer = customer_with(&api, "pm_card_visa").await;
    let created = subscribed(&api, &customer).await.body;
    let dearer = price(&api, "62000").await;
    let path = format!("subscriptions/{}", created["id"].as_str().unwrap());
    let item = item_of(&created)["id"].as_str().unwrap();
    let form = [
        ("items[0][id]", item),
        ("items[0][price]", dearer.as_str()),
        ("proration_behavior", "create_prorations"),
    ];

    let changed = api.post(&path, &form).await.body;
    let added = [("items[0][price]", dearer.as_str())];
    assert_eq!(api.post(&path, &added).await.status, 400);
    api.sim.advance(MONTH);

    assert_eq!(item_of(&changed)["id"], item);
    let invoice = &api.sim.objects("invoice")[1];
    let lines = invoice["lines"]["data"].as_array().unwrap();
    let amounts: Vec<i64> = lines
        .iter()
        .map(|line| line["amount"].as_i64().unwrap())
        .collect();
    assert_eq!(amounts.len(), 3);
    assert!(amounts[0] < 0 && amounts[1] > 0, "{amounts:?}");
    assert_eq!(amounts[2], 62_000);
    let is_proration =
        |line: &Value| line["parent"]["subscription_item_details"]["proration"] == true;
    let prorations = lines.iter().filter(|line| is_proration(line)).count();
    assert_eq!(prorations, 2);
}

#[tokio::test]
async fn a_failed_payment_leaves_the_first_one_incomplete_and_a_later_one_past_due() {
    let api = Api::start().await;
    let failing = customer_with(&api, "pm_card_chargeCustomerFail").await;
    let first = subscribed(&api, &failing).await.body;
    assert_eq!(first["status"], "incomplete");
    api.sim.advance(24 * 60 * 60);
    let path = format!("subscriptions/{}", first["id"].as_str().unwrap());
    let expired = api.get(&path, &[]).await.body;
    assert_eq!(expired["status"], "incomplete_expired");
    assert_eq!(invoices(&api)[0].0, "void");

    let paying = customer_with(&api, "pm_card_visa").await;
    subscribed_to(&api, &paying, "31000").await;
    let fails = "pm_card_chargeCustomerFail";
    api.sim.add_default_card(&paying, fails).unwrap();
    api.sim.advance(MONTH);
    let status = || api.sim.objects("subscription")[1]["status"].clone();
    assert_eq!(status(), "past_due");
    let open = api.sim.objects("invoice").remove(2);
    api.sim.pay_invoice(open["id"].as_str().unwrap()).unwrap();
    assert_eq!(status(), "active");
}

#[tokio::test]
async fn a_start_in_the_past_is_charged_in_proportion_with_the_first_period() {
    let api = Api::start().await;
    let customer = customer_with(&api, "pm_card_visa").await;
    let price = price(&api, "31000").await;
    let now = api.sim.objects("customer")[0]["created"].as_i64().unwrap();
    let day = 24 * 60 * 60;
    let create = async |start: i64| {
        let start = start.to_string();
        let form = [
            ("customer", customer.as_str()),
            ("items[0][price]", price.as_str()),
            ("backdate_start_date", start.as_str()),
        ];
        api.post("subscriptions", &form).await
    };

    let refused = create(now + day).await;
    let created = create(now - day).await.body;

    assert_eq!(refused.status, 400);
    assert_eq!(created["start_date"], json!(now - day));
    let invoice = api.sim.objects("invoice").remove(0);
    let lines = &invoice["lines"]["data"];
    let amounts = [0, 1].map(|number: usize| lines[number]["amount"].as_i64().unwrap());
    // A day of a month, and the seconds of this test.
    assert!((1_000..=1_110).contains(&amounts[0]), "{amounts:?}");
    assert_eq!(amounts[1], 31_000);
}

#[tokio::test]
async fn one_that_is_cancelled_is_missing_for_a_second_cancellation() {
    let api = Api::start().await;
    let customer = customer_with(&api, "pm_card_visa").await;
    let created = subscribed(&api, &customer).await.body;
    let path = format!("subscriptions/{}", created["id"].as_str().unwrap());
    let ends = [("cancel_at_period_end", "true")];

    let ending = api.post(&path, &ends).await.body;
    api.sim.advance(MONTH);
    let ended = api.get(&path, &[]).await.body;
    let again = api.delete(&path).await;

    assert_eq!(ending["status"], "active");
    assert_eq!(ended["status"], "canceled");
    assert_eq!(again.error(), (404, "resource_missing"));
    assert_eq!(api.post(&path, &ends).await.status, 400);
    assert_eq!(invoices(&api).len(), 1);
    let of_customer = [("customer", customer.as_str())];
    let listed = api.get("subscriptions", &of_customer).await.body;
    assert_eq!(listed["data"], json!([]));
    let all = [("customer", customer.as_str()), ("status", "all")];
    let listed = api.get("subscriptions", &all).await.body;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}
