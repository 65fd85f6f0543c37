//! What the flags are for a tenant.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{feature_flag::EvaluationContext, tenant::Tenant};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{Caller, QueryParams, SignedIn, Validate, ValidatedJson},
    state::{AppState, SharedState},
};

/// For whom it is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagsEvaluate)]
pub(super) struct EvaluateRequest {
    /// The tenant. May be missing where the caller belongs to one alone.
    #[schema(example = "acme")]
    tenant_slug: Option<String>,
}

impl Validate for EvaluateRequest {
    type Raw = Self;

    fn validate(wire: Self, _: &AppState) -> Result<Self, Vec<FieldError>> {
        Ok(wire)
    }
}

/// Whether each feature flag is on for a tenant, by key
///
/// What is not there is off.
#[utoipa::path(
    post, path = "/flags/evaluate", operation_id = "evaluateFlags", tag = "flags", request_body = EvaluateRequest,
    responses((status = 200, body = BTreeMap<String, bool>), (status = "default", response = Problem)),
)]
pub(super) async fn evaluate(
    SignedIn(caller): SignedIn,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    submitted: ValidatedJson<EvaluateRequest>,
) -> Result<Response, ApiError> {
    let tenant = match &submitted.body.tenant_slug {
        Some(slug) => named(&app, &caller, slug).await?,
        None => only(&app, &caller).await?,
    };
    let flags = app.flags.current().await?;
    let on = flags.evaluate(EvaluationContext::from(&tenant), app.store.now());
    Ok(Json(on).into_response())
}

async fn named(app: &AppState, caller: &Caller, slug: &str) -> Result<Tenant, ApiError> {
    let found = app.tenants.find_by_slug(slug).await?;
    let readable = found.filter(|tenant| caller.may_read(tenant));
    readable.ok_or_else(|| ProblemCode::NotFound.into())
}

/// The one tenant in which the caller has a role.
async fn only(app: &AppState, caller: &Caller) -> Result<Tenant, ApiError> {
    let [id] = caller.user.tenant_ids()[..] else {
        return Err(ProblemCode::TenantNeeded.into());
    };
    let found = app.tenants.find(id).await?;
    found.ok_or_else(|| ProblemCode::NotFound.into())
}
