//! Users: the caller, and user management for operators.

mod create;
mod delete;
mod list;
mod roles;
mod update;
mod view;

use axum::response::Response;
use dezky_shared::{id::UserId, store::VersionedRepository as _, user::User};
use http::StatusCode;
use mongodb::ClientSession;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{Profile, UserDetail, shown_tenants};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{Bearer, RequestInfo, active_partner_of},
    read::Get,
    response::ApiResponse,
    state::{AppState, SharedState},
    user_sync,
    write::{CommandRunner, Rollback},
};

pub(super) use self::roles::ensure_owner_remains;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(list::list, create::create))
        .routes(routes!(list::show, update::update, delete::delete))
}

/// Returns the caller
///
/// Applies the groups in the token, as every first request of a user does.
#[utoipa::path(get, path = "/users/me", operation_id = "getMe", tag = "users", responses((status = 200, body = Profile), (status = 304)))]
async fn me(get: Get<Bearer, RequestInfo>) -> Result<Response, ApiError> {
    let user = user_sync::sync(&get.app.access, &get.access.0, &get.params).await?;
    get.app
        .db
        .users
        .touch_last_seen(&user, get.app.store.now())
        .await?;
    let partner = active_partner_of(&get.app.access, &user).await?;
    let profile = Profile::of(&get.app, user, partner.as_deref()).await?;
    let etag = profile.etag()?;
    Ok(ApiResponse::conditional(&get.if_none_match, etag, &profile))
}

/// The user with this id as this transaction sees it, after the check of `If-Match`. 404 unless it `is_visible`.
pub(super) async fn load_for_write(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    id: UserId,
    is_visible: impl FnOnce(&User) -> bool + Send,
) -> Result<User, Rollback> {
    let found = runner.app.db.users.find_in_transaction(session, id).await?;
    let user = found.filter(is_visible).ok_or(ProblemCode::NotFound)?;
    runner.if_match.check(ETag::from(&user))?;
    Ok(user)
}

/// 200 with the user, as operators see it.
async fn detail(app: &AppState, user: &User) -> Result<ApiResponse, ApiError> {
    let tenants = app.db.tenants.list_by_ids(&shown_tenants(user)).await?;
    let view = UserDetail::new(user, &tenants);
    Ok(ApiResponse::new(StatusCode::OK, ETag::from(user), &view))
}
