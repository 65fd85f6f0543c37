//! Preview of the next invoice of a subscription that Stripe bills.

use dezky_shared::{billing_account::NextInvoice, card_billing::StripeStatus, money};

use super::{CardSync, Live};
use crate::steps::StepFailure;

impl CardSync<'_> {
    /// The next invoice of the subscription, as Stripe calculates it: only Stripe knows what it prorates.
    pub(in crate::jobs::billing) async fn next_invoice(
        &self,
    ) -> Result<Option<NextInvoice>, StepFailure> {
        let Live::One(ours) = self.live().await? else {
            return Ok(None);
        };
        let status = ours.stripe_status.as_deref().and_then(StripeStatus::of);
        let is_paid_once = matches!(status, Some(StripeStatus::InForce | StripeStatus::Unpaid));
        let goes_on = is_paid_once && !ours.cancel_at_period_end;
        let id = ours.stripe_subscription_id.as_ref().filter(|_| goes_on);
        let (Some(id), Some(at)) = (id, ours.invoiced_through) else {
            return Ok(None);
        };
        let found = self.stripe.preview_invoice(id).await?;
        Ok(found.and_then(|found| {
            let currency = found.currency.to_ascii_uppercase();
            let subtotal_minor = money::from_stripe(found.net(), &currency)?;
            Some(NextInvoice {
                at,
                currency,
                subtotal_minor,
            })
        }))
    }
}
