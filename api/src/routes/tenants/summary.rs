//! A tenant on one line, for a sidebar.

use axum::{Json, extract::State};
use dezky_shared::{
    domain::DomainStatus,
    tenant::{Plan, ProvisioningState, TenantStatus},
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, Problem},
    extract::{QueryParams, Read, TenantAccess},
    routes::domains::adopt,
    state::App,
};

/// A tenant on one line.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TenantSummary {
    /// Its name in URLs.
    slug: String,
    /// Where it stands: `pending`, `active`, `suspended`, `terminating` or `terminated`.
    #[schema(value_type = String)]
    status: TenantStatus,
    /// What it has bought: `starter`, `business` or `enterprise`.
    #[schema(value_type = String)]
    plan: Plan,
    /// Its domains, claims included.
    domains: DomainCounts,
    /// The upstreams in which the last try failed.
    #[schema(value_type = Vec<String>)]
    failed_steps: Vec<Upstream>,
}

/// How many domains stand where.
#[derive(Debug, Serialize, ToSchema)]
struct DomainCounts {
    /// All of them.
    total: u64,
    /// In order.
    verified: u64,
    /// Not all in place yet.
    pending: u64,
    /// Once in order, and something is off now: the number on a badge.
    attention: u64,
    /// Not proved in time, or another tenant's.
    failed: u64,
}

/// A tenant on one line
#[utoipa::path(
    get, path = "/tenants/{slug}/summary", operation_id = "getTenantSummary", tag = "tenants",
    params(("slug" = String, Path)),
    responses((status = 200, body = TenantSummary), (status = "default", response = Problem)),
)]
pub(super) async fn summary(
    access: TenantAccess<Read>,
    _: QueryParams<()>,
    State(app): State<App>,
) -> Result<Json<TenantSummary>, ApiError> {
    let tenant = access.tenant;
    adopt(&app, &tenant).await?;
    let counts = app.domains.count_by_status(tenant.id).await?;
    let count = |status| counts.get(&status).copied().unwrap_or(0);
    let has_failed = |upstream: &Upstream| {
        *tenant.provisioning_status.get(*upstream) == ProvisioningState::Error
    };
    Ok(Json(TenantSummary {
        status: tenant.status,
        plan: tenant.plan,
        domains: DomainCounts {
            total: counts.values().sum(),
            verified: count(DomainStatus::Verified),
            pending: count(DomainStatus::Pending),
            attention: count(DomainStatus::Attention),
            failed: count(DomainStatus::Failed),
        },
        failed_steps: Upstream::ALL.into_iter().filter(has_failed).collect(),
        slug: tenant.slug,
    }))
}
