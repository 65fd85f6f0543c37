//! oCIS client: the files service, over its graph API (libregraph).
//!
//! A tenant's files are in one project space. **Its identity is the id that oCIS assigned**, which the control plane
//! stores: every call is about that id. The space also carries a marker, the `driveAlias` `project/<tenantId>`, but its
//! members can change that, as they can name and description, so a marker proves nothing by itself. It only serves to
//! find the space of a create whose response was lost, and then only among spaces that our account created and shared
//! with no other: such a space has no member who could have set the marker.
//!
//! One service account makes all calls: the creator of a space is its only manager, and no other account, however
//! privileged, can repair its membership.

mod account;
mod concurrency;
mod credentials;
mod drives;
mod error;
mod list;
mod members;
mod personal;
mod setup;
mod spaces;
mod users;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use http::{StatusCode, header::HeaderName};
use reqwest::{RequestBuilder, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::{
    concurrency::ConcurrencyLimit,
    credentials::{Authorization, Credentials},
};
pub use self::{
    drives::Space,
    list::ListedSpace,
    members::SpaceMembers,
    spaces::{marked_tenant, space_name},
    users::FilesUser,
};
use super::{
    BodySink, CALL_TIMEOUT, CALL_TIMEOUTS, ClientError, LeaseDeadline, Operation, UpstreamHttp,
    UpstreamResponse, fingerprint, simulated,
};
use crate::circuit_breaker::RateBudget;
use dezky_shared::{
    platform::{
        coalescer::Coalescer,
        config::{boolean, login_name, optional, required, seconds},
        http_url::{HttpOrigin, HttpUrl},
        tls::TrustRoots,
    },
    upstream::Upstream,
};

/// Time for which an app token may be refused before it counts as invalid.
const REFUSAL_GRACE: Duration = Duration::from_mins(5);
/// Path of the project spaces, named drives in the graph API.
const DRIVES: &str = "/graph/v1.0/drives";
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

    /// Default rate budget, which a real server bears: it checks an app token in 0.3 to 0.4 s, one at a time, and an
    /// access token in a few milliseconds.
    pub fn default_budget(&self) -> RateBudget {
        let (per_second, burst) = match self.login {
            OcisLogin::AppToken(_) => (2.0, 4),
            OcisLogin::Oidc(_) => (20.0, 40),
        };
        RateBudget { per_second, burst }
    }

    /// Reads `OCIS_…`; `None` if the integration is disabled.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        if !boolean("OCIS_PROVISIONING_ENABLED", true)? {
            return Ok(None);
        }
        let url: HttpOrigin = required("OCIS_API_URL")?;
        let login = OcisLogin::only(AppTokenLogin::from_env()?, OidcLogin::from_env()?)?;
        login.refuse_simulated(&url)?;
        Ok(Some(Self {
            base_url: url.origin(),
            login,
            timeout: seconds("OCIS_TIMEOUT_SECONDS", CALL_TIMEOUT, CALL_TIMEOUTS)?,
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

    /// Fails if the credentials are those of the simulator and `url` is not.
    fn refuse_simulated(&self, url: &HttpOrigin) -> anyhow::Result<()> {
        match self {
            Self::AppToken(login) => {
                simulated::refuse("OCIS_API_PASSWORD", &login.password, url.url())
            }
            Self::Oidc(login) => {
                simulated::refuse("OCIS_OIDC_PASSWORD", &login.password, &login.token_url)
            }
        }
    }
}

impl AppTokenLogin {
    fn from_env() -> anyhow::Result<Option<Self>> {
        let Some(user) = login_name("OCIS_API_USER")? else {
            refuse_without("OCIS_API_USER", "OCIS_API_PASSWORD")?;
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
        let Some(token_url) = optional::<HttpUrl>("OCIS_OIDC_TOKEN_URL")? else {
            for part in [
                "OCIS_OIDC_CLIENT_ID",
                "OCIS_OIDC_CLIENT_SECRET",
                "OCIS_OIDC_USERNAME",
                "OCIS_OIDC_PASSWORD",
            ] {
                refuse_without("OCIS_OIDC_TOKEN_URL", part)?;
            }
            return Ok(None);
        };
        Ok(Some(Self {
            token_url: token_url.url().clone(),
            client_id: required("OCIS_OIDC_CLIENT_ID")?,
            client_secret: optional::<String>("OCIS_OIDC_CLIENT_SECRET")?.map(Into::into),
            username: required("OCIS_OIDC_USERNAME")?,
            password: required::<String>("OCIS_OIDC_PASSWORD")?.into(),
            scope: optional("OCIS_OIDC_SCOPE")?
                .unwrap_or_else(|| "openid profile email".to_owned()),
        }))
    }
}

/// Fails if `part` of a kind of credentials is set without the variable that selects this kind.
fn refuse_without(selecting: &str, part: &str) -> anyhow::Result<()> {
    ensure!(
        optional::<String>(part)?.is_none(),
        "{part} is set without {selecting}: set both, or neither"
    );
    Ok(())
}

/// oCIS client. Clones share credentials, the limit on concurrent calls, and the search for markers.
#[derive(Debug, Clone)]
pub struct Ocis {
    http: UpstreamHttp,
    credentials: Credentials,
    concurrency: ConcurrencyLimit,
    /// Id of our account.
    account: Arc<OnceCell<String>>,
    marker_search: Coalescer<BTreeSet<String>, list::Found>,
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
            concurrency: ConcurrencyLimit::new(config.timeout),
            account: Arc::default(),
            marker_search: list::marker_search(),
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

    /// Checks that oCIS responds. The endpoint checks neither its storage nor its identity provider.
    pub async fn probe(&self) -> Result<(), ClientError> {
        self.http.probe(self.http.base_url(), "/status.php").await
    }

    async fn send(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        self.send_into(operation, request, None).await
    }

    /// Sends an authenticated request; the body of a successful response goes to `sink`, if there is one. After a 401,
    /// which means that nothing was done, the access token is renewed and the request, read or write, is repeated once.
    async fn send_into(
        &self,
        operation: Operation,
        request: RequestBuilder,
        sink: Option<&BodySink>,
    ) -> Result<UpstreamResponse, ClientError> {
        let repeat = request
            .try_clone()
            .expect("every request body is in memory");
        let authorization = self.credentials.authorization().await?;
        let response = self
            .attempt(operation, request, &authorization, sink)
            .await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }

        if let Some(authorization) = self.credentials.renewed(&authorization).await? {
            let response = self
                .attempt(operation, repeat, &authorization, sink)
                .await?;
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
        sink: Option<&BodySink>,
    ) -> Result<UpstreamResponse, ClientError> {
        let request = authorization
            .attach(request)
            .header(REQUEST_ID, Uuid::now_v7().to_string());
        let call = self.http.send_into(operation, request, sink);
        let response = match sink {
            None => self.concurrency.run(call).await?,
            // The list of all spaces takes minutes on a quick server, too. It must neither hold a permit that long nor
            // be taken for a slow response.
            Some(_) => call.await?,
        };
        if response.status.is_success() {
            self.credentials.accepted();
        }
        Ok(response)
    }
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
