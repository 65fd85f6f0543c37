//! Update of a tenant.

use axum::{Extension, response::Response};
use dezky_shared::tenant::Tenant;

use super::{
    TenantView, change,
    group_update::{self, Patches},
    patch::{Patch, PatchRequest},
    respond_after_wait,
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{ReadWrite, TenantAccess},
    state::SharedState,
    write::{CommandRunner, Write},
};

/// Updates a tenant
///
/// 202 if an upstream is affected, otherwise 200.
#[utoipa::path(
    patch, path = "/tenants/{slug}", operation_id = "updateTenant", tag = "tenants", request_body = PatchRequest,
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn update(
    Extension(patches): Extension<Patches>,
    w: Write<TenantAccess<ReadWrite>, Patch>,
) -> Result<Response, ApiError> {
    edit_tenant(&w.app, &patches, &w.runner(), &w.access.tenant, &w.body).await
}

/// Updates a tenant. With `Prefer: wait`, waits for the outcome.
pub(in crate::routes) async fn edit_tenant(
    app: &SharedState,
    patches: &Patches,
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    patch: &Patch,
) -> Result<Response, ApiError> {
    if patch.needs_operator() && !runner.caller.is_operator() {
        let detail = "Only operators can change plan, domains and partnerId.";
        return Err(ApiError::new(ProblemCode::Forbidden).with_detail(detail));
    }
    if patch.is_independent() {
        let deadline = runner.prefer.deadline();
        let result = group_update::update(app, patches, runner, tenant, patch).await?;
        return respond_after_wait(runner, tenant.id, result, deadline).await;
    }
    change(runner, tenant, &|tenant, by, now| {
        patch.decide(tenant, by, now)
    })
    .await
}
