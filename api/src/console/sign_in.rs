//! Sign-in at the operators' issuer (authorization code with PKCE), and sign-out here and there.

mod attempt;
mod issuer;
mod return_path;
mod trail;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::{AppendHeaders, IntoResponse as _, Redirect, Response},
};
use dezky_shared::audit::Action;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

pub(super) use self::issuer::IssuerClient;
use self::{attempt::Attempt, return_path::return_path};
use super::{
    Console, ConsoleState,
    cookies::Cookie,
    failure::Failure,
    html,
    query::{Parameters, text},
    session::{self, Session, not_an_operator, operator},
    submission::Submission,
};
use crate::{
    auth::OPERATOR_AUDIENCE,
    error::{ApiError, ProblemCode},
    extract::RequestInfo,
    user_sync,
};

/// Begins a sign-in: redirects to the issuer.
pub(super) async fn begin(
    State(console): State<ConsoleState>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let target = return_path(text(&parameters, "return_to").unwrap_or_default());
    let attempt = Attempt::new(target, console.app.store.now())?;
    let url = console.issuer.authorization_url(&attempt).await?;
    let sealed = attempt.seal(&console.app.config.encryption_keys)?;
    let cookie = console
        .cookies
        .set(Cookie::SignIn, &sealed, attempt::MAX_AGE);
    Ok(redirect(url.as_str(), [cookie]))
}

/// Parameters with which the issuer redirects back.
#[derive(Debug, Deserialize)]
pub(super) struct Callback {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// Completes a sign-in: redeems the code, and starts a session.
pub(super) async fn complete(
    State(console): State<ConsoleState>,
    Query(callback): Query<Callback>,
    headers: HeaderMap,
    request: RequestInfo,
) -> Result<Response, Failure> {
    let (attempt, code) = attempt_of(&console, &callback, &headers)?;
    let id_token = console.issuer.redeem(code, &attempt.verifier).await?;
    let access = &console.app.access;
    let claims = access.tokens.verify(&id_token).await?;
    let is_of_operators = claims.aud.iter().any(|name| name == OPERATOR_AUDIENCE);
    if !is_of_operators || !attempt.has_nonce_of(&id_token) {
        return Err(refused("The issuer's token is of another sign-in."));
    }
    let user = user_sync::sync(access, &claims, &request).await?;
    let Some((user, _)) = operator(Some(user)) else {
        return Err(not_an_operator());
    };
    session::end(&console, &headers).await?;
    // The cookie is sent after the event is recorded: no session is used without one.
    let session_cookie = session::start(&console, &claims, &id_token).await?;
    trail::record(&console, Action::ConsoleSignIn, &user, &request).await?;
    let cookies = [session_cookie, console.cookies.remove(Cookie::SignIn)];
    tracing::info!(user = %user.id, "An operator signed in to the console");
    Ok(redirect(return_path(&attempt.return_to), cookies))
}

/// The attempt that this browser began, and the code that the issuer answers it with.
fn attempt_of<'a>(
    console: &Console,
    callback: &'a Callback,
    headers: &HeaderMap,
) -> Result<(Attempt, &'a str), Failure> {
    let sealed = console.cookies.get(headers, Cookie::SignIn);
    let keys = &console.app.config.encryption_keys;
    let attempt = sealed.and_then(|sealed| Attempt::open(sealed, keys, console.app.store.now()));
    let attempt = attempt
        .filter(|attempt| callback.state.as_ref() == Some(&attempt.state))
        .ok_or_else(|| refused("The sign-in has expired, or began in another browser."))?;
    let issuer = &console.config.issuer;
    if callback.iss.as_ref().is_some_and(|name| name != issuer) {
        return Err(refused("Another issuer answered the sign-in."));
    }
    if callback.error.is_some() {
        return Err(refused("The issuer refused the sign-in."));
    }
    let code = callback.code.as_deref();
    let code = code.ok_or_else(|| refused("The issuer's answer has no code."))?;
    Ok((attempt, code))
}

fn refused(detail: &str) -> Failure {
    Failure::titled(StatusCode::UNAUTHORIZED, "Sign-in failed", detail)
}

/// Signs out: ends the session, then the one at the issuer.
pub(super) async fn sign_out(
    State(console): State<ConsoleState>,
    headers: HeaderMap,
    Submission { session, .. }: Submission,
) -> Result<Response, Failure> {
    // Before the session ends, so that a failure leaves a session that can be ended again, and no end is unrecorded.
    let Session { user, request, .. } = &session;
    trail::record(&console, Action::ConsoleSignOut, user, request).await?;
    let id_token = session::end(&console, &headers).await?;
    let url = console.issuer.end_session_url(id_token.as_deref()).await;
    let target = url.map_or_else(|| "/console/signed-out".to_owned(), String::from);
    Ok(redirect(&target, [console.cookies.remove(Cookie::Session)]))
}

/// The page after a sign-out.
#[derive(Debug, Template)]
#[template(path = "console/signed_out.html")]
struct SignedOut;

pub(super) fn signed_out() -> Response {
    html::respond(StatusCode::OK, &SignedOut)
}

/// Redirects with these cookies.
fn redirect<const N: usize>(target: &str, cookies: [Option<HeaderValue>; N]) -> Response {
    let cookies = cookies.into_iter().flatten();
    let cookies = cookies.map(|cookie| (header::SET_COOKIE, cookie));
    let cookies: Vec<_> = cookies.collect();
    (AppendHeaders(cookies), Redirect::to(target)).into_response()
}

/// 503 while the issuer does not answer as it should.
fn unavailable(cause: &anyhow::Error) -> ApiError {
    let cause = format!("{cause:#}");
    tracing::warn!(
        cause,
        "The issuer of the console's operators is unavailable"
    );
    ProblemCode::IdentityUnavailable.into()
}
