//! A second opinion on the simulator: localstripe, which others wrote, answers the client's requests in the same sense. It
//! knows an older API without prices, keys and codes of errors, so only customers, tax ids and cards are compared.

use std::{process::Stdio, time::Duration};

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{ports::Port, stripe::API_VERSION, tools::localstripe};
use dezky_upstreams::clients::simulated;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
    time::Instant,
};

use super::{
    Api,
    client::{acme, client_at},
};

/// Time limit for the start.
const DEADLINE: Duration = Duration::from_secs(30);
/// A VAT id as both accept it.
const VAT_ID: &str = "DE123456789";

/// Requests of a person, in the browser.
struct Browser<'a> {
    http: reqwest::Client,
    url: &'a str,
}

impl Browser<'_> {
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let request = self.http.post(format!("{}/v1/{path}", self.url));
        let request = request
            .bearer_auth(simulated::STRIPE_SECRET_KEY)
            .header("stripe-version", API_VERSION);
        request.form(form).send().await.unwrap()
    }

    /// Status of the entry of a test card.
    async fn enter(&self, setup_intent: &str, card: &str) -> u16 {
        let path = format!("setup_intents/{setup_intent}/confirm");
        let entered = self.post(&path, &[("payment_method", card)]).await;
        entered.status().as_u16()
    }

    /// The id of a card that is attached to the customer.
    async fn attach(&self, card: &str, customer: &str) -> String {
        let path = format!("payment_methods/{card}/attach");
        let attached = self.post(&path, &[("customer", customer)]).await;
        let attached: Value = attached.json().await.unwrap();
        let id = attached["id"].as_str();
        id.unwrap_or_else(|| panic!("{attached}")).to_owned()
    }
}

/// The facts that the client reads in the answers.
async fn facts(url: &str) -> Value {
    let stripe = client_at(url);
    let browser = Browser {
        http: TrustRoots::default().client_builder().build().unwrap(),
        url,
    };
    let created = stripe.create_customer("acme", "1").await.unwrap();
    let id = &created.id;
    let updated = stripe.update_customer(id, &acme(), "2").await.unwrap();
    let tax_id = stripe.create_tax_id(id, "eu_vat", VAT_ID, "3").await;
    let tax_id = tax_id.unwrap().unwrap();
    let tax_ids = stripe.list_tax_ids(id).await.unwrap();
    let is_deleted = stripe.delete_tax_id(id, &tax_id.id).await.unwrap();
    let left = stripe.list_tax_ids(id).await.unwrap();

    let begun = stripe.create_setup_intent(id, "acme", "4").await.unwrap();
    let accepted = browser.enter(&begun.id, "pm_card_visa").await;
    let entered = stripe.retrieve_setup_intent(&begun.id).await.unwrap();
    let entered = entered.unwrap();
    let other = stripe.create_setup_intent(id, "acme", "5").await.unwrap();
    let declined = browser
        .enter(&other.id, "pm_card_visa_chargeDeclined")
        .await;

    let card = browser.attach("pm_card_visa", id).await;
    let method = stripe.retrieve_payment_method(&card).await.unwrap();
    let shown = method.unwrap().card.unwrap();
    let set = stripe.set_default_payment_method(id, &card, "6").await;
    let set = set.unwrap().unwrap();
    let read = stripe.retrieve_customer(id).await.unwrap().unwrap();
    let is_card = |default: Option<&str>| default == Some(card.as_str());
    json!({
        "tenants": [created.metadata["tenantId"], updated.unwrap().metadata["tenantId"]],
        "taxIds": tax_ids.iter().map(|it| [&it.kind, &it.value]).collect::<Vec<_>>(),
        "taxIdDeleted": [is_deleted, left.is_empty()],
        "clientSecret": begun.client_secret.is_some(),
        "cardBefore": begun.card_of(id).is_some(),
        "cardAfter": entered.card_of(id).is_some(),
        "cardOfAnother": entered.card_of("cus_other").is_some(),
        "entries": [accepted, declined],
        "card": [shown.brand, shown.last4],
        "default": [is_card(set.default_payment_method()), is_card(read.default_payment_method())],
    })
}

/// A running localstripe. It ends with the test.
struct LocalStripe {
    url: String,
    _process: Child,
    _port: Port,
}

impl LocalStripe {
    async fn start() -> Self {
        let port = Port::free().unwrap();
        let number = port.number;
        let command = spawn_blocking(move || localstripe(number)).await;
        let process = Command::from(command.unwrap().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{number}");
        let http = TrustRoots::default().client_builder().build().unwrap();
        let deadline = Instant::now() + DEADLINE;
        while http.get(&url).send().await.is_err() {
            assert!(Instant::now() < deadline, "localstripe does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self {
            url,
            _process: process,
            _port: port,
        }
    }
}

#[tokio::test]
async fn localstripe_answers_the_client_in_the_same_sense() {
    let api = Api::start().await;
    let local = LocalStripe::start().await;

    let ours = facts(&api.sim.server.url).await;
    let theirs = facts(&local.url).await;

    let expected = json!({
        "tenants": ["acme", "acme"],
        "taxIds": [["eu_vat", VAT_ID]],
        "taxIdDeleted": [true, true],
        "clientSecret": true,
        "cardBefore": false,
        "cardAfter": true,
        "cardOfAnother": false,
        "entries": [200, 402],
        "card": ["visa", "4242"],
        "default": [true, true],
    });
    assert_eq!(ours, expected);
    assert_eq!(theirs, expected);
}
