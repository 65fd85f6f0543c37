//! Sync of a tenant's customer at the payment provider, on request.

use bson::{DateTime, doc};
use dezky_shared::{
    audit::{Action, Target},
    queue::args::SyncBilling,
    store::{StoreError, VersionedRepository as _},
    subscription::Subscription,
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
    state::AppState,
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Options of a sync.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = BillingSyncCreate)]
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
/// The customer is created if there is none, gets the billing details and the VAT id, its card is read, and its card
/// subscription is created, changed or ended as it should be. One that has ended there is created again only by this, a new
/// card or a sale. The step of the job is skipped if no payment provider is configured.
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

impl SyncTenant<'_> {
    /// Lets the sync create the card subscription anew, should it have ended at the payment provider.
    async fn allow_subscription(
        &self,
        session: &mut ClientSession,
        app: &AppState,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let subscriptions = &app.db.subscriptions;
        let live = subscriptions.find_live(session, self.tenant.id).await?;
        if let Some(before) = live.filter(Subscription::is_by_card) {
            let mut after = before.clone();
            after.may_recreate = true;
            subscriptions
                .save_changed(session, &before, &mut after, now)
                .await?;
        }
        Ok(())
    }
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
        if !self.dry_run {
            self.allow_subscription(session, app, now).await?;
        }
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
