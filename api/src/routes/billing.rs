//! Billing of a tenant: its balance, next invoice and card, and invoice runs and syncs on request.

mod run;
mod summary;
mod sync;
mod view;

use bson::DateTime;
use dezky_shared::{
    audit::AuditEvent,
    feature_flag::{EvaluationContext, NEW_BILLING_ENGINE},
    queue::job::JobArgs,
    store::{StoreError, jobs::NewJob},
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::view::CardView;

use self::view::BillingView;
use crate::{
    error::{ApiError, ProblemCode},
    extract::{ReadBilling, TenantAccess},
    read::Get,
    response::ApiResponse,
    state::{AppState, SharedState},
    views::{JobLink, job_href},
    write::{CommandOutput, CommandRunner, Rollback, ensure_not_terminating},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(run::run))
        .routes(routes!(summary::platform))
        .routes(routes!(summary::partner))
        .routes(routes!(sync::sync))
}

/// Whether the invoice run covers the tenant.
pub(super) async fn is_billed(
    app: &AppState,
    tenant: &Tenant,
    now: DateTime,
) -> Result<bool, StoreError> {
    let flags = app.flags.current().await?;
    Ok(flags.is_on(NEW_BILLING_ENGINE, EvaluationContext::from(tenant), now))
}

/// Whether a change of the tenant's billing is brought to the payment provider.
pub(super) async fn is_synced(
    app: &AppState,
    tenant: &Tenant,
    now: DateTime,
) -> Result<bool, StoreError> {
    if app.config.stripe.publishable_key.is_none() {
        return Ok(false);
    }
    is_billed(app, tenant, now).await
}

/// Rejects a tenant that the invoice run does not cover.
pub(super) async fn ensure_billed(
    app: &AppState,
    tenant: &Tenant,
    now: DateTime,
) -> Result<(), ApiError> {
    ensure_not_terminating(tenant)?;
    if is_billed(app, tenant, now).await? {
        Ok(())
    } else {
        Err(ProblemCode::BillingOff.into())
    }
}

/// Enqueues a job about the billing of a tenant: 202 with the `view` of its link.
pub(super) async fn request_job<V: Serialize>(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    args: &impl JobArgs,
    event: AuditEvent,
    view: impl FnOnce(JobLink) -> V + Send,
) -> Result<CommandOutput, Rollback> {
    let job = NewJob::new(args, &runner.actor_id(), event.at)?;
    let job = runner.enqueue(session, job).await?;
    let view = view(JobLink::from(&job));
    let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view).at(job_href(job.id));
    Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
}

/// Returns the billing of a tenant
///
/// For owners and admins of the tenant, staff of its partner with write access, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/billing", operation_id = "getTenantBilling", tag = "billing",
    responses((status = 200, body = BillingView)),
)]
async fn show(get: Get<TenantAccess<ReadBilling>>) -> Result<ApiResponse, ApiError> {
    let (tenant, now) = (&get.access.tenant, get.app.store.now());
    let ids = [tenant.id];
    let (mut live, open, account) = tokio::try_join!(
        get.app.db.subscriptions.list_live(&ids),
        get.app.db.invoices.list_open(tenant.id),
        get.app.db.billing_accounts.find(tenant.id),
    )?;
    let subscription = live.remove(&tenant.id).flatten();
    let is_billed = is_billed(&get.app, tenant, now).await?;
    let view = BillingView::new(tenant, subscription.clone(), &open, is_billed, now)
        .with_account(subscription.as_ref(), account);
    Ok(ApiResponse::unversioned(StatusCode::OK, &view))
}
