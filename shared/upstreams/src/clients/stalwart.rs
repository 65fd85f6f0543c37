//! Stalwart client: mail domains with their DKIM keys, members' mailboxes, and the suspension of mailboxes, on Stalwart
//! 0.16.
//!
//! Stalwart is managed over JMAP: every read and write is a method call in a `POST /jmap`. A domain is ours if its
//! description is `dezky:<tenantId>`, set by the call that creates it, so that a later attempt recognises a create
//! whose response was lost, or if its stored id has the stored name. The server has no conditional writes; writes for
//! one tenant are serialised by the tenant's job lock.
//!
//! The JMAP endpoint `GET /jmap/session` is not used: it returns 200 without authentication, and advertises the
//! server's own idea of its address.

mod domains;
mod jmap;
mod lists;
mod mailboxes;
mod removal;
mod setup;
mod suspension;
mod usage;
pub mod zone;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::Semaphore;

use self::jmap::{Call, Reply};
pub use self::{
    domains::{DesiredDomain, Domain, POSTMASTER, Zone},
    mailboxes::{DesiredMailbox, EnsuredMailbox},
    removal::Removal,
    suspension::{Access, AccessChange, Account, AccountPage, Alias, MailFreeze},
};
use super::{
    CALL_TIMEOUT, CALL_TIMEOUTS, ClientError, FailedCall, LeaseDeadline, Operation, UpstreamHttp,
    fingerprint, simulated,
};
use dezky_shared::{
    platform::{
        config::{bearer_token, boolean, login_name, required, seconds},
        http_url::HttpOrigin,
        tls::TrustRoots,
    },
    upstream::Upstream,
};

/// Maximum number of concurrent requests: the server rejects an account's fifth.
const REQUESTS_IN_FLIGHT: usize = 4;

/// Stalwart configuration.
#[derive(Debug, Clone)]
pub struct StalwartConfig {
    /// Base URL, without `/jmap`.
    pub base_url: String,
    /// Credentials.
    pub login: Login,
    /// Timeout of a whole call.
    pub timeout: Duration,
}

/// Credentials.
#[derive(Debug, Clone)]
pub enum Login {
    /// API key.
    ApiKey(SecretString),
    /// User name and password.
    Password {
        /// Full address of the account.
        user: String,
        /// Password.
        password: SecretString,
    },
}

impl StalwartConfig {
    /// Fingerprint of the credentials: detects a change without revealing them.
    pub fn fingerprint(&self) -> String {
        match &self.login {
            Login::ApiKey(key) => fingerprint(&[&self.base_url, key.expose_secret()]),
            Login::Password { user, password } => {
                fingerprint(&[&self.base_url, user, password.expose_secret()])
            }
        }
    }

    /// Reads the `STALWART_…` variables; `None` if mail provisioning is disabled.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        if !boolean("STALWART_PROVISIONING_ENABLED", true)? {
            return Ok(None);
        }
        let url: HttpOrigin = required("STALWART_API_URL")?;
        let login = if let Some(token) = bearer_token("STALWART_API_TOKEN")? {
            simulated::refuse("STALWART_API_TOKEN", &token, url.url())?;
            Login::ApiKey(token)
        } else {
            let user = login_name("STALWART_API_USER")?.context(
                "set STALWART_API_TOKEN, or STALWART_API_USER and STALWART_API_PASSWORD",
            )?;
            let password = required::<String>("STALWART_API_PASSWORD")?.into();
            simulated::refuse("STALWART_API_PASSWORD", &password, url.url())?;
            Login::Password { user, password }
        };
        Ok(Some(Self {
            base_url: url.origin(),
            login,
            timeout: seconds("STALWART_TIMEOUT_SECONDS", CALL_TIMEOUT, CALL_TIMEOUTS)?,
        }))
    }
}

/// Stalwart client. Clones share the limit on concurrent requests.
#[derive(Debug, Clone)]
pub struct Stalwart {
    http: UpstreamHttp,
    login: Login,
    permits: Arc<Semaphore>,
}

impl Stalwart {
    /// A client of the configured server.
    pub fn new(config: &StalwartConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            http: UpstreamHttp::new(
                Upstream::Stalwart,
                &config.base_url,
                config.timeout,
                trust_roots,
            )?,
            login: config.login.clone(),
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

    /// Checks that the server responds and accepts our credentials.
    pub async fn check(&self) -> Result<(), ClientError> {
        let one_domain = Call::new("x:Domain/query", json!({ "limit": 1 }));
        self.call(Operation::read("check"), [one_domain]).await?;
        Ok(())
    }

    /// Checks that the server reports ready.
    pub async fn probe(&self) -> Result<(), ClientError> {
        self.http
            .probe(self.http.base_url(), "/healthz/ready")
            .await
    }

    /// Adds our credentials to the request.
    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Login::ApiKey(token) => request.bearer_auth(token.expose_secret()),
            Login::Password { user, password } => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
        }
    }

    /// Sends method calls in one request. An error of any call fails the request.
    async fn call<const N: usize>(
        &self,
        operation: Operation,
        calls: [Call; N],
    ) -> Result<Reply<N>, ClientError> {
        let request = self.authorized(self.http.request(Method::POST, "/jmap"));
        let request = request.json(&jmap::request(&calls));

        // Before `send`, which starts the timeout and checks the lease deadline.
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let response = self.http.send(operation, request).await?;
        Reply::read(response)
    }
}

/// Description of a failure that is not tied to a single response.
fn failed(operation: &'static str, detail: String) -> FailedCall {
    FailedCall {
        upstream: Upstream::Stalwart,
        operation,
        status: None,
        request_id: None,
        detail,
    }
}
