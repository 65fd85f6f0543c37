//! Stripe: the simulator against the official shapes and rules, and the client against the simulator.

mod client;
mod idempotency;
mod restart;
mod rules;
mod second_opinion;
mod shapes;
mod subscriptions;
mod webhooks;

use std::{net::SocketAddr, sync::Arc};

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::stripe::{API_VERSION, StripeSim};
use dezky_upstreams::clients::simulated;
use http::{HeaderMap, Method};
use reqwest::Url;
use serde_json::Value;

/// A response of the simulator.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn id(&self) -> &str {
        self.body["id"].as_str().unwrap()
    }

    /// Status and code of an error.
    fn error(&self) -> (u16, &str) {
        let error = &self.body["error"];
        let code = error["code"].as_str().or(error["type"].as_str());
        (self.status, code.unwrap_or_default())
    }

    fn is_replayed(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }
}

/// A simulator and plain requests to it.
struct Api {
    sim: Arc<StripeSim>,
    http: reqwest::Client,
}

impl Api {
    async fn start() -> Self {
        Self {
            sim: Arc::new(
                StripeSim::start(SocketAddr::from(([127, 0, 0, 1], 0)))
                    .await
                    .unwrap(),
            ),
            http: TrustRoots::default().client_builder().build().unwrap(),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
        key: Option<&str>,
    ) -> Answer {
        let mut url = Url::parse(&self.sim.server.url).unwrap();
        url.set_path(&format!("/v1/{path}"));
        let mut request = self.http.request(method.clone(), url);
        request = if method == Method::GET {
            request.query(form)
        } else {
            request.form(form)
        };
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request
            .bearer_auth(simulated::STRIPE_SECRET_KEY)
            .header("stripe-version", API_VERSION)
            .send()
            .await
            .unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.json().await.unwrap(),
        }
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send(Method::POST, path, form, None).await
    }

    async fn keyed(&self, key: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send(Method::POST, path, form, Some(key)).await
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, query, None).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], None).await
    }

    /// The id of a new customer.
    async fn customer(&self) -> String {
        let created = self.post("customers", &[("name", "Acme")]).await;
        created.id().to_owned()
    }

    /// The id of a new setup intent of `customer`.
    async fn setup_intent(&self, customer: &str) -> String {
        let created = self.post("setup_intents", &[("customer", customer)]).await;
        created.id().to_owned()
    }
}
