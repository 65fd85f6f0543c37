//! Decisions of the invoice run, as pure functions of a subscription, its tenant's status and the time.
//!
//! A subscription is *enrolled* once, which sets the end of its last invoiced period. From then on the run *claims* one
//! period after the other: it issues the invoice of a period and moves that end in one transaction.

use bson::DateTime;

use crate::{
    billing::period::{BillingPeriods, Period, whole_second},
    subscription::{Biller, EndedBy, Subscription},
    tenant::TenantStatus,
};

/// Maximum number of periods that are invoiced at once. With more, the run waits for an operator: after a wrong date a
/// customer would receive a year of invoices.
pub const MAX_PERIODS: usize = 2;

/// Origin of a subscription's enrolment in the invoice run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// It is sold now: the current period is invoiced.
    Sale,
    /// It was sold before: the period in progress counts as invoiced, until `renewsAt`.
    Existing,
}

/// Next action of the run for an enrolled subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing is due.
    Nothing,
    /// Issue the invoice of this period.
    Invoice(Period),
    /// End the subscription.
    End {
        /// Since when.
        at: DateTime,
        /// Cause of the end.
        by: EndedBy,
    },
    /// Wait for an operator: this many periods are due, more than [`MAX_PERIODS`].
    Hold {
        /// Number of due periods.
        periods: usize,
    },
}

impl Subscription {
    /// Whether the invoice run covers it.
    pub fn is_enrolled(&self) -> bool {
        self.invoiced_through.is_some()
    }

    /// Its billing periods, once enrolled.
    pub fn periods(&self) -> Option<BillingPeriods> {
        let anchor = self.billing_anchor?;
        let cycle = self.cycle;
        Some(BillingPeriods { anchor, cycle })
    }

    /// Enrols the subscription, unless it is enrolled. Its dates are cut to whole seconds.
    ///
    /// A `renewsAt` that does not follow from `startedAt` and the cycle is what the periods are counted from. At most the
    /// current period of a sale is invoiced, however long ago it starts.
    pub fn enrol(&mut self, enrolment: Enrolment, now: DateTime) {
        if self.is_enrolled() {
            return;
        }
        self.started_at = self.started_at.map(whole_second);
        self.renews_at = self.renews_at.map(whole_second);
        let renews_at = self.renews_at;
        let started_at = self.started_at.or(renews_at);
        let started_at = started_at.unwrap_or_else(|| whole_second(self.created_at));
        let counted_from = |anchor| BillingPeriods {
            anchor,
            cycle: self.cycle,
        };
        let is_boundary = |at| counted_from(started_at).has_boundary(at);
        let anchor = renews_at.filter(|at| !is_boundary(*at));
        let anchor = anchor.unwrap_or(started_at);
        let through = match (enrolment, renews_at) {
            (Enrolment::Existing, Some(renews_at)) => Some(renews_at),
            (Enrolment::Existing, None) => {
                let current = counted_from(anchor).starting_at(now);
                current.map(|period| period.end)
            }
            (Enrolment::Sale, _) if now < anchor => {
                let before = self.cycle.nth(anchor, -1);
                Some(before.map_or(started_at, |before| before.max(started_at)))
            }
            (Enrolment::Sale, _) => counted_from(anchor).start_of_current(now),
        };
        self.billing_anchor = Some(anchor);
        // Beyond the calendar nothing is ever due.
        self.invoiced_through = Some(through.unwrap_or(DateTime::MAX));
    }

    /// Counts the periods from the end of the last invoiced one, after a change of the cycle.
    pub fn restart_periods(&mut self) {
        if self.is_enrolled() {
            self.billing_anchor = self.invoiced_through;
        }
    }

    /// Moves the end of the last invoiced period.
    pub fn advance_to(&mut self, end: DateTime) {
        self.invoiced_through = Some(end);
        self.renews_at = Some(end);
    }

    /// The periods that have begun at `now` and are not invoiced, oldest first. Empty unless it is live, enrolled and billed by
    /// the run.
    pub fn due_periods(&self, now: DateTime) -> Vec<Period> {
        let (Some(periods), Some(through)) = (self.periods(), self.invoiced_through) else {
            return Vec::new();
        };
        if !self.status.is_live() || self.biller == Biller::Stripe {
            return Vec::new();
        }
        periods.begun(through, now).collect()
    }

    /// Next action of the run at `now`. An operator may have released up to `released` periods at once. For a subscription
    /// that Stripe bills, there is none.
    pub fn next(&self, tenant: TenantStatus, released: Option<usize>, now: DateTime) -> Next {
        let is_billed_here = self.status.is_live() && self.biller == Biller::Run;
        let Some(through) = self.invoiced_through.filter(|_| is_billed_here) else {
            return Next::Nothing;
        };
        match tenant {
            TenantStatus::Terminated => {
                return Next::End {
                    at: now,
                    by: EndedBy::TenantTerminated,
                };
            }
            TenantStatus::Terminating => return Next::Nothing,
            TenantStatus::Pending | TenantStatus::Active | TenantStatus::Suspended => {}
        }
        if self.cancel_at_period_end && through <= now {
            return Next::End {
                at: through,
                by: EndedBy::PeriodEnd,
            };
        }
        let due = self.due_periods(now);
        match due.first() {
            None => Next::Nothing,
            Some(_) if due.len() > released.unwrap_or(0).max(MAX_PERIODS) => {
                Next::Hold { periods: due.len() }
            }
            Some(period) => Next::Invoice(*period),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        billing::{Cycle, Plan},
        id::TenantId,
        subscription::NewTerms,
    };

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    fn day(text: &str) -> DateTime {
        at(&format!("{text}T10:00:00Z"))
    }

    fn subscription(started: Option<&str>, renews: Option<&str>) -> Subscription {
        let terms = NewTerms {
            plan: Plan::Business,
            cycle: Cycle::Monthly,
            seats: 5,
            currency: "EUR".to_owned(),
            price_minor: 10_000,
        };
        Subscription {
            started_at: started.map(day),
            renews_at: renews.map(day),
            ..Subscription::new(TenantId::new(), terms, day("2026-01-01"))
        }
    }

    #[test]
    fn enrolment_decides_which_period_is_invoiced_first() {
        use Enrolment::{Existing, Sale};
        let table = [
            // Sold now, with the default renewal.
            (
                Sale,
                Some("2026-03-10"),
                Some("2026-04-10"),
                "2026-03-10",
                "2026-03-10",
            ),
            // Sold for later.
            (
                Sale,
                Some("2026-05-01"),
                Some("2026-06-01"),
                "2026-05-01",
                "2026-05-01",
            ),
            // Recorded late: only the current period.
            (
                Sale,
                Some("2025-01-31"),
                Some("2026-03-31"),
                "2025-01-31",
                "2026-02-28",
            ),
            // A renewal of its own.
            (
                Sale,
                Some("2026-03-10"),
                Some("2026-04-01"),
                "2026-04-01",
                "2026-03-10",
            ),
            (
                Sale,
                Some("2025-03-10"),
                Some("2026-04-01"),
                "2026-04-01",
                "2026-03-01",
            ),
            (
                Sale,
                Some("2025-03-10"),
                Some("2025-04-01"),
                "2025-04-01",
                "2026-03-01",
            ),
            // Sold before, with a renewal to come, without one, and with one of its own.
            (
                Existing,
                Some("2026-01-31"),
                Some("2026-03-31"),
                "2026-01-31",
                "2026-03-31",
            ),
            (
                Existing,
                Some("2026-01-31"),
                None,
                "2026-01-31",
                "2026-03-31",
            ),
            (
                Existing,
                Some("2026-01-31"),
                Some("2026-04-01"),
                "2026-04-01",
                "2026-04-01",
            ),
            (
                Existing,
                None,
                Some("2026-04-01"),
                "2026-04-01",
                "2026-04-01",
            ),
            // Nothing known but its creation.
            (Existing, None, None, "2026-01-01", "2026-04-01"),
        ];
        for (enrolment, started, renews, anchor, through) in table {
            let mut enrolled = subscription(started, renews);

            enrolled.enrol(enrolment, day("2026-03-10"));

            let what = format!("{enrolment:?} {started:?} {renews:?}");
            assert_eq!(enrolled.billing_anchor, Some(day(anchor)), "{what}");
            assert_eq!(enrolled.invoiced_through, Some(day(through)), "{what}");
            let before = enrolled.clone();
            enrolled.enrol(Enrolment::Existing, day("2027-03-10"));
            assert_eq!(enrolled, before, "{what}");
        }
    }

    #[test]
    fn enrolment_cuts_dates_to_whole_seconds() {
        let mut enrolled = subscription(None, None);
        enrolled.started_at = Some(at("2026-01-31T10:00:00.250Z"));
        enrolled.renews_at = Some(at("2026-02-28T10:00:00.250Z"));

        enrolled.enrol(Enrolment::Sale, at("2026-01-31T10:00:00.300Z"));

        assert_eq!(enrolled.started_at, Some(day("2026-01-31")));
        assert_eq!(enrolled.renews_at, Some(day("2026-02-28")));
        assert_eq!(enrolled.billing_anchor, enrolled.started_at);
        assert_eq!(enrolled.invoiced_through, enrolled.started_at);
    }

    /// A subscription whose periods until this day are invoiced.
    fn through(day: &str) -> Subscription {
        let mut enrolled = subscription(Some("2026-01-31"), None);
        enrolled.billing_anchor = enrolled.started_at;
        enrolled.invoiced_through = Some(self::day(day));
        enrolled
    }

    fn period(start: &str, end: &str) -> Period {
        Period {
            start: day(start),
            end: day(end),
        }
    }

    #[test]
    fn periods_are_invoiced_in_order_and_held_if_there_are_too_many() {
        let next =
            |now, released| through("2026-01-31").next(TenantStatus::Active, released, day(now));
        let first = Next::Invoice(period("2026-01-31", "2026-02-28"));

        assert_eq!(next("2026-01-30", None), Next::Nothing);
        assert_eq!(next("2026-01-31", None), first);
        assert_eq!(next("2026-02-28", None), first);
        assert_eq!(next("2026-03-31", None), Next::Hold { periods: 3 });
        assert_eq!(next("2026-03-31", Some(2)), Next::Hold { periods: 3 });
        assert_eq!(next("2026-03-31", Some(3)), first);
        // A month later there is one more than the operator saw.
        assert_eq!(next("2026-04-30", Some(3)), Next::Hold { periods: 4 });
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_due() {
        let claimed = through("2026-02-28");

        for now in [
            "2026-01-31T09:00:00Z",
            "2026-01-31T10:00:00Z",
            "2026-02-28T09:59:59Z",
        ] {
            let next = claimed.next(TenantStatus::Active, None, at(now));
            assert_eq!(next, Next::Nothing, "{now}");
        }
    }

    #[test]
    fn a_subscription_ends_with_its_last_invoiced_period() {
        let mut ending = through("2026-02-28");
        ending.cancel_at_period_end = true;
        let next = |now| ending.next(TenantStatus::Active, None, day(now));

        let ended = Next::End {
            at: day("2026-02-28"),
            by: EndedBy::PeriodEnd,
        };
        assert_eq!(next("2026-02-27"), Next::Nothing);
        assert_eq!(next("2026-02-28"), ended);
        assert_eq!(next("2027-01-01"), ended);
    }

    #[test]
    fn a_tenant_that_leaves_is_not_invoiced() {
        let (due, now) = (through("2026-02-28"), day("2026-03-01"));
        let next = |status| due.next(status, None, now);

        let invoice = Next::Invoice(period("2026-02-28", "2026-03-31"));
        assert_eq!(next(TenantStatus::Suspended), invoice);
        assert_eq!(next(TenantStatus::Terminating), Next::Nothing);
        let ended = Next::End {
            at: now,
            by: EndedBy::TenantTerminated,
        };
        assert_eq!(next(TenantStatus::Terminated), ended);
        let mut cancelled = due.clone();
        cancelled.end(now, EndedBy::Operator);
        let next = cancelled.next(TenantStatus::Active, None, now);
        assert_eq!(next, Next::Nothing);
    }

    #[test]
    fn the_run_invoices_nothing_that_stripe_bills() {
        let mut by_card = through("2026-02-28");
        by_card.biller = Biller::Stripe;
        by_card.cancel_at_period_end = true;
        for status in [TenantStatus::Active, TenantStatus::Terminated] {
            let next = by_card.next(status, Some(9), day("2027-01-01"));
            assert_eq!(next, Next::Nothing);
        }
        assert!(by_card.due_periods(day("2027-01-01")).is_empty());
    }

    #[test]
    fn a_new_cycle_counts_from_the_last_invoiced_period() {
        let mut yearly = through("2026-02-28");
        yearly.cycle = Cycle::Yearly;
        yearly.restart_periods();

        let next = yearly.next(TenantStatus::Active, None, day("2026-02-28"));

        assert_eq!(next, Next::Invoice(period("2026-02-28", "2027-02-28")));
    }

    proptest! {
        /// Steps of up to 40 days, after each of which the run claims what is due, and the cycle may change.
        #[test]
        fn no_instant_is_invoiced_twice_or_never_whatever_cycles_follow_each_other(
            steps in prop::collection::vec((0_i64..40, prop::sample::select(Cycle::ALL.to_vec())), 1..30),
        ) {
            let mut sold = through("2026-01-31");
            let mut now = day("2026-01-31");
            let mut claimed: Vec<Period> = Vec::new();
            for (days, cycle) in steps {
                now = DateTime::from_millis(now.timestamp_millis() + days * 24 * 60 * 60 * 1_000);
                while let Next::Invoice(period) = sold.next(TenantStatus::Active, Some(9), now) {
                    sold.advance_to(period.end);
                    claimed.push(period);
                }
                if cycle != sold.cycle {
                    sold.cycle = cycle;
                    sold.restart_periods();
                }
            }

            prop_assert_eq!(claimed.first().map(|period| period.start), Some(day("2026-01-31")));
            prop_assert!(claimed.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(claimed.iter().all(|period| period.start < period.end));
        }
    }
}
