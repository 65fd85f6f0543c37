//! Refresh of an invoice: it is read again at the payment provider, as after an event that was lost.

use axum::response::{IntoResponse as _, Response};
use dezky_shared::{
    audit::{Action, Target},
    id::InvoiceId,
    queue::args::MirrorStripeObject,
    store::jobs::NewJob,
    stripe_event::INVOICE,
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;

use super::{respond, view::InvoiceView};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{EmptyBody, PathId, Permission, ReadWrite, TenantAccess},
    response::ApiResponse,
    routes::outcome::{await_job, preference_applied, status_of},
    views::job_href,
    write::{Command, CommandOutput, CommandResult, CommandRunner, Rollback, Write},
};

/// Reads an invoice of the payment provider again
///
/// Its events keep it up to date; this is for one that was lost. With `Prefer: wait` the response is the invoice as it is
/// after that. 200 at once if it is not at the payment provider. For owners and admins of the tenant, staff of its partner
/// with write access, and operators.
#[utoipa::path(
    post, path = "/tenants/{slug}/invoices/{id}/refresh", operation_id = "refreshInvoice", tag = "billing",
    responses((status = 200, body = InvoiceView), (status = 202, body = InvoiceView)),
)]
pub(super) async fn refresh(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathId<InvoiceId>>,
) -> Result<Response, ApiError> {
    let (runner, id) = (w.runner(), w.params.0);
    let tenant = &w.access.tenant;
    let deadline = runner.prefer.deadline();
    let CommandResult { response, job } = runner.run(&Refresh { tenant, id }).await?;
    let Some((job, mut caller)) = await_job(&runner, job, deadline).await? else {
        return Ok(response.into_response());
    };
    let tenant = caller.reload_tenant(&w.app.access, tenant.id).await?;
    if !<ReadWrite as Permission>::allows(&caller, &tenant) {
        return Err(ProblemCode::Forbidden.into());
    }
    let found = w.app.db.invoices.find_of(tenant.id, id).await?;
    let invoice = found.ok_or(ProblemCode::NotFound)?;
    let etag = ETag::of_revision(invoice.revision);
    let view = InvoiceView::from(invoice).with_job(&job);
    Ok(preference_applied(ApiResponse {
        replayed: response.replayed,
        location: response.location,
        ..ApiResponse::new(status_of(Some(&job)), etag, &view)
    }))
}

struct Refresh<'a> {
    tenant: &'a Tenant,
    id: InvoiceId,
}

impl Command for Refresh<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, tenant) = (runner.app, self.tenant);
        let invoices = &app.db.invoices;
        let found = invoices.find_of_in(session, tenant.id, self.id).await?;
        let invoice = found.ok_or(ProblemCode::NotFound)?;
        let Some(stripe) = &invoice.stripe else {
            return Ok(CommandOutput::unchanged(respond(invoice)));
        };
        if app.config.stripe.publishable_key.is_none() {
            return Err(ProblemCode::BillingDisabled.into());
        }
        let args = MirrorStripeObject {
            object_type: INVOICE.to_owned(),
            object_id: stripe.id.clone(),
            tenant_id: Some(tenant.id),
        };
        let now = app.store.now();
        let job = NewJob::new(&args, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;
        let name = invoice.number.clone().unwrap_or_default();
        let target = Target::new("invoice", invoice.id, name);
        let event = runner.event(now, Action::InvoiceRefresh, target, Some(tenant));
        let etag = ETag::of_revision(invoice.revision);
        let view = InvoiceView::from(invoice).with_job(&job);
        let response = ApiResponse::new(StatusCode::ACCEPTED, etag, &view).at(job_href(job.id));
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }
}
