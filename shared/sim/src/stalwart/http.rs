//! HTTP layer: authentication, limits, and problem responses.

use axum::{
    Router,
    body::Bytes,
    extract::State as Shared,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{
    Mail, StalwartSim, State,
    object::{Id, Kind},
    properties::{Object, Properties as _},
    request::{self, RequestError},
};
use crate::server::HangUp;

pub(super) fn router(mail: Mail) -> Router {
    Router::new().fallback(answer).with_state(mail)
}

/// An authenticated caller.
struct Caller {
    id: Id,
    email: String,
    may_manage: bool,
}

async fn answer(
    Shared(mail): Shared<Mail>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if mail.lock().is_banned() {
        return hang_up();
    }
    match (method.as_str(), uri.path()) {
        ("GET", "/healthz/live" | "/healthz/ready") => {
            problem(&json!({ "type": "about:blank", "status": 200, "title": "OK", "detail": "OK" }))
        }
        ("GET", "/.well-known/jmap") => {
            let location = [(header::LOCATION, "/jmap/session")];
            (StatusCode::TEMPORARY_REDIRECT, location).into_response()
        }
        // Accessible without credentials.
        ("GET", "/jmap/session") if !headers.contains_key(header::AUTHORIZATION) => {
            json_answer(&session(None))
        }
        ("GET", "/jmap/session") => match mail.lock().sign_in(&headers) {
            Ok(caller) => json_answer(&session(Some(&caller))),
            Err(refused) => refused.into_response(),
        },
        ("GET", "/api/account") => {
            let mut state = mail.lock();
            match state.sign_in(&headers) {
                Ok(caller) => json_answer(&state.account(caller.may_manage)),
                Err(refused) => refused.into_response(),
            }
        }
        ("POST", "/jmap" | "/jmap/") => calls(&mail, &headers, &body).await,
        _ => refusal(
            404,
            "Not Found",
            "The requested resource does not exist on this server.",
        ),
    }
}

/// Handles a request with method calls.
async fn calls(mail: &Mail, headers: &HeaderMap, body: &[u8]) -> Response {
    let caller = match mail.lock().sign_in(headers) {
        Ok(caller) => caller,
        Err(refused) => return refused.into_response(),
    };
    let Some(_place) = Place::take(mail) else {
        return limit(
            "maxConcurrentRequests",
            "The request exceeds the maximum number of concurrent requests.",
        );
    };
    let latency = mail.lock().latency;
    tokio::time::sleep(latency).await;
    if headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        != Some("application/json")
    {
        return bad_request(
            "notJSON",
            "Failed to parse JSON: The Content-Type header must be application/json.",
        );
    }
    match request::run(mail, &caller.id.to_string(), caller.may_manage, body) {
        Ok(replies) => json_answer(&replies),
        Err(RequestError::NotRequest) => bad_request("notRequest", &String::from_utf8_lossy(body)),
        Err(RequestError::TooManyCalls) => limit(
            "maxCallsInRequest",
            "The request exceeds the maximum number of calls in a single request.",
        ),
    }
}

/// A slot among the concurrent requests. Dropping it releases the slot.
struct Place(Mail);

impl Place {
    fn take(mail: &Mail) -> Option<Self> {
        let mut state = mail.lock();
        if state
            .concurrency
            .is_some_and(|limit| state.in_flight >= limit)
        {
            return None;
        }
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        drop(state);
        Some(Self(mail.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl State {
    fn is_banned(&self) -> bool {
        self.ban_after
            .is_some_and(|limit| self.failed_logins > limit)
    }

    /// Authenticates the `Authorization` header.
    fn sign_in(&mut self, headers: &HeaderMap) -> Result<Caller, LoginRefused> {
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|given| given.to_str().ok());
        let id = given.and_then(|given| match given.split_once(' ')? {
            ("Bearer", token) if token == StalwartSim::TOKEN && self.token_accepted => {
                self.account_at(StalwartSim::ADMIN)
            }
            ("Basic", login) => self.account_with(login),
            _ => None,
        });
        let Some((id, account)) =
            id.and_then(|id| Some((id, self.objects.get(Kind::Account, id)?)))
        else {
            return Err(self.refuse_login());
        };
        if !may_sign_in(account) {
            return Err(LoginRefused::Forbidden);
        }
        Ok(Caller {
            id,
            email: self.objects.email(account),
            may_manage: account.variant("roles") == "Admin",
        })
    }

    /// Finds the account for `user:password` in base 64.
    fn account_with(&self, login: &str) -> Option<Id> {
        let login = String::from_utf8(BASE64_STANDARD.decode(login).ok()?).ok()?;
        let (user, password) = login.split_once(':')?;
        let id = self.account_at(&user.to_lowercase())?;
        let account = self.objects.get(Kind::Account, id)?;
        let mut credentials = account.members("credentials")?.values();
        credentials
            .any(|credential| credential["secret"] == password)
            .then_some(id)
    }

    /// Finds an account by address or alias.
    fn account_at(&self, email: &str) -> Option<Id> {
        let mut accounts = self.objects.all(Kind::Account);
        let found = accounts.find(|(_, account)| {
            self.objects.email(account) == email
                || self
                    .objects
                    .alias_addresses(account)
                    .iter()
                    .any(|alias| alias == email)
        });
        found.map(|(id, _)| id)
    }

    fn refuse_login(&mut self) -> LoginRefused {
        self.failed_logins += 1;
        if self.is_banned() {
            return LoginRefused::Banned;
        }
        LoginRefused::Unauthorized
    }
}

/// Reason why a login fails.
#[derive(Debug, Clone, Copy)]
enum LoginRefused {
    /// Unknown account or wrong secret.
    Unauthorized,
    /// Valid credentials without permission to sign in.
    Forbidden,
    /// Too many failed logins. This is the last response the caller gets.
    Banned,
}

impl IntoResponse for LoginRefused {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                let mut response = refusal(401, "Unauthorized", "You have to authenticate first.");
                response.headers_mut().insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"Stalwart Server\""),
                );
                response
            }
            Self::Forbidden => refusal(
                403,
                "Forbidden",
                "You do not have enough permissions to access this resource.",
            ),
            Self::Banned => refusal(
                429,
                "Too Many Authentication Attempts",
                "Your request has been rate limited. Please try again in a few minutes.",
            ),
        }
    }
}

/// Whether the account may sign in, regardless of its password.
pub(super) fn may_sign_in(account: &Object) -> bool {
    let has = |set: &str| {
        let permissions = account
            .members("permissions")
            .and_then(|given| given.members(set));
        permissions.is_some_and(|set| set.contains_key("authenticate"))
    };
    let granted = match (account.variant("permissions"), account.variant("roles")) {
        ("Replace", _) => has("enabledPermissions"),
        (_, "Custom") => {
            let roles = account
                .members("roles")
                .and_then(|roles| roles.members("roleIds"));
            has("enabledPermissions") || roles.is_some_and(|roles| !roles.is_empty())
        }
        _ => true,
    };
    granted && !has("disabledPermissions")
}

fn session(caller: Option<&Caller>) -> Value {
    let mut accounts = Object::new();
    let mut primary = Object::new();
    if let Some(caller) = caller {
        let id = caller.id.to_string();
        let account = json!({
            "name": caller.email, "isPersonal": true, "isReadOnly": false,
            "accountCapabilities": { "urn:ietf:params:jmap:mail": {}, "urn:stalwart:jmap": {} },
        });
        accounts.insert(id.clone(), account);
        primary.insert("urn:ietf:params:jmap:mail".into(), json!(id));
        primary.insert("urn:stalwart:jmap".into(), json!(id));
    }
    json!({
        "capabilities": {
            "urn:ietf:params:jmap:core": {
                "maxSizeUpload": 50_000_000, "maxConcurrentUpload": 4, "maxSizeRequest": 10_000_000,
                "maxConcurrentRequests": 4, "maxCallsInRequest": 16, "maxObjectsInGet": 500,
                "maxObjectsInSet": 500,
                "collationAlgorithms": ["i;ascii-numeric", "i;ascii-casemap", "i;unicode-casemap"],
            },
            "urn:ietf:params:jmap:mail": {},
        },
        "accounts": accounts,
        "primaryAccounts": primary,
        "username": caller.map_or("", |caller| &caller.email),
        // The configured address of the server, not the one that the client used.
        "apiUrl": "https://mail.provider.test/jmap/",
        "state": "1731e49e",
    })
}

fn json_answer(body: &Value) -> Response {
    axum::Json(body).into_response()
}

fn bad_request(kind: &str, detail: &str) -> Response {
    let kind = format!("urn:ietf:params:jmap:error:{kind}");
    problem(&json!({ "type": kind, "status": 400, "detail": detail }))
}

fn limit(limit: &str, detail: &str) -> Response {
    let kind = "urn:ietf:params:jmap:error:limit";
    problem(&json!({ "type": kind, "status": 400, "detail": detail, "limit": limit }))
}

fn refusal(status: u16, title: &str, detail: &str) -> Response {
    problem(&json!({ "type": "about:blank", "status": status, "title": title, "detail": detail }))
}

/// A response with the status in its body.
fn problem(body: &Value) -> Response {
    let status = body["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    let status = status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

fn hang_up() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(HangUp);
    response
}
