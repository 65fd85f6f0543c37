//! Sync of a tenant's customer at the payment provider, by hand.

use bson::doc;
use dezky_shared::{
    audit::{Action, Target},
    queue::args::SyncBilling,
    tenant::Tenant,
};
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ensure_billed, request_job};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{OperatorOnly, TenantAccess, Validate},
    response::ApiResponse,
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Options of a sync.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = BillingSyncRequest)]
pub(super) struct SyncOptions {
    /// Report changes without making them: see `steps[].changes` of the job.
    dry_run: bool,
}

impl Validate for SyncOptions {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(raw: Self, _: &Config) -> Result<Self, Vec<FieldError>> {
        Ok(raw)
    }
}

/// A requested sync.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BillingSync)]
struct SyncView {
    /// The job that syncs the customer.
    job: JobLink,
}

/// Syncs a tenant's customer at the payment provider now
///
/// The customer is created if there is none, gets the billing details and the VAT id, and its card is read. The step of
/// the job is skipped if no payment provider is configured.
#[utoipa::path(
    post, path = "/tenants/{slug}/billing/sync", operation_id = "syncTenantBilling", tag = "billing",
    request_body = Option<SyncOptions>,
    responses((status = 202, body = SyncView)),
)]
pub(super) async fn sync(
    w: Write<TenantAccess<OperatorOnly>, SyncOptions>,
) -> Result<ApiResponse, ApiError> {
    let request = SyncTenant {
        tenant: &w.access.tenant,
        dry_run: w.body.dry_run,
    };
    w.run(&request).await
}

struct SyncTenant<'a> {
    tenant: &'a Tenant,
    dry_run: bool,
}

impl Command for SyncTenant<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, tenant) = (runner.app, self.tenant);
        let now = app.store.now();
        ensure_billed(app, tenant, now).await?;
        let args = SyncBilling {
            tenant_id: tenant.id,
            dry_run: self.dry_run,
        };
        let target = Target::new("tenant", tenant.id, &tenant.slug);
        let mut event = runner.event(now, Action::BillingSync, target, Some(tenant));
        event.after = doc! { "dryRun": self.dry_run };
        request_job(session, runner, &args, event, |job| SyncView { job }).await
    }
}
