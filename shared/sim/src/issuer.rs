//! OIDC issuer, like Authentik's for each application: discovery document, JWKS, sign-in, and tokens, both valid and forged.

mod keys;
mod sign_in;
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

pub(crate) use self::keys::KeySet;
pub use self::{
    sign_in::CLIENT_SECRET,
    token::{Audience, Forgery, SigningAlgorithm, TokenSpec},
};
use crate::{
    effects::Effects,
    server::{Classified, Server},
};

/// Application of the portal's users.
pub const PORTAL: &str = "dezky-portal";
/// Application of Dezky's operators.
pub const OPERATOR: &str = "dezky-operator";
/// All applications.
pub const APPLICATIONS: [&str; 2] = [PORTAL, OPERATOR];

/// Options of an issuer.
#[derive(Debug, Clone, Default)]
pub struct IssuerOptions {
    /// Base URL of the issuers, where it differs from the listen address.
    pub public_url: Option<String>,
    /// Directory for the private keys, so that tokens survive a restart. Default: new keys at each start.
    pub keys: Option<PathBuf>,
}

/// Handling of the old keys in a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Old keys stay published: their tokens stay valid.
    KeepOld,
    /// Old keys are removed: their tokens become invalid.
    DropOld,
}

/// The issuers of all applications, on one port.
#[derive(Debug)]
pub struct Issuer {
    /// HTTP server. Operations: `portal_discovery`, `portal_jwks`, `operator_discovery`, `operator_jwks`, `authorize`, `token`,
    /// `userinfo`, `end_session`.
    pub server: Server,
    state: Arc<IssuerState>,
}

#[derive(Debug)]
struct IssuerState {
    /// Set once the port is known.
    base_url: OnceLock<String>,
    applications: Mutex<BTreeMap<&'static str, KeySet>>,
    directory: Option<PathBuf>,
    sign_ins: sign_in::SignIns,
}

impl Issuer {
    /// Starts an issuer with new keys.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        Self::start_with(address, IssuerOptions::default()).await
    }

    /// Starts an issuer with options.
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
            sign_ins: sign_in::SignIns::default(),
        });
        let router = Router::new()
            .route(
                "/application/o/{application}/.well-known/openid-configuration",
                get(discovery),
            )
            .route("/application/o/{application}/jwks/", get(jwks));
        let router = sign_in::routes(router).with_state(state.clone());
        let server = Server::start(address, router, classify, Effects::default()).await?;
        state
            .base_url
            .get_or_init(|| options.public_url.unwrap_or_else(|| server.url.clone()));
        Ok(Self { server, state })
    }

    /// `iss` of an application, with a trailing slash.
    pub fn url(&self, application: &str) -> String {
        self.state.url(application)
    }

    /// JWKS URL of an application.
    pub fn jwks_url(&self, application: &str) -> String {
        format!("{}jwks/", self.url(application))
    }

    /// Number of JWKS requests for an application.
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
        self.state.sign(spec)
    }

    /// Rotates an application's keys.
    pub fn rotate(&self, application: &str, rotation: Rotation) -> anyhow::Result<()> {
        self.state.change(application, |keys| keys.rotate(rotation))
    }

    /// Publishes an empty key set for an application.
    pub fn withdraw_keys(&self, application: &str) -> anyhow::Result<()> {
        self.state.change(application, |keys| {
            keys.clear();
            Ok(())
        })
    }

    /// Publishes the keys of one application under another one as well, as with a shared signing key.
    pub fn share_keys(&self, from: &str, with: &str) -> anyhow::Result<()> {
        let shared = {
            let applications = self.state.applications();
            applications.get(from).cloned()
        };
        let shared = shared.with_context(|| format!("unknown application {from}"))?;
        self.state.change(with, |keys| {
            keys.add(shared);
            Ok(())
        })
    }

    /// Issuer URL and published keys of each application.
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

    /// Signs a token.
    fn sign(&self, spec: &TokenSpec) -> anyhow::Result<String> {
        let url = self.url(&spec.application);
        let applications = self.applications();
        let keys = applications
            .get(spec.application.as_str())
            .with_context(|| format!("unknown application {}", spec.application))?;
        token::sign(spec, &url, keys)
    }

    /// URL below `/application/o/`.
    fn url(&self, path: &str) -> String {
        let base_url = self.base_url.get().map_or("", String::as_str);
        format!("{base_url}/application/o/{path}/")
    }

    fn change(
        &self,
        application: &str,
        change: impl FnOnce(&mut KeySet) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut applications = self.applications();
        let keys = applications
            .get_mut(application)
            .with_context(|| format!("unknown application {application}"))?;
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
    Ok(Json(sign_in::metadata(&issuer, |path| state.url(path))))
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

fn classify(_: &Method, path: &str, _: &http::HeaderMap, _: &[u8]) -> Classified {
    let is_operator = path.contains(OPERATOR);
    let operation = match path.trim_end_matches('/').rsplit('/').next() {
        Some("authorize") => "authorize",
        Some("token") => "token",
        Some("userinfo") => "userinfo",
        Some("end-session") => "end_session",
        Some("jwks") if is_operator => "operator_jwks",
        Some("jwks") => "portal_jwks",
        _ if is_operator => "operator_discovery",
        _ => "portal_discovery",
    };
    Classified {
        operation,
        write: false,
    }
}
