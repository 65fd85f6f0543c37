//! Actions on a tenant: suspend, resume, reconcile, delete, restore.
//!
//! Each decision is a pure function of the current tenant. It edits the tenant and returns the jobs that carry the
//! change out, returns `None` if there is nothing to do, or rejects the action.

use std::time::Duration;

use axum::response::Response;
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    platform::clock,
    queue::args::{DeprovisionTenant, ReconcileTenant, ResumeTenant, SuspendTenant},
    store::jobs::NewJob,
    tenant::{Tenant, TenantStatus},
    upstream::Upstream,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{TenantView, change};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{
        EmptyBody, FromQuery, Manage, OperatorOnly, Parameters, QueryParams, ReadWrite,
        TenantAccess, Validate,
    },
    write::{CommandRunner, Write, ensure_not_terminating},
};

/// The decision of an action.
pub(super) struct Decision {
    /// Action of the audit event.
    pub(super) action: Action,
    /// Jobs that carry the change out.
    pub(super) jobs: Vec<NewJob>,
}

/// Starts a new generation, pending in every upstream.
fn bump_generation(tenant: &mut Tenant, now: DateTime) {
    tenant.generation += 1;
    tenant.set_pending(&Upstream::ALL, now);
}

fn decide_suspend(
    tenant: &mut Tenant,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    ensure_not_terminating(tenant)?;
    if tenant.status == TenantStatus::Suspended {
        return Ok(None);
    }
    let tenant_id = tenant.id;
    tenant.status = TenantStatus::Suspended;
    bump_generation(tenant, now);
    let jobs = vec![NewJob::new(&SuspendTenant { tenant_id }, by, now)?];
    Ok(Some(Decision {
        action: Action::TenantSuspend,
        jobs,
    }))
}

fn decide_resume(
    tenant: &mut Tenant,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    ensure_not_terminating(tenant)?;
    if tenant.status != TenantStatus::Suspended {
        return Ok(None);
    }
    let tenant_id = tenant.id;
    tenant.status = TenantStatus::Pending;
    bump_generation(tenant, now);
    let jobs = vec![NewJob::new(&ResumeTenant { tenant_id }, by, now)?];
    Ok(Some(Decision {
        action: Action::TenantResume,
        jobs,
    }))
}

fn decide_reconcile(
    tenant: &Tenant,
    dry_run: bool,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    if tenant.status == TenantStatus::Terminated {
        return Err(ProblemCode::TenantTerminated.into());
    }
    let args = ReconcileTenant {
        tenant_id: tenant.id,
        dry_run,
    };
    Ok(Some(Decision {
        action: Action::TenantReconcile,
        jobs: vec![NewJob::new(&args, by, now)?],
    }))
}

fn decide_delete(
    tenant: &mut Tenant,
    purge_after: Duration,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    if matches!(
        tenant.status,
        TenantStatus::Terminating | TenantStatus::Terminated
    ) {
        return Ok(None);
    }
    let tenant_id = tenant.id;
    let purge_at = clock::later(now, purge_after);
    tenant.status_before = Some(tenant.status);
    tenant.status = TenantStatus::Terminating;
    tenant.purge_at = Some(purge_at);
    bump_generation(tenant, now);
    let freeze = NewJob::new(&SuspendTenant { tenant_id }, by, now)?;
    let purge = NewJob::new(&DeprovisionTenant { tenant_id }, by, now)?.run_at(purge_at);
    Ok(Some(Decision {
        action: Action::TenantDelete,
        jobs: vec![freeze, purge],
    }))
}

fn decide_restore(
    tenant: &mut Tenant,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    match tenant.status {
        TenantStatus::Terminating => {}
        TenantStatus::Terminated => return Err(ProblemCode::TenantTerminated.into()),
        _ => return Err(ProblemCode::NotTerminating.into()),
    }
    if tenant.purge_at.is_some_and(|purge_at| purge_at <= now) {
        return Err(ProblemCode::PurgeStarted.into());
    }
    let tenant_id = tenant.id;
    // The scheduled purge job skips a tenant that is not terminating.
    tenant.status = tenant.status_before.take().unwrap_or(TenantStatus::Pending);
    tenant.purge_at = None;
    bump_generation(tenant, now);
    let job = match tenant.status {
        TenantStatus::Suspended => NewJob::new(&SuspendTenant { tenant_id }, by, now)?,
        _ => NewJob::new(&ResumeTenant { tenant_id }, by, now)?,
    };
    Ok(Some(Decision {
        action: Action::TenantRestore,
        jobs: vec![job],
    }))
}

/// Suspends a tenant
///
/// Its members cannot sign in until it is resumed. No data is removed.
#[utoipa::path(
    post, path = "/tenants/{slug}/suspend", operation_id = "suspendTenant", tag = "tenants",
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn suspend(w: Write<TenantAccess<Manage>>) -> Result<Response, ApiError> {
    suspend_tenant(&w.runner(), &w.access.tenant).await
}

/// Suspends a tenant. With `Prefer: wait`, waits for the outcome.
pub(in crate::routes) async fn suspend_tenant(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
) -> Result<Response, ApiError> {
    change(runner, tenant, &decide_suspend).await
}

/// Resumes a suspended tenant
#[utoipa::path(
    post, path = "/tenants/{slug}/resume", operation_id = "resumeTenant", tag = "tenants",
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn resume(w: Write<TenantAccess<Manage>>) -> Result<Response, ApiError> {
    resume_tenant(&w.runner(), &w.access.tenant).await
}

/// Resumes a suspended tenant. With `Prefer: wait`, waits for the outcome.
pub(in crate::routes) async fn resume_tenant(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
) -> Result<Response, ApiError> {
    change(runner, tenant, &decide_resume).await
}

/// Options of a reconciliation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = TenantReconcile)]
pub(super) struct ReconcileRequest {
    /// Report differences without repairing them.
    dry_run: bool,
}

impl Validate for ReconcileRequest {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(raw: Self, _: &Config) -> Result<Self, Vec<FieldError>> {
        Ok(raw)
    }
}

/// Options of a reconciliation, in the query string.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ReconcileQuery {
    /// Report differences without repairing them.
    dry_run: Option<bool>,
}

impl FromQuery for ReconcileQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            dry_run: parameters.take("dryRun", "true or false")?,
        })
    }
}

/// Reconciles a tenant
///
/// Compares the upstreams with the desired state and repairs differences.
#[utoipa::path(
    post, path = "/tenants/{slug}/reconcile", operation_id = "reconcileTenant", tag = "tenants", request_body = Option<ReconcileRequest>,
    params(ReconcileQuery),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn reconcile(
    w: Write<TenantAccess<ReadWrite>, ReconcileRequest, QueryParams<ReconcileQuery>>,
) -> Result<Response, ApiError> {
    let QueryParams(query) = &w.params;
    let dry_run = query.dry_run.unwrap_or(false) || w.body.dry_run;
    change(&w.runner(), &w.access.tenant, &|tenant, by, now| {
        decide_reconcile(tenant, dry_run, by, now)
    })
    .await
}

/// Confirmation of a deletion.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// The tenant's slug. Without it, 422 `confirmation_required`.
    #[param(value_type = String)]
    confirm: Option<String>,
}

impl FromQuery for DeleteQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            confirm: parameters.text("confirm"),
        })
    }
}

/// Deletes a tenant
///
/// The tenant is suspended at once and removed permanently at `purgeAt`. Until then it can be restored.
#[utoipa::path(
    delete, path = "/tenants/{slug}", operation_id = "deleteTenant", tag = "tenants",
    params(DeleteQuery),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn delete(
    w: Write<TenantAccess<OperatorOnly>, EmptyBody, QueryParams<DeleteQuery>>,
) -> Result<Response, ApiError> {
    let QueryParams(query) = &w.params;
    let Some(confirm) = &query.confirm else {
        return Err(ProblemCode::ConfirmationRequired.into());
    };
    if *confirm != w.access.tenant.slug {
        let message = "confirm must be the tenant's slug.";
        let error = FieldError::parameter("confirm", "confirmation_mismatch", message);
        return Err(ApiError::invalid(vec![error]));
    }
    let purge_after = w.app.config.purge_after;
    change(&w.runner(), &w.access.tenant, &|tenant, by, now| {
        decide_delete(tenant, purge_after, by, now)
    })
    .await
}

/// Restores a deleted tenant
///
/// Possible until `purgeAt`.
#[utoipa::path(
    post, path = "/tenants/{slug}/restore", operation_id = "restoreTenant", tag = "tenants",
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn restore(w: Write<TenantAccess<OperatorOnly>>) -> Result<Response, ApiError> {
    change(&w.runner(), &w.access.tenant, &decide_restore).await
}
