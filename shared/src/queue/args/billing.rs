//! Arguments of the jobs that invoice subscriptions.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use super::declare::{billing_job, maintenance_job};
use crate::{
    billing::month::Month,
    id::{InvoiceId, PartnerId, PayoutId, SubscriptionId, TenantId},
};

/// Enqueues an invoice job for every subscription that is due, not yet enrolled, or has an overdue invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunInvoices {
    /// Time at which periods must have begun.
    pub as_of: DateTime,
    /// Dry run: reports invoices without issuing them.
    #[serde(default)]
    pub dry_run: bool,
}

maintenance_job!(
    RunInvoices, "run_invoices", Bulk,
    lock: |_this| Some("run_invoices".to_owned()),
    unique: |this| (!this.dry_run).then(|| "all".to_owned())
);

/// Issues the invoices of a subscription's due periods, and sets its status by its overdue invoices. It takes a lock of
/// the tenant's billing, not the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceSubscription {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Subscription id.
    pub subscription_id: SubscriptionId,
    /// Time at which periods must have begun. In the future, it counts for a dry run only.
    pub as_of: DateTime,
    /// Dry run: reports invoices without issuing them.
    #[serde(default)]
    pub dry_run: bool,
    /// Number of periods that an operator has released at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<u32>,
    /// Time until which periods are skipped, without an invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_to: Option<DateTime>,
}

// An operator's decision would be lost by joining another job.
billing_job!(
    InvoiceSubscription, "invoice_subscription",
    unique: |this| this.is_plain().then(|| this.subscription_id.to_string())
);

impl InvoiceSubscription {
    /// Whether the job carries no decision of an operator.
    fn is_plain(&self) -> bool {
        !self.dry_run && self.periods.is_none() && self.skip_to.is_none()
    }
}

/// Enqueues a sync for every tenant with a customer at Stripe, or with a subscription that Stripe bills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepBilling {
    /// Dry run: reports changes without making them.
    #[serde(default)]
    pub dry_run: bool,
    /// Period over which the jobs are spread, in seconds.
    #[serde(default)]
    pub spread_seconds: u64,
}

maintenance_job!(
    SweepBilling, "sweep_billing", Bulk,
    lock: |_this| Some("sweep_billing".to_owned()),
    unique: |this| (!this.dry_run).then(|| "all".to_owned())
);

/// Syncs a tenant's customer at Stripe: creates it, sets its billing details, reads its card, and makes its subscription what
/// ours wants. It takes a lock of the tenant's billing, not the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncBilling {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Dry run: reports changes without making them.
    #[serde(default)]
    pub dry_run: bool,
}

billing_job!(
    SyncBilling, "sync_billing",
    unique: |this| (!this.dry_run).then(|| this.tenant_id.to_string())
);

/// Implements a job about an invoice that Stripe sends for us. It takes the lock of the tenant's billing.
macro_rules! sent_invoice_job {
    ($name:ident, $kind:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// Tenant id.
            pub tenant_id: TenantId,
            /// Invoice id.
            pub invoice_id: InvoiceId,
        }

        billing_job!($name, $kind, unique: |this| Some(this.invoice_id.to_string()));
    };
}

sent_invoice_job!(
    IssueInvoice,
    "issue_invoice",
    "Has Stripe issue and send an invoice, from the stage on at which the last attempt ended."
);
sent_invoice_job!(
    VoidInvoice,
    "void_invoice",
    "Voids an invoice at Stripe that is not paid, or deletes its draft."
);
sent_invoice_job!(
    SettleInvoice,
    "settle_invoice",
    "Marks an invoice at Stripe as paid that was paid elsewhere."
);

/// Closes a month: creates the payout of each partner and currency that is owed anything at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosePayouts {
    /// Month to close, which must be over.
    pub month: Month,
    /// Dry run: reports payouts without creating them.
    #[serde(default)]
    pub dry_run: bool,
    /// The only balance to close; all of them if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BalanceKey>,
}

/// Balance of a partner in a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BalanceKey {
    /// Partner id.
    pub partner_id: PartnerId,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
}

impl ClosePayouts {
    /// Key of the payouts to close; none for a dry run, which joins no other.
    fn key(&self) -> Option<String> {
        if self.dry_run {
            return None;
        }
        Some(match &self.only {
            None => self.month.to_string(),
            Some(only) => format!("{}/{}/{}", self.month, only.partner_id, only.currency),
        })
    }
}

maintenance_job!(
    ClosePayouts, "close_payouts", Bulk,
    lock: |_this| Some(CLOSING.to_owned()), unique: |this| this.key()
);

/// Lock of the jobs that mark ledger entries as settled, or take that back.
const CLOSING: &str = "close_payouts";

/// Releases the ledger entries of a cancelled payout, so that the next payout settles them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleasePayout {
    /// Payout id.
    pub payout_id: PayoutId,
}

maintenance_job!(
    ReleasePayout, "release_payout", Interactive,
    lock: |_this| Some(CLOSING.to_owned()), unique: |this| Some(this.payout_id.to_string())
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::job::JobArgs as _;

    /// Pins the stored form, which outlives a deploy.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let as_of = DateTime::from_millis(1_795_339_800_000);
        let plain = InvoiceSubscription {
            tenant_id: TenantId::from_bytes([7; 16]),
            subscription_id: SubscriptionId::from_bytes([8; 16]),
            as_of,
            dry_run: false,
            periods: None,
            skip_to: None,
        };
        let decided = InvoiceSubscription {
            periods: Some(3),
            skip_to: Some(as_of),
            ..plain.clone()
        };
        let run = RunInvoices {
            as_of,
            dry_run: true,
        };

        let stored = bson::doc! { "asOf": as_of, "dryRun": true };
        assert_eq!(bson::serialize_to_document(&run).unwrap(), stored);
        let close = ClosePayouts {
            month: "2026-11".parse().unwrap(),
            dry_run: false,
            only: None,
        };
        let stored = bson::doc! { "month": "2026-11", "dryRun": false };
        assert_eq!(bson::serialize_to_document(&close).unwrap(), stored);
        let only = BalanceKey {
            partner_id: PartnerId::from_bytes([9; 16]),
            currency: "DKK".to_owned(),
        };
        let mut stored = stored;
        stored.insert(
            "only",
            bson::doc! { "partnerId": only.partner_id, "currency": "DKK" },
        );
        let close = ClosePayouts {
            only: Some(only),
            ..close
        };
        assert_eq!(bson::serialize_to_document(&close).unwrap(), stored);
        let release = ReleasePayout {
            payout_id: PayoutId::from_bytes([9; 16]),
        };
        let stored = bson::doc! { "payoutId": release.payout_id };
        assert_eq!(bson::serialize_to_document(&release).unwrap(), stored);
        let mut stored = bson::doc! {
            "tenantId": plain.tenant_id, "subscriptionId": plain.subscription_id, "asOf": as_of, "dryRun": false,
        };
        assert_eq!(bson::serialize_to_document(&plain).unwrap(), stored);
        stored.extend(bson::doc! { "periods": 3_i64, "skipTo": as_of });
        assert_eq!(bson::serialize_to_document(&decided).unwrap(), stored);
        assert_eq!(plain.unique_key(), Some(plain.subscription_id.to_string()));
        assert_eq!(decided.unique_key(), None);
        let sync = SyncBilling {
            tenant_id: plain.tenant_id,
            dry_run: false,
        };
        let stored = bson::doc! { "tenantId": plain.tenant_id, "dryRun": false };
        assert_eq!(bson::serialize_to_document(&sync).unwrap(), stored);
        assert_eq!(sync.lock_key(), plain.lock_key());
        let sweep = SweepBilling {
            dry_run: false,
            spread_seconds: 60,
        };
        let stored = bson::doc! { "dryRun": false, "spreadSeconds": 60_i64 };
        assert_eq!(bson::serialize_to_document(&sweep).unwrap(), stored);
        let issue = IssueInvoice {
            tenant_id: plain.tenant_id,
            invoice_id: InvoiceId::from_bytes([9; 16]),
        };
        let stored = bson::doc! { "tenantId": plain.tenant_id, "invoiceId": issue.invoice_id };
        assert_eq!(bson::serialize_to_document(&issue).unwrap(), stored);
        assert_eq!(issue.lock_key(), plain.lock_key());
    }
}
