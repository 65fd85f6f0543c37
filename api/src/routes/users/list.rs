//! Lists and reads of users, for operators.

use axum::Json;
use dezky_shared::{
    id::{PartnerId, TenantId, UserId},
    store::users::UserFilter,
};
use utoipa::IntoParams;

use super::{UserDetail, detail, shown_tenants};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{FromQuery, Page, PageOf, Parameters, PathParam, PlatformReader, QueryParams},
    read::{Get, ListResult},
    response::ApiResponse,
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
    get: Get<PlatformReader, QueryParams<ListQuery>>,
) -> ListResult<UserDetail> {
    let QueryParams(query) = get.params;
    let list = format!(
        "users?{:?}&{:?}&{:?}&{:?}",
        query.email, query.partner_id, query.platform_admin, query.tenant
    );
    let after = query.page.after(&list)?;
    let tenant_id = match &query.tenant {
        None => None,
        Some(slug) => match get.app.db.tenants.find_by_slug(slug).await? {
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
    let (users, limit) = (&get.app.db.users, query.page.fetch_limit());
    let users = users.list(&filter, limit).await?;
    let ids: Vec<TenantId> = users.iter().flat_map(shown_tenants).collect();
    let tenants = get.app.db.tenants.list_by_ids(&ids).await?;
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
    get: Get<PlatformReader, PathParam<UserId>>,
) -> Result<ApiResponse, ApiError> {
    let user = get.app.db.users.find(get.params.0).await?;
    detail(&get.app, &user.ok_or(ProblemCode::NotFound)?).await
}
