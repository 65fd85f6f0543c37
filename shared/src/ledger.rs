//! Ledger of partners: the share of its tenants' payments that each is owed, as entries that are only ever appended.
//!
//! The share of an invoice is a function of what is left of it. Whatever happens to the invoice, the difference between
//! that share and the sum of its entries is appended, so repetition and order do not matter.

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    billing::month::Month,
    id::{InvoiceId, LedgerEntryId, PartnerId, PayoutId, TenantId},
    invoice::{Invoice, InvoiceStatus},
    money::partner_cut,
};

/// Kind of a ledger entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = LedgerEntryKind)]
pub enum EntryKind {
    /// A share of a paid invoice.
    Accrual,
    /// A share that is taken back, because the invoice was reduced.
    Reversal,
    /// An amount that an operator wrote.
    Adjustment,
}

/// Ledger entry, as stored. Only `payout_id` is set later, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: LedgerEntryId,
    /// Partner.
    pub partner_id: PartnerId,
    /// Kind.
    pub kind: EntryKind,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Amount, in minor units: positive if the partner is owed it.
    pub amount_minor: i64,
    /// Invoiced tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_id: Option<InvoiceId>,
    /// Position among the entries of the invoice, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// Net amount of the invoice that was left, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_minor: Option<i64>,
    /// Margin, in basis points, as the invoice has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin_basis_points: Option<i32>,
    /// Reason for an adjustment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time of the payment or reduction.
    pub occurred_at: DateTime,
    /// Time of recording.
    pub recorded_at: DateTime,
    /// Payout that settles it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout_id: Option<PayoutId>,
}

/// Balance of a partner in a currency: the sums of its entries and payouts, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartnerBalance {
    /// `<partner>/<currency>`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Partner.
    pub partner_id: PartnerId,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Sum of the accruals.
    #[serde(default)]
    pub accrued_minor: i64,
    /// Sum of the reversals, positive.
    #[serde(default)]
    pub reversed_minor: i64,
    /// Sum of the adjustments.
    #[serde(default)]
    pub adjusted_minor: i64,
    /// Amount that no payout settles yet.
    #[serde(default)]
    pub unsettled_minor: i64,
    /// Amount of the payouts that are not paid yet.
    #[serde(default)]
    pub pending_minor: i64,
    /// Amount of the paid payouts.
    #[serde(default)]
    pub paid_out_minor: i64,
}

/// Status of a payout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PayoutStatus {
    /// To be paid.
    Pending,
    /// Paid.
    Paid,
    /// Cancelled before it was paid: the next payout settles its entries.
    Cancelled,
}

/// Payout, as stored: the balance owed to a partner at the end of a month, in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payout {
    /// Deterministic id of partner, currency and month.
    #[serde(rename = "_id")]
    pub id: PayoutId,
    /// Partner.
    pub partner_id: PartnerId,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Month whose entries, and those left over from months before, it settles.
    pub month: Month,
    /// Amount, positive, in minor units.
    pub amount_minor: i64,
    /// Number of entries that it settles.
    pub entry_count: i64,
    /// Status.
    pub status: PayoutStatus,
    /// Time of payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<DateTime>,
    /// Reference of the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl PartnerBalance {
    /// Id of the balance of a partner in a currency.
    pub fn id(partner: PartnerId, currency: &str) -> String {
        format!("{partner}/{currency}")
    }
}

impl Invoice {
    /// The net amount that counts for the partner's share: that of a paid invoice, after corrections.
    pub fn share_base_minor(&self) -> i64 {
        match self.status {
            InvoiceStatus::Paid => self.uncorrected_minor().max(0),
            InvoiceStatus::Draft
            | InvoiceStatus::Open
            | InvoiceStatus::Uncollectible
            | InvoiceStatus::Void => 0,
        }
    }

    /// The entry that brings the partner's share of the invoice to what it should be, after `count` entries with this
    /// sum. `None` without a partner, or if nothing is missing.
    pub fn missing_entry(&self, count: i64, sum: i64, now: DateTime) -> Option<LedgerEntry> {
        let base = self.share_base_minor();
        let amount_minor = partner_cut(base, self.margin_basis_points) - sum;
        if amount_minor == 0 {
            return None;
        }
        let (kind, occurred_at) = if amount_minor > 0 {
            (EntryKind::Accrual, self.paid_at.unwrap_or(now))
        } else {
            (EntryKind::Reversal, now)
        };
        Some(LedgerEntry {
            id: LedgerEntryId::new(),
            partner_id: self.partner_id?,
            kind,
            currency: self.currency.clone(),
            amount_minor,
            tenant_id: Some(self.tenant_id),
            invoice_id: Some(self.id),
            sequence: Some(count + 1),
            base_minor: Some(base),
            margin_basis_points: Some(self.margin_basis_points),
            reason: None,
            occurred_at,
            recorded_at: now,
            payout_id: None,
        })
    }
}
