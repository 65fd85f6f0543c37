//! Lists and reads of users, for operators.

use axum::{Json, extract::State};
use dezky_shared::{
    id::{PartnerId, TenantId, UserId},
    store::users::UserFilter,
};
use utoipa::IntoParams;

use super::{UserDetail, detail, shown_tenants};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{FromQuery, Page, PageOf, Parameters, PathParam, PlatformReader, QueryParams},
    response::ApiResponse,
    state::SharedState,
};

/// Filters of the list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ListQuery {
    /// Only users with this e-mail address.
    email: Option<String>,
    /// Only staff of this partner.
    #[param(value_type = Option<String>, format = Uuid)]
    partner_id: Option<PartnerId>,
    /// `true`: only operators. `false`: only other users.
    platform_admin: Option<bool>,
    /// Only users with a role in the tenant with this slug.
    tenant: Option<String>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            email: parameters
                .text("email")
                .map(|text| text.trim().to_lowercase()),
            partner_id: parameters.take("partnerId", "an id")?,
            platform_admin: parameters.take("platformAdmin", "true or false")?,
            tenant: parameters.text("tenant"),
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists users, oldest first
#[utoipa::path(get, path = "/users", operation_id = "listUsers", tag = "users", params(ListQuery, Page), responses((status = 200, body = PageOf<UserDetail>)))]
pub(super) async fn list(
    _: PlatformReader,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<UserDetail>>, ApiError> {
    let list = format!(
        "users?{:?}&{:?}&{:?}&{:?}",
        query.email, query.partner_id, query.platform_admin, query.tenant
    );
    let after = query.page.after(&list)?;
    let tenant_id = match &query.tenant {
        None => None,
        Some(slug) => match app.db.tenants.find_by_slug(slug).await? {
            Some(tenant) => Some(tenant.id),
            None => return Ok(Json(PageOf::single(Vec::new()))),
        },
    };
    let filter = UserFilter {
        email: query.email,
        partner_id: query.partner_id,
        platform_admin: query.platform_admin,
        tenant_id,
        after,
        ..UserFilter::default()
    };
    let users = app.db.users.list(&filter, query.page.fetch_limit()).await?;
    let ids: Vec<TenantId> = users.iter().flat_map(shown_tenants).collect();
    let tenants = app.db.tenants.list_by_ids(&ids).await?;
    Ok(Json(query.page.build(
        &list,
        users,
        |user| user.id.to_string(),
        |user| UserDetail::new(&user, &tenants),
    )))
}

/// Returns a user
#[utoipa::path(get, path = "/users/{id}", operation_id = "getUser", tag = "users", responses((status = 200, body = UserDetail)))]
pub(super) async fn show(
    _: PlatformReader,
    PathParam(id): PathParam<UserId>,
    State(app): State<SharedState>,
) -> Result<ApiResponse, ApiError> {
    let user = app.db.users.find(id).await?.ok_or(ProblemCode::NotFound)?;
    detail(&app, &user).await
}
