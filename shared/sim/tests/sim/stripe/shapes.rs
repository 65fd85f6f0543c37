//! Objects have the official fields, of the official types.

use std::collections::BTreeMap;

use dezky_sim::stripe::BilledInvoice;
use serde_json::Value;

use super::{Api, subscriptions::subscribed};

const SHAPES: &str = include_str!("../../fixtures/stripe/shapes.json");

/// Type of each field, by kind of object. `null` allows any type.
type Shapes = BTreeMap<String, BTreeMap<String, String>>;

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Asserts that `object` has exactly the fields of `kind`, and that those that are set have the right type.
fn assert_shape(shapes: &Shapes, kind: &str, object: &Value) {
    let expected = &shapes[kind];
    let fields = object.as_object().unwrap();
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort();
    let expected_names: Vec<&String> = expected.keys().collect();

    assert_eq!(names, expected_names, "{kind}");
    for (name, value) in fields {
        let (actual, expected) = (type_of(value), expected[name].as_str());
        assert!(
            actual == "null" || expected == "null" || actual == expected,
            "{kind}.{name} is a {actual}, expected a {expected}"
        );
    }
}

#[tokio::test]
async fn every_object_has_the_official_fields() {
    let api = Api::start().await;
    let shapes: Shapes = serde_json::from_str(SHAPES).unwrap();
    let customer = api.customer().await;
    let tax_ids = format!("customers/{customer}/tax_ids");
    let tax_id = [("type", "eu_vat"), ("value", "DK12345678")];

    let tax_id = api.post(&tax_ids, &tax_id).await.body;
    let intent = api.setup_intent(&customer).await;
    let fresh = api.get(&format!("setup_intents/{intent}"), &[]).await.body;
    let entered = api.sim.enter_card(&intent, "pm_card_visa").unwrap();
    let method = &api.sim.objects("payment_method")[0];
    let card = method["id"].as_str().unwrap();
    let default = [("invoice_settings[default_payment_method]", card)];
    api.post(&format!("customers/{customer}"), &default).await;
    let stored = api.get(&format!("customers/{customer}"), &[]).await.body;
    let billed = api.sim.bill(&BilledInvoice {
        customer: customer.clone(),
        currency: "dkk".to_owned(),
        net: 10_000,
        tax: 1_900,
        subscription: Some("sub_1".to_owned()),
        period: (0, 1),
        proration: false,
    });
    let invoice = billed.unwrap()["id"].as_str().unwrap().to_owned();
    api.sim.pay_invoice(&invoice).unwrap();
    let refund = api.sim.refund(&invoice, 1_190).unwrap();
    let note = api.sim.credit(&invoice, 1_000, 190, refund["id"].as_str());
    let subscription = subscribed(&api, &customer).await.body;
    let path = format!("invoices/{invoice}");
    let invoice = api.get(&path, &[]).await.body;
    let lines = api.get(&format!("{path}/lines"), &[]).await.body;
    let event = api.get("events", &[("limit", "1")]).await.body["data"][0].clone();
    let deleted = api.delete(&format!("customers/{customer}")).await.body;

    assert_shape(&shapes, "customer", &stored);
    assert_shape(
        &shapes,
        "customer.invoice_settings",
        &stored["invoice_settings"],
    );
    assert_shape(&shapes, "tax_id", &tax_id);
    assert_shape(&shapes, "tax_id.verification", &tax_id["verification"]);
    assert_shape(&shapes, "setup_intent", &fresh);
    assert_shape(&shapes, "setup_intent", &entered);
    assert_shape(&shapes, "payment_method", method);
    assert_shape(&shapes, "payment_method.card", &method["card"]);
    assert_shape(&shapes, "invoice", &invoice);
    assert_shape(&shapes, "invoice.line_item", &lines["data"][0]);
    let payment = &api.sim.objects("invoice_payment")[0];
    assert_shape(&shapes, "invoice_payment", payment);
    assert_shape(&shapes, "refund", &refund);
    assert_shape(&shapes, "credit_note", &note.unwrap());
    assert_shape(&shapes, "event", &event);
    assert_shape(&shapes, "event.request", &event["request"]);
    assert_shape(&shapes, "deleted_customer", &deleted);
    assert_shape(&shapes, "product", &api.sim.objects("product")[0]);
    let price = &api.sim.objects("price")[0];
    assert_shape(&shapes, "price", price);
    assert_shape(&shapes, "price.recurring", &price["recurring"]);
    assert_shape(&shapes, "subscription", &subscription);
    let item = &subscription["items"]["data"][0];
    assert_shape(&shapes, "subscription_item", item);
    let charged = &api.sim.objects("invoice")[1];
    assert_shape(&shapes, "invoice", charged);
    assert_shape(&shapes, "invoice.line_item", &charged["lines"]["data"][0]);
}
