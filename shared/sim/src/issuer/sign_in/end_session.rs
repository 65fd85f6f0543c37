//! Sign-out at the issuer, which the portal begins.

use std::sync::Arc;

use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    super::{APPLICATIONS, IssuerState},
    SESSION_COOKIE,
    authorize::page,
    request::{Fields, cookie, redirect, redirect_target},
};

pub(super) async fn by_get(
    state: State<Arc<IssuerState>>,
    application: Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let fields = Fields::parse(query.as_deref().unwrap_or_default());
    end_session(&state, &application, &headers, &fields)
}

pub(super) async fn by_post(
    state: State<Arc<IssuerState>>,
    application: Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    end_session(&state, &application, &headers, &Fields::parse(&body))
}

/// Ends the session of the cookie, and redirects if the request says where to.
fn end_session(
    state: &IssuerState,
    application: &str,
    headers: &HeaderMap,
    fields: &Fields,
) -> Response {
    if !APPLICATIONS.contains(&application) {
        return page(StatusCode::NOT_FOUND, "Unknown application.");
    }
    if let Some(session) = cookie(headers, SESSION_COOKIE) {
        state.sign_ins.state().end(session);
    }
    let target = fields.get("post_logout_redirect_uri").map(redirect_target);
    let mut response = match target {
        None => page(StatusCode::OK, "You are signed out."),
        Some(None) => page(
            StatusCode::BAD_REQUEST,
            "post_logout_redirect_uri must be https, or http on localhost.",
        ),
        Some(Some(target)) => {
            let state = fields.get("state").map(|state| ("state", state));
            redirect(target, state.as_slice())
        }
    };
    let expired = format!("{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    if let Ok(expired) = HeaderValue::try_from(expired) {
        response.headers_mut().insert(header::SET_COOKIE, expired);
    }
    response
}
