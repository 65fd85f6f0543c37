//! Simulator of Stripe: customers, tax ids, setup intents, payment methods, products, prices, subscriptions, invoices, events
//! and webhooks.
//!
//! Objects have the fields of API version [`API_VERSION`], and unknown parameters are refused, as the real API does.
//! Idempotency keys replay the first result for a day by the simulated clock, and refuse another request. Those
//! invoices that no request creates are issued, paid and reduced by the methods of [`StripeSim`]; payments and disputes have only the fields that are read. Not
//! simulated: Connect, search, concurrent use of one key (a test [injects](StripeSim::refuse_next) that error).
//!
//! A subscription has one item with the quantity 1 and is charged to a card. Its periods begin as the clock is
//! [put ahead](StripeSim::advance): each is invoiced and charged at once, with the prorations of the changes before. A payment
//! that fails is not retried. Not simulated: trials, coupons, several items, prorated first periods, and Stripe's retries.

mod catalog;
mod customers;
mod form;
mod http;
mod idempotency;
mod invoices;
mod params;
mod payment_methods;
mod refusal;
mod renewals;
mod reversals;
mod routes;
mod saved;
mod setup_intents;
mod state;
mod subscriptions;
mod tax_ids;
mod webhooks;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use dezky_shared::platform::{clock, tls::TrustRoots};
use serde_json::{Value, json};

use self::{http::Shared, idempotency::Answer, params::Params};
pub use self::{
    invoices::BilledInvoice,
    refusal::Refusal,
    webhooks::{Delivery, WebhookTarget, sign, sign_at},
};
use crate::server::Server;

/// Version of the API.
pub const API_VERSION: &str = "2026-09-30.endive";
/// Interval between two looks for events that wait for the registered endpoint.
const DELIVERY_INTERVAL: Duration = Duration::from_millis(100);

/// A running Stripe simulator.
#[derive(Debug)]
pub struct StripeSim {
    /// HTTP server, with faults and effects.
    pub server: Server,
    shared: Shared,
    http: reqwest::Client,
}

impl StripeSim {
    /// Starts an empty Stripe on `address`; port 0 selects any free port.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let shared = Shared::default();
        let http = TrustRoots::default().client_builder().build();
        let router = http::router(shared.clone());
        let effects = shared.effects.clone();
        Ok(Self {
            server: Server::start(address, router, http::classify, effects).await?,
            shared,
            http: http.map_err(io::Error::other)?,
        })
    }

    /// The whole state. Client secrets are left out.
    pub fn snapshot(&self) -> Value {
        let mut objects = self.shared.lock().objects().to_vec();
        for object in &mut objects {
            without_secret(Some(&mut *object));
            without_secret(object.pointer_mut("/data/object"));
        }
        json!({ "objects": objects })
    }

    /// Puts the clock ahead. Keys and events age accordingly, and subscriptions are invoiced.
    pub fn advance(&self, seconds: i64) {
        self.shared.lock().advance(seconds);
    }

    /// Time of the clock, in seconds.
    pub fn now(&self) -> i64 {
        self.shared.lock().now()
    }

    /// Objects and clock, for [`restore`](Self::restore).
    pub fn saved(&self) -> Value {
        self.shared.lock().saved()
    }

    /// Numbers the ids from the current time on: ids that a stopped simulator gave may be stored by the service, and are not
    /// given again.
    pub fn number_from_now(&self) {
        let now = clock::now().timestamp_millis();
        self.shared.lock().number_from(now.unsigned_abs());
    }

    /// Restores objects and clock, so that payments survive a restart as they do at the real Stripe. Idempotency keys are
    /// forgotten.
    pub fn restore(&self, saved: Value) -> serde_json::Result<()> {
        self.shared.lock().restore(saved)
    }

    /// Refuses the next request of `operation`. A key stores this result as it would store that of the real API.
    pub fn refuse_next(&self, operation: &str, refusal: Refusal) {
        let mut state = self.shared.lock();
        state.refusals.push_back((operation.to_owned(), refusal));
    }

    /// All objects of a kind, such as `customer`, oldest first. Deleted customers are not among them.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let state = self.shared.lock();
        let is_live = |object: &&Value| object["object"] == kind && object["deleted"] != true;
        state.objects().iter().filter(is_live).cloned().collect()
    }

    /// Enters the test card `method`, such as `pm_card_visa`, as a person does in the browser.
    pub fn enter_card(&self, setup_intent: &str, method: &str) -> Answer {
        self.shared.lock().enter_card(setup_intent, method)
    }

    /// Attaches the test card `method` to a customer, and makes it the default one.
    pub fn add_default_card(&self, customer: &str, method: &str) -> Answer {
        let mut state = self.shared.lock();
        let mut params = Params::new(
            [("customer".to_owned(), json!(customer))]
                .into_iter()
                .collect(),
        );
        let method = state.attach_payment_method(&[method], &mut params)?;
        let settings = json!({ "default_payment_method": method["id"] });
        let fields = [("invoice_settings".to_owned(), settings)];
        let mut params = Params::new(fields.into_iter().collect());
        state.update_customer(&[customer], &mut params)
    }

    /// Ends the authentication that the bank asked for, as a person does there.
    pub fn authenticate(&self, setup_intent: &str, succeeds: bool) -> Answer {
        self.shared.lock().authenticate(setup_intent, succeeds)
    }

    /// Edits a customer, as a person does in the dashboard.
    pub fn edit_customer(&self, id: &str, fields: &[(&str, &str)]) -> Answer {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        let mut params = Params::new(fields.collect());
        self.shared.lock().update_customer(&[id], &mut params)
    }

    /// Deletes a customer, as a person does in the dashboard.
    pub fn delete_customer(&self, id: &str) -> Answer {
        let mut state = self.shared.lock();
        state.delete_customer(&[id], &mut Params::default())
    }

    /// Edits a subscription, as a person does in the dashboard.
    pub fn edit_subscription(&self, id: &str, fields: &[(&str, &str)]) -> Answer {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        let mut params = Params::new(fields.collect());
        self.shared.lock().update_subscription(&[id], &mut params)
    }

    /// Cancels a subscription for this reason: a person's, `cancellation_requested`, or after the last try to charge it,
    /// `payment_failed`.
    pub fn cancel_subscription(&self, id: &str, reason: &str) -> Answer {
        let mut state = self.shared.lock();
        let subscription = state.existing(subscriptions::KIND, id)?;
        Ok(state.end_subscription(subscription, reason))
    }

    /// Sets the verification of a tax id, which happens after its creation.
    pub fn verify_tax_id(&self, id: &str, status: &str) -> Answer {
        let mut state = self.shared.lock();
        let mut tax_id = state.existing("tax_id", id)?;
        tax_id["verification"]["status"] = json!(status);
        state.put(tax_id.clone());
        state.emit("customer.tax_id.updated", &tax_id);
        Ok(tax_id)
    }

    /// Issues an invoice, as Stripe does for its subscriptions.
    pub fn bill(&self, invoice: &BilledInvoice) -> Answer {
        self.shared.lock().bill(invoice)
    }

    /// Pays an invoice.
    pub fn pay_invoice(&self, id: &str) -> Answer {
        self.shared.lock().pay(id)
    }

    /// Voids an invoice that is not paid, or gives it up, as a person does in the dashboard.
    pub fn close_invoice(&self, id: &str, is_voided: bool) -> Answer {
        self.shared.lock().close_invoice(id, is_voided)
    }

    /// Refunds a part of a paid invoice, as a person does in the dashboard.
    pub fn refund(&self, invoice: &str, amount: i64) -> Answer {
        self.shared.lock().refund(invoice, amount)
    }

    /// Disputes the payment of an invoice, as a person does at the bank.
    pub fn dispute(&self, invoice: &str) -> Answer {
        self.shared.lock().dispute(invoice)
    }

    /// Issues a credit note, as a person does in the dashboard. With `refund`, it has made that refund.
    pub fn credit(&self, invoice: &str, net: i64, tax: i64, refund: Option<&str>) -> Answer {
        self.shared.lock().credit(invoice, net, tax, refund)
    }

    /// Changes the status of a credit note, a refund or a dispute.
    pub fn set_status(&self, id: &str, status: &str) -> Answer {
        self.shared.lock().set_status(id, status)
    }

    /// Delivers the waiting events to `target`, and returns the statuses. An event that is not accepted waits again.
    pub async fn deliver(
        &self,
        target: &WebhookTarget,
        delivery: Delivery,
    ) -> Result<Vec<u16>, reqwest::Error> {
        let mut waiting = VecDeque::from(delivery.arrange(self.take_undelivered()));
        let mut statuses = Vec::new();
        while let Some(event) = waiting.pop_front() {
            match self.send(target, &event).await {
                Ok(status) => {
                    if !status.is_success() {
                        self.wait_again(&event);
                    }
                    statuses.push(status.as_u16());
                }
                Err(error) => {
                    self.wait_again(&event);
                    for event in &waiting {
                        self.wait_again(event);
                    }
                    return Err(error);
                }
            }
        }
        Ok(statuses)
    }

    async fn send(
        &self,
        target: &WebhookTarget,
        event: &Value,
    ) -> Result<reqwest::StatusCode, reqwest::Error> {
        let payload = event.to_string();
        let request = self
            .http
            .post(&target.url)
            .header("content-type", "application/json; charset=utf-8")
            .header("stripe-signature", sign(&payload, &target.secrets))
            .body(payload);
        Ok(request.send().await?.status())
    }

    /// Registers the endpoint that events are delivered to from now on, those that wait included. It replaces the one before.
    pub fn register_endpoint(self: &Arc<Self>, target: WebhookTarget) {
        let before = self.shared.lock().endpoint.replace(target);
        if before.is_none() {
            tokio::spawn(Self::deliver_to_endpoint(Arc::downgrade(self)));
        }
    }

    /// Delivers events to the registered endpoint until the simulator is gone.
    async fn deliver_to_endpoint(simulator: Weak<Self>) {
        while let Some(stripe) = simulator.upgrade() {
            let endpoint = stripe.shared.lock().endpoint.clone();
            if let Some(target) = endpoint
                && let Err(error) = stripe.deliver(&target, Delivery::Once).await
            {
                tracing::debug!(%error, "The endpoint does not answer");
            }
            drop(stripe);
            tokio::time::sleep(DELIVERY_INTERVAL).await;
        }
    }

    fn take_undelivered(&self) -> Vec<Value> {
        let mut state = self.shared.lock();
        let ids: Vec<String> = state.undelivered.drain(..).collect();
        ids.iter()
            .filter_map(|id| state.find(id))
            .cloned()
            .collect()
    }

    fn wait_again(&self, event: &Value) {
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        let mut state = self.shared.lock();
        if !state.undelivered.contains(&id) {
            state.undelivered.push_back(id);
        }
    }
}

fn without_secret(object: Option<&mut Value>) {
    if let Some(fields) = object.and_then(Value::as_object_mut) {
        fields.remove("client_secret");
    }
}
