//! Time between a sale and the card that it is charged to: free, or charged with the first invoice.

use bson::DateTime;

use super::{StripeStatus, TOO_SOON};
use crate::{billing::period::whole_second, subscription::Subscription};

impl Subscription {
    /// The instant from which Stripe charges it as well if the time before its first card is not free: the end of its last
    /// invoiced period, at most a cycle ago. `None` within a minute, and once Stripe has charged it.
    pub fn backdated_to(&self, now: DateTime) -> Option<DateTime> {
        let status = self.stripe_status.as_deref().and_then(StripeStatus::of);
        let is_first =
            self.stripe_subscription_id.is_none() || status == Some(StripeStatus::Expired);
        let through = self.invoiced_through.filter(|_| is_first)?;
        let now = whole_second(now);
        let start = through.max(self.cycle.nth(now, -1)?);
        let is_past = now.timestamp_millis() - start.timestamp_millis() >= TOO_SOON;
        is_past.then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        billing::{Cycle, Plan},
        id::TenantId,
        subscription::NewTerms,
    };

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    fn sold(through: &str) -> Subscription {
        let terms = NewTerms {
            plan: Plan::Business,
            cycle: Cycle::Monthly,
            seats: 5,
            currency: "DKK".to_owned(),
            price_minor: 49_900,
        };
        Subscription {
            invoiced_through: Some(at(through)),
            ..Subscription::new(TenantId::new(), terms, at(through))
        }
    }

    #[test]
    fn the_time_before_the_first_card_is_charged_for_at_most_a_cycle() {
        let now = at("2026-03-12T14:00:05.900Z");
        for (through, expected) in [
            ("2026-03-10T10:00:00Z", Some("2026-03-10T10:00:00Z")),
            ("2026-01-31T10:00:00Z", Some("2026-02-12T14:00:05Z")),
            ("2026-03-12T13:59:05Z", Some("2026-03-12T13:59:05Z")),
            ("2026-03-12T13:59:06Z", None),
            ("2026-04-12T14:00:05Z", None),
        ] {
            assert_eq!(
                sold(through).backdated_to(now),
                expected.map(at),
                "{through}"
            );
        }
    }

    #[test]
    fn one_that_was_charged_is_not_charged_for_the_time_since() {
        let now = at("2026-03-12T14:00:05Z");
        let mut ours = sold("2026-03-10T10:00:00Z");
        ours.stripe_subscription_id = Some("sub_1".to_owned());
        for (status, is_charged) in [("canceled", false), ("incomplete_expired", true)] {
            ours.stripe_status = Some(status.to_owned());
            assert_eq!(ours.backdated_to(now).is_some(), is_charged, "{status}");
        }
    }
}
