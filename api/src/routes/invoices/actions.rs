//! Payment and voiding of an open invoice.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    id::InvoiceId,
    invoice::{Invoice, InvoiceStatus},
    queue::args::{SettleInvoice, VoidInvoice},
    store::{VersionedRepository as _, jobs::NewJob},
    subscription::SubscriptionStatus,
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{respond, view::InvoiceView};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    etag::ETag,
    extract::{OperatorOnly, PathId, TenantAccess, Validate},
    response::ApiResponse,
    validate::{self, Validator, money},
    views::job_href,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, audited_fields},
};

/// Reason for voiding.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = InvoiceVoid)]
pub(super) struct VoidRequest {
    /// Reason, which the invoice shows.
    #[schema(min_length = 1, max_length = 120)]
    reason: String,
}

/// A validated reason.
#[derive(Debug)]
pub(super) struct Voiding {
    reason: String,
}

impl Validate for Voiding {
    type Raw = VoidRequest;

    fn validate(raw: VoidRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let reason = validator.check("/reason", validate::name(&raw.reason));
        validator.build(|| Some(Self { reason: reason? }))
    }
}

/// A payment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Payment)]
pub(in crate::routes) struct PaymentRequest {
    /// Time of payment, not in the future. Default: now.
    #[schema(format = DateTime)]
    paid_at: Option<String>,
    /// Reference of the payment, such as that of the bank transfer.
    #[schema(min_length = 1, max_length = 120)]
    reference: String,
}

/// A validated payment.
#[derive(Debug)]
pub(in crate::routes) struct Payment {
    paid_at: Option<DateTime>,
    pub(in crate::routes) reference: String,
}

impl Payment {
    /// The time of payment, which is not in the future.
    pub(in crate::routes) fn paid_at(&self, now: DateTime) -> Result<DateTime, ApiError> {
        let paid_at = self.paid_at.unwrap_or(now);
        if paid_at > now {
            let message = "This must not be in the future.";
            let error = FieldError::at("/paidAt", "in_future", message);
            return Err(ApiError::invalid(vec![error]));
        }
        Ok(paid_at)
    }
}

impl Validate for Payment {
    type Raw = PaymentRequest;

    fn validate(raw: PaymentRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let reference = validator.check("/reference", validate::name(&raw.reference));
        let paid_at = raw
            .paid_at
            .and_then(|text| validator.check("/paidAt", money::start_date(&text)));
        validator.build(|| {
            Some(Self {
                paid_at,
                reference: reference?,
            })
        })
    }
}

/// Voids an open invoice
///
/// It keeps its number and can still be read. Its period is not invoiced again by itself: issue a replacement as an
/// adjustment.
///
/// 202 if the payment provider sends it: a job voids it there, or deletes its draft. Otherwise 200.
#[utoipa::path(
    post, path = "/tenants/{slug}/invoices/{id}/void", operation_id = "voidInvoice", tag = "billing",
    request_body = VoidRequest,
    responses((status = 200, body = InvoiceView), (status = 202, body = InvoiceView)),
)]
pub(super) async fn void(
    w: Write<TenantAccess<OperatorOnly>, Voiding, PathId<InvoiceId>>,
) -> Result<ApiResponse, ApiError> {
    let settlement = Settlement {
        tenant: &w.access.tenant,
        id: w.params.0,
        outcome: SettlementOutcome::Void(&w.body),
    };
    w.run(&settlement).await
}

/// Marks an open invoice as paid
///
/// 202 if the payment provider sends it: a job marks it as paid there, and its time of payment is that of the job, without
/// `paidAt`. Otherwise 200.
#[utoipa::path(
    post, path = "/tenants/{slug}/invoices/{id}/mark-paid", operation_id = "markInvoicePaid", tag = "billing",
    request_body = PaymentRequest,
    responses((status = 200, body = InvoiceView), (status = 202, body = InvoiceView)),
)]
pub(super) async fn mark_paid(
    w: Write<TenantAccess<OperatorOnly>, Payment, PathId<InvoiceId>>,
) -> Result<ApiResponse, ApiError> {
    let settlement = Settlement {
        tenant: &w.access.tenant,
        id: w.params.0,
        outcome: SettlementOutcome::Payment(&w.body),
    };
    w.run(&settlement).await
}

/// Final state that a settlement gives an open invoice.
enum SettlementOutcome<'a> {
    Void(&'a Voiding),
    Payment(&'a Payment),
}

struct Settlement<'a> {
    tenant: &'a Tenant,
    id: InvoiceId,
    outcome: SettlementOutcome<'a>,
}

impl Settlement<'_> {
    fn apply(&self, invoice: &mut Invoice, now: DateTime) -> Result<Action, ApiError> {
        match self.outcome {
            SettlementOutcome::Void(voiding) => {
                invoice.void(now, &voiding.reason);
                Ok(Action::InvoiceVoid)
            }
            SettlementOutcome::Payment(payment) => {
                let paid_at = payment.paid_at(now)?;
                invoice.pay(paid_at, &payment.reference);
                Ok(Action::InvoiceMarkPaid)
            }
        }
    }

    /// 202 with the job that does it at Stripe.
    async fn at_stripe(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        before: Invoice,
    ) -> Result<CommandOutput, Rollback> {
        let (invoices, now) = (&runner.app.db.invoices, runner.app.store.now());
        let (tenant_id, invoice_id) = (before.tenant_id, before.id);
        let actor = runner.actor_id();
        let mut after = before.clone();
        let (is_open, action, job) = match self.outcome {
            SettlementOutcome::Void(voiding) => {
                after.void_reason = Some(voiding.reason.clone());
                let args = VoidInvoice {
                    tenant_id,
                    invoice_id,
                };
                let job = NewJob::new(&args, &actor, now)?;
                (!before.status.is_final(), Action::InvoiceVoid, job)
            }
            SettlementOutcome::Payment(payment) => {
                payment.paid_at(now)?;
                after.payment_reference = Some(payment.reference.clone());
                let args = SettleInvoice {
                    tenant_id,
                    invoice_id,
                };
                let job = NewJob::new(&args, &actor, now)?;
                let is_issued = before.status != InvoiceStatus::Draft;
                let is_open = is_issued && !before.status.is_final();
                (is_open, Action::InvoiceMarkPaid, job)
            }
        };
        if !is_open {
            return Err(ProblemCode::InvoiceNotOpen.into());
        }
        invoices
            .save_changed(session, &before, &mut after, now)
            .await?;
        let job = runner.enqueue(session, job).await?;
        let name = after.number.clone().unwrap_or_default();
        let target = Target::new("invoice", invoice_id, name);
        let event = runner
            .event(now, action, target, Some(self.tenant))
            .with_changes(&audited_fields(&before)?, &audited_fields(&after)?);
        let etag = ETag::of_revision(after.revision);
        let view = InvoiceView::from(after).with_job(&job);
        let response = ApiResponse::new(StatusCode::ACCEPTED, etag, &view).at(job_href(job.id));
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }

    /// Makes the subscription active again, unless another of its invoices is overdue. Returns the audit event of that.
    async fn reassess(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        invoice: &Invoice,
        now: DateTime,
    ) -> Result<Option<AuditEvent>, Rollback> {
        let db = &runner.app.db;
        let Some(id) = invoice.subscription_id else {
            return Ok(None);
        };
        let Some(before) = db.subscriptions.find_in_transaction(session, id).await? else {
            return Ok(None);
        };
        if !before.status.is_live() {
            return Ok(None);
        }
        let has_overdue = db.invoices.has_overdue(session, id).await?;
        let mut after = before.clone();
        after.status = SubscriptionStatus::by_invoices(has_overdue);
        let subscriptions = &db.subscriptions;
        let saved = subscriptions.save_changed(session, &before, &mut after, now);
        if !saved.await? {
            return Ok(None);
        }
        let target = Target::new("subscription", id, &self.tenant.slug);
        let event = runner
            .event(now, Action::SubscriptionUpdate, target, Some(self.tenant))
            .with_changes(&audited_fields(&before)?, &audited_fields(&after)?);
        Ok(Some(event))
    }
}

impl Command for Settlement<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let (invoices, now) = (&app.db.invoices, app.store.now());
        let found = invoices
            .find_of_in(session, self.tenant.id, self.id)
            .await?;
        let before = found.ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(ETag::of_revision(before.revision))?;
        if before.sent_by_stripe {
            return self.at_stripe(session, runner, before).await;
        }
        if before.stripe.is_some() {
            return Err(ProblemCode::BilledByStripe.into());
        }
        if before.status != InvoiceStatus::Open {
            return Err(ProblemCode::InvoiceNotOpen.into());
        }
        let mut after = before.clone();
        let action = self.apply(&mut after, now)?;
        invoices
            .save_changed(session, &before, &mut after, now)
            .await?;
        app.db.ledger.settle_invoice(session, &after, now).await?;
        let totals = &app.db.billing_totals;
        totals
            .record_invoice(session, Some(&before), &after, now)
            .await?;
        let reassessed = self.reassess(session, runner, &after, now).await?;
        let name = after.number.clone().unwrap_or_default();
        let event = runner
            .event(
                now,
                action,
                Target::new("invoice", self.id, name),
                Some(self.tenant),
            )
            .with_changes(&audited_fields(&before)?, &audited_fields(&after)?);
        let output = CommandOutput::complete(respond(after), event);
        Ok(output.with_events(reassessed.into_iter().collect()))
    }
}
