//! Plans, billing cycles, prices and billing details.

use bson::DateTime;
use jiff::{Span, Timestamp, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::id::PriceId;

/// What a tenant has bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// For small companies.
    Starter,
    /// For most companies.
    Business,
    /// For large companies.
    Enterprise,
}

impl Plan {
    /// Every plan, the smallest first.
    pub const ALL: [Self; 3] = [Self::Starter, Self::Business, Self::Enterprise];

    /// The storage of the tenant's shared space, in bytes.
    pub const fn space_quota(self) -> u64 {
        const GB: u64 = 1_000_000_000;
        match self {
            Self::Starter => 100 * GB,
            Self::Business => 500 * GB,
            Self::Enterprise => 2_000 * GB,
        }
    }
}

/// How often is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cycle {
    /// Twelve times a year.
    Monthly,
    /// Four times a year.
    Quarterly,
    /// Once a year.
    Yearly,
}

impl Cycle {
    /// How many of them a year has.
    pub const fn per_year(self) -> i64 {
        match self {
            Self::Monthly => 12,
            Self::Quarterly => 4,
            Self::Yearly => 1,
        }
    }
}

/// What a price of `price_minor` for a cycle is for a month: a twelfth of what a year costs, to the nearest minor
/// unit, a half upwards.
///
/// Where prices are summed, sum what a year costs (`price_minor` times [`Cycle::a_year`]), which is exact, and take
/// [`month_of`] of the sum: so that it is rounded once.
pub const fn monthly_minor(price_minor: i64, cycle: Cycle) -> i64 {
    monthly_equivalent(price_minor.saturating_mul(cycle.per_year()))
}

/// A twelfth of what a year costs, to the nearest minor unit, a half upwards.
pub const fn monthly_equivalent(yearly_minor: i64) -> i64 {
    yearly_minor.saturating_add(6).div_euclid(12)
}

impl Cycle {
    /// Every cycle, the shortest first.
    pub const ALL: [Self; 3] = [Self::Monthly, Self::Quarterly, Self::Yearly];

    /// How many months it has.
    pub const fn months(self) -> i32 {
        match self {
            Self::Monthly => 1,
            Self::Quarterly => 3,
            Self::Yearly => 12,
        }
    }

    /// When the first cycle after `now` begins, of those that follow each other from `start`, by the calendar of UTC:
    /// from the 31st on, a month of 30 days ends with the 30th.
    pub fn renewal(self, start: DateTime, now: DateTime) -> Option<DateTime> {
        let zoned = |time: DateTime| {
            let time = Timestamp::from_millisecond(time.timestamp_millis()).ok()?;
            Some(time.to_zoned(TimeZone::UTC))
        };
        let (start, now) = (zoned(start)?, zoned(now)?);
        let months = |from: &Zoned, to: &Zoned| {
            (i32::from(to.year()) - i32::from(from.year())) * 12 + i32::from(to.month())
                - i32::from(from.month())
        };
        let over = months(&start, &now).max(0) / self.months();
        (over..=over + 1)
            .filter_map(|cycles| {
                let months = cycles.checked_mul(self.months())?;
                start.checked_add(Span::new().try_months(months).ok()?).ok()
            })
            .find(|renewal| *renewal > now && *renewal > start)
            .map(|renewal| DateTime::from_millis(renewal.timestamp().as_millisecond()))
    }
}

/// A price, as stored. There is one for each plan, cycle and currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: PriceId,
    /// Of what.
    pub plan: Plan,
    /// For how long.
    pub cycle: Cycle,
    /// ISO 4217, upper case.
    pub currency: String,
    /// What a cycle costs, in minor units of the currency.
    pub amount_minor: i64,
    /// Its id at Stripe, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price_id: Option<String>,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was set.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}

/// Where a company is billed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BillingInfo {
    /// The company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Its VAT id, in its country's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vat_id: Option<String>,
    /// ISO 3166-1 alpha-2, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Where invoices go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_price_is_spread_over_the_months_of_its_cycle() {
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
        fn a_month_is_the_nearest_to_a_twelfth_of_a_year(yearly in 0_i64..1_000_000_000_000) {
            let off = monthly_equivalent(yearly) * 12 - yearly;

            prop_assert!((-5..=6).contains(&off));
        }
    }

    fn at(text: &str) -> DateTime {
        let time: Timestamp = format!("{text}T10:00:00Z").parse().unwrap();
        DateTime::from_millis(time.as_millisecond())
    }

    #[test]
    fn a_cycle_begins_on_the_day_it_first_began_on_or_the_last_of_a_shorter_month() {
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
    fn beyond_the_calendar_nothing_renews() {
        let end = at("9999-12-30");

        assert_eq!(Cycle::Yearly.renewal(end, at("2026-11-22")), None);
        assert_eq!(Cycle::Monthly.renewal(DateTime::MAX, end), None);
    }
}
