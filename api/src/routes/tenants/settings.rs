//! Settings of a tenant: billing details, branding, security policy.
//!
//! Only the payment provider stores settings, the billing details, which a job brings there. Settings are part of the tenant's document and share its
//! version: `If-Match` accepts the `ETag` of either.

mod billing_info;
mod branding;
mod security_policy;

use dezky_shared::{
    audit::Action,
    id::TenantId,
    platform::change_feed::DocumentChange,
    queue::args::SyncBilling,
    store::{Updated, VersionedRepository as _, jobs::NewJob},
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{audited, target};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{ReadWrite, TenantAccess},
    response::ApiResponse,
    routes::billing::is_synced,
    state::SharedState,
    views::JobLink,
    write::{
        Command, CommandError, CommandOutput, CommandRunner, Rollback, Write,
        ensure_not_terminating,
    },
};

pub(super) use self::{
    billing_info::BillingInfoView, branding::AppearanceView, security_policy::SecurityPolicyView,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(billing_info::show, billing_info::patch))
        .routes(routes!(branding::show, branding::put))
        .routes(routes!(security_policy::show, security_policy::patch))
}

/// The settings of a tenant, with the job that brings a change of them to the payment provider.
type View<V> = fn(&Tenant, Option<JobLink>) -> V;

/// Edits the settings of a tenant, or rejects the change.
type Edit<'a> = dyn Fn(&mut Tenant) -> Result<(), ApiError> + Send + Sync + 'a;

/// Changes the settings of a tenant. The response is the `view` of the changed tenant.
async fn change<B: Sync, V: Serialize>(
    w: &Write<TenantAccess<ReadWrite>, B>,
    action: Action,
    view: View<V>,
    edit: &Edit<'_>,
) -> Result<ApiResponse, ApiError> {
    let (runner, tenant) = (w.runner(), &w.access.tenant);
    let change = SettingsChange {
        id: tenant.id,
        action,
        view,
        edit,
    };
    let result = runner.run_serialized(&tenant.slug, Some(tenant), &change);
    Ok(result.await?.response)
}

/// A change to the settings of one tenant.
struct SettingsChange<'a, V> {
    id: TenantId,
    action: Action,
    view: View<V>,
    edit: &'a Edit<'a>,
}

impl<V: Serialize> Command for SettingsChange<'_, V> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let now = app.store.now();
        let edit = |tenant: &mut Tenant| {
            runner.if_match.check(ETag::from(&*tenant))?;
            ensure_not_terminating(tenant)?;
            let before = tenant.clone();
            (self.edit)(tenant)?;
            if *tenant != before {
                tenant.generation += 1;
            }
            Ok::<_, CommandError>(())
        };
        let tenants = &app.db.tenants;
        let updated = tenants.update(session, self.id, now, edit).await?;
        let Updated { before, after } = updated.ok_or(ProblemCode::NotFound)?;
        let tenant = &after;
        let respond = |job| {
            let view = (self.view)(tenant, job);
            ApiResponse::new(StatusCode::OK, ETag::from(tenant), &view)
        };
        if before == after {
            return Ok(CommandOutput::unchanged(respond(None)));
        }
        let event = runner
            .event(now, self.action, target(tenant), Some(tenant))
            .with_changes(&audited(&before)?, &audited(tenant)?);
        let changed = DocumentChange::Tenant(tenant.id);
        let complete = |job| CommandOutput::complete(respond(job), event).with_changed(changed);
        let is_billing = self.action == Action::TenantBillingInfo;
        if !is_billing || !is_synced(app, tenant, now).await? {
            return Ok(complete(None));
        }
        let args = SyncBilling {
            tenant_id: tenant.id,
            dry_run: false,
        };
        let job = NewJob::new(&args, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;
        Ok(complete(Some(JobLink::from(&job))).with_jobs(vec![job]))
    }
}

/// 200 with the settings and the tenant's version.
fn respond<V: Serialize>(tenant: &Tenant, view: fn(&Tenant) -> V) -> ApiResponse {
    ApiResponse::new(StatusCode::OK, ETag::from(tenant), &view(tenant))
}
