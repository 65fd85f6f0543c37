//! Evaluation of the feature flags for a tenant.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{feature_flag::EvaluationContext, tenant::Tenant};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{Caller, SignedIn, Validate},
    state::AppState,
    write::Write,
};

/// Evaluation context.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagsEvaluation)]
pub(super) struct EvaluateRequest {
    /// Tenant. Optional for members of exactly one tenant.
    #[schema(example = "acme")]
    tenant_slug: Option<String>,
}

impl Validate for EvaluateRequest {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(raw: Self, _: &Config) -> Result<Self, Vec<FieldError>> {
        Ok(raw)
    }
}

/// Evaluates the feature flags for a tenant
///
/// Returns the value of each flag by key. Missing flags are off. Without a body, for the caller's only tenant.
#[utoipa::path(
    post, path = "/flags/evaluate", operation_id = "evaluateFlags", tag = "flags", request_body = Option<EvaluateRequest>,
    responses((status = 200, body = BTreeMap<String, bool>)),
)]
pub(super) async fn evaluate(w: Write<SignedIn, EvaluateRequest>) -> Result<Response, ApiError> {
    let tenant = match &w.body.tenant_slug {
        Some(slug) => named(&w.app, &w.access.0, slug).await?,
        None => only(&w.app, &w.access.0).await?,
    };
    let flags = w.app.flags.current().await?;
    let on = flags.evaluate(EvaluationContext::from(&tenant), w.app.store.now());
    Ok(Json(on).into_response())
}

async fn named(app: &AppState, caller: &Caller, slug: &str) -> Result<Tenant, ApiError> {
    let found = app.db.tenants.find_by_slug(slug).await?;
    let is_readable = |tenant: &Tenant| caller.may_read(tenant);
    app.access.readable(found, is_readable).await
}

/// The only tenant in which the caller has a role.
async fn only(app: &AppState, caller: &Caller) -> Result<Tenant, ApiError> {
    let [id] = caller.user.tenant_ids()[..] else {
        return Err(ProblemCode::TenantNeeded.into());
    };
    let found = app.db.tenants.find(id).await?;
    found.ok_or_else(|| ProblemCode::NotFound.into())
}
