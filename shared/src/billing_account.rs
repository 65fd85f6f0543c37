//! Billing account: a tenant's customer at Stripe, as a job last read it. It is a document of its own, so that billing
//! never waits for the tenant's lock.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::id::TenantId;

/// Number of former customers that are kept, for their late events.
const MAX_FORMER: usize = 20;

/// Billing account, as stored. Its id is the tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BillingAccount {
    /// Tenant.
    #[serde(rename = "_id")]
    pub tenant_id: TenantId,
    /// Customer at Stripe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_customer_id: Option<String>,
    /// Customers before, such as one that was deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_stripe_customer_ids: Vec<String>,
    /// Whether the customer is of the live mode.
    #[serde(default)]
    pub livemode: bool,
    /// Hash of the billing details that the customer has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_hash: Option<String>,
    /// Card that invoices are charged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_card: Option<DefaultCard>,
    /// VAT id that invoices show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<AccountTaxId>,
    /// VAT id that Stripe refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_vat_id: Option<String>,
    /// Next invoice of the subscription that Stripe bills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_invoice: Option<NextInvoice>,
    /// Time at which it was last compared with Stripe.
    pub synced_at: DateTime,
}

/// Card as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultCard {
    /// Id at Stripe.
    pub payment_method_id: String,
    /// Brand, such as `visa`.
    pub brand: String,
    /// Last four digits.
    pub last4: String,
    /// Month of expiry.
    pub exp_month: i32,
    /// Year of expiry.
    pub exp_year: i32,
}

/// Next invoice of a subscription, as Stripe calculates it if nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextInvoice {
    /// Time of its issue: the end of the current period.
    pub at: DateTime,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Net amount, in minor units, with what is prorated for changes within the period.
    pub subtotal_minor: i64,
}

/// Tax id of the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountTaxId {
    /// Id at Stripe.
    pub stripe_id: String,
    /// Type, such as `eu_vat`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value.
    pub value: String,
    /// State of its verification by the tax authority, such as `pending` or `verified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<String>,
}

impl BillingAccount {
    /// An account without a customer.
    pub fn new(tenant_id: TenantId, now: DateTime) -> Self {
        Self {
            tenant_id,
            stripe_customer_id: None,
            former_stripe_customer_ids: Vec::new(),
            livemode: false,
            pushed_hash: None,
            default_card: None,
            tax_id: None,
            refused_vat_id: None,
            next_invoice: None,
            synced_at: now,
        }
    }

    /// Gives the account a customer.
    pub fn set_customer(&mut self, id: &str, livemode: bool) {
        self.stripe_customer_id = Some(id.to_owned());
        self.livemode = livemode;
    }

    /// The customer is gone: its id is kept for late events, and its state is forgotten.
    pub fn drop_customer(&mut self) {
        if let Some(id) = self.stripe_customer_id.take() {
            if self.former_stripe_customer_ids.len() == MAX_FORMER {
                self.former_stripe_customer_ids.remove(0);
            }
            self.former_stripe_customer_ids.push(id);
        }
        self.pushed_hash = None;
        self.default_card = None;
        self.tax_id = None;
        self.next_invoice = None;
    }

    /// Whether `id` was its customer before.
    pub fn is_former(&self, id: &str) -> bool {
        self.former_stripe_customer_ids.iter().any(|it| it == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    #[test]
    fn a_customer_that_is_gone_is_remembered_among_the_last_twenty() {
        let mut account = BillingAccount::new(TenantId::new(), clock::now());
        for number in 0..25 {
            account.set_customer(&format!("cus_{number}"), false);
            account.drop_customer();
        }

        assert_eq!(account.stripe_customer_id, None);
        assert_eq!(account.former_stripe_customer_ids.len(), MAX_FORMER);
        assert!(account.is_former("cus_24") && !account.is_former("cus_4"));
    }
}
