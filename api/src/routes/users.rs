//! People: who the caller is, and what operators say they may do.

mod patch;
mod sync;

use std::collections::BTreeMap;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use dezky_shared::{
    id::TenantId,
    tenant::{Tenant, TenantStatus},
    user::{PartnerRole, Role, User},
};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, Problem},
    extract::{Bearer, ETag, IfNoneMatch, QueryParams, RequestInfo},
    intent::Answer,
    state::{App, AppState},
    wire::Time,
};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(patch::patch))
}

/// Somebody.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserView {
    /// Their id.
    id: String,
    /// The identity provider's id of them.
    authentik_subject_id: String,
    /// Their address.
    email: String,
    /// Their name.
    name: String,
    /// Whether they are an operator.
    platform_admin: bool,
    /// The partner they work for.
    #[serde(skip_serializing_if = "Option::is_none")]
    partner_id: Option<String>,
    /// What they may do there: `owner`, `manager`, `support` or `read-only`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    partner_role: Option<PartnerRole>,
    /// The tenants they have a role in.
    tenant_ids: Vec<String>,
    /// Their roles there, by tenant: `member`, `admin` or `owner`.
    #[schema(value_type = BTreeMap<String, String>)]
    tenant_roles: BTreeMap<String, Role>,
    /// The same tenants, by name.
    tenants: Vec<TenantOfUser>,
    /// + 1 with every change.
    revision: i64,
    /// When they were first seen.
    created_at: Time,
    /// When anything about them last changed.
    updated_at: Time,
}

/// A tenant somebody has a role in.
#[derive(Debug, Serialize, ToSchema)]
struct TenantOfUser {
    /// Its id.
    id: String,
    /// Its name in URLs.
    slug: String,
    /// Its name for people.
    name: String,
    /// Where it stands.
    #[schema(value_type = String)]
    status: TenantStatus,
    /// What they may do there: `member`, `admin` or `owner`.
    #[schema(value_type = String)]
    role: Role,
}

impl UserView {
    fn new(user: User, tenants: Vec<Tenant>) -> Self {
        let roles: BTreeMap<TenantId, Role> = user
            .memberships
            .iter()
            .filter_map(|(id, membership)| Some((*id, membership.role?)))
            .collect();
        let tenants = tenants.into_iter().filter_map(|tenant| {
            Some(TenantOfUser {
                role: *roles.get(&tenant.id)?,
                id: tenant.id.to_string(),
                slug: tenant.slug,
                name: tenant.name,
                status: tenant.status,
            })
        });
        Self {
            tenants: tenants.collect(),
            id: user.id.to_string(),
            authentik_subject_id: user.authentik_subject_id,
            email: user.email,
            name: user.name,
            platform_admin: user.platform_admin,
            partner_id: user.partner_id.map(|id| id.to_string()),
            partner_role: user.partner_role,
            tenant_ids: roles.keys().map(ToString::to_string).collect(),
            tenant_roles: roles
                .iter()
                .map(|(id, role)| (id.to_string(), *role))
                .collect(),
            revision: user.revision,
            created_at: user.created_at.into(),
            updated_at: user.updated_at.into(),
        }
    }

    async fn of(app: &AppState, user: User) -> Result<Self, ApiError> {
        let tenants = app.tenants.list_by_ids(&user.tenant_ids()).await?;
        Ok(Self::new(user, tenants))
    }
}

/// The caller
///
/// Creates the caller's user on first sight, and follows the groups in their token.
#[utoipa::path(
    get, path = "/users/me", operation_id = "getMe", tag = "users", params(("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = UserView), (status = 304), (status = "default", response = Problem)),
)]
async fn me(
    Bearer(claims): Bearer,
    _: QueryParams<()>,
    known: IfNoneMatch,
    request: RequestInfo,
    State(app): State<App>,
) -> Result<Response, ApiError> {
    let user = sync::sync(&app, &claims, &request).await?;
    let etag = ETag::from(&user);
    if known.knows(etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag.to_string())]).into_response());
    }
    let view = UserView::of(&app, user).await?;
    Ok(Answer::new(StatusCode::OK, etag, &view)?.into_response())
}
