//! Stripe client: customers, tax ids, cards, setup intents, prices, subscriptions, invoices and events of the payment
//! provider.
//!
//! Every create and update carries an idempotency key that the caller stored before the call. A repeat with the key has
//! no second effect: Stripe replays the first result, refusals of cards and internal errors included, for a day. So a
//! failed keyed call says, as a [`KeyedError`], whether its key is spent.
//!
//! Requests and responses are typed here, with the few fields that we use. async-stripe's generated types add 240,000
//! lines to the build, and decode a response as a whole: one missing field of an embedded object would hide the status
//! and code of a refusal.
//!
//! Error texts of Stripe are never logged: they contain e-mail addresses and client secrets.

mod cards;
mod catalog;
mod customers;
mod error;
mod events;
mod invoices;
mod send_invoices;
mod setup_intents;
mod subscriptions;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use http::HeaderName;
use reqwest::{Method, RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

pub use self::{
    cards::{Card, PaymentMethod},
    catalog::{NewPrice, Price, Product, Recurrence},
    customers::{Address, Customer, CustomerFields, TaxId},
    error::KeyedError,
    events::EventPage,
    invoices::{
        CreditNote, Invoice, InvoiceLine, InvoicePayment, InvoicePreview, LinePeriod, Reversal,
        StatusTransitions,
    },
    send_invoices::{NewInvoice, NewInvoiceItem},
    setup_intents::SetupIntent,
    subscriptions::{NewSubscription, Subscription, SubscriptionChange, SubscriptionItem},
};
use super::{
    CALL_TIMEOUTS, ClientError, FailedCall, LeaseDeadline, Operation, UpstreamHttp,
    UpstreamResponse, fingerprint,
    setup::{self, SetupCheck},
    simulated,
};
use crate::circuit_breaker::RateBudget;
use dezky_shared::{
    platform::{
        config::{bearer_token, boolean, optional, seconds},
        http_url::HttpOrigin,
        tls::TrustRoots,
    },
    queue::error_code::ErrorCode,
    upstream::Upstream,
};

/// Version of the API that requests and responses are written for.
pub const API_VERSION: &str = "2026-09-30.endive";
const DEFAULT_URL: &str = "https://api.stripe.com";
/// Default timeout of a whole call. Stripe asks the banks while we wait.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum number of concurrent requests of a process.
const REQUESTS_IN_FLIGHT: usize = 4;
/// Prefixes of keys that may call the API; a publishable key may not.
const KEY_PREFIXES: [&str; 4] = ["sk_test_", "sk_live_", "rk_test_", "rk_live_"];
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const VERSION: HeaderName = HeaderName::from_static("stripe-version");

/// Size of a page of a list.
const PAGE: usize = 100;
/// Maximum number of objects in a list that is read as a whole.
const MAX_LISTED: usize = 1_000;

/// Parameters of a request.
type Form = Vec<(String, String)>;

/// Page of a list.
#[derive(Debug, serde::Deserialize)]
struct ListPage<T> {
    data: Vec<T>,
    has_more: bool,
}

/// Stripe configuration.
#[derive(Debug, Clone)]
pub struct StripeConfig {
    /// Base URL.
    pub base_url: String,
    /// Secret or restricted key.
    pub secret_key: SecretString,
    /// Timeout of a whole call.
    pub timeout: Duration,
    /// Whether Stripe adds taxes to the invoices that it sends.
    pub automatic_tax: bool,
}

impl StripeConfig {
    /// Default rate budget: Stripe allows 25 calls a second to one endpoint in test mode.
    pub const DEFAULT_BUDGET: RateBudget = RateBudget {
        per_second: 10.0,
        burst: 20,
    };

    /// Fingerprint of the credentials: detects a change without revealing them.
    pub fn fingerprint(&self) -> String {
        fingerprint(&[&self.base_url, self.secret_key.expose_secret()])
    }

    /// Reads the `STRIPE_…` variables; `None` if Stripe is disabled.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        if !boolean("BILLING_STRIPE_ENABLED", false)? {
            return Ok(None);
        }
        let url: Option<HttpOrigin> = optional("STRIPE_API_URL")?;
        let base_url = url.map_or_else(|| DEFAULT_URL.to_owned(), |url| url.origin());
        let secret_key = bearer_token("STRIPE_SECRET_KEY")?
            .context("STRIPE_SECRET_KEY must be set, or BILLING_STRIPE_ENABLED be false")?;
        let key = secret_key.expose_secret();
        ensure!(
            KEY_PREFIXES.iter().any(|prefix| key.starts_with(prefix)),
            "STRIPE_SECRET_KEY is not valid: expected a key that begins with {}",
            KEY_PREFIXES.join(", ")
        );
        let url: Url = base_url.parse()?;
        simulated::refuse("STRIPE_SECRET_KEY", &secret_key, &url)?;
        Ok(Some(Self {
            base_url,
            secret_key,
            timeout: seconds("STRIPE_TIMEOUT_SECONDS", TIMEOUT, CALL_TIMEOUTS)?,
            automatic_tax: boolean("STRIPE_AUTOMATIC_TAX", false)?,
        }))
    }

    /// Whether the key is of the live mode.
    pub fn is_live(&self) -> bool {
        self.secret_key.expose_secret().contains("_live_")
    }
}

/// Stripe client. Clones share the limit on concurrent requests.
#[derive(Debug, Clone)]
pub struct Stripe {
    http: UpstreamHttp,
    secret_key: SecretString,
    is_live: bool,
    automatic_tax: bool,
    permits: Arc<Semaphore>,
}

impl Stripe {
    /// A client of the configured account.
    pub fn new(config: &StripeConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            http: UpstreamHttp::new(
                Upstream::Stripe,
                &config.base_url,
                config.timeout,
                trust_roots,
            )?,
            secret_key: config.secret_key.clone(),
            is_live: config.is_live(),
            automatic_tax: config.automatic_tax,
            permits: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT)),
        })
    }

    /// A copy of the client bound to `deadline`: it begins no write that could outlast the lease.
    #[must_use]
    pub fn with_deadline(&self, deadline: &LeaseDeadline) -> Self {
        Self {
            http: self.http.with_deadline(deadline),
            ..self.clone()
        }
    }

    /// Whether the key is of the live mode.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Checks that the server responds. A request without a key is refused, and not limited as ours are.
    pub async fn probe(&self) -> Result<(), ClientError> {
        let request = self.http.request(Method::GET, "/v1/events");
        let response = self.http.send(Operation::read("probe"), request).await?;
        if response.status.is_server_error() {
            return Err(response.error(""));
        }
        Ok(())
    }

    /// Checks key, permission and clock.
    pub async fn check_setup(&self) -> Vec<SetupCheck> {
        let query = vec![("limit".to_owned(), "1".to_owned())];
        let operation = Operation::read("check_setup");
        let request = self.http.request(Method::GET, "/v1/events").query(&query);
        let response = match self.send(operation, request).await {
            Ok(response) => response,
            Err(error) => {
                let remedy = "check STRIPE_SECRET_KEY and its permissions";
                return vec![SetupCheck::credentials(&error, remedy)];
            }
        };
        let mode = if self.is_live { "live" } else { "test" };
        let key = match error::check(&response) {
            Ok(()) => SetupCheck::ok("key", format!("accepted, {mode} mode")),
            Err(error) => {
                SetupCheck::credentials(&error, "create another STRIPE_SECRET_KEY in the dashboard")
            }
        };
        vec![key, setup::check_clock(&response)]
    }

    /// Reads an object. `None` if it does not exist.
    async fn get<T: DeserializeOwned>(
        &self,
        operation: Operation,
        path: &str,
        query: &Form,
    ) -> Result<Option<T>, ClientError> {
        let request = self.http.request(Method::GET, path).query(query);
        let response = self.send(operation, request).await?;
        if error::is_missing(&response) {
            return Ok(None);
        }
        self.decode(&response).map(Some)
    }

    /// Lists all objects of a kind that match `filter`, newest first; those of a missing object are none. More than
    /// [`MAX_LISTED`] are refused: our lists belong to one invoice.
    async fn list_all<T: DeserializeOwned>(
        &self,
        operation: Operation,
        path: &str,
        filter: &[(&str, &str)],
        id_of: fn(&T) -> &String,
    ) -> Result<Vec<T>, ClientError> {
        let mut listed: Vec<T> = Vec::new();
        while listed.len() < MAX_LISTED {
            let limit = PAGE.to_string();
            let after = listed
                .last()
                .map(|last| ("starting_after", id_of(last).as_str()));
            let parameters = filter
                .iter()
                .copied()
                .chain([("limit", limit.as_str())])
                .chain(after);
            let query: Form = parameters
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let page: Option<ListPage<T>> = self.get(operation, path, &query).await?;
            let Some(page) = page else {
                return Ok(listed);
            };
            let is_last = !page.has_more || page.data.is_empty();
            listed.extend(page.data);
            if is_last {
                return Ok(listed);
            }
        }
        Err(rejected(operation, "too many objects to list"))
    }

    /// Creates or updates an object. `None` if an object that the request names does not exist.
    async fn post<T: DeserializeOwned>(
        &self,
        operation: Operation,
        path: &str,
        form: &Form,
        key: &str,
    ) -> Result<Option<T>, KeyedError> {
        let request = self.http.request(Method::POST, path).form(form);
        let request = request.header(IDEMPOTENCY_KEY, key);
        let response = self.send(operation, request).await?;
        if error::is_missing(&response) {
            return Ok(None);
        }
        let decoded = self.decode(&response);
        decoded.map(Some).map_err(|error| KeyedError {
            is_key_spent: error::is_key_spent(&response),
            code: error::code_of(&response),
            error,
        })
    }

    /// Deletes an object. Returns whether it existed.
    async fn delete(&self, operation: Operation, path: &str) -> Result<bool, ClientError> {
        let request = self.http.request(Method::DELETE, path);
        let response = self.send(operation, request).await?;
        if error::is_missing(&response) {
            return Ok(false);
        }
        error::check(&response)?;
        Ok(true)
    }

    async fn send(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        let request = request
            .bearer_auth(self.secret_key.expose_secret())
            .header(VERSION, API_VERSION);
        // Before `send`, which starts the timeout and checks the lease deadline.
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        self.http.send(operation, request).await
    }

    /// The object of a successful response, which has to be of our key's mode.
    fn decode<T: DeserializeOwned>(&self, response: &UpstreamResponse) -> Result<T, ClientError> {
        #[derive(serde::Deserialize)]
        struct Mode {
            livemode: Option<bool>,
        }
        error::check(response)?;
        let mode: Mode = response.json()?;
        if mode.livemode.is_some_and(|is_live| is_live != self.is_live) {
            return Err(ClientError::UserAction {
                call: response.failed("the object is of the other mode"),
                code: ErrorCode::PaymentProviderMode,
            });
        }
        response.json()
    }
}

/// `id` as a part of a path. An id that Stripe cannot have created is not sent.
fn segment(operation: Operation, id: &str) -> Result<&str, ClientError> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !id.is_empty() && id.len() <= 255 && id.bytes().all(is_id) {
        return Ok(id);
    }
    Err(rejected(operation, "not an id of Stripe"))
}

/// A request that Stripe cannot accept.
fn rejected(operation: Operation, detail: &str) -> ClientError {
    ClientError::Rejected(FailedCall {
        upstream: Upstream::Stripe,
        operation: operation.name,
        status: None,
        request_id: None,
        detail: detail.to_owned(),
    })
}
