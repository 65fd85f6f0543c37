//! Reading of an invoice at Stripe, with its lines and what reduces it, in our units.

use bson::DateTime;
use dezky_shared::{
    billing::period::Period,
    invoice::{
        InvoiceKind, InvoiceLine, InvoiceStatus, MAX_LINES, ReadInvoice, ReadReduction,
        ReductionKind, StripeInvoice, reductions_of,
    },
    money,
    queue::error_code::ErrorCode,
};
use dezky_upstreams::clients::stripe::{self, CreditNote, LinePeriod, Reversal, Stripe};

use crate::steps::StepFailure;

/// Reads invoices.
#[derive(Clone, Copy)]
pub(super) struct InvoiceReader<'a>(pub(super) &'a Stripe);

impl InvoiceReader<'_> {
    /// Reads the rest of an invoice. `None` for a draft.
    pub(super) async fn read(
        self,
        invoice: &stripe::Invoice,
    ) -> Result<Option<ReadInvoice>, StepFailure> {
        let Some(status) = status_of(invoice)? else {
            return Ok(None);
        };
        let amounts = Amounts {
            currency: invoice.currency.to_ascii_uppercase(),
        };
        let lines = self.0.list_invoice_lines(&invoice.id, MAX_LINES).await?;
        let cycle = lines.iter().find(|line| line.is_cycle());
        let kind = match (cycle, invoice.subscription()) {
            (Some(_), _) => InvoiceKind::Cycle,
            (None, Some(_)) => InvoiceKind::Proration,
            (None, None) => InvoiceKind::Adjustment,
        };
        let of_subscription = cycle
            .or(lines.first())
            .filter(|_| kind != InvoiceKind::Adjustment);
        let net_minor = amounts.of(invoice.total_excluding_tax.unwrap_or(invoice.total))?;
        let total_minor = amounts.of(invoice.total)?;
        let reductions = if status == InvoiceStatus::Paid {
            self.reductions(&invoice.id, &amounts).await?
        } else {
            Vec::new()
        };
        let times = &invoice.status_transitions;
        Ok(Some(ReadInvoice {
            kind,
            status,
            number: invoice.number.clone(),
            period: of_subscription.map(|line| period(line.period)),
            lines: lines
                .iter()
                .map(|line| amounts.line(line))
                .collect::<Result<_, _>>()?,
            net_minor,
            issued_at: seconds(times.finalized_at.unwrap_or(invoice.created)),
            due_at: invoice.due_date.map(seconds),
            paid_at: times
                .paid_at
                .filter(|_| status == InvoiceStatus::Paid)
                .map(seconds),
            voided_at: times.voided_at.map(seconds),
            period_key: invoice.metadata.get("periodKey").cloned(),
            stripe: StripeInvoice {
                id: invoice.id.clone(),
                total_minor,
                amount_remaining_minor: amounts.of(invoice.amount_remaining)?,
                hosted_url: link(invoice.hosted_invoice_url.as_ref()),
                pdf_url: link(invoice.invoice_pdf.as_ref()),
                reductions: reductions_of(net_minor, total_minor, reductions),
            },
            currency: amounts.currency,
        }))
    }

    /// Everything that reduces a paid invoice, or has tried to.
    async fn reductions(
        self,
        invoice: &str,
        amounts: &Amounts,
    ) -> Result<Vec<ReadReduction>, StepFailure> {
        let mut reductions = Vec::new();
        for note in self.0.list_credit_notes(invoice).await? {
            reductions.push(amounts.credit_note(note)?);
        }
        for payment in self.0.list_invoice_payments(invoice).await? {
            let Some(intent) = payment.payment_intent() else {
                continue;
            };
            for refund in self.0.list_refunds(intent).await? {
                reductions.push(amounts.reversal(ReductionKind::Refund, refund)?);
            }
            for dispute in self.0.list_disputes(intent).await? {
                reductions.push(amounts.reversal(ReductionKind::Dispute, dispute)?);
            }
        }
        Ok(reductions)
    }
}

/// Conversion of the amounts of an invoice.
struct Amounts {
    /// Currency, ISO 4217, upper case.
    currency: String,
}

impl Amounts {
    fn of(&self, amount: i64) -> Result<i64, StepFailure> {
        money::from_stripe(amount, &self.currency).ok_or_else(|| {
            let detail = format!("an amount in parts of a minor unit of {}", self.currency);
            StepFailure::new(ErrorCode::UpstreamRejected, detail)
        })
    }

    fn line(&self, line: &stripe::InvoiceLine) -> Result<InvoiceLine, StepFailure> {
        Ok(InvoiceLine {
            description: line.description.clone().unwrap_or_default(),
            amount_minor: self.of(line.amount)?,
            period: Some(period(line.period)),
        })
    }

    fn credit_note(&self, note: CreditNote) -> Result<ReadReduction, StepFailure> {
        Ok(ReadReduction {
            kind: ReductionKind::CreditNote,
            amount_minor: self.of(note.total_excluding_tax.unwrap_or(note.total))?,
            refunds: note.refunds(),
            at: seconds(note.created),
            source_id: note.id,
            status: note.status,
        })
    }

    fn reversal(
        &self,
        kind: ReductionKind,
        reversal: Reversal,
    ) -> Result<ReadReduction, StepFailure> {
        Ok(ReadReduction {
            kind,
            amount_minor: self.of(reversal.amount)?,
            refunds: Vec::new(),
            at: seconds(reversal.created),
            source_id: reversal.id,
            status: reversal.status.unwrap_or_default(),
        })
    }
}

/// Status of an invoice. `None` for a draft.
fn status_of(invoice: &stripe::Invoice) -> Result<Option<InvoiceStatus>, StepFailure> {
    match invoice.status.as_deref() {
        None | Some("draft") => Ok(None),
        Some("open") => Ok(Some(InvoiceStatus::Open)),
        Some("paid") => Ok(Some(InvoiceStatus::Paid)),
        Some("uncollectible") => Ok(Some(InvoiceStatus::Uncollectible)),
        Some("void") => Ok(Some(InvoiceStatus::Void)),
        Some(_) => {
            let detail = "an invoice with an unknown status";
            Err(StepFailure::new(ErrorCode::UpstreamResponseInvalid, detail))
        }
    }
}

/// A link that a browser may be sent to.
fn link(url: Option<&String>) -> Option<String> {
    url.filter(|url| url.starts_with("https://")).cloned()
}

fn period(period: LinePeriod) -> Period {
    Period {
        start: seconds(period.start),
        end: seconds(period.end),
    }
}

fn seconds(seconds: i64) -> DateTime {
    DateTime::from_millis(seconds.saturating_mul(1_000))
}
