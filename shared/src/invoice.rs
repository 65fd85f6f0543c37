//! Invoice: the amount that a tenant owes for a billing period, or by an adjustment.
//!
//! An invoice is issued by the transaction that creates it, and its amounts never change. Open invoices are paid or
//! voided; a paid one is corrected by an adjustment that reduces it. Those that Stripe issued are mirrored.

mod amounts;
mod config;
mod mirrored;
mod numbering;
mod reductions;
mod refused;
mod tax_note;

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    config::{BeforeFirstCard, FreeToPaid, InvoicingConfig},
    mirrored::{ReadInvoice, StripeInvoice},
    numbering::{counter_key, number},
    reductions::{ReadReduction, ReductionKind, StripeReduction, reductions_of},
    refused::IssueError,
    tax_note::TaxNote,
};
use crate::{
    billing::{BillingInfo, Cycle, Plan, period::Period},
    id::{InvoiceId, PartnerId, SubscriptionId, TenantId},
    partner::{Partner, PartnerStatus},
    platform::clock,
    subscription::Subscription,
    tenant::Tenant,
};

/// Maximum number of lines of an invoice.
pub const MAX_LINES: usize = 50;

/// Kind of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvoiceKind {
    /// A billing period of a subscription.
    Cycle,
    /// Changes within a billing period, which Stripe invoiced.
    Proration,
    /// Lines that an operator wrote.
    Adjustment,
}

/// Status of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvoiceStatus {
    /// To be issued by Stripe.
    Draft,
    /// Issued, not paid.
    Open,
    /// Paid, or settled from the start: an invoice over nothing, or a correction.
    Paid,
    /// Written off at Stripe. It may still be paid or voided.
    Uncollectible,
    /// Cancelled after it was issued. It keeps its number.
    Void,
}

impl InvoiceStatus {
    /// Whether it never changes again.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Paid | Self::Void)
    }

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Uncollectible => "uncollectible",
            Self::Void => "void",
        }
    }
}

/// Stage of an invoice that Stripe issues and sends for us, as it is there. Missing once it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvoiceStage {
    /// Claimed here, not created there.
    Claimed,
    /// A draft without lines.
    Created,
    /// A draft with all lines.
    Itemised,
    /// The issued invoice, which is not sent yet.
    Finalized,
}

/// Line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceLine {
    /// Description.
    pub description: String,
    /// Net amount, in minor units. Negative in a correction.
    pub amount_minor: i64,
    /// Billing period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
}

/// Reduction of a paid invoice by a correction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reduction {
    /// The correcting invoice.
    pub invoice_id: InvoiceId,
    /// Net amount, positive, in minor units.
    pub net_minor: i64,
    /// Time of the correction.
    pub at: DateTime,
}

/// Invoice, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invoice {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: InvoiceId,
    /// Invoiced tenant.
    pub tenant_id: TenantId,
    /// Invoiced subscription; missing for an adjustment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<SubscriptionId>,
    /// Active partner that managed the tenant when the invoice was issued. A correction has that of the corrected invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// The partner's margin at that time, in basis points; 0 without a partner.
    pub margin_basis_points: i32,
    /// Whether the partner owes it instead of the tenant. Its margin is then 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partner_billed: bool,
    /// Plan of the invoiced subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Kind.
    pub kind: InvoiceKind,
    /// Key of the invoiced period, unique among invoices that are not void: no period is invoiced twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_key: Option<String>,
    /// Invoiced period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Status.
    pub status: InvoiceStatus,
    /// Number, gapless for each legal entity and year; missing for an invoice over nothing. That of Stripe for one that it
    /// issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// Billing details of the tenant when the invoice was issued, without the e-mail address.
    pub bill_to: BillingInfo,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Lines, at most [`MAX_LINES`].
    pub lines: Vec<InvoiceLine>,
    /// Net amount, in minor units: the sum of the lines, less discounts at Stripe. No tax is computed here.
    pub subtotal_minor: i64,
    /// Its note about tax.
    pub tax_note: TaxNote,
    /// Time of issue.
    pub issued_at: DateTime,
    /// Due time of an invoice that has to be paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime>,
    /// Whether the invoice run has found it overdue. Reset when it is paid or voided.
    pub is_overdue: bool,
    /// Time of payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<DateTime>,
    /// Reference of the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_reference: Option<String>,
    /// Time of voiding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voided_at: Option<DateTime>,
    /// Reason for voiding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_reason: Option<String>,
    /// Reason for an adjustment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Paid invoice that this one corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrects: Option<InvoiceId>,
    /// Reductions by corrections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reductions: Vec<Reduction>,
    /// Whether Stripe issues and sends it for us.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sent_by_stripe: bool,
    /// Stage at which its issue resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<InvoiceStage>,
    /// Refusal of its issue by Stripe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<IssueError>,
    /// Fields at Stripe, if Stripe issues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe: Option<StripeInvoice>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

/// The parties of an invoice at the time of its issue.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// The partner that manages it.
    pub partner: Option<&'a Partner>,
}

impl<'a> Parties<'a> {
    /// The partner, if it is active: one that has left neither earns nor owes anything.
    fn active_partner(self) -> Option<&'a Partner> {
        self.partner
            .filter(|partner| partner.status == PartnerStatus::Active)
    }
}

/// An adjustment.
#[derive(Debug, Clone)]
pub struct Adjustment {
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Lines.
    pub lines: Vec<InvoiceLine>,
    /// Reason.
    pub reason: String,
    /// Paid invoice that it corrects.
    pub corrects: Option<InvoiceId>,
}

impl Invoice {
    /// Key of a tenant's billing period.
    pub fn period_key(tenant: TenantId, period: Period) -> String {
        let start = period.start.timestamp_millis() / 1_000;
        format!("{tenant}/cycle/{start}")
    }

    /// The invoice of `period` of a subscription, at its current terms. Over nothing, it is paid and has no due time.
    ///
    /// A subscription that is billed to the partner is billed to the tenant while no active partner manages it.
    pub fn of_period(
        subscription: &Subscription,
        period: Period,
        parties: Parties<'_>,
        config: &InvoicingConfig,
        now: DateTime,
    ) -> Self {
        let line = InvoiceLine {
            description: describe(subscription.plan, subscription.cycle, subscription.seats),
            amount_minor: subscription.price_minor,
            period: Some(period),
        };
        let currency = subscription.currency.clone();
        let kind = InvoiceKind::Cycle;
        let mut invoice = Self {
            subscription_id: Some(subscription.id),
            plan: Some(subscription.plan),
            period_key: Some(Self::period_key(subscription.tenant_id, period)),
            period: Some(period),
            ..Self::issued(kind, currency, vec![line], parties, config, now)
        };
        if subscription.partner_billed
            && let Some(partner) = parties.active_partner()
        {
            invoice.bill_to_partner(partner, config);
        } else if !subscription.collection_method.is_manual() {
            invoice.send_by_stripe();
        }
        invoice
    }

    /// Makes it a draft that Stripe issues and sends, unless nothing is to be paid.
    fn send_by_stripe(&mut self) {
        if self.status != InvoiceStatus::Open {
            return;
        }
        self.status = InvoiceStatus::Draft;
        self.due_at = None;
        self.sent_by_stripe = true;
        self.stage = Some(InvoiceStage::Claimed);
    }

    /// An adjustment of a tenant's account. A correction is settled from the start.
    pub fn of_adjustment(
        adjustment: Adjustment,
        parties: Parties<'_>,
        config: &InvoicingConfig,
        now: DateTime,
    ) -> Self {
        let Adjustment {
            currency,
            lines,
            reason,
            corrects,
        } = adjustment;
        let kind = InvoiceKind::Adjustment;
        Self {
            reason: Some(reason),
            corrects,
            ..Self::issued(kind, currency, lines, parties, config, now)
        }
    }

    fn issued(
        kind: InvoiceKind,
        currency: String,
        lines: Vec<InvoiceLine>,
        parties: Parties<'_>,
        config: &InvoicingConfig,
        now: DateTime,
    ) -> Self {
        let tenant = parties.tenant;
        let partner = parties.active_partner();
        let subtotal_minor = lines.iter().map(|line| line.amount_minor).sum();
        let is_payable = subtotal_minor > 0;
        Self {
            id: InvoiceId::new(),
            tenant_id: tenant.id,
            subscription_id: None,
            partner_id: partner.map(|partner| partner.id),
            margin_basis_points: partner.map_or(0, |partner| partner.margin_basis_points),
            partner_billed: false,
            plan: None,
            kind,
            period_key: None,
            period: None,
            status: if is_payable {
                InvoiceStatus::Open
            } else {
                InvoiceStatus::Paid
            },
            number: None,
            bill_to: BillingInfo {
                email: None,
                ..tenant.billing_info.clone()
            },
            currency,
            lines,
            subtotal_minor,
            tax_note: TaxNote::of(&tenant.billing_info, &config.legal_country),
            issued_at: now,
            due_at: is_payable.then(|| clock::later(now, config.time_to_pay)),
            is_overdue: false,
            paid_at: (!is_payable).then_some(now),
            payment_reference: None,
            voided_at: None,
            void_reason: None,
            reason: None,
            corrects: None,
            reductions: Vec::new(),
            sent_by_stripe: false,
            stage: None,
            error: None,
            stripe: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Makes the partner owe it: the partner's margin is what it charges its customer beyond that.
    fn bill_to_partner(&mut self, partner: &Partner, config: &InvoicingConfig) {
        self.partner_billed = true;
        self.margin_basis_points = 0;
        self.tax_note = TaxNote::of(&partner.billing_info, &config.legal_country);
        let company = partner.billing_info.company.clone();
        self.bill_to = BillingInfo {
            company: company.or_else(|| Some(partner.name.clone())),
            email: None,
            ..partner.billing_info.clone()
        };
    }

    /// Makes a correction count where the corrected invoice does, and addresses it to the same party.
    pub fn follow(&mut self, corrected: &Self) {
        self.plan = corrected.plan;
        self.partner_id = corrected.partner_id;
        self.margin_basis_points = corrected.margin_basis_points;
        self.partner_billed = corrected.partner_billed;
        self.bill_to.clone_from(&corrected.bill_to);
        self.tax_note = corrected.tax_note;
    }

    /// Whether it takes a number here: all but those over nothing, and those that Stripe numbers.
    pub fn is_numbered(&self) -> bool {
        self.subtotal_minor != 0 && !self.sent_by_stripe
    }

    /// Marks an open invoice as paid.
    pub fn pay(&mut self, at: DateTime, reference: &str) {
        self.status = InvoiceStatus::Paid;
        self.is_overdue = false;
        self.paid_at = Some(at);
        self.payment_reference = Some(reference.to_owned());
    }

    /// Voids an open invoice. Its period may be invoiced again.
    pub fn void(&mut self, at: DateTime, reason: &str) {
        self.status = InvoiceStatus::Void;
        self.is_overdue = false;
        self.period_key = None;
        self.stage = None;
        self.error = None;
        self.voided_at = Some(at);
        self.void_reason = Some(reason.to_owned());
    }
}

fn describe(plan: Plan, cycle: Cycle, seats: i32) -> String {
    let noun = if seats == 1 { "seat" } else { "seats" };
    format!("{}, {}, {seats} {noun}", plan.title(), cycle.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_plan_cycle_and_seats() {
        let one = describe(Plan::Business, Cycle::Monthly, 1);
        let many = describe(Plan::Starter, Cycle::Yearly, 5);

        assert_eq!(one, "Business, monthly, 1 seat");
        assert_eq!(many, "Starter, yearly, 5 seats");
    }
}
