//! Users: the caller, and user management for operators.

mod audit;
mod claims_sync;
mod create;
mod delete;
mod list;
mod roles;
mod update;
mod view;

use axum::{extract::State, response::Response};
use dezky_shared::user::User;
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{Profile, UserDetail, shown_tenants};
use crate::{
    error::ApiError,
    etag::ETag,
    extract::{Bearer, IfNoneMatch, RequestInfo, active_partner_of},
    response::ApiResponse,
    state::{AppState, SharedState},
};

pub(super) use self::{
    audit::{audited_in, target},
    roles::ensure_owner_remains,
    view::MfaView,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(list::list, create::create))
        .routes(routes!(list::show, update::update, delete::delete))
}

/// Returns the caller
///
/// Creates the caller's user on the first request, and applies the groups in the token.
#[utoipa::path(get, path = "/users/me", operation_id = "getMe", tag = "users", responses((status = 200, body = Profile), (status = 304)))]
async fn me(
    Bearer(claims): Bearer,
    if_none_match: IfNoneMatch,
    request: RequestInfo,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let user = claims_sync::sync(&app, &claims, &request).await?;
    app.db.users.touch_last_seen(&user, app.store.now()).await?;
    let partner = active_partner_of(&app.access, &user).await?;
    let profile = Profile::of(&app, user, partner.as_deref()).await?;
    let etag = profile.etag()?;
    Ok(ApiResponse::conditional(&if_none_match, etag, &profile))
}

/// 200 with the user, as operators see it.
async fn detail(app: &AppState, user: &User) -> Result<ApiResponse, ApiError> {
    let tenants = app.db.tenants.list_by_ids(&shown_tenants(user)).await?;
    let view = UserDetail::new(user, &tenants);
    Ok(ApiResponse::new(StatusCode::OK, ETag::from(user), &view))
}
