//! Authentication: app tokens, and access tokens from a token endpoint in place of an identity provider.

use std::{collections::HashMap, time::Duration};

use axum::{
    Form, Json,
    extract::{Request, State as Held},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dezky_shared::platform::clock;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{OcisSim, Shared};

#[derive(Debug)]
pub(super) struct Logins {
    pub(super) reject_all: bool,
    pub(super) idp_down: bool,
    pub(super) refuse_client: bool,
    pub(super) lifetime: Duration,
    /// Duration of a check of a password or an app token.
    pub(super) authentication_time: Duration,
    tokens: HashMap<String, AccessToken>,
}

#[derive(Debug)]
struct AccessToken {
    /// Expiry on the boot clock.
    expires: Duration,
    /// Whether oCIS has verified the token with the identity provider.
    seen: bool,
    /// User name of the account, if the token carries the claim that identifies it.
    account: Option<String>,
}

/// The account that makes a request, by its user name.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) String);

enum Verdict {
    Accepted(Caller),
    Refused,
    /// A valid token that identifies no account.
    NoAccount,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            reject_all: false,
            idp_down: false,
            refuse_client: false,
            lifetime: Duration::from_mins(5),
            authentication_time: Duration::ZERO,
            tokens: HashMap::new(),
        }
    }
}

impl Logins {
    pub(super) fn expire_all(&mut self) {
        for token in self.tokens.values_mut() {
            token.expires = Duration::ZERO;
        }
    }

    /// Accepts a token of the identity provider for this account.
    pub(super) fn admit(&mut self, token: &str, user: &str) {
        let token = token.to_owned();
        self.tokens.insert(
            token,
            AccessToken {
                expires: clock::boot_time() + self.lifetime,
                seen: false,
                account: Some(user.to_owned()),
            },
        );
    }

    pub(super) fn snapshot(&self) -> Value {
        json!({ "issued": self.tokens.len(), "values": "masked" })
    }

    fn verdict(&mut self, headers: &HeaderMap) -> Verdict {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        match shown {
            _ if self.reject_all => Verdict::Refused,
            Some(("Basic", value)) => {
                user_of(value).map_or(Verdict::Refused, |user| Verdict::Accepted(Caller(user)))
            }
            Some(("Bearer", value)) => match self.tokens.get_mut(value) {
                Some(token) if token.expires <= clock::boot_time() => Verdict::Refused,
                Some(token) if !token.seen && self.idp_down => Verdict::Refused,
                Some(token) => {
                    token.seen = true;
                    let account = token.account.clone().map(Caller);
                    account.map_or(Verdict::NoAccount, Verdict::Accepted)
                }
                None => Verdict::Refused,
            },
            _ => Verdict::Refused,
        }
    }
}

/// User name of Basic credentials with the right password, which is the same for all accounts.
fn user_of(credentials: &str) -> Option<String> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    (password == OcisSim::PASSWORD).then(|| user.to_owned())
}

/// Takes the time of a check of a password or an app token.
async fn check_password(shared: &Shared, headers: &HeaderMap) {
    let time = shared.lock().logins.authentication_time;
    let is_basic = headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(b"Basic "));
    if is_basic && !time.is_zero() {
        let _alone = shared.authenticating.lock().await;
        tokio::time::sleep(time).await;
    }
}

/// Authenticates a request. Rejections have an empty body, as from the proxy of the real server.
pub(super) async fn authenticate(
    Held(shared): Held<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    const CHALLENGE: &str =
        r#"Bearer realm="ocis.sim", charset="UTF-8", Basic realm="ocis.sim", charset="UTF-8""#;
    check_password(&shared, request.headers()).await;
    let verdict = {
        let mut state = shared.lock();
        let verdict = state.logins.verdict(request.headers());
        match verdict {
            Verdict::Accepted(Caller(user)) if !state.people.knows(&user) => Verdict::Refused,
            verdict => verdict,
        }
    };
    let from_browser = request
        .headers()
        .get("x-requested-with")
        .is_some_and(|value| value == "XMLHttpRequest");
    match verdict {
        Verdict::Accepted(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Verdict::NoAccount => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Verdict::Refused if from_browser => StatusCode::UNAUTHORIZED.into_response(),
        Verdict::Refused => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, CHALLENGE)],
        )
            .into_response(),
    }
}

/// `POST /sim-idp/token`: client credentials grant for the service account.
pub(super) async fn token(
    Held(shared): Held<Shared>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let mut state = shared.lock();
    let logins = &mut state.logins;
    let refusal = if field("grant_type") != "client_credentials" {
        Some("unsupported_grant_type")
    } else if logins.refuse_client || field("client_id") != OcisSim::OIDC_CLIENT_ID {
        Some("invalid_client")
    } else if field("username") != OcisSim::USER || field("password") != OcisSim::OIDC_PASSWORD {
        Some("invalid_grant")
    } else {
        None
    };
    if let Some(error) = refusal {
        let body = Json(json!({ "error": error, "error_description": "refused by the simulator" }));
        return (StatusCode::BAD_REQUEST, body).into_response();
    }

    let value = format!("sim-access-{}", Uuid::now_v7());
    let scope = field("scope");
    logins.tokens.insert(
        value.clone(),
        AccessToken {
            expires: clock::boot_time() + logins.lifetime,
            seen: false,
            account: scope
                .split(' ')
                .any(|scope| scope == "profile")
                .then(|| OcisSim::USER.to_owned()),
        },
    );
    Json(json!({
        "access_token": value,
        "token_type": "Bearer",
        "expires_in": logins.lifetime.as_secs(),
        "scope": scope,
    }))
    .into_response()
}
