//! Amounts of an invoice that follow from its status and its reductions.

use super::{Invoice, InvoiceStatus, StripeInvoice};

impl Invoice {
    /// Amount that remains to be paid, in minor units.
    pub fn remaining_minor(&self) -> i64 {
        match self.status {
            InvoiceStatus::Open | InvoiceStatus::Uncollectible => {
                let stripe = self.stripe.as_ref();
                stripe.map_or(self.subtotal_minor, |it| it.amount_remaining_minor)
            }
            InvoiceStatus::Draft | InvoiceStatus::Paid | InvoiceStatus::Void => 0,
        }
    }

    /// Net amount after reductions at Stripe, in minor units. A correction of ours is an invoice of its own.
    ///
    /// A payment that is refunded and disputed reduces it twice, but not below nothing.
    pub fn kept_minor(&self) -> i64 {
        let reduced = self.stripe.as_ref().map_or(0, StripeInvoice::reduced_minor);
        self.subtotal_minor - reduced.min(self.subtotal_minor.max(0))
    }

    /// Net amount after all reductions, in minor units.
    pub fn uncorrected_minor(&self) -> i64 {
        let reduced: i64 = self.reductions.iter().map(|it| it.net_minor).sum();
        self.kept_minor() - reduced
    }
}
