//! Representation of an invoice.

use dezky_shared::{
    billing::Plan,
    invoice::{
        Invoice, InvoiceKind, InvoiceLine, InvoiceStatus, IssueError, Reduction, ReductionKind,
        StripeReduction, TaxNote,
    },
    money,
    queue::{error_code::ErrorCode, job::Job},
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{timestamp::Timestamp, views::JobLink};

/// An invoice. Amounts are net, in minor units of the currency.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Invoice)]
pub(in crate::routes) struct InvoiceView {
    /// Id.
    #[schema(format = Uuid)]
    id: String,
    /// Tenant id.
    #[schema(format = Uuid)]
    tenant_id: String,
    /// Subscription id. Missing for an adjustment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    subscription_id: Option<String>,
    /// Number, gapless for each legal entity and year, or that of the payment provider. Missing for an invoice over nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "DEZKY-2026-000042")]
    number: Option<String>,
    /// Whether the tenant's partner owes it. Missing if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partner_billed: bool,
    /// Plan of the invoiced subscription: `starter`, `business` or `enterprise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    /// Kind: `cycle` (a billing period), `proration` (a change within one) or `adjustment`.
    kind: InvoiceKind,
    /// Issuer: `run` (the invoice run), `operator` (an adjustment) or `stripe`, whose invoices are only shown here.
    origin: Origin,
    /// Status: `draft` (the payment provider is to issue it), `open`, `paid` (or settled from the start: an invoice over nothing, a correction), `uncollectible` (given up
    /// at the payment provider) or `void`.
    status: InvoiceStatus,
    /// Start of the invoiced period.
    #[serde(skip_serializing_if = "Option::is_none")]
    period_start: Option<Timestamp>,
    /// First instant after the invoiced period.
    #[serde(skip_serializing_if = "Option::is_none")]
    period_end: Option<Timestamp>,
    /// Billing details of the tenant, or of the partner that owes it, at the time of issue.
    bill_to: BillToView,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Number of decimal places of the minor unit.
    #[schema(minimum = 0, maximum = 3)]
    exponent: u8,
    /// Lines.
    lines: Vec<LineView>,
    /// Net amount: the sum of the lines, less discounts.
    subtotal_minor: i64,
    /// Taxes. Missing if none were computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    tax_minor: Option<i64>,
    /// Total, taxes included. Missing if none were computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_minor: Option<i64>,
    /// Amount that remains to be paid, in minor units.
    #[schema(minimum = 0)]
    amount_remaining_minor: i64,
    /// Tax: `net` (amounts exclude VAT) or `reverse_charge` (the recipient accounts for VAT).
    tax_note: TaxNote,
    /// The sentence about tax on the invoice.
    tax_text: &'static str,
    /// Time of issue.
    issued_at: Timestamp,
    /// Due time.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    /// Time of payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Timestamp>,
    /// Reference of the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_reference: Option<String>,
    /// Time of voiding.
    #[serde(skip_serializing_if = "Option::is_none")]
    voided_at: Option<Timestamp>,
    /// Reason for voiding.
    #[serde(skip_serializing_if = "Option::is_none")]
    void_reason: Option<String>,
    /// Reason for the adjustment.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Id of the paid invoice that this one corrects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    corrects: Option<String>,
    /// Reductions by corrections, credit notes, refunds and disputes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reductions: Vec<ReductionView>,
    /// Refusal by the payment provider to issue it. It is tried again until it is issued or voided.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<IssueErrorView>,
    /// Page at the payment provider on which it can be paid. Not in lists; the link grants access without a sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    hosted_invoice_url: Option<String>,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
    /// The job that changes it at the payment provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// Refusal of an invoice by the payment provider.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InvoiceIssueError)]
struct IssueErrorView {
    /// Code.
    code: ErrorCode,
    /// Message for people.
    message: String,
    /// Number of refusals.
    #[schema(minimum = 1)]
    attempts: i32,
    /// Time of the last one.
    at: Timestamp,
    /// Time from which on it is tried again.
    retry_at: Timestamp,
}

impl From<IssueError> for IssueErrorView {
    fn from(error: IssueError) -> Self {
        Self {
            code: error.code,
            message: error.code.customer_text(Some(Upstream::Stripe)),
            attempts: error.attempts,
            at: error.at.into(),
            retry_at: error.retry_at.into(),
        }
    }
}

/// Recipient of an invoice.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InvoiceRecipient)]
struct BillToView {
    /// Company.
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    /// VAT id.
    #[serde(skip_serializing_if = "Option::is_none")]
    vat_id: Option<String>,
    /// Country (ISO 3166-1 alpha-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
}

/// Line of an invoice.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InvoiceLine)]
struct LineView {
    /// Description.
    description: String,
    /// Net amount, in minor units. Negative in a correction.
    amount_minor: i64,
    /// Start of the billing period.
    #[serde(skip_serializing_if = "Option::is_none")]
    period_start: Option<Timestamp>,
    /// First instant after the billing period.
    #[serde(skip_serializing_if = "Option::is_none")]
    period_end: Option<Timestamp>,
}

/// Issuer of an invoice.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = InvoiceOrigin)]
enum Origin {
    /// The invoice run.
    Run,
    /// An operator.
    Operator,
    /// The payment provider.
    Stripe,
}

impl Origin {
    fn of(invoice: &Invoice) -> Self {
        let is_mirrored = invoice.stripe.is_some() && !invoice.sent_by_stripe;
        match (is_mirrored, invoice.kind) {
            (true, _) => Self::Stripe,
            (false, InvoiceKind::Adjustment) => Self::Operator,
            (false, InvoiceKind::Cycle | InvoiceKind::Proration) => Self::Run,
        }
    }
}

/// Reduction of a paid invoice.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InvoiceReduction)]
struct ReductionView {
    /// Kind: `correction`, `credit_note`, `refund` or `dispute`.
    kind: ReductionKind,
    /// Id of the correcting invoice. Missing for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    invoice_id: Option<String>,
    /// Status at the payment provider, such as `succeeded` or `failed`. Missing for a correction.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// Net amount, in minor units: 0 of a refund that failed or belongs to a credit note, and of a dispute that was won.
    #[schema(minimum = 0)]
    net_minor: i64,
    /// Time of the reduction.
    at: Timestamp,
}

impl From<InvoiceLine> for LineView {
    fn from(line: InvoiceLine) -> Self {
        Self {
            description: line.description,
            amount_minor: line.amount_minor,
            period_start: line.period.map(|period| period.start.into()),
            period_end: line.period.map(|period| period.end.into()),
        }
    }
}

impl From<Reduction> for ReductionView {
    fn from(reduction: Reduction) -> Self {
        Self {
            kind: ReductionKind::Correction,
            invoice_id: Some(reduction.invoice_id.to_string()),
            status: None,
            net_minor: reduction.net_minor,
            at: reduction.at.into(),
        }
    }
}

impl From<StripeReduction> for ReductionView {
    fn from(reduction: StripeReduction) -> Self {
        Self {
            kind: reduction.kind,
            invoice_id: None,
            status: Some(reduction.status),
            net_minor: reduction.net_minor,
            at: reduction.at.into(),
        }
    }
}

impl InvoiceView {
    /// The invoice with the link of its page.
    pub(super) fn with_link(mut invoice: Invoice) -> Self {
        let stripe = invoice.stripe.as_mut();
        let hosted_invoice_url = stripe.and_then(|stripe| stripe.hosted_url.take());
        Self {
            hosted_invoice_url,
            ..Self::from(invoice)
        }
    }

    /// With the job that changes it at the payment provider.
    pub(super) fn with_job(self, job: &Job) -> Self {
        Self {
            job: Some(JobLink::from(job)),
            ..self
        }
    }
}

impl From<Invoice> for InvoiceView {
    fn from(invoice: Invoice) -> Self {
        let total = invoice.stripe.as_ref().map(|stripe| stripe.total_minor);
        let origin = Origin::of(&invoice);
        let amount_remaining_minor = invoice.remaining_minor();
        let at_stripe = invoice.stripe.map(|stripe| stripe.reductions);
        let corrections = invoice.reductions.into_iter().map(ReductionView::from);
        let at_stripe = at_stripe.into_iter().flatten().map(ReductionView::from);
        Self {
            id: invoice.id.to_string(),
            origin,
            tax_minor: total.map(|total| total - invoice.subtotal_minor),
            total_minor: total,
            hosted_invoice_url: None,
            job: None,
            reductions: corrections.chain(at_stripe).collect(),
            tenant_id: invoice.tenant_id.to_string(),
            subscription_id: invoice.subscription_id.map(|id| id.to_string()),
            partner_billed: invoice.partner_billed,
            plan: invoice.plan,
            kind: invoice.kind,
            status: invoice.status,
            period_start: invoice.period.map(|period| period.start.into()),
            period_end: invoice.period.map(|period| period.end.into()),
            exponent: money::exponent(&invoice.currency),
            amount_remaining_minor,
            subtotal_minor: invoice.subtotal_minor,
            tax_note: invoice.tax_note,
            tax_text: invoice.tax_note.text(),
            issued_at: invoice.issued_at.into(),
            due_at: invoice.due_at.map(Timestamp::from),
            paid_at: invoice.paid_at.map(Timestamp::from),
            voided_at: invoice.voided_at.map(Timestamp::from),
            corrects: invoice.corrects.map(|id| id.to_string()),
            revision: invoice.revision,
            created_at: invoice.created_at.into(),
            updated_at: invoice.updated_at.into(),
            bill_to: BillToView {
                company: invoice.bill_to.company,
                vat_id: invoice.bill_to.vat_id,
                country: invoice.bill_to.country,
            },
            number: invoice.number,
            currency: invoice.currency,
            lines: invoice.lines.into_iter().map(LineView::from).collect(),
            payment_reference: invoice.payment_reference,
            void_reason: invoice.void_reason,
            reason: invoice.reason,
            error: invoice.error.map(IssueErrorView::from),
        }
    }
}
