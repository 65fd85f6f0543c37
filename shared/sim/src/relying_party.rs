//! Relying party: an OIDC client that signs a user in to an app, with the authorization code flow and PKCE.

use anyhow::{Context as _, ensure};
use dezky_shared::platform::tls::TrustRoots;
use http::{StatusCode, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use rand::distr::{Alphanumeric, SampleString as _};
use reqwest::{Response, Url, redirect::Policy};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::authentik::{SESSION_COOKIE, challenge_of};

/// An OIDC client of one app.
#[derive(Debug)]
pub struct RelyingParty {
    /// URL of the issuer, with a trailing slash.
    pub issuer: String,
    /// Client id.
    pub client_id: String,
    /// Client secret; `None` for a public client.
    pub client_secret: Option<String>,
    /// Redirect URI.
    pub redirect_uri: String,
}

/// A user who signed in.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedIn {
    /// Verified claims of the id token.
    pub claims: Value,
    /// Response of the userinfo endpoint.
    pub userinfo: Value,
    /// Access token.
    pub access_token: String,
    /// Refresh token, if any.
    pub refresh_token: Option<String>,
}

/// Reason for a failed sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSignedIn {
    /// There is no discovery document: the app does not exist, or has no provider.
    NotServed,
    /// The server shows a page instead of redirecting: the user may not use the app.
    Denied,
    /// The browser has no session.
    NoSession,
    /// The token endpoint, or the client itself, refused with this error.
    Refused(String),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    userinfo_endpoint: Url,
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(rename = "id_token")]
    id: String,
    #[serde(rename = "access_token")]
    access: String,
    #[serde(rename = "refresh_token")]
    refresh: Option<String>,
}

impl RelyingParty {
    /// Signs in the user of this browser session. The outer error is one of the connection.
    pub async fn sign_in(
        &self,
        session: Option<Uuid>,
    ) -> anyhow::Result<Result<SignedIn, NotSignedIn>> {
        let http = TrustRoots::default()
            .client_builder()
            .redirect(Policy::none())
            .build()?;
        let configuration = format!("{}.well-known/openid-configuration", self.issuer);
        let discovery = http.get(configuration).send().await?;
        if discovery.status() == StatusCode::NOT_FOUND {
            return Ok(Err(NotSignedIn::NotServed));
        }
        let discovery: Discovery = discovery.error_for_status()?.json().await?;
        ensure!(discovery.issuer == self.issuer, "another issuer");

        let random = || Alphanumeric.sample_string(&mut rand::rng(), 43);
        let (state, nonce, verifier) = (random(), random(), random());
        let mut url = discovery.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", "openid email profile offline_access")
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge_of(&verifier))
            .append_pair("code_challenge_method", "S256");
        let mut request = http.get(url);
        if let Some(session) = session {
            request = request.header(header::COOKIE, format!("{SESSION_COOKIE}={session}"));
        }
        let code = match self.code_in(&request.send().await?, &state)? {
            Ok(code) => code,
            Err(reason) => return Ok(Err(reason)),
        };

        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", self.redirect_uri.as_str()),
            ("client_id", self.client_id.as_str()),
            ("code_verifier", verifier.as_str()),
        ];
        if let Some(secret) = &self.client_secret {
            form.push(("client_secret", secret));
        }
        let response = http.post(discovery.token_endpoint.clone()).form(&form);
        let response = response.send().await?;
        if !response.status().is_success() {
            let error: Value = response.json().await?;
            let error = error["error"].as_str().unwrap_or_default().to_owned();
            return Ok(Err(NotSignedIn::Refused(error)));
        }
        let tokens: Tokens = response.json().await?;
        let keys: JwkSet = http.get(discovery.jwks_uri).send().await?.json().await?;
        let claims = self.verified(&tokens.id, &keys, &nonce)?;
        let userinfo = http.get(discovery.userinfo_endpoint);
        let userinfo = userinfo.bearer_auth(&tokens.access).send().await?;
        Ok(Ok(SignedIn {
            claims,
            userinfo: userinfo.error_for_status()?.json().await?,
            access_token: tokens.access,
            refresh_token: tokens.refresh,
        }))
    }

    /// The code in a redirect to this client.
    fn code_in(
        &self,
        response: &Response,
        state: &str,
    ) -> anyhow::Result<Result<String, NotSignedIn>> {
        let Some(location) = response.headers().get(header::LOCATION) else {
            return Ok(Err(NotSignedIn::Denied));
        };
        let location = location.to_str()?;
        if !location.starts_with(&self.redirect_uri) {
            return Ok(Err(NotSignedIn::NoSession));
        }
        let url = Url::parse(location)?;
        let parameter = |name: &str| {
            let mut pairs = url.query_pairs();
            let found = pairs.find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        if let Some(error) = parameter("error") {
            return Ok(Err(NotSignedIn::Refused(error)));
        }
        ensure!(
            parameter("state").as_deref() == Some(state),
            "another state"
        );
        Ok(Ok(parameter("code").context("neither code nor error")?))
    }

    /// The claims of an id token, after verification of signature, issuer, audience, expiry and nonce.
    fn verified(&self, token: &str, keys: &JwkSet, nonce: &str) -> anyhow::Result<Value> {
        let kid = jsonwebtoken::decode_header(token)?.kid;
        let key = keys.find(&kid.context("the id token names no key")?);
        let key = DecodingKey::from_jwk(key.context("unknown key")?)?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.client_id]);
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)?.claims;
        ensure!(claims["nonce"] == nonce, "another nonce");
        Ok(claims)
    }
}
