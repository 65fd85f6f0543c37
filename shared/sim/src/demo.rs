//! Demo data: the tenant `demo` with its partner, members in different states, an app, a card that is charged and a payout,
//! and a tenant whose provisioning failed; created through the API as an operator.
//!
//! Safe to repeat: what exists is kept. The simulators start empty, so that passwords and second factors are set again.
//! The simulated Stripe keeps its objects, as long as it is not killed.

mod billing;
mod cards;
mod failing;
mod people;
mod renewal;
mod tenant;

use std::time::Duration;

use anyhow::{Context as _, bail};
use dezky_shared::{platform::tls::TrustRoots, store::MongoConfig};
use reqwest::{Method, RequestBuilder, Response};

pub use self::renewal::{Renewal, advance, verify_renewal};
use crate::callers::{Caller, DEMO_TENANT, mint};

/// Timeout of a request, long polling included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// Validity of the tokens, in hours.
const HOURS: u32 = 1;

/// Client of the API with an operator's token, and of the control API of the simulators.
struct Demo {
    api: String,
    control: String,
    operator: String,
    client: reqwest::Client,
    say: fn(&str),
}

/// Creates the demo data by the API at `api`, with identities of the simulators whose control API is at `control`. Reports
/// the progress to `say`. With the database of the API, the partner has a history there.
pub async fn provision(
    api: &str,
    control: &str,
    stored: Option<&MongoConfig>,
    say: fn(&str),
) -> anyhow::Result<()> {
    let demo = Demo::new(api, control, say).await?;
    for caller in Caller::ALL {
        // The first request registers a user. Strangers stay unregistered.
        if caller != Caller::Stranger {
            let token = mint(control, caller, HOURS).await?;
            demo.register(caller, &token).await?;
        }
    }
    demo.ensure().await?;
    let staff = mint(control, Caller::Partner, HOURS).await?;
    demo.ensure_partner(&staff).await?;
    demo.ensure_people().await?;
    demo.ensure_app().await?;
    demo.measure_storage().await?;
    demo.ensure_billing().await?;
    if let Some(stored) = stored {
        demo.ensure_payout(stored).await?;
    }
    demo.ensure_failing().await?;
    demo.reconcile_others().await
}

impl Demo {
    async fn new(api: &str, control: &str, say: fn(&str)) -> anyhow::Result<Self> {
        Ok(Self {
            api: api.to_owned(),
            control: control.to_owned(),
            operator: mint(control, Caller::Operator, HOURS).await?,
            client: TrustRoots::default()
                .client_builder()
                .timeout(REQUEST_TIMEOUT)
                .build()?,
            say,
        })
    }

    fn say(&self, line: &str) {
        (self.say)(line);
    }

    /// A request to a path below the tenant, as an operator.
    fn request(&self, method: Method, below: &str) -> RequestBuilder {
        self.at(method, &format!("/tenants/{DEMO_TENANT}{below}"))
    }

    /// A request as an operator.
    fn at(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api);
        self.client.request(method, url).bearer_auth(&self.operator)
    }

    /// A request to the simulated Stripe's part of the control API.
    fn at_stripe(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/upstreams/stripe{path}", self.control);
        self.client.request(method, url)
    }
}

/// Sends a request. An error response becomes an error with its body.
async fn send(request: RequestBuilder) -> anyhow::Result<Response> {
    let response = request.send().await.context("no response from the API")?;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let path = response.url().path().to_owned();
        let body = response.text().await.unwrap_or_default();
        bail!("{path} returned {status}: {body}");
    }
    Ok(response)
}
