//! Plans, billing cycles, prices and billing details.

pub mod month;
pub mod period;

use std::{fmt, str::FromStr};

use bson::{Bson, DateTime};
use jiff::{Span, Timestamp, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::PriceId;

/// Plan a tenant purchases.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = PlanName)]
pub enum Plan {
    /// For small companies.
    Starter,
    /// For most companies.
    Business,
    /// For large companies.
    Enterprise,
}

impl Plan {
    /// Every plan, smallest first.
    pub const ALL: [Self; 3] = [Self::Starter, Self::Business, Self::Enterprise];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::Business => "business",
            Self::Enterprise => "enterprise",
        }
    }

    /// Name on invoices.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Starter => "Starter",
            Self::Business => "Business",
            Self::Enterprise => "Enterprise",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|plan| plan.name() == text)
            .ok_or_else(|| "expected starter, business or enterprise".to_owned())
    }
}

impl From<Plan> for Bson {
    fn from(plan: Plan) -> Self {
        plan.name().into()
    }
}

/// Billing cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BillingCycle)]
pub enum Cycle {
    /// Twelve times a year.
    Monthly,
    /// Four times a year.
    Quarterly,
    /// Once a year.
    Yearly,
}

impl Cycle {
    /// Number of billing cycles per year.
    pub const fn per_year(self) -> i64 {
        match self {
            Self::Monthly => 12,
            Self::Quarterly => 4,
            Self::Yearly => 1,
        }
    }
}

/// Monthly equivalent of `price_minor` per `cycle`: a twelfth of the yearly price in minor units, rounded half up.
///
/// To sum prices, sum the exact yearly prices (`price_minor` times [`Cycle::per_year`]) and convert the sum with
/// [`monthly_equivalent`], so that it is rounded once.
pub const fn monthly_minor(price_minor: i64, cycle: Cycle) -> i64 {
    monthly_equivalent(price_minor.saturating_mul(cycle.per_year()))
}

/// A twelfth of a yearly amount in minor units, rounded half up.
pub const fn monthly_equivalent(yearly_minor: i64) -> i64 {
    yearly_minor.saturating_add(6).div_euclid(12)
}

impl Cycle {
    /// Every cycle, shortest first.
    pub const ALL: [Self; 3] = [Self::Monthly, Self::Quarterly, Self::Yearly];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monthly => "monthly",
            Self::Quarterly => "quarterly",
            Self::Yearly => "yearly",
        }
    }

    /// Length in months.
    pub const fn months(self) -> i32 {
        match self {
            Self::Monthly => 1,
            Self::Quarterly => 3,
            Self::Yearly => 12,
        }
    }

    /// Start of the first cycle after `now`, in the series of cycles from `start`, on the UTC calendar. A cycle that
    /// starts on the 31st starts on the last day of shorter months.
    pub fn renewal(self, start: DateTime, now: DateTime) -> Option<DateTime> {
        self.nth(start, self.next_number(start, now)?)
    }

    /// Start of the cycle with this number in the series of cycles from `start`, which is the start of number 0.
    pub(crate) fn nth(self, start: DateTime, number: i32) -> Option<DateTime> {
        let months = number.checked_mul(self.months())?;
        let months = Span::new().try_months(months).ok()?;
        let begun = zoned(start)?.checked_add(months).ok()?;
        Some(DateTime::from_millis(begun.timestamp().as_millisecond()))
    }

    /// Number of the first cycle after `now` in the series of cycles from `start`, at least 1.
    pub(crate) fn next_number(self, start: DateTime, now: DateTime) -> Option<i32> {
        let (first, last) = (zoned(start)?, zoned(now)?);
        let years = i32::from(last.year()) - i32::from(first.year());
        let months = years * 12 + i32::from(last.month()) - i32::from(first.month());
        let over = months.max(0) / self.months();
        (over..=over + 1).find(|number| {
            let begun = self.nth(start, *number);
            begun.is_some_and(|begun| begun > now && begun > start)
        })
    }
}

/// The time on the UTC calendar; `None` beyond it.
fn zoned(time: DateTime) -> Option<Zoned> {
    let time = Timestamp::from_millisecond(time.timestamp_millis()).ok()?;
    Some(time.to_zoned(TimeZone::UTC))
}

/// Price, as stored. Unique per plan, cycle and currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: PriceId,
    /// Plan.
    pub plan: Plan,
    /// Billing cycle.
    pub cycle: Cycle,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Price per billing cycle, in minor units of the currency.
    pub amount_minor: i64,
    /// Id at Stripe, once created there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price_id: Option<String>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

/// Billing details of a company.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BillingInfo {
    /// Company name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// VAT id, in the format of its country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vat_id: Option<String>,
    /// Country, ISO 3166-1 alpha-2, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// E-mail address for invoices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_price_is_converted_to_a_month() {
        for (price, cycle, month) in [
            (9_900, Cycle::Monthly, 9_900),
            (29_700, Cycle::Quarterly, 9_900),
            (118_800, Cycle::Yearly, 9_900),
            (100, Cycle::Quarterly, 33),
            (5, Cycle::Yearly, 0),
            (6, Cycle::Yearly, 1),
            (0, Cycle::Yearly, 0),
            (i64::MAX, Cycle::Monthly, i64::MAX / 12),
        ] {
            assert_eq!(monthly_minor(price, cycle), month, "{price} {cycle:?}");
        }
    }

    proptest! {
        #[test]
        fn the_monthly_equivalent_is_the_nearest_to_a_twelfth_of_a_year(yearly in 0_i64..1_000_000_000_000) {
            let off = monthly_equivalent(yearly) * 12 - yearly;

            prop_assert!((-5..=6).contains(&off));
        }
    }

    fn at(text: &str) -> DateTime {
        let time: Timestamp = format!("{text}T10:00:00Z").parse().unwrap();
        DateTime::from_millis(time.as_millisecond())
    }

    #[test]
    fn a_cycle_renews_on_the_day_of_its_start_or_the_last_day_of_a_shorter_month() {
        for (cycle, start, now, renewal) in [
            (Cycle::Monthly, "2026-01-31", "2026-01-31", "2026-02-28"),
            (Cycle::Monthly, "2026-01-31", "2026-02-28", "2026-03-31"),
            (Cycle::Monthly, "2026-01-31", "2026-03-30", "2026-03-31"),
            (Cycle::Monthly, "2020-02-29", "2026-11-22", "2026-11-29"),
            (Cycle::Quarterly, "2026-01-15", "2026-11-22", "2027-01-15"),
            (Cycle::Quarterly, "2026-01-15", "2026-10-14", "2026-10-15"),
            (Cycle::Yearly, "2024-02-29", "2024-02-29", "2025-02-28"),
            (Cycle::Yearly, "2024-02-29", "2027-12-01", "2028-02-29"),
            (Cycle::Yearly, "2030-06-01", "2026-11-22", "2031-06-01"),
        ] {
            let found = cycle.renewal(at(start), at(now));

            assert_eq!(found, Some(at(renewal)), "{cycle:?} {start} {now}");
        }
    }

    #[test]
    fn there_is_no_renewal_beyond_the_calendar() {
        let end = at("9999-12-30");

        assert_eq!(Cycle::Yearly.renewal(end, at("2026-11-22")), None);
        assert_eq!(Cycle::Monthly.renewal(DateTime::MAX, end), None);
    }
}
