//! Mail: domains with their DKIM keys, and the freezing of mailboxes, on Stalwart 0.16.
//!
//! Stalwart is managed over JMAP: every question and every change is a method call in a `POST /jmap`. A domain
//! is ours when its description is `dezky:<tenantId>`, written in the call that creates it, so that whoever
//! comes after a lost answer recognises its own work. The server offers no conditional writes; writes to one
//! tenant are serialised by the tenant's lock on our side.
//!
//! The `GET /jmap/session` of JMAP is not used: it answers 200 to anybody, and the address it names is the
//! server's idea of its own.

mod domains;
mod jmap;
mod removal;
mod suspension;
pub mod zone;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::Semaphore;

use self::jmap::{Call, Reply};
pub use self::{
    domains::Domain,
    suspension::{Access, Account},
};
use super::{
    CALL_TIMEOUT, ClientError, FailedCall, LeaseDeadline, Operation, UpstreamHttp, fingerprint,
};
use dezky_shared::{
    platform::config::{boolean, optional, required, seconds},
    platform::tls::TrustRoots,
    upstream::Upstream,
};

/// The server refuses an account's fifth request at the same time.
const REQUESTS_IN_FLIGHT: usize = 4;

/// Where Stalwart is, and how we sign in.
#[derive(Debug, Clone)]
pub struct StalwartConfig {
    /// The server's address, without `/jmap`.
    pub base_url: String,
    /// How we sign in.
    pub login: Login,
    /// How long a call may take.
    pub timeout: Duration,
}

/// How we sign in.
#[derive(Debug, Clone)]
pub enum Login {
    /// With an API key.
    ApiKey(SecretString),
    /// With an account's address and password.
    Password {
        /// The account's whole address.
        user: String,
        /// Its password.
        password: SecretString,
    },
}

impl StalwartConfig {
    /// A name for these credentials, by which nobody can guess them.
    pub fn fingerprint(&self) -> String {
        match &self.login {
            Login::ApiKey(key) => fingerprint(&[&self.base_url, key.expose_secret()]),
            Login::Password { user, password } => {
                fingerprint(&[&self.base_url, user, password.expose_secret()])
            }
        }
    }

    /// Reads the `STALWART_…` variables; `None` when provisioning of mail is switched off.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        if !boolean("STALWART_PROVISIONING_ENABLED", true)? {
            return Ok(None);
        }
        let login = if let Some(token) = optional::<String>("STALWART_API_TOKEN")? {
            Login::ApiKey(token.into())
        } else {
            let user = required("STALWART_API_USER")
                .context("STALWART_API_TOKEN, or a user and a password, must be set")?;
            Login::Password {
                user,
                password: required::<String>("STALWART_API_PASSWORD")?.into(),
            }
        };
        Ok(Some(Self {
            base_url: required("STALWART_API_URL")?,
            login,
            timeout: seconds("STALWART_TIMEOUT_SECONDS", CALL_TIMEOUT)?,
        }))
    }
}

/// The client of a Stalwart server. Its clones share the limit on requests in flight.
#[derive(Debug, Clone)]
pub struct Stalwart {
    http: UpstreamHttp,
    login: Login,
    places: Arc<Semaphore>,
}

impl Stalwart {
    /// A client for the configured server.
    pub fn new(config: &StalwartConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            http: UpstreamHttp::new(
                Upstream::Stalwart,
                &config.base_url,
                config.timeout,
                trust_roots,
            )?,
            login: config.login.clone(),
            places: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT)),
        })
    }

    /// The same client, whose writes begin only while `trust` lasts.
    #[must_use]
    pub fn trusting(&self, trust: &LeaseDeadline) -> Self {
        Self {
            http: self.http.with_deadline(trust),
            ..self.clone()
        }
    }

    /// Asks whether the server answers and accepts our credentials.
    pub async fn check(&self) -> Result<(), ClientError> {
        let one_domain = Call::new("x:Domain/query", json!({ "limit": 1 }));
        self.call(Operation::read("check"), [one_domain]).await?;
        Ok(())
    }

    /// Whether the server answers, and says that it is ready.
    pub async fn probe(&self) -> Result<(), ClientError> {
        self.http
            .probe(self.http.base_url(), "/healthz/ready")
            .await
    }

    /// Sends method calls in one request; an error of any of them is an error of all.
    async fn call<const N: usize>(
        &self,
        operation: Operation,
        calls: [Call; N],
    ) -> Result<Reply<N>, ClientError> {
        let request = self.http.request(Method::POST, "/jmap");
        let request = match &self.login {
            Login::ApiKey(token) => request.bearer_auth(token.expose_secret()),
            Login::Password { user, password } => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
        };
        let request = request.json(&jmap::request(&calls));

        // Waiting for a place comes first: the call's timeout starts, and its trust is looked at, in `send`.
        let _place = self.places.acquire().await.expect("it is never closed");
        let answer = self.http.send(operation, request).await?;
        Reply::read(answer)
    }
}

/// The description of a failure that we found ourselves, in an answer that was none.
fn failed(operation: &'static str, detail: String) -> FailedCall {
    FailedCall {
        upstream: Upstream::Stalwart,
        operation,
        status: None,
        request_id: None,
        detail,
    }
}
