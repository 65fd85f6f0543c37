//! What can be done with a tenant beside editing it: the table of actions and states.
//!
//! Each action is a pure function of the tenant as it is: it changes the tenant and says which jobs carry that out,
//! says that there is nothing to do, or refuses.

use std::time::Duration;

use axum::{extract::State, response::Response};
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    platform::clock,
    queue::{
        args::{DeprovisionTenant, ReconcileTenant, ResumeTenant, SuspendTenant},
        job::JobArgs,
    },
    store::jobs::NewJob,
    tenant::{Tenant, TenantStatus},
    upstream::Upstream,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{TenantView, change};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        EmptyBody, FromQuery, IfMatch, Manage, OperatorOnly, Parameters, Prefer, QueryParams,
        RequestInfo, TenantAccess, Validate, ValidatedJson, Write,
    },
    intent::CommandRunner,
    state::{AppState, SharedState},
};

/// What was decided about a tenant; nothing when all is as wanted.
pub(super) struct Decision(pub(super) Option<Transition>);

/// A decision to be recorded.
pub(super) struct Transition {
    /// What it is called.
    pub(super) action: Action,
    /// Whether the tenant was changed.
    pub(super) is_written: bool,
    /// What carries it out.
    pub(super) jobs: Vec<NewJob>,
}

impl Decision {
    /// All is as wanted.
    pub(super) const NOTHING: Self = Self(None);

    /// The tenant was changed, and these jobs carry it out.
    pub(super) fn changed(action: Action, jobs: Vec<NewJob>) -> Self {
        Self(Some(Transition {
            action,
            is_written: true,
            jobs,
        }))
    }
}

/// A job asked for by `by`.
pub(in crate::routes) fn new_job(
    args: &impl JobArgs,
    by: &str,
    now: DateTime,
) -> Result<NewJob, ApiError> {
    Ok(NewJob::new(args, by, now)?)
}

/// A new intent that concerns every upstream.
fn bump_generation(tenant: &mut Tenant, now: DateTime) {
    tenant.generation += 1;
    tenant.set_pending(&Upstream::ALL, now);
}

pub(in crate::routes) fn ensure_not_terminating(tenant: &Tenant) -> Result<(), ApiError> {
    match tenant.status {
        TenantStatus::Terminating => Err(ProblemCode::TenantTerminating.into()),
        TenantStatus::Terminated => Err(ProblemCode::TenantTerminated.into()),
        TenantStatus::Pending | TenantStatus::Active | TenantStatus::Suspended => Ok(()),
    }
}

fn decide_suspend(tenant: &mut Tenant, by: &str, now: DateTime) -> Result<Decision, ApiError> {
    ensure_not_terminating(tenant)?;
    if tenant.status == TenantStatus::Suspended {
        return Ok(Decision::NOTHING);
    }
    let tenant_id = tenant.id;
    tenant.status = TenantStatus::Suspended;
    bump_generation(tenant, now);
    let jobs = vec![new_job(&SuspendTenant { tenant_id }, by, now)?];
    Ok(Decision::changed(Action::TenantSuspend, jobs))
}

fn decide_resume(tenant: &mut Tenant, by: &str, now: DateTime) -> Result<Decision, ApiError> {
    ensure_not_terminating(tenant)?;
    if tenant.status != TenantStatus::Suspended {
        return Ok(Decision::NOTHING);
    }
    let tenant_id = tenant.id;
    tenant.status = TenantStatus::Pending;
    bump_generation(tenant, now);
    let jobs = vec![new_job(&ResumeTenant { tenant_id }, by, now)?];
    Ok(Decision::changed(Action::TenantResume, jobs))
}

fn decide_reconcile(
    tenant: &Tenant,
    dry_run: bool,
    by: &str,
    now: DateTime,
) -> Result<Decision, ApiError> {
    if tenant.status == TenantStatus::Terminated {
        return Err(ProblemCode::TenantTerminated.into());
    }
    let args = ReconcileTenant {
        tenant_id: tenant.id,
        dry_run,
    };
    Ok(Decision(Some(Transition {
        action: Action::TenantReconcile,
        is_written: false,
        jobs: vec![new_job(&args, by, now)?],
    })))
}

fn decide_delete(
    tenant: &mut Tenant,
    purge_after: Duration,
    by: &str,
    now: DateTime,
) -> Result<Decision, ApiError> {
    if matches!(
        tenant.status,
        TenantStatus::Terminating | TenantStatus::Terminated
    ) {
        return Ok(Decision::NOTHING);
    }
    let tenant_id = tenant.id;
    let purge_at = clock::later(now, purge_after);
    tenant.status_before = Some(tenant.status);
    tenant.status = TenantStatus::Terminating;
    tenant.purge_at = Some(purge_at);
    bump_generation(tenant, now);
    let freeze = new_job(&SuspendTenant { tenant_id }, by, now)?;
    let purge = new_job(&DeprovisionTenant { tenant_id }, by, now)?.run_at(purge_at);
    Ok(Decision::changed(Action::TenantDelete, vec![freeze, purge]))
}

fn decide_restore(tenant: &mut Tenant, by: &str, now: DateTime) -> Result<Decision, ApiError> {
    match tenant.status {
        TenantStatus::Terminating => {}
        TenantStatus::Terminated => return Err(ProblemCode::TenantTerminated.into()),
        _ => return Err(ProblemCode::NotTerminating.into()),
    }
    if tenant.purge_at.is_some_and(|purge_at| purge_at <= now) {
        return Err(ProblemCode::PurgeStarted.into());
    }
    let tenant_id = tenant.id;
    // The purge that is scheduled will find a tenant that is wanted, and remove nothing.
    tenant.status = tenant.status_before.take().unwrap_or(TenantStatus::Pending);
    tenant.purge_at = None;
    bump_generation(tenant, now);
    let job = match tenant.status {
        TenantStatus::Suspended => new_job(&SuspendTenant { tenant_id }, by, now)?,
        _ => new_job(&ResumeTenant { tenant_id }, by, now)?,
    };
    Ok(Decision::changed(Action::TenantRestore, vec![job]))
}

/// Freezes a tenant
///
/// Nobody signs in any more, and nothing is lost.
#[utoipa::path(
    post, path = "/tenants/{slug}/suspend", operation_id = "suspendTenant", tag = "tenants",
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn suspend(
    access: TenantAccess<Manage>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    suspend_tenant(&recorder, &access.tenant, &if_match, prefer).await
}

/// Freezes a tenant, and waits for the outcome if the caller prefers.
pub(in crate::routes) async fn suspend_tenant(
    recorder: &CommandRunner<'_>,
    tenant: &Tenant,
    if_match: &IfMatch,
    prefer: Prefer,
) -> Result<Response, ApiError> {
    let by = recorder.actor_id();
    change(recorder, tenant, if_match, prefer, &|tenant, now| {
        decide_suspend(tenant, &by, now)
    })
    .await
}

/// Lifts what suspending froze
#[utoipa::path(
    post, path = "/tenants/{slug}/resume", operation_id = "resumeTenant", tag = "tenants",
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn resume(
    access: TenantAccess<Manage>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    resume_tenant(&recorder, &access.tenant, &if_match, prefer).await
}

/// Lifts what suspending froze, and waits for the outcome if the caller prefers.
pub(in crate::routes) async fn resume_tenant(
    recorder: &CommandRunner<'_>,
    tenant: &Tenant,
    if_match: &IfMatch,
    prefer: Prefer,
) -> Result<Response, ApiError> {
    let by = recorder.actor_id();
    change(recorder, tenant, if_match, prefer, &|tenant, now| {
        decide_resume(tenant, &by, now)
    })
    .await
}

/// How a tenant is to be reconciled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ReconcileRequest {
    /// Only say what would be repaired.
    dry_run: bool,
}

impl Validate for ReconcileRequest {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(wire: Self, _: &AppState) -> Result<Self, Vec<FieldError>> {
        Ok(wire)
    }
}

/// How a tenant is to be reconciled, in the query string.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ReconcileQuery {
    /// Only say what would be repaired.
    dry_run: Option<bool>,
}

impl FromQuery for ReconcileQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            dry_run: parameters.take("dryRun", "true or false")?,
        })
    }
}

/// Looks whether the upstreams hold what they should, and repairs what they do not
#[utoipa::path(
    post, path = "/tenants/{slug}/reconcile", operation_id = "reconcileTenant", tag = "tenants", request_body = Option<ReconcileRequest>,
    params(("slug" = String, Path), ReconcileQuery, ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn reconcile(
    access: TenantAccess<Write>,
    QueryParams(query): QueryParams<ReconcileQuery>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<ReconcileRequest>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let by = recorder.actor_id();
    let dry_run = query.dry_run.unwrap_or(false) || submitted.body.dry_run;
    change(
        &recorder,
        &access.tenant,
        &if_match,
        prefer,
        &|tenant, now| decide_reconcile(tenant, dry_run, &by, now),
    )
    .await
}

/// The proof that somebody means it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// The tenant's slug once more.
    confirm: String,
}

impl FromQuery for DeleteQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let confirm = parameters.text("confirm").ok_or_else(|| {
            let message = "Repeat the slug: ?confirm=<slug>.";
            ApiError::malformed(FieldError::parameter("confirm", "missing", message))
        })?;
        Ok(Self { confirm })
    }
}

/// Has a tenant removed
///
/// It is frozen now, and removed for good at `purgeAt`. Until then it can be restored.
#[utoipa::path(
    delete, path = "/tenants/{slug}", operation_id = "deleteTenant", tag = "tenants",
    params(("slug" = String, Path), DeleteQuery, ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn delete(
    access: TenantAccess<OperatorOnly>,
    QueryParams(query): QueryParams<DeleteQuery>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    if query.confirm != access.tenant.slug {
        let message = "This is not the tenant's slug.";
        let error = FieldError::parameter("confirm", "confirmation_mismatch", message);
        return Err(ApiError::invalid(vec![error]));
    }
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let by = recorder.actor_id();
    change(
        &recorder,
        &access.tenant,
        &if_match,
        prefer,
        &|tenant, now| decide_delete(tenant, app.purge_after, &by, now),
    )
    .await
}

/// Takes back a removal
#[utoipa::path(
    post, path = "/tenants/{slug}/restore", operation_id = "restoreTenant", tag = "tenants",
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn restore(
    access: TenantAccess<OperatorOnly>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let by = recorder.actor_id();
    change(
        &recorder,
        &access.tenant,
        &if_match,
        prefer,
        &|tenant, now| decide_restore(tenant, &by, now),
    )
    .await
}
