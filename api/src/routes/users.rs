//! People: who the caller is, and what operators say about everybody.

mod audit;
mod claims_sync;
mod create;
mod delete;
mod list;
mod patch;
mod roles;
mod view;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use dezky_shared::user::User;
use http::{StatusCode, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{Profile, UserDetail};
pub(super) use self::{
    audit::{audited_in, target},
    roles::ensure_owner_remains,
    view::MfaView,
};
use crate::{
    error::{ApiError, Problem},
    extract::{Bearer, ETag, IfNoneMatch, QueryParams, RequestInfo, active_partner_of},
    intent::ApiResponse,
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(list::list, create::create))
        .routes(routes!(list::show, patch::patch, delete::delete))
}

/// The caller
///
/// Creates the caller's user on first sight, and follows the groups in their token.
#[utoipa::path(
    get, path = "/users/me", operation_id = "getMe", tag = "users", params(("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = Profile), (status = 304), (status = "default", response = Problem)),
)]
async fn me(
    Bearer(claims): Bearer,
    _: QueryParams<()>,
    known: IfNoneMatch,
    request: RequestInfo,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let user = claims_sync::sync(&app, &claims, &request).await?;
    app.users.touch_last_seen(&user, app.store.now()).await?;
    let partner = active_partner_of(&app, &user).await?;
    let profile = Profile::of(&app, user, partner.as_deref()).await?;
    let etag = profile.etag()?;
    if known.matches(etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag.to_string())]).into_response());
    }
    Ok(ApiResponse::new(StatusCode::OK, etag, &profile)?.into_response())
}

/// A user as operators see them.
async fn detail(app: &AppState, user: &User) -> Result<ApiResponse, ApiError> {
    let tenants = app.tenants.list_by_ids(&user.tenant_ids()).await?;
    let view = UserDetail::new(user, &tenants);
    ApiResponse::new(StatusCode::OK, ETag::from(user), &view)
}
