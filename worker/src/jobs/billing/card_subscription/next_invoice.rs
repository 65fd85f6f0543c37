//! Preview of the next invoice of a subscription that Stripe bills.

use dezky_shared::{billing_account::NextInvoice, card_billing::StripeStatus, money};
use dezky_upstreams::clients::ClientError;

use super::{CardSync, Live};
use crate::steps::StepFailure;

impl CardSync<'_> {
    /// The next invoice of the subscription, as Stripe calculates it: only Stripe knows what it prorates. `None` also if Stripe
    /// refuses the preview, for example for an address without a tax rate: the amount is only shown, and fails no sync.
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
        let found = match self.stripe.preview_invoice(id).await {
            Err(refused @ ClientError::Rejected(_)) => {
                tracing::warn!(subscription = %id, %refused, "The preview of an invoice is refused");
                None
            }
            found => found?,
        };
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
