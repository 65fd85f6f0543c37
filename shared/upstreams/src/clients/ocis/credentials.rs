//! Authentication, and the distinction between invalid credentials and an oCIS that is not ready.
//!
//! oCIS returns 401 for invalid credentials, while it starts, and while its identity provider is unavailable. A 401
//! alone is therefore an outage; the credentials are invalid if the token endpoint rejects them, or if an app token is
//! refused for minutes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{AppTokenLogin, OcisConfig, OcisLogin, OidcLogin};
use crate::clients::{ClientError, FailedCall, Operation, UpstreamHttp, UpstreamResponse};
use dezky_shared::{
    platform::{clock, tls::TrustRoots},
    upstream::Upstream,
};

const FETCH_TOKEN: Operation = Operation::read("fetch_token");
/// Default lifetime of an access token, in seconds, if the token endpoint returns none.
const USUAL_LIFETIME: u64 = 60;
/// Maximum time before expiry at which an access token is renewed.
const EARLY: Duration = Duration::from_secs(30);

/// Credentials and their state, shared by clones.
#[derive(Debug, Clone)]
pub(super) struct Credentials(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    AppToken(AppToken),
    Oidc(Box<Oidc>),
}

#[derive(Debug)]
struct AppToken {
    login: AppTokenLogin,
    grace: Duration,
    /// Boot time of the first refusal since the last success.
    refused_since: Mutex<Option<Duration>>,
}

#[derive(Debug)]
struct Oidc {
    login: OidcLogin,
    http: UpstreamHttp,
    path: String,
    timeout: Duration,
    /// Locked during a fetch, so that concurrent callers share one token request (single flight).
    token: tokio::sync::Mutex<Option<Token>>,
}

#[derive(Debug)]
struct Token {
    value: SecretString,
    /// On the boot clock.
    use_until: Duration,
}

/// Authorization of a request.
pub(super) enum Authorization {
    Basic {
        user: String,
        password: SecretString,
    },
    Bearer(SecretString),
}

impl Authorization {
    /// Adds the authorization to the request.
    pub(super) fn attach(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Basic { user, password } => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
            Self::Bearer(token) => request.bearer_auth(token.expose_secret()),
        }
    }
}

impl Credentials {
    pub(super) fn new(config: &OcisConfig, trust_roots: &TrustRoots) -> anyhow::Result<Self> {
        let kind = match &config.login {
            OcisLogin::AppToken(login) => Kind::AppToken(AppToken {
                login: login.clone(),
                grace: config.refusal_grace,
                refused_since: Mutex::default(),
            }),
            OcisLogin::Oidc(login) => {
                let origin = login.token_url.origin().ascii_serialization();
                Kind::Oidc(Box::new(Oidc {
                    login: login.clone(),
                    http: UpstreamHttp::new(Upstream::Ocis, &origin, config.timeout, trust_roots)?,
                    path: login.token_url.path().to_owned(),
                    timeout: config.timeout,
                    token: tokio::sync::Mutex::default(),
                }))
            }
        };
        Ok(Self(Arc::new(kind)))
    }

    /// Current authorization.
    pub(super) async fn authorization(&self) -> Result<Authorization, ClientError> {
        match &*self.0 {
            Kind::AppToken(AppToken { login, .. }) => Ok(Authorization::Basic {
                user: login.user.clone(),
                password: login.password.clone(),
            }),
            Kind::Oidc(oidc) => oidc.token(None).await,
        }
    }

    /// Renewed authorization after a refusal; `None` if there is no other.
    pub(super) async fn renewed(
        &self,
        refused: &Authorization,
    ) -> Result<Option<Authorization>, ClientError> {
        match (&*self.0, refused) {
            (Kind::Oidc(oidc), Authorization::Bearer(token)) => {
                oidc.token(Some(token)).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Records that oCIS accepted our authorization.
    pub(super) fn accepted(&self) {
        if let Kind::AppToken(app_token) = &*self.0 {
            *app_token.refused_since() = None;
        }
    }

    /// Error for a 401 after all authorizations were refused.
    pub(super) fn refused(&self, response: &UpstreamResponse) -> ClientError {
        match &*self.0 {
            Kind::Oidc(_) => ClientError::Unavailable(response.failed(
                "a fresh access token was refused: oCIS or its identity provider may be starting, or no account of oCIS matches the token",
            )),
            Kind::AppToken(app_token) => {
                let now = clock::boot_time();
                let since = *app_token.refused_since().get_or_insert(now);
                if now.saturating_sub(since) >= app_token.grace {
                    ClientError::Credentials(
                        response.failed("the app token has been refused for too long to blame a start of oCIS"),
                    )
                } else {
                    ClientError::Unavailable(
                        response.failed("the app token was refused; oCIS may be starting"),
                    )
                }
            }
        }
    }
}

impl AppToken {
    fn refused_since(&self) -> std::sync::MutexGuard<'_, Option<Duration>> {
        self.refused_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Oidc {
    /// An access token other than `refused`. The wait is limited by the call timeout, however many callers are queued.
    async fn token(&self, refused: Option<&SecretString>) -> Result<Authorization, ClientError> {
        let wait = tokio::time::timeout(self.timeout, self.current_or_fetched(refused));
        wait.await.unwrap_or_else(|_| {
            Err(ClientError::Unavailable(FailedCall {
                upstream: Upstream::Ocis,
                operation: FETCH_TOKEN.name,
                status: None,
                request_id: None,
                detail: "no access token in time".to_owned(),
            }))
        })
    }

    async fn current_or_fetched(
        &self,
        refused: Option<&SecretString>,
    ) -> Result<Authorization, ClientError> {
        let mut current = self.token.lock().await;
        let usable = current.as_ref().filter(|token| {
            token.use_until > clock::boot_time()
                // A concurrent caller may have renewed the token already.
                && refused.is_none_or(|refused| refused.expose_secret() != token.value.expose_secret())
        });
        let token = match usable {
            Some(token) => token,
            None => current.insert(self.fetch().await?),
        };
        Ok(Authorization::Bearer(token.value.clone()))
    }

    async fn fetch(&self) -> Result<Token, ClientError> {
        let OidcLogin {
            client_id,
            client_secret,
            username,
            password,
            scope,
            ..
        } = &self.login;
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("username", username),
            ("password", password.expose_secret()),
            ("scope", scope),
        ];
        if let Some(secret) = client_secret {
            form.push(("client_secret", secret.expose_secret()));
        }
        let asked_at = clock::boot_time();
        let request = self.http.request(Method::POST, &self.path).form(&form);
        let response = self.http.send(FETCH_TOKEN, request).await?;

        match response.status.as_u16() {
            200 => {
                let granted: Granted =
                    serde_json::from_slice(&response.body).map_err(|_| no_token(&response))?;
                let lifetime = Duration::from_secs(granted.expires_in.unwrap_or(USUAL_LIFETIME));
                let early = EARLY.min(lifetime / 10);
                Ok(Token {
                    value: granted.access_token,
                    use_until: asked_at.saturating_add(lifetime).saturating_sub(early),
                })
            }
            400 | 401 => Err(ClientError::Credentials(
                response.failed(&refusal_reason(&response)),
            )),
            408 | 425 | 429 | 500..=599 => Err(response.error("the token endpoint failed")),
            _ => Err(no_token(&response)),
        }
    }
}

/// Error for a response without a token: no call can be made until the endpoint returns one.
fn no_token(response: &UpstreamResponse) -> ClientError {
    let detail = "not a token endpoint response; check OCIS_OIDC_TOKEN_URL";
    ClientError::Unavailable(response.failed(detail))
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    expires_in: Option<u64>,
}

/// Reason for a refusal, by its code (RFC 6749, section 5.2). The description is omitted, because it may echo secrets.
fn refusal_reason(response: &UpstreamResponse) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_slice(&response.body).map_or_else(
        |_| "the token endpoint rejected the request".to_owned(),
        |refusal_reason: Refusal| {
            format!(
                "the token endpoint rejected the request: {}",
                refusal_reason.error
            )
        },
    )
}
