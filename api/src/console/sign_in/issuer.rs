//! Client of the issuer at which operators sign in.

use std::{fmt, sync::Arc};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{super::failure::Failure, attempt::Attempt, refused, unavailable};
use crate::{
    auth::{OPERATOR_AUDIENCE, read_document},
    config::ConsoleConfig,
};

/// Scopes of the id token: who signs in, and their groups.
const SCOPE: &str = "openid email profile";

/// Client of the issuer. Operators' tokens are for one audience, which is the id of the client.
#[derive(Clone)]
pub(in crate::console) struct IssuerClient {
    http: reqwest::Client,
    issuer: String,
    origin: String,
    secret: Option<SecretString>,
    metadata: Arc<OnceCell<Metadata>>,
}

/// The parts of the discovery document that a sign-in needs.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    end_session_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

impl IssuerClient {
    /// The client of the configured issuer, which sends its requests by `http`.
    pub(in crate::console) fn new(config: &ConsoleConfig, http: reqwest::Client) -> Self {
        Self {
            http,
            issuer: config.issuer.clone(),
            origin: config.origin.clone(),
            secret: config.client_secret.clone(),
            metadata: Arc::default(),
        }
    }

    /// Address of the sign-in page.
    pub(super) async fn authorization_url(&self, attempt: &Attempt) -> Result<Url, Failure> {
        let metadata = self.metadata().await?;
        let url = metadata.authorization_endpoint.parse::<Url>();
        let mut url = url.map_err(|error| unavailable(&error.into()))?;
        let (redirect_uri, challenge) = (self.redirect_uri(), attempt.challenge());
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", OPERATOR_AUDIENCE),
            ("redirect_uri", redirect_uri.as_str()),
            ("scope", SCOPE),
            ("state", attempt.state.as_str()),
            ("nonce", attempt.nonce.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]);
        Ok(url)
    }

    /// Redeems a code for the id token.
    pub(super) async fn redeem(&self, code: &str, verifier: &str) -> Result<String, Failure> {
        let metadata = self.metadata().await?;
        let redirect_uri = self.redirect_uri();
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri.as_str()),
            ("client_id", OPERATOR_AUDIENCE),
            ("code_verifier", verifier),
        ];
        if let Some(secret) = &self.secret {
            form.push(("client_secret", secret.expose_secret()));
        }
        let request = self.http.post(&metadata.token_endpoint).form(&form);
        let response = request.send().await;
        let response = response.map_err(|error| unavailable(&error.into()))?;
        if response.status() == StatusCode::BAD_REQUEST {
            return Err(refused("The issuer did not accept the code."));
        }
        let tokens: anyhow::Result<Tokens> = read_document(response).await;
        Ok(tokens.map_err(|error| unavailable(&error))?.id_token)
    }

    /// Address that ends the session at the issuer. `None` if it has no such address, or does not answer.
    pub(super) async fn end_session_url(&self, id_token: Option<&str>) -> Option<Url> {
        let metadata = self.metadata().await.ok()?;
        let mut url: Url = metadata.end_session_endpoint.as_ref()?.parse().ok()?;
        let after = format!("{}/console/signed-out", self.origin);
        url.query_pairs_mut()
            .append_pair("client_id", OPERATOR_AUDIENCE)
            .append_pair("post_logout_redirect_uri", &after)
            .extend_pairs(id_token.map(|token| ("id_token_hint", token)));
        Some(url)
    }

    fn redirect_uri(&self) -> String {
        format!("{}/console/sign-in/callback", self.origin)
    }

    async fn metadata(&self) -> Result<&Metadata, Failure> {
        let metadata = self.metadata.get_or_try_init(|| self.discover()).await;
        Ok(metadata.map_err(|error| unavailable(&error))?)
    }

    /// Reads the discovery document (`OpenID` Connect Discovery 1.0, section 4).
    async fn discover(&self) -> anyhow::Result<Metadata> {
        let base = self.issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let response = self.http.get(&url).send().await?;
        let metadata: Metadata = read_document(response)
            .await
            .with_context(|| format!("{url} cannot be read"))?;
        ensure!(
            metadata.issuer == self.issuer,
            "the discovery document is of issuer {:?}",
            metadata.issuer
        );
        Ok(metadata)
    }
}

impl fmt::Debug for IssuerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerClient")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
