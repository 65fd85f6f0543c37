//! The people of a tenant, for those who look after it.

mod change;

use axum::{Json, extract::State};
use dezky_shared::{
    id::UserId,
    store::users::UserFilter,
    user::{Role, User},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::users::MfaView;
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{ETag, Page, PageOf, PathId, QueryParams, ReadPrivate, TenantAccess},
    intent::ApiResponse,
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, change::patch, change::remove))
}

/// Somebody who has a role in a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TenantUserView {
    /// Their id.
    id: String,
    /// Their address.
    email: String,
    /// Their name.
    name: String,
    /// What they may do there: `member`, `admin` or `owner`.
    #[schema(value_type = String, pattern = "^(member|admin|owner)$")]
    role: Role,
    /// Whether they have ever signed in.
    status: TenantUserStatus,
    /// When they were last seen, to a few minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// Their second factors, where they were looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
    /// + 1 with every change of the user, of what they may do elsewhere too.
    revision: i64,
}

/// Whether somebody has ever signed in.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TenantUserStatus {
    /// They have.
    Active,
    /// They have not yet.
    Invited,
}

impl TenantUserView {
    fn new(user: &User, role: Role) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            name: user.name.clone(),
            role,
            status: if user.last_seen_at.is_some() {
                TenantUserStatus::Active
            } else {
                TenantUserStatus::Invited
            },
            last_seen_at: user.last_seen_at.map(Timestamp::from),
            mfa: user.mfa.map(MfaView::from),
            revision: user.revision,
        }
    }
}

/// The people of a tenant, those first who were known first
///
/// For its owners and admins, its partner's staff and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/users", operation_id = "listTenantUsers", tag = "tenant users",
    params(("slug" = String, Path), Page),
    responses((status = 200, body = PageOf<TenantUserView>), (status = "default", response = Problem)),
)]
async fn list(
    access: TenantAccess<ReadPrivate>,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<TenantUserView>>, ApiError> {
    let tenant = access.tenant.id;
    let list = format!("tenants/{tenant}/users");
    let filter = UserFilter {
        tenant_id: Some(tenant),
        after: page.after(&list)?,
        ..UserFilter::default()
    };
    let users = app.users.list(&filter, page.fetch_limit()).await?;
    let placed: Vec<(User, Role)> = users
        .into_iter()
        .filter_map(|user| user.role_in(tenant).map(|role| (user, role)))
        .collect();
    Ok(Json(page.build(
        &list,
        placed,
        |(user, _)| user.id.to_string(),
        |(user, role)| TenantUserView::new(&user, role),
    )))
}

/// Somebody of a tenant
#[utoipa::path(
    get, path = "/tenants/{slug}/users/{id}", operation_id = "getTenantUser", tag = "tenant users",
    params(("slug" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = TenantUserView), (status = "default", response = Problem)),
)]
async fn show(
    access: TenantAccess<ReadPrivate>,
    PathId(id): PathId<UserId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<ApiResponse, ApiError> {
    let user = app.users.find(id).await?.ok_or(ProblemCode::NotFound)?;
    let role = user
        .role_in(access.tenant.id)
        .ok_or(ProblemCode::NotFound)?;
    answer(&user, role)
}

fn answer(user: &User, role: Role) -> Result<ApiResponse, ApiError> {
    let view = TenantUserView::new(user, role);
    ApiResponse::new(StatusCode::OK, ETag::from(user), &view)
}
