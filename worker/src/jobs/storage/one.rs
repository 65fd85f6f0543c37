//! Measurement of one tenant. A disabled integration and a tenant without a space or a domain are measured too: as
//! nothing, at that time.

use dezky_shared::{
    storage_report::{FilesUsage, MailUsage},
    tenant::{DesiredState, reason},
};
use futures::FutureExt as _;

use super::{MEASURED, usage_of};
use crate::{
    jobs::tenant::tenant_of,
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Measures the tenant's space.
pub(super) async fn files(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, desired_state) = tenant_of(&run)?;
    if desired_state == DesiredState::Gone {
        return Ok(StepSuccess::skipped(reason::REMOVED));
    }
    let as_of = run.ctx.store.now();
    let client = run.ctx.clients.ocis.as_ref();
    let space = match (client, &tenant.ocis_space_id) {
        (Some(client), Some(id)) => {
            let client = client.with_deadline(&run.deadline);
            client.find_usage(id).await?
        }
        _ => None,
    };
    let usage = FilesUsage { as_of, space };
    let measured = (&run.ctx.storage_reports, tenant.id, usage);
    run.fenced_transaction(measured, |session, (reports, tenant, usage)| {
        reports.set_files(session, *tenant, usage).boxed()
    })
    .await?;
    Ok(done(client.is_some()))
}

/// Measures the tenant's mailboxes.
pub(super) async fn mail(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, desired_state) = tenant_of(&run)?;
    if desired_state == DesiredState::Gone {
        return Ok(StepSuccess::skipped(reason::REMOVED));
    }
    let client = run.ctx.clients.stalwart.as_ref();
    let usage = match client {
        Some(client) => {
            let client = client.with_deadline(&run.deadline);
            usage_of(&run, &client, tenant.id, &tenant.mail_domains).await?
        }
        None => MailUsage::of(Vec::new(), run.ctx.store.now()),
    };
    let measured = (&run.ctx.storage_reports, tenant.id, usage);
    run.fenced_transaction(measured, |session, (reports, tenant, usage)| {
        reports.set_mail(session, *tenant, usage).boxed()
    })
    .await?;
    Ok(done(client.is_some()))
}

fn done(is_enabled: bool) -> StepSuccess {
    if is_enabled {
        StepSuccess::ok(MEASURED, Vec::new())
    } else {
        StepSuccess::skipped(reason::INTEGRATION_DISABLED)
    }
}
