//! Proving who we are, and telling wrong credentials from an oCIS that is not ready.
//!
//! oCIS answers 401 to wrong credentials, while it starts, and while its identity provider is away. So a 401 of
//! oCIS alone is an outage; our credentials are wrong when the token endpoint says so, or when an app token is
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
/// How long an access token is used when the token endpoint does not say.
const USUAL_LIFETIME: u64 = 60;
/// The most by which an access token is replaced before it expires.
const EARLY: Duration = Duration::from_secs(30);

/// Our credentials, and what we learnt about them. Clones share it.
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
    /// When, on the boot clock, the refusals began that no success has ended.
    refused_since: Mutex<Option<Duration>>,
}

#[derive(Debug)]
struct Oidc {
    login: OidcLogin,
    http: UpstreamHttp,
    path: String,
    timeout: Duration,
    /// Held while a token is fetched, so that one caller fetches for all.
    token: tokio::sync::Mutex<Option<Token>>,
}

#[derive(Debug)]
struct Token {
    value: SecretString,
    /// On the boot clock.
    use_until: Duration,
}

/// What a request shows to oCIS.
pub(super) enum Authorization {
    Basic {
        user: String,
        password: SecretString,
    },
    Bearer(SecretString),
}

impl Authorization {
    /// The request with this proof.
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

    /// What to show to oCIS now.
    pub(super) async fn proof(&self) -> Result<Authorization, ClientError> {
        match &*self.0 {
            Kind::AppToken(AppToken { login, .. }) => Ok(Authorization::Basic {
                user: login.user.clone(),
                password: login.password.clone(),
            }),
            Kind::Oidc(oidc) => oidc.token(None).await,
        }
    }

    /// Another proof after oCIS refused this one; `None` when there is no other.
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

    /// oCIS accepted our proof.
    pub(super) fn accepted(&self) {
        if let Kind::AppToken(app_token) = &*self.0 {
            *app_token.refused_since() = None;
        }
    }

    /// What it means that oCIS refused every proof we have, with this 401.
    pub(super) fn refused(&self, answer: &UpstreamResponse) -> ClientError {
        match &*self.0 {
            Kind::Oidc(_) => ClientError::Unavailable(answer.failed(
                "a fresh access token was refused: oCIS or its identity provider may be starting, or no account of oCIS matches the token",
            )),
            Kind::AppToken(app_token) => {
                let now = clock::boot_time();
                let since = *app_token.refused_since().get_or_insert(now);
                if now.saturating_sub(since) >= app_token.grace {
                    ClientError::Credentials(
                        answer.failed("the app token has been refused for too long to blame a start of oCIS"),
                    )
                } else {
                    ClientError::Unavailable(
                        answer.failed("the app token was refused; oCIS may be starting"),
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
    /// An access token other than `refused`. Nobody waits for it longer than a call may take, however many
    /// callers stand in line.
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
                // Another caller may have replaced the refused one already.
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
        let answer = self.http.send(FETCH_TOKEN, request).await?;

        match answer.status.as_u16() {
            200 => {
                let granted: Granted = answer.json()?;
                let lifetime = Duration::from_secs(granted.expires_in.unwrap_or(USUAL_LIFETIME));
                let early = EARLY.min(lifetime / 10);
                Ok(Token {
                    value: granted.access_token,
                    use_until: asked_at.saturating_add(lifetime).saturating_sub(early),
                })
            }
            400 | 401 => Err(ClientError::Credentials(answer.failed(&refusal(&answer)))),
            408 | 425 | 429 | 500..=599 => Err(answer.error("the token endpoint failed")),
            _ => Err(ClientError::Unavailable(answer.failed(
                "not an answer of a token endpoint; is OCIS_OIDC_TOKEN_URL right?",
            ))),
        }
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    expires_in: Option<u64>,
}

/// Why a token endpoint refused, by the code of RFC 6749, section 5.2. Its description is left out: what it
/// repeats is not ours to know.
fn refusal(answer: &UpstreamResponse) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    serde_json::from_slice(&answer.body).map_or_else(
        |_| "the token endpoint refused us".to_owned(),
        |refusal: Refusal| format!("the token endpoint refused us: {}", refusal.error),
    )
}
