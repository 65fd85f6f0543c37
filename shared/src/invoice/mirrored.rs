//! Invoices that Stripe issued: each is mirrored by an invoice here, which is what it is there, except that a payment or
//! its voiding is final.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use super::{
    Invoice, InvoiceKind, InvoiceLine, InvoiceStatus, InvoicingConfig, Parties,
    reductions::StripeReduction,
};
use crate::{billing::period::Period, subscription::Subscription};

/// Fields of an invoice that Stripe issues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StripeInvoice {
    /// Id at Stripe.
    pub id: String,
    /// Total, taxes included, in minor units.
    pub total_minor: i64,
    /// Amount that remains to be paid, in minor units.
    pub amount_remaining_minor: i64,
    /// Page on which the customer pays it. The link grants access without a sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted_url: Option<String>,
    /// Link of its PDF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdf_url: Option<String>,
    /// Credit notes, refunds and disputes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reductions: Vec<StripeReduction>,
}

impl StripeInvoice {
    /// Net amount of the reductions, in minor units.
    pub fn reduced_minor(&self) -> i64 {
        self.reductions.iter().map(|it| it.net_minor).sum()
    }
}

/// Invoice as read from Stripe, in our units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadInvoice {
    /// Kind.
    pub kind: InvoiceKind,
    /// Status.
    pub status: InvoiceStatus,
    /// Number.
    pub number: Option<String>,
    /// Invoiced period.
    pub period: Option<Period>,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Lines, at most [`MAX_LINES`](super::MAX_LINES).
    pub lines: Vec<InvoiceLine>,
    /// Net amount, in minor units.
    pub net_minor: i64,
    /// Time of issue.
    pub issued_at: DateTime,
    /// Due time.
    pub due_at: Option<DateTime>,
    /// Time of payment.
    pub paid_at: Option<DateTime>,
    /// Time of voiding.
    pub voided_at: Option<DateTime>,
    /// Key of the period, if it was created for us.
    pub period_key: Option<String>,
    /// Fields that only an invoice of Stripe has.
    pub stripe: StripeInvoice,
}

impl Invoice {
    /// The invoice that mirrors one of Stripe. Partner and margin are those of this moment.
    pub fn of_stripe(
        read: ReadInvoice,
        subscription: Option<&Subscription>,
        parties: Parties<'_>,
        config: &InvoicingConfig,
        now: DateTime,
    ) -> Self {
        let (kind, currency) = (read.kind, read.currency.clone());
        let mut invoice = Self {
            subscription_id: subscription.map(|subscription| subscription.id),
            plan: subscription.map(|subscription| subscription.plan),
            sent_by_stripe: read.period_key.is_some(),
            status: InvoiceStatus::Open,
            paid_at: None,
            created_at: now,
            updated_at: now,
            ..Self::issued(kind, currency, Vec::new(), parties, config, read.issued_at)
        };
        invoice.mirror(read);
        invoice
    }

    /// Takes over its state at Stripe. A paid or void invoice stays so.
    pub fn mirror(&mut self, read: ReadInvoice) {
        self.number = read.number;
        if !self.sent_by_stripe || self.period.is_none() {
            self.period = read.period;
        }
        self.issued_at = read.issued_at;
        self.lines = read.lines;
        self.subtotal_minor = read.net_minor;
        self.due_at = read.due_at;
        self.stripe = Some(read.stripe);
        if !self.status.is_final() {
            self.status = read.status;
            self.paid_at = read.paid_at;
            self.voided_at = read.voided_at;
        }
        if self.status != InvoiceStatus::Open {
            self.is_overdue = false;
        }
        if self.status == InvoiceStatus::Void {
            self.period_key = None;
        }
        if self.status.is_final() {
            self.stage = None;
            self.error = None;
        }
    }

    /// Whether it begins a period within that of an earlier invoice as Stripe does after a change of the cycle: with a credit
    /// for the rest of that period. The credited price is the one that was charged last until the same end.
    pub fn credits_rest_of(&self, earlier: &Self) -> bool {
        let (Some(period), Some(before)) = (self.period, earlier.period) else {
            return false;
        };
        // What the run has invoiced is credited by nothing there.
        earlier.stripe.is_some() && credits_rest((before, &earlier.lines), (period, &self.lines))
    }

    /// Its id at Stripe; empty if Stripe did not issue it.
    pub fn stripe_id(&self) -> &str {
        self.stripe.as_ref().map_or("", |stripe| &stripe.id)
    }

    /// The key of its period, if it is that of a subscription and not void. An invoice over nothing has none: Stripe issues
    /// it for the days until the first period that it charges, which another invoice covers.
    pub fn wanted_period_key(&self) -> Option<String> {
        let is_void = self.status == InvoiceStatus::Void;
        let is_cycle = self.kind == InvoiceKind::Cycle && !is_void && self.subtotal_minor != 0;
        let period = self.period.filter(|_| is_cycle)?;
        self.subscription_id?;
        Some(Self::period_key(self.tenant_id, period))
    }
}

/// Whether the lines of a period that begins within another one credit the rest of that.
fn credits_rest(earlier: (Period, &[InvoiceLine]), later: (Period, &[InvoiceLine])) -> bool {
    let ((before, billed), (after, lines)) = (earlier, later);
    let rest = Period {
        start: after.start,
        end: before.end,
    };
    let charges = billed.iter().chain(lines).filter_map(|line| {
        let period = line.period?;
        let is_until_end = period.end == rest.end && period.start < rest.start;
        (line.amount_minor > 0 && is_until_end).then_some((period, line.amount_minor))
    });
    let Some((period, amount)) = charges.max_by_key(|(period, _)| period.start) else {
        return false;
    };
    let credits = lines.iter();
    let credits = credits.filter(|line| line.amount_minor < 0 && line.period == Some(rest));
    let credited: i64 = credits.map(|line| line.amount_minor).sum();
    // Within one minor unit, without a division.
    let share = i128::from(amount) * millis(rest);
    (share + i128::from(credited) * millis(period)).abs() <= millis(period)
}

/// Length of a period.
fn millis(period: Period) -> i128 {
    i128::from(period.end.timestamp_millis()) - i128::from(period.start.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(format!("{text}T14:00:05Z")).unwrap()
    }

    fn period(start: &str, end: &str) -> Period {
        Period {
            start: time(start),
            end: time(end),
        }
    }

    fn line((amount_minor, period): (i64, Period)) -> InvoiceLine {
        InvoiceLine {
            description: String::new(),
            amount_minor,
            period: Some(period),
        }
    }

    /// Story A of the design: monthly over 49,900 from 12 March, yearly over 499,000 from 22 March.
    #[test]
    fn only_a_change_of_the_cycle_credits_the_rest_of_the_period_before() {
        let month = period("2026-03-12", "2026-04-12");
        let year = period("2026-03-22", "2027-03-22");
        let rest = period("2026-03-22", "2026-04-12");
        let monthly = [line((49_900, month))];
        let credits = |credit| {
            let lines = [credit, (499_000, year)].map(line);
            credits_rest((month, &monthly), (year, &lines))
        };

        assert!(credits((-33_803, rest)));
        assert!(credits((-33_804, rest)));
        for credit in [-33_801, -33_806, 33_803] {
            assert!(!credits((credit, rest)), "{credit}");
        }
        assert!(!credits((-33_803, month)));
        assert!(!credits_rest((month, &[]), (year, &[])));
    }

    /// Monthly over 99,900 from 17 March: its charge for 26 of 31 days is what is credited for 21 of them.
    #[test]
    fn a_price_that_changed_before_the_cycle_is_the_one_that_is_credited() {
        let month = period("2026-03-12", "2026-04-12");
        let year = period("2026-03-22", "2027-03-22");
        let rest = period("2026-03-22", "2026-04-12");
        let dearer = period("2026-03-17", "2026-04-12");
        let monthly = [line((49_900, month))];
        let credits = |credit| {
            let changed = [(-41_852, dearer), (83_787, dearer)];
            let lines = [changed[0], changed[1], (credit, rest), (499_000, year)].map(line);
            credits_rest((month, &monthly), (year, &lines))
        };

        assert!(credits(-67_674));
        assert!(!credits(-33_803));
    }
}
