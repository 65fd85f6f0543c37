//! Rules of the API: authentication, parameters, references, cards, lists.

use serde_json::json;

use super::Api;

#[tokio::test]
async fn another_key_or_version_is_refused() {
    let api = Api::start().await;
    let url = format!("{}/v1/customers", api.sim.server.url);
    let request = || api.http.get(&url).header("stripe-version", "2020-08-27");

    let anonymous = api.http.get(&url).send().await.unwrap();
    let stranger = request().bearer_auth("sk_test_other").send().await.unwrap();
    let key = dezky_upstreams::clients::simulated::STRIPE_SECRET_KEY;
    let outdated = request().bearer_auth(key).send().await.unwrap();

    let statuses = [anonymous, stranger, outdated].map(|it| it.status().as_u16());
    assert_eq!(statuses, [401, 401, 400]);
}

#[tokio::test]
async fn an_address_replaces_the_whole_and_metadata_merges() {
    let api = Api::start().await;
    let form = [
        ("address[line1]", "Main Street 1"),
        ("address[city]", "Aarhus"),
        ("metadata[a]", "1"),
        ("metadata[b]", "2"),
    ];
    let customer = api.post("customers", &form).await;
    let path = format!("customers/{}", customer.id());

    let edits = [
        ("address[country]", "DK"),
        ("metadata[a]", ""),
        ("metadata[c]", "3"),
    ];
    let edited = api.post(&path, &edits).await.body;

    let address = json!({
        "city": null, "country": "DK", "line1": null, "line2": null, "postal_code": null, "state": null,
    });
    assert_eq!(edited["address"], address);
    assert_eq!(edited["metadata"], json!({ "b": "2", "c": "3" }));
}

#[tokio::test]
async fn a_deleted_customer_is_answered_as_deleted_and_takes_no_change() {
    let api = Api::start().await;
    let path = format!("customers/{}", api.customer().await);
    let unknown = api.get("customers/cus_other", &[]).await;

    api.delete(&path).await;
    let read = api.get(&path, &[]).await;
    let edited = api.post(&path, &[("name", "Nord")]).await;

    assert_eq!((read.status, &read.body["deleted"]), (200, &json!(true)));
    assert_eq!(edited.error(), (404, "resource_missing"));
    assert_eq!(unknown.error(), (404, "resource_missing"));
    assert_eq!(api.get("customers", &[]).await.body["data"], json!([]));
}

#[tokio::test]
async fn a_tax_id_has_to_match_its_type() {
    let api = Api::start().await;
    let path = format!("customers/{}/tax_ids", api.customer().await);
    let create = async |kind: &str, value: &str| {
        let created = api.post(&path, &[("type", kind), ("value", value)]).await;
        match created.status {
            200 => created.body["country"].as_str().unwrap().to_owned(),
            _ => created.error().1.to_owned(),
        }
    };

    assert_eq!(create("eu_vat", "DK12345678").await, "DK");
    assert_eq!(create("eu_vat", "EL123456789").await, "GR");
    assert_eq!(create("eu_vat", "XI123456789").await, "GB");
    assert_eq!(create("gb_vat", "GB123456789").await, "GB");
    assert_eq!(create("eu_vat", "GB123456789").await, "tax_id_invalid");
    assert_eq!(create("eu_vat", "GR123456789").await, "tax_id_invalid");
    assert_eq!(create("eu_vat", "12").await, "tax_id_invalid");
    assert_eq!(
        create("vat", "DK12345678").await,
        "parameter_invalid_string"
    );
}

#[tokio::test]
async fn an_entered_card_is_attached_and_can_become_the_default() {
    let api = Api::start().await;
    let customer = api.customer().await;
    let intent = api.setup_intent(&customer).await;

    let entered = api.sim.enter_card(&intent, "pm_card_visa").unwrap();
    let method = entered["payment_method"].as_str().unwrap();
    let default = [
        ("invoice_settings[default_payment_method]", method),
        ("expand[]", "invoice_settings.default_payment_method"),
    ];
    let stored = api.post(&format!("customers/{customer}"), &default).await;
    let again = api.sim.enter_card(&intent, "pm_card_visa").unwrap_err();

    let card = &stored.body["invoice_settings"]["default_payment_method"]["card"];
    assert_eq!(card["last4"], "4242");
    assert_eq!(again.code.as_deref(), Some("setup_intent_unexpected_state"));
    let methods = api
        .get(&format!("customers/{customer}/payment_methods"), &[])
        .await;
    assert_eq!(methods.body["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_card_of_another_customer_cannot_become_the_default() {
    let api = Api::start().await;
    let (acme, nord) = (api.customer().await, api.customer().await);
    let intent = api.setup_intent(&nord).await;
    let entered = api.sim.enter_card(&intent, "pm_card_visa").unwrap();
    let method = entered["payment_method"].as_str().unwrap();

    let default = [("invoice_settings[default_payment_method]", method)];
    let refused = api.post(&format!("customers/{acme}"), &default).await;

    assert_eq!(refused.error(), (400, "resource_missing"));
}

#[tokio::test]
async fn a_declined_card_leaves_the_intent_open_and_an_authenticated_one_completes_it() {
    let api = Api::start().await;
    let customer = api.customer().await;
    let intent = api.setup_intent(&customer).await;
    let path = format!("setup_intents/{intent}");
    let confirm = format!("{path}/confirm");

    let declined = [("payment_method", "pm_card_visa_chargeDeclined")];
    let declined = api.post(&confirm, &declined).await;
    let open = api.get(&path, &[]).await.body;
    let asked = api
        .sim
        .enter_card(&intent, "pm_card_authenticationRequired");
    let authenticated = api.sim.authenticate(&intent, true).unwrap();

    assert_eq!(declined.error(), (402, "card_declined"));
    assert_eq!(declined.body["error"]["decline_code"], "generic_decline");
    assert_eq!(open["status"], "requires_payment_method");
    assert_eq!(open["last_setup_error"]["code"], "card_declined");
    assert_eq!(asked.unwrap()["status"], "requires_action");
    assert_eq!(authenticated["status"], "succeeded");
}

#[tokio::test]
async fn a_detached_default_card_is_the_default_no_longer() {
    let api = Api::start().await;
    let customer = api.customer().await;
    let intent = api.setup_intent(&customer).await;
    let entered = api.sim.enter_card(&intent, "pm_card_visa").unwrap();
    let method = entered["payment_method"].as_str().unwrap();
    let path = format!("customers/{customer}");
    let default = [("invoice_settings[default_payment_method]", method)];
    api.post(&path, &default).await;

    let detach = format!("payment_methods/{method}/detach");
    let detached = api.post(&detach, &[]).await;

    assert_eq!(detached.status, 200);
    let stored = api.get(&path, &[]).await.body;
    assert_eq!(
        stored["invoice_settings"]["default_payment_method"],
        json!(null)
    );
    let attach = format!("payment_methods/{method}/attach");
    let attached = api.post(&attach, &[("customer", customer.as_str())]).await;
    assert_eq!(attached.status, 400);
}

#[tokio::test]
async fn lists_are_newest_first_in_pages() {
    let api = Api::start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(api.customer().await);
    }
    ids.reverse();
    let page = async |query: &[(&str, &str)]| {
        let page = api.get("customers", query).await.body;
        let data = page["data"].as_array().unwrap().iter();
        let found: Vec<String> = data
            .map(|it| it["id"].as_str().unwrap().to_owned())
            .collect();
        (found, page["has_more"].as_bool().unwrap())
    };

    let first = page(&[("limit", "2")]).await;
    let second = page(&[("limit", "3"), ("starting_after", ids[1].as_str())]).await;
    let back = page(&[("limit", "2"), ("ending_before", ids[4].as_str())]).await;

    assert_eq!(first, (ids[..2].to_vec(), true));
    assert_eq!(second, (ids[2..].to_vec(), false));
    assert_eq!(back, (ids[2..4].to_vec(), true));
    let unknown = api
        .get("customers", &[("starting_after", "cus_other")])
        .await;
    assert_eq!(unknown.error(), (400, "resource_missing"));
    let endless = api.get("customers", &[("limit", "101")]).await;
    assert_eq!(endless.status, 400);
}

#[tokio::test]
async fn events_are_readable_for_30_days_and_name_the_key_of_their_request() {
    let api = Api::start().await;
    api.keyed("key-1", "customers", &[("name", "Acme")]).await;
    let query = [("type", "customer.created")];

    let event = api.get("events", &query).await.body["data"][0].clone();
    let path = format!("events/{}", event["id"].as_str().unwrap());
    let read = api.get(&path, &[]).await.body;
    api.sim.advance(30 * 24 * 60 * 60 + 1);
    let later = api.get("events", &query).await.body;

    assert_eq!(event["request"]["idempotency_key"], "key-1");
    assert_eq!(event["data"]["object"]["name"], "Acme");
    assert_eq!(read, event);
    assert_eq!(later["data"], json!([]));
}
