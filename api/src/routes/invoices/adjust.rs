//! Adjustments: invoices that an operator writes, among them corrections of paid ones.

use bson::Document;
use dezky_shared::{
    audit::{Action, Target},
    id::InvoiceId,
    invoice::{Adjustment, Invoice, InvoiceLine, InvoiceStatus, Parties, Reduction, counter_key},
    store::VersionedRepository as _,
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
    extract::{Object, OperatorOnly, TenantAccess, Validate},
    response::ApiResponse,
    validate::{self, Validator, invoice, money},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, audited_fields},
};

/// A new adjustment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = InvoiceCreate)]
pub(super) struct CreateRequest {
    /// Lines. Their sum is positive, and negative in a correction.
    #[schema(value_type = Vec<LineRequest>, min_items = 1, max_items = 50)]
    lines: Vec<Object<LineRequest>>,
    /// Currency (ISO 4217). Default: that of the corrected invoice, or of the live subscription.
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: Option<String>,
    /// Reason, which the invoice shows.
    #[schema(min_length = 1, max_length = 120)]
    reason: String,
    /// Id of a paid invoice that this one corrects.
    #[schema(format = Uuid)]
    corrects: Option<String>,
}

/// Line of a new adjustment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = InvoiceLineCreate)]
pub(super) struct LineRequest {
    /// Description.
    #[schema(min_length = 1, max_length = 120)]
    pub(super) description: String,
    /// Net amount, in minor units, not 0.
    #[schema(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    pub(super) amount_minor: i64,
}

/// A validated new adjustment.
#[derive(Debug)]
pub(super) struct NewInvoice {
    lines: Vec<InvoiceLine>,
    currency: Option<String>,
    reason: String,
    corrects: Option<InvoiceId>,
}

impl Validate for NewInvoice {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let lines = raw.lines.into_iter().map(|Object(line)| line);
        let lines = lines.map(|line| (line.description, line.amount_minor));
        let lines = invoice::lines(&mut validator, &lines.collect::<Vec<_>>());
        let currency = raw
            .currency
            .and_then(|text| validator.check("/currency", money::currency(&text)));
        let reason = validator.check("/reason", validate::name(&raw.reason));
        let corrects = raw
            .corrects
            .and_then(|text| validator.check("/corrects", validate::id(&text)));
        let lines = lines.filter(|lines| {
            let total: i64 = lines.iter().map(|line| line.amount_minor).sum();
            let error = invoice::total(total, corrects.is_some());
            validator.check("/lines", error).is_some()
        });
        validator.build(|| {
            Some(Self {
                lines: lines?,
                currency,
                reason: reason?,
                corrects,
            })
        })
    }
}

/// Issues an adjustment
///
/// With `corrects` and a negative sum, it reduces a paid invoice, and is settled itself. Otherwise it has to be paid.
#[utoipa::path(
    post, path = "/tenants/{slug}/invoices", operation_id = "createInvoice", tag = "billing",
    request_body = CreateRequest,
    responses((status = 201, body = InvoiceView)),
)]
pub(super) async fn create(
    w: Write<TenantAccess<OperatorOnly>, NewInvoice>,
) -> Result<ApiResponse, ApiError> {
    let adjust = Adjust {
        tenant: &w.access.tenant,
        new: &w.body,
    };
    w.run(&adjust).await
}

struct Adjust<'a> {
    tenant: &'a Tenant,
    new: &'a NewInvoice,
}

impl Adjust<'_> {
    /// The invoice to correct. A concurrent correction of it conflicts.
    async fn corrected(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<Option<Invoice>, Rollback> {
        let Some(id) = self.new.corrects else {
            return Ok(None);
        };
        let invoices = &runner.app.db.invoices;
        let found = invoices.find_of_in(session, self.tenant.id, id).await?;
        let Some(invoice) = found else {
            let message = "The tenant has no such invoice.";
            return Err(rejected("/corrects", "unknown_invoice", message).into());
        };
        if invoice.stripe.is_some() || invoice.sent_by_stripe {
            return Err(ProblemCode::BilledByStripe.into());
        }
        if invoice.status != InvoiceStatus::Paid || invoice.subtotal_minor <= 0 {
            return Err(ProblemCode::InvoiceNotPaid.into());
        }
        Ok(Some(invoice))
    }

    async fn currency(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        corrected: Option<&Invoice>,
    ) -> Result<String, Rollback> {
        let named = self.new.currency.as_ref();
        if let Some(corrected) = corrected {
            let currency = &corrected.currency;
            if named.is_some_and(|named| named != currency) {
                let message = format!("The corrected invoice is in {currency}.");
                return Err(rejected("/currency", "wrong_currency", message).into());
            }
            return Ok(currency.clone());
        }
        if let Some(named) = named {
            return Ok(named.clone());
        }
        let subscriptions = &runner.app.db.subscriptions;
        let live = subscriptions.find_live(session, self.tenant.id).await?;
        let currency = live.map(|subscription| subscription.currency);
        currency.ok_or_else(|| {
            let message = "The tenant has no live subscription. Set currency.";
            rejected("/currency", "no_currency", message).into()
        })
    }
}

fn rejected(pointer: &str, code: &str, message: impl Into<String>) -> ApiError {
    ApiError::invalid(vec![FieldError::at(pointer, code, message)])
}

/// The corrected invoice with its reduction.
fn reduce(corrected: &Invoice, correction: &Invoice) -> Result<Invoice, ApiError> {
    let net_minor = -correction.subtotal_minor;
    let left = corrected.uncorrected_minor();
    if net_minor > left {
        let message = format!("Only {left} of the corrected invoice are left.");
        return Err(rejected("/lines", "exceeds_invoice", message));
    }
    let mut reduced = corrected.clone();
    reduced.reductions.push(Reduction {
        invoice_id: correction.id,
        net_minor,
        at: correction.issued_at,
    });
    Ok(reduced)
}

impl Command for Adjust<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, tenant) = (runner.app, self.tenant);
        let (db, config, now) = (&app.db, &app.config.invoicing, app.store.now());
        let counter = counter_key(&config.legal_entity, now);
        let number = db.invoices.next_number(session, &counter).await?;
        let corrected = self.corrected(session, runner).await?;
        let currency = self.currency(session, runner, corrected.as_ref()).await?;
        let partner = match tenant.partner_id {
            Some(id) => db.partners.find_in_transaction(session, id).await?,
            None => None,
        };
        let parties = Parties {
            tenant,
            partner: partner.as_ref(),
        };
        let adjustment = Adjustment {
            currency,
            lines: self.new.lines.clone(),
            reason: self.new.reason.clone(),
            corrects: self.new.corrects,
        };
        let mut invoice = Invoice::of_adjustment(adjustment, parties, config, now);
        invoice.number = Some(number.clone());
        if let Some(corrected) = &corrected {
            invoice.follow(corrected);
            let mut reduced = reduce(corrected, &invoice)?;
            db.invoices
                .save_changed(session, corrected, &mut reduced, now)
                .await?;
            db.ledger.settle_invoice(session, &reduced, now).await?;
        }
        db.invoices.insert(session, &invoice).await?;
        let totals = &db.billing_totals;
        totals.record_invoice(session, None, &invoice, now).await?;
        let target = Target::new("invoice", invoice.id, number);
        let event = runner
            .event(now, Action::InvoiceCreate, target, Some(tenant))
            .with_changes(&Document::new(), &audited_fields(&invoice)?);
        let location = format!("/tenants/{}/invoices/{}", tenant.slug, invoice.id);
        let mut response = respond(invoice).at(location);
        response.status = StatusCode::CREATED;
        Ok(CommandOutput::complete(response, event))
    }
}
