//! Session of an operator: the cookie, the stored session, and the rights as they are now.

use std::time::Duration;

use anyhow::anyhow;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use axum::{
    extract::{FromRequestParts, rejection::QueryRejection},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::DateTime;
use dezky_shared::{
    console_session::{ConsoleSession, MAX_AGE},
    store::StoreError,
    user::{PlatformRole, User},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request::Parts, uri::PathAndQuery};
use sha2::{Digest as _, Sha256};

use super::{
    Console, ConsoleState,
    cookies::Cookie,
    failure::Failure,
    query::{Parameters, path_with},
};
use crate::{
    auth::{Claims, OPERATOR_AUDIENCE},
    error::{ApiError, ProblemCode},
    request_info::RequestInfo,
    serve::ResponseMemory,
};

/// Header of the requests that keep an open page up to date.
const LIVE: &str = "x-console-live";

/// A signed-in operator.
#[derive(Debug)]
pub(super) struct Session {
    /// Claims for the handlers of the API.
    pub(super) claims: Claims,
    /// The operator.
    pub(super) user: User,
    /// Role, as stored now.
    pub(super) role: PlatformRole,
    /// Token that a form of this session has.
    pub(super) form_token: String,
    /// Whether an open page only keeps itself up to date.
    pub(super) is_live: bool,
    /// Id and origin of the request, for the audit trail.
    pub(super) request: RequestInfo,
}

/// Id of a session, as in the cookie.
pub(super) struct SessionId(String);

impl SessionId {
    /// A new id. Each sign-in has one, so that an id that was planted in the browser never becomes a session.
    fn new() -> Result<Self, ApiError> {
        random().map(Self)
    }

    /// The id in the cookie.
    pub(super) fn of(console: &Console, headers: &HeaderMap) -> Option<Self> {
        let id = console.cookies.get(headers, Cookie::Session)?;
        Some(Self(id.to_owned())).filter(|_| !id.is_empty())
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// Id of the stored session.
    fn stored(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.digest())
    }

    /// Token of the session's forms. Pages of other origins cannot know it.
    fn form_token(&self) -> String {
        let digest = Sha256::digest(format!("form of {}", self.0));
        URL_SAFE_NO_PAD.encode(digest)
    }
}

/// An unguessable value: 256 bits.
pub(super) fn random() -> Result<String, ApiError> {
    let mut bytes = [0_u8; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| ApiError::internal(anyhow!("there are no random bytes")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Starts a session, and returns the header that sets its cookie.
pub(super) async fn start(
    console: &Console,
    claims: &Claims,
    id_token: &str,
) -> Result<Option<HeaderValue>, Failure> {
    let app = &console.app;
    let id = SessionId::new()?;
    let encrypted_for = ConsoleSession::encrypted_for(id.digest());
    let encrypted = app.config.encryption_keys.encrypt(encrypted_for, &id_token);
    let encrypted = encrypted.map_err(|error| ApiError::internal(error.into()))?;
    let session = ConsoleSession::new(
        id.stored(),
        claims.sub.clone(),
        claims.aud.clone(),
        encrypted,
        app.store.now(),
    );
    app.db.console_sessions.insert(&session).await?;
    Ok(console.cookies.set(Cookie::Session, &id.0, MAX_AGE))
}

/// Ends the session of the cookie. Returns its id token, if it can be decrypted.
pub(super) async fn end(console: &Console, headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(id) = SessionId::of(console, headers) else {
        return Ok(None);
    };
    let app = &console.app;
    let Some(session) = app.db.console_sessions.delete(&id.stored()).await? else {
        return Ok(None);
    };
    let encrypted_for = ConsoleSession::encrypted_for(id.digest());
    let keys = &app.config.encryption_keys;
    Ok(keys.decrypt(encrypted_for, &session.id_token).ok())
}

/// Why a request is not handled.
#[derive(Debug)]
pub(super) enum Rejection {
    /// The request has no session. The requested page follows after the sign-in.
    SignIn(String),
    /// The request's query string cannot be read.
    Query(QueryRejection),
    /// The request is refused.
    Failed(Failure),
}

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<QueryRejection> for Rejection {
    fn from(rejection: QueryRejection) -> Self {
        Self::Query(rejection)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn(path) => Redirect::to(&path).into_response(),
            Self::Query(rejection) => rejection.into_response(),
            Self::Failed(failure) => failure.into_response(),
        }
    }
}

impl FromRequestParts<ConsoleState> for Session {
    type Rejection = Rejection;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &ConsoleState,
    ) -> Result<Self, Rejection> {
        let Some(id) = SessionId::of(console, &parts.headers) else {
            return Err(signed_out(parts));
        };
        let app = &console.app;
        let now = app.store.now();
        let stored = app.db.console_sessions.find(&id.stored(), now).await?;
        let Some(stored) = stored else {
            return Err(signed_out(parts));
        };
        let user = app.access.users.find_by_subject(&stored.subject).await?;
        let Some((user, role)) = operator(user) else {
            app.db.console_sessions.delete(&stored.id).await?;
            return Err(Rejection::Failed(not_an_operator()));
        };
        // An open page that only keeps itself up to date does not prolong the session.
        let is_live = parts.headers.contains_key(LIVE);
        if !is_live && stored.is_seen_stale(now) {
            app.db.console_sessions.touch(&stored, now).await?;
        }
        if let Some(memory) = parts.extensions.get::<ResponseMemory>() {
            memory.charge_to(&stored.subject);
        }
        Ok(Self {
            claims: claims(&stored),
            user,
            role,
            form_token: id.form_token(),
            is_live,
            request: parts.extensions.get().cloned().unwrap_or_default(),
        })
    }
}

/// The user with their role, if they are an operator now.
pub(super) fn operator(user: Option<User>) -> Option<(User, PlatformRole)> {
    let user = user?;
    let role = user.role_at_platform()?;
    Some((user, role))
}

/// Failure of a person who is no operator.
pub(super) fn not_an_operator() -> Failure {
    Failure::new(
        ProblemCode::Forbidden,
        "The console is for operators. Ask a platform administrator for a role, and sign in again.",
    )
}

/// Claims of the operator, until the session ends.
fn claims(session: &ConsoleSession) -> Claims {
    let audiences = session.audiences.iter();
    let audiences = audiences.filter(|audience| *audience == OPERATOR_AUDIENCE);
    Claims {
        sub: session.subject.clone(),
        aud: audiences.cloned().collect(),
        exp: seconds(session.ends_at()),
        iat: None,
        groups: None,
        email: None,
        name: None,
    }
}

fn seconds(time: DateTime) -> f64 {
    let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0);
    Duration::from_millis(millis).as_secs_f64()
}

/// Sign-in, and then the page that was asked for. A form has to be filled in again.
fn signed_out(parts: &Parts) -> Rejection {
    if parts.method == Method::GET {
        let target = parts
            .uri
            .path_and_query()
            .map_or("/console", PathAndQuery::as_str);
        let more = [("return_to", target)];
        let path = path_with("/console/sign-in", &Parameters::new(), &[], &more);
        Rejection::SignIn(path)
    } else {
        Rejection::Failed(Failure::titled(
            StatusCode::UNAUTHORIZED,
            "You are signed out",
            "Your session has ended. Sign in again, and repeat the action.",
        ))
    }
}
