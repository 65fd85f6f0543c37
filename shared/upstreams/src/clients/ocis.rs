//! oCIS client: the files service, over its graph API (libregraph).
//!
//! A tenant's files are in one project space. Only a space's id is unique, so the tenant's space is recognised by a
//! marker: its `driveAlias` is `project/<tenantId>`. Every operation lists all spaces first, and a create lists them
//! again afterwards.
//!
//! One service account makes all calls: the creator of a space is its only manager, and no other account, however
//! privileged, can repair its membership.

mod credentials;
mod drives;
mod error;
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
    drives::SpaceList,
    error::ResponseExt as _,
};
use super::{
    CALL_TIMEOUT, ClientError, LeaseDeadline, Operation, UpstreamHttp, UpstreamResponse,
    fingerprint,
};
use dezky_shared::{
    platform::{
        coalescer::Coalescer,
        config::{boolean, optional, required, seconds},
        tls::TrustRoots,
    },
    upstream::Upstream,
};

/// Time for which an app token may be refused before it counts as invalid.
const REFUSAL_GRACE: Duration = Duration::from_mins(5);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// oCIS configuration.
#[derive(Debug, Clone)]
pub struct OcisConfig {
    /// Base URL, such as `https://files.example`.
    pub base_url: String,
    /// Credentials.
    pub login: OcisLogin,
    /// Timeout of a whole call.
    pub timeout: Duration,
    /// Time for which an app token may be refused, without a success in between, before it counts as invalid: until
    /// then oCIS may only be starting.
    pub refusal_grace: Duration,
}

/// Credentials of the service account.
#[derive(Debug, Clone)]
pub enum OcisLogin {
    /// App token of oCIS.
    AppToken(AppTokenLogin),
    /// Access tokens of the identity provider that oCIS trusts.
    Oidc(OidcLogin),
}

/// App token, independent of the identity provider.
#[derive(Debug, Clone)]
pub struct AppTokenLogin {
    /// Account name.
    pub user: String,
    /// App token.
    pub password: SecretString,
}

/// Client credentials grant for a service account of the identity provider.
///
/// oCIS resolves each token to one of its accounts, so the token must belong to a user: see
/// <https://docs.goauthentik.io/add-secure-apps/providers/oauth2/client_credentials/>.
#[derive(Debug, Clone)]
pub struct OidcLogin {
    /// Token endpoint.
    pub token_url: Url,
    /// Client id of the application with which oCIS is configured.
    pub client_id: String,
    /// Client secret, if any.
    pub client_secret: Option<SecretString>,
    /// Name of the service account.
    pub username: String,
    /// App password of the service account.
    pub password: SecretString,
    /// Requested scopes, which must include the claim by which oCIS finds the account.
    pub scope: String,
}

impl OcisConfig {
    /// Fingerprint of the credentials: detects a change without revealing them.
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

    /// Reads `OCIS_…`; `None` if the integration is disabled.
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
    /// The only configured kind of credentials.
    fn only(app_token: Option<AppTokenLogin>, oidc: Option<OidcLogin>) -> anyhow::Result<Self> {
        match (app_token, oidc) {
            (Some(app_token), None) => Ok(Self::AppToken(app_token)),
            (None, Some(oidc)) => Ok(Self::Oidc(oidc)),
            (None, None) => bail!(
                "no credentials for oCIS: set OCIS_API_USER and OCIS_API_PASSWORD, or OCIS_OIDC_TOKEN_URL and the other OCIS_OIDC_ variables"
            ),
            (Some(_), Some(_)) => bail!(
                "two kinds of credentials for oCIS: set either OCIS_API_USER or OCIS_OIDC_TOKEN_URL, not both"
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

/// oCIS client. Clones share credentials and the space list.
#[derive(Debug, Clone)]
pub struct Ocis {
    http: UpstreamHttp,
    credentials: Credentials,
    space_list: Coalescer<(), SpaceList>,
}

impl Ocis {
    /// A client of the configured oCIS.
    pub fn new(config: &OcisConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        Ok(Self {
            http: UpstreamHttp::new(
                Upstream::Ocis,
                &config.base_url,
                config.timeout,
                trust_roots,
            )?,
            credentials: Credentials::new(config, trust_roots)?,
            space_list: drives::space_list(),
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

    /// Checks that oCIS accepts our credentials.
    pub async fn check(&self) -> Result<(), ClientError> {
        self.me().await?;
        Ok(())
    }

    /// Checks that oCIS responds. The endpoint checks neither its storage nor its identity provider.
    pub async fn probe(&self) -> Result<(), ClientError> {
        self.http.probe(self.http.base_url(), "/status.php").await
    }

    async fn me(&self) -> Result<Me, ClientError> {
        let request = self.http.request(Method::GET, "/graph/v1.0/me");
        let response = self.send(Operation::read("check"), request).await?;
        response.error_for_status()?.json()
    }

    /// Sends an authenticated request. After a 401, which means that nothing was done, the access token is renewed and
    /// the request, read or write, is repeated once.
    async fn send(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        let repeat = request
            .try_clone()
            .expect("every request body is in memory");
        let authorization = self.credentials.authorization().await?;
        let response = self.attempt(operation, request, &authorization).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }

        if let Some(authorization) = self.credentials.renewed(&authorization).await? {
            let response = self.attempt(operation, repeat, &authorization).await?;
            if response.status != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
        }
        Err(self.credentials.refused(&response))
    }

    async fn attempt(
        &self,
        operation: Operation,
        request: RequestBuilder,
        authorization: &Authorization,
    ) -> Result<UpstreamResponse, ClientError> {
        let request = authorization
            .attach(request)
            .header(REQUEST_ID, Uuid::now_v7().to_string());
        let response = self.http.send(operation, request).await?;
        if response.status.is_success() {
            self.credentials.accepted();
        }
        Ok(response)
    }
}

/// Account of our credentials.
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
    fn exactly_one_kind_of_credentials_must_be_configured() {
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
    fn debug_shows_no_secret_of_the_configuration_or_the_client() {
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
