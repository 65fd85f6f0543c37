//! oCIS: the files service, spoken to through its graph API (libregraph).
//!
//! A tenant's files live in one project space. Nothing about a space is unique but its id, so the space of a
//! tenant is recognised by a marker: its `driveAlias` is `project/<tenantId>`. Everything here looks at all
//! spaces first, and whoever creates looks again afterwards.
//!
//! One service account does everything: who creates a space is its only manager, and no other account, however
//! powerful, can repair its membership.

mod credentials;
mod drives;
mod error;
mod single_flight;
mod spaces;

use std::time::Duration;

use anyhow::bail;
use http::{Method, StatusCode, header::HeaderName};
use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use uuid::Uuid;

pub use self::spaces::{Space, space_name};
use self::{
    credentials::{Authorization, Credentials},
    error::ResponseExt as _,
    single_flight::SpaceListSingleFlight,
};
use super::{
    CALL_TIMEOUT, ClientError, LeaseDeadline, Operation, UpstreamHttp, UpstreamResponse,
    fingerprint,
};
use dezky_shared::{
    platform::config::{boolean, optional, required, seconds},
    platform::tls::TrustRoots,
    upstream::Upstream,
};

/// How long an app token may be refused before that counts as wrong credentials.
const REFUSAL_GRACE: Duration = Duration::from_mins(5);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where oCIS is and who we are there.
#[derive(Debug, Clone)]
pub struct OcisConfig {
    /// The base address, such as `https://files.example`.
    pub base_url: String,
    /// How we sign in.
    pub login: OcisLogin,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long an app token may be refused without a success in between before that counts as wrong
    /// credentials: until then oCIS may only be starting.
    pub refusal_grace: Duration,
}

/// How the service account signs in.
#[derive(Debug, Clone)]
pub enum OcisLogin {
    /// With an app token of oCIS itself.
    AppToken(AppTokenLogin),
    /// With access tokens of the identity provider that oCIS trusts.
    Oidc(OidcLogin),
}

/// An app token, which does not depend on the identity provider.
#[derive(Debug, Clone)]
pub struct AppTokenLogin {
    /// The account's name.
    pub user: String,
    /// Its app token.
    pub password: SecretString,
}

/// The client credentials grant for a service account of the identity provider.
///
/// oCIS resolves each token to an account of its own, so the token must belong to a user: see
/// <https://docs.goauthentik.io/add-secure-apps/providers/oauth2/client_credentials/>.
#[derive(Debug, Clone)]
pub struct OidcLogin {
    /// The token endpoint.
    pub token_url: Url,
    /// The client id of the application that oCIS is configured with.
    pub client_id: String,
    /// The application's secret, if it has one.
    pub client_secret: Option<SecretString>,
    /// The service account's name.
    pub username: String,
    /// Its app password.
    pub password: SecretString,
    /// The scopes to ask for; they must carry the claim by which oCIS finds the account.
    pub scope: String,
}

impl OcisConfig {
    /// A name for these credentials, by which nobody can guess them.
    pub fn fingerprint(&self) -> String {
        match &self.login {
            OcisLogin::AppToken(login) => {
                fingerprint(&[&self.base_url, &login.user, login.password.expose_secret()])
            }
            OcisLogin::Oidc(login) => {
                let secret = login
                    .client_secret
                    .as_ref()
                    .map_or("", |secret| secret.expose_secret());
                fingerprint(&[
                    &self.base_url,
                    &login.client_id,
                    secret,
                    &login.username,
                    login.password.expose_secret(),
                ])
            }
        }
    }

    /// Reads `OCIS_…`; `None` when the integration is switched off.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        if !boolean("OCIS_PROVISIONING_ENABLED", true)? {
            return Ok(None);
        }
        Ok(Some(Self {
            base_url: required::<Url>("OCIS_API_URL")?.into(),
            login: OcisLogin::only(AppTokenLogin::from_env()?, OidcLogin::from_env()?)?,
            timeout: seconds("OCIS_TIMEOUT_SECONDS", CALL_TIMEOUT)?,
            refusal_grace: REFUSAL_GRACE,
        }))
    }
}

impl OcisLogin {
    /// The one way to sign in that is configured.
    fn only(app_token: Option<AppTokenLogin>, oidc: Option<OidcLogin>) -> anyhow::Result<Self> {
        match (app_token, oidc) {
            (Some(app_token), None) => Ok(Self::AppToken(app_token)),
            (None, Some(oidc)) => Ok(Self::Oidc(oidc)),
            (None, None) => bail!(
                "no way to sign in to oCIS: set OCIS_API_USER and OCIS_API_PASSWORD, or OCIS_OIDC_TOKEN_URL and what belongs to it"
            ),
            (Some(_), Some(_)) => bail!(
                "two ways to sign in to oCIS: set either OCIS_API_USER or OCIS_OIDC_TOKEN_URL, not both"
            ),
        }
    }
}

impl AppTokenLogin {
    fn from_env() -> anyhow::Result<Option<Self>> {
        let Some(user) = optional("OCIS_API_USER")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            user,
            password: required::<String>("OCIS_API_PASSWORD")?.into(),
        }))
    }
}

impl OidcLogin {
    fn from_env() -> anyhow::Result<Option<Self>> {
        let Some(token_url) = optional("OCIS_OIDC_TOKEN_URL")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            token_url,
            client_id: required("OCIS_OIDC_CLIENT_ID")?,
            client_secret: optional::<String>("OCIS_OIDC_CLIENT_SECRET")?.map(Into::into),
            username: required("OCIS_OIDC_USERNAME")?,
            password: required::<String>("OCIS_OIDC_PASSWORD")?.into(),
            scope: optional("OCIS_OIDC_SCOPE")?
                .unwrap_or_else(|| "openid profile email".to_owned()),
        }))
    }
}

/// The client of oCIS. Clones share what they know about their credentials.
#[derive(Debug, Clone)]
pub struct Ocis {
    http: UpstreamHttp,
    credentials: Credentials,
    listing: SpaceListSingleFlight,
}

impl Ocis {
    /// A client for the oCIS that `config` describes.
    pub fn new(config: &OcisConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            http: UpstreamHttp::new(
                Upstream::Ocis,
                &config.base_url,
                config.timeout,
                trust_roots,
            )?,
            credentials: Credentials::new(config, trust_roots)?,
            listing: SpaceListSingleFlight::default(),
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

    /// Asks oCIS who we are: succeeds when it accepts our credentials.
    pub async fn check(&self) -> Result<(), ClientError> {
        self.me().await?;
        Ok(())
    }

    /// Whether oCIS answers. It says no more than that, and asks neither its storage nor its identity provider.
    pub async fn probe(&self) -> Result<(), ClientError> {
        self.http.probe(self.http.base_url(), "/status.php").await
    }

    async fn me(&self) -> Result<Me, ClientError> {
        let request = self.http.request(Method::GET, "/graph/v1.0/me");
        let answer = self.send(Operation::read("check"), request).await?;
        answer.error_for_status()?.json()
    }

    /// Sends a request with our credentials. A 401 means that nothing was done: the access token is renewed and
    /// the request, be it a read or a write, sent once more.
    async fn send(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        let repeat = request
            .try_clone()
            .expect("every body we send is held in memory");
        let proof = self.credentials.proof().await?;
        let answer = self.attempt(operation, request, &proof).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }

        if let Some(proof) = self.credentials.renewed(&proof).await? {
            let answer = self.attempt(operation, repeat, &proof).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
        }
        Err(self.credentials.refused(&answer))
    }

    async fn attempt(
        &self,
        operation: Operation,
        request: RequestBuilder,
        proof: &Authorization,
    ) -> Result<UpstreamResponse, ClientError> {
        let request = proof
            .attach(request)
            .header(REQUEST_ID, Uuid::now_v7().to_string());
        let answer = self.http.send(operation, request).await?;
        if answer.status.is_success() {
            self.credentials.accepted();
        }
        Ok(answer)
    }
}

/// The account that our credentials belong to.
#[derive(Deserialize)]
struct Me {
    id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app_token() -> AppTokenLogin {
        AppTokenLogin {
            user: "svc".to_owned(),
            password: "a-secret".to_owned().into(),
        }
    }

    fn oidc() -> OidcLogin {
        OidcLogin {
            token_url: "https://auth.example/token/".parse().unwrap(),
            client_id: "ocis".to_owned(),
            client_secret: None,
            username: "svc".to_owned(),
            password: "a-secret".to_owned().into(),
            scope: "openid".to_owned(),
        }
    }

    #[test]
    fn exactly_one_way_to_sign_in_must_be_configured() {
        let none = OcisLogin::only(None, None).unwrap_err().to_string();
        let both = OcisLogin::only(Some(app_token()), Some(oidc()))
            .unwrap_err()
            .to_string();

        assert!(none.contains("OCIS_API_USER") && none.contains("OCIS_OIDC_TOKEN_URL"));
        assert!(both.contains("not both"));
        assert!(matches!(
            OcisLogin::only(Some(app_token()), None).unwrap(),
            OcisLogin::AppToken(_)
        ));
        assert!(matches!(
            OcisLogin::only(None, Some(oidc())).unwrap(),
            OcisLogin::Oidc(_)
        ));
    }

    #[test]
    fn neither_the_configuration_nor_the_client_shows_a_secret() {
        let config = OcisConfig {
            base_url: "https://files.example".to_owned(),
            login: OcisLogin::AppToken(app_token()),
            timeout: CALL_TIMEOUT,
            refusal_grace: REFUSAL_GRACE,
        };
        let client = Ocis::new(&config, &TrustRoots::default()).unwrap();

        let shown = format!("{config:?} {client:?} {:?}", oidc());

        assert!(!shown.contains("a-secret"), "{shown}");
    }
}
