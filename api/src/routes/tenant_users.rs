//! Members of a tenant.

mod update;

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
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{Page, PageOf, PathId, QueryParams, ReadPrivate, TenantAccess},
    response::ApiResponse,
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, update::update, update::remove))
}

/// A member of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TenantUserView {
    /// Id.
    id: String,
    /// E-mail address.
    email: String,
    /// Name.
    name: String,
    /// Role: `member`, `admin` or `owner`.
    #[schema(value_type = String, pattern = "^(member|admin|owner)$")]
    role: Role,
    /// Whether the member has signed in: `active` or `invited`.
    status: TenantUserStatus,
    /// Time of the last request, accurate to a few minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// Second factors, if they were looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
    /// Incremented by every change of the user, including changes in other tenants.
    revision: i64,
}

/// Whether a member has signed in.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TenantUserStatus {
    /// The member has signed in.
    Active,
    /// The member has not signed in.
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

/// Lists the members of a tenant, oldest first
///
/// For owners and admins of the tenant, staff of its partner, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/users", operation_id = "listTenantUsers", tag = "tenant users",
    params(Page),
    responses((status = 200, body = PageOf<TenantUserView>)),
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
    let users = app.db.users.list(&filter, page.fetch_limit()).await?;
    let members: Vec<(User, Role)> = users
        .into_iter()
        .filter_map(|user| user.role_in(tenant).map(|role| (user, role)))
        .collect();
    Ok(Json(page.build(
        &list,
        members,
        |(user, _)| user.id.to_string(),
        |(user, role)| TenantUserView::new(&user, role),
    )))
}

/// Returns a member of a tenant
#[utoipa::path(get, path = "/tenants/{slug}/users/{id}", operation_id = "getTenantUser", tag = "tenant users", responses((status = 200, body = TenantUserView)))]
async fn show(
    access: TenantAccess<ReadPrivate>,
    PathId(id): PathId<UserId>,
    State(app): State<SharedState>,
) -> Result<ApiResponse, ApiError> {
    let user = app.db.users.find(id).await?.ok_or(ProblemCode::NotFound)?;
    match user.role_in(access.tenant.id) {
        Some(role) => Ok(respond(&user, role)),
        None => Err(app.access.conceal(0).await),
    }
}

fn respond(user: &User, role: Role) -> ApiResponse {
    let view = TenantUserView::new(user, role);
    ApiResponse::new(StatusCode::OK, ETag::from(user), &view)
}
