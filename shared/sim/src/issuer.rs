//! An OIDC issuer such as Authentik is for each of its applications: a discovery document, a JWKS of its own, and
//! tokens, good ones and bad ones.

mod keys;
mod token;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::keys::KeySet;
pub use self::token::{Audience, Forgery, SigningAlgorithm, TokenSpec};
use crate::{
    effects::Effects,
    server::{Asked, Server},
};

/// The application that the portal's users sign in to.
pub const PORTAL: &str = "dezky-portal";
/// The application that Dezky's operators sign in to.
pub const OPERATOR: &str = "dezky-operator";
/// Every application.
pub const APPLICATIONS: [&str; 2] = [PORTAL, OPERATOR];

/// What may be chosen about an issuer.
#[derive(Debug, Clone, Default)]
pub struct IssuerOptions {
    /// The address that the issuers' names begin with, where it is not the one that is listened on.
    pub public_url: Option<String>,
    /// Where the private keys are kept, so that tokens outlive a restart; without it, keys are new each time.
    pub keys: Option<PathBuf>,
}

/// What becomes of the old keys when new ones take their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// They are published still: their tokens stay valid.
    KeepOld,
    /// They are gone, and with them their tokens.
    DropOld,
}

/// The issuers of all applications, on one port.
#[derive(Debug)]
pub struct Issuer {
    /// Where it listens. Its operations are `portal_discovery`, `portal_jwks`, `operator_discovery`, `operator_jwks`.
    pub server: Server,
    state: Arc<IssuerState>,
}

#[derive(Debug)]
struct IssuerState {
    /// Known as soon as the port is.
    base_url: OnceLock<String>,
    applications: Mutex<BTreeMap<&'static str, KeySet>>,
    directory: Option<PathBuf>,
}

impl Issuer {
    /// Starts one with new keys.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        Self::start_with(address, IssuerOptions::default()).await
    }

    /// Starts one with a choice.
    pub async fn start_with(address: SocketAddr, options: IssuerOptions) -> anyhow::Result<Self> {
        let mut applications = BTreeMap::new();
        for application in APPLICATIONS {
            let keys = KeySet::open(options.keys.as_deref(), application)?;
            applications.insert(application, keys);
        }
        let state = Arc::new(IssuerState {
            base_url: OnceLock::new(),
            applications: Mutex::new(applications),
            directory: options.keys,
        });
        let router = Router::new()
            .route(
                "/application/o/{application}/.well-known/openid-configuration",
                get(discovery),
            )
            .route("/application/o/{application}/jwks/", get(jwks))
            .with_state(state.clone());
        let server = Server::start(address, router, classify, Effects::default()).await?;
        state
            .base_url
            .get_or_init(|| options.public_url.unwrap_or_else(|| server.url.clone()));
        Ok(Self { server, state })
    }

    /// The name of an application's issuer, with its slash at the end.
    pub fn url(&self, application: &str) -> String {
        self.state.url(application)
    }

    /// Where an application's keys are published.
    pub fn jwks_url(&self, application: &str) -> String {
        format!("{}jwks/", self.url(application))
    }

    /// How often an application's keys were asked for.
    pub fn jwks_requests(&self, application: &str) -> u64 {
        let operation = if application == OPERATOR {
            "operator_jwks"
        } else {
            "portal_jwks"
        };
        let requests = self.server.faults.requests();
        requests.get(operation).copied().unwrap_or(0)
    }

    /// Signs a token.
    pub fn token(&self, spec: &TokenSpec) -> anyhow::Result<String> {
        let url = self.url(&spec.application);
        let applications = self.state.applications();
        let keys = applications
            .get(spec.application.as_str())
            .with_context(|| format!("there is no application {}", spec.application))?;
        token::sign(spec, &url, keys)
    }

    /// Replaces an application's keys by new ones.
    pub fn rotate(&self, application: &str, rotation: Rotation) -> anyhow::Result<()> {
        self.state.change(application, |keys| keys.rotate(rotation))
    }

    /// Publishes the keys of one application at another too, as when two share their keys.
    pub fn share_keys(&self, from: &str, with: &str) -> anyhow::Result<()> {
        let shared = {
            let applications = self.state.applications();
            applications.get(from).cloned()
        };
        let shared = shared.with_context(|| format!("there is no application {from}"))?;
        self.state.change(with, |keys| {
            keys.add(shared);
            Ok(())
        })
    }

    /// What is published for each application.
    pub fn snapshot(&self) -> Value {
        let applications = self.state.applications();
        let applications = applications.iter().map(|(application, keys)| {
            let state = json!({
                "issuer": self.url(application),
                "jwks": keys.published(),
            });
            ((*application).to_owned(), state)
        });
        Value::Object(applications.collect())
    }
}

impl IssuerState {
    fn applications(&self) -> MutexGuard<'_, BTreeMap<&'static str, KeySet>> {
        self.applications
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, application: &str) -> String {
        let base_url = self.base_url.get().map_or("", String::as_str);
        format!("{base_url}/application/o/{application}/")
    }

    fn change(
        &self,
        application: &str,
        change: impl FnOnce(&mut KeySet) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut applications = self.applications();
        let keys = applications
            .get_mut(application)
            .with_context(|| format!("there is no application {application}"))?;
        change(keys)?;
        match &self.directory {
            Some(directory) => keys.save(directory, application),
            None => Ok(()),
        }
    }
}

async fn discovery(
    State(state): State<Arc<IssuerState>>,
    Path(application): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    if !APPLICATIONS.contains(&application.as_str()) {
        return Err(StatusCode::NOT_FOUND);
    }
    let issuer = state.url(&application);
    Ok(Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}jwks/"),
        "authorization_endpoint": format!("{issuer}../authorize/"),
        "token_endpoint": format!("{issuer}../token/"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
    })))
}

async fn jwks(
    State(state): State<Arc<IssuerState>>,
    Path(application): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let applications = state.applications();
    let keys = applications
        .get(application.as_str())
        .ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(keys.published()))
}

fn classify(_: &Method, path: &str, _: &[u8]) -> Asked {
    let operation = match (path.contains(OPERATOR), path.ends_with("/jwks/")) {
        (true, true) => "operator_jwks",
        (true, false) => "operator_discovery",
        (false, true) => "portal_jwks",
        (false, false) => "portal_discovery",
    };
    Asked {
        operation,
        write: false,
    }
}
