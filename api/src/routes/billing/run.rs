//! Invoice run of one tenant, on request.

use bson::{DateTime, doc};
use dezky_shared::{
    audit::{Action, Target},
    invoicing::Enrolment,
    queue::args::InvoiceSubscription,
    subscription::{Biller, Subscription},
    tenant::Tenant,
};
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ensure_billed, request_job};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{OperatorOnly, TenantAccess, Validate},
    response::ApiResponse,
    validate::{Validator, Violation, money},
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Maximum number of periods that are released at once.
const MAX_RELEASED: u32 = 1_000;

/// Options of an invoice run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = InvoiceRunCreate)]
pub(super) struct RunRequest {
    /// Report invoices without issuing them: see `steps[].changes` of the job.
    dry_run: bool,
    /// Number of due periods to invoice. Required if there are more than two; it must be the number of those that are due.
    #[schema(minimum = 1, maximum = 1_000)]
    periods: Option<i64>,
    /// Start of the period from which on to invoice: those before are skipped, without an invoice.
    #[schema(format = DateTime)]
    skip_to: Option<String>,
}

/// Validated options.
#[derive(Debug)]
pub(super) struct RunOptions {
    dry_run: bool,
    periods: Option<u32>,
    skip_to: Option<DateTime>,
}

impl Validate for RunOptions {
    type Raw = RunRequest;
    const MAY_BE_EMPTY: bool = true;

    fn validate(raw: RunRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let options = Self {
            dry_run: raw.dry_run,
            periods: raw
                .periods
                .and_then(|count| validator.check("/periods", released(count))),
            skip_to: raw
                .skip_to
                .and_then(|text| validator.check("/skipTo", money::start_date(&text))),
        };
        validator.finish(Some(options))
    }
}

fn released(count: i64) -> Result<u32, Violation> {
    let count = u32::try_from(count).ok();
    let count = count.filter(|count| (1..=MAX_RELEASED).contains(count));
    count.ok_or_else(|| ("out_of_range", format!("Must be 1–{MAX_RELEASED}.")))
}

/// A requested invoice run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvoiceRun)]
struct RunView {
    /// The job that issues the invoices.
    job: JobLink,
}

/// Invoices the due periods of a tenant's subscription now
///
/// As the hourly schedule `invoice_run` does. It invoices at most two periods at once; more of them wait until an
/// operator releases them with `periods`, or skips some with `skipTo`.
#[utoipa::path(
    post, path = "/tenants/{slug}/billing/invoice", operation_id = "invoiceTenant", tag = "billing",
    request_body = Option<RunRequest>,
    responses((status = 202, body = RunView)),
)]
pub(super) async fn run(
    w: Write<TenantAccess<OperatorOnly>, RunOptions>,
) -> Result<ApiResponse, ApiError> {
    let request = InvoiceTenant {
        tenant: &w.access.tenant,
        options: &w.body,
    };
    w.run(&request).await
}

struct InvoiceTenant<'a> {
    tenant: &'a Tenant,
    options: &'a RunOptions,
}

impl InvoiceTenant<'_> {
    /// Rejects options that do not match the subscription as it is now.
    fn check(&self, subscription: &Subscription, now: DateTime) -> Result<(), ApiError> {
        let mut subscription = subscription.clone();
        subscription.enrol(Enrolment::Existing, now);
        if let Some(skip_to) = self.options.skip_to {
            check_skip(&subscription, skip_to, now)?;
            subscription.advance_to(skip_to);
        }
        let due = subscription.due_periods(now).len();
        match self.options.periods {
            Some(periods) if usize::try_from(periods).ok() != Some(due) => {
                let detail = format!("{due} periods are due.");
                Err(ApiError::new(ProblemCode::PeriodsDiffer).with_detail(detail))
            }
            _ => Ok(()),
        }
    }
}

/// Rejects a time at which no period of the subscription starts, or whose periods cannot be skipped.
fn check_skip(
    subscription: &Subscription,
    skip_to: DateTime,
    now: DateTime,
) -> Result<(), ApiError> {
    let error =
        |code, message: &str| ApiError::invalid(vec![FieldError::at("/skipTo", code, message)]);
    let (Some(periods), Some(through)) = (subscription.periods(), subscription.invoiced_through)
    else {
        return Ok(());
    };
    if skip_to <= through {
        let message = "The periods before this time are invoiced already.";
        return Err(error("not_later", message));
    }
    if !periods.has_boundary(skip_to) {
        let message = "No billing period of the subscription starts at this time.";
        return Err(error("not_a_period_start", message));
    }
    let current_end = periods.starting_at(now).map(|period| period.end);
    if current_end.is_some_and(|end| skip_to > end) {
        let message = "Only periods that have begun can be skipped.";
        return Err(error("too_late", message));
    }
    Ok(())
}

impl Command for InvoiceTenant<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, tenant) = (runner.app, self.tenant);
        let now = app.store.now();
        ensure_billed(app, tenant, now).await?;
        let found = app.db.subscriptions.find_live(session, tenant.id).await?;
        let subscription = found.ok_or(ProblemCode::NoSubscription)?;
        if subscription.biller == Biller::Stripe {
            let detail = "Stripe issues the invoices of this subscription.";
            return Err(ApiError::new(ProblemCode::BilledByStripe)
                .with_detail(detail)
                .into());
        }
        self.check(&subscription, now)?;
        let RunOptions {
            dry_run,
            periods,
            skip_to,
        } = *self.options;
        let args = InvoiceSubscription {
            tenant_id: tenant.id,
            subscription_id: subscription.id,
            as_of: now,
            dry_run,
            periods,
            skip_to,
        };
        let target = Target::new("subscription", subscription.id, &tenant.slug);
        let mut event = runner.event(now, Action::SubscriptionInvoice, target, Some(tenant));
        event.after = doc! { "dryRun": dry_run };
        if let Some(periods) = periods {
            event.after.insert("periods", i64::from(periods));
        }
        if let Some(skip_to) = skip_to {
            event.after.insert("skipTo", skip_to);
        }
        request_job(session, runner, &args, event, |job| RunView { job }).await
    }
}
