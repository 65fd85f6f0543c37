//! Monthly subscription snapshot of every tenant: history that cannot be derived from the tenants' current state.
//!
//! A snapshot is refreshed daily during its month and once more after the end of the month, so that the stored one
//! shows the end of the month, and a current month has one too. `taken_at` is the time of the data.

use std::{fmt, str::FromStr, time::Duration};

use bson::DateTime;
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::{
    billing::{Cycle, Plan},
    id::{PartnerId, SnapshotId, SubscriptionId, TenantId},
    platform::clock,
    subscription::{Subscription, SubscriptionStatus},
    tenant::TenantStatus,
};

/// One day.
const DAY: Duration = Duration::from_hours(24);

/// Calendar month in UTC, written `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    first: Date,
}

impl Month {
    /// The month that contains `time`.
    pub fn of(time: DateTime) -> Self {
        // No clock returns a time beyond the calendar (the year 9999).
        let time = Timestamp::from_millisecond(time.timestamp_millis()).unwrap_or_default();
        Self {
            first: time.to_zoned(TimeZone::UTC).date().first_of_month(),
        }
    }

    /// Start of the next month.
    pub fn end(self) -> DateTime {
        let next = self.first.saturating_add(1.month());
        let next = TimeZone::UTC.to_timestamp(next.into());
        let next = next.unwrap_or(Timestamp::MAX);
        DateTime::from_millis(next.as_millisecond())
    }

    /// Whether `now` is so long after the end of the month that current data no longer describes it.
    pub fn is_past_grace(self, now: DateTime) -> bool {
        now >= clock::later(self.end(), DAY)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.first.year(), self.first.month())
    }
}

impl FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let month = (|| {
            let (year, month) = text.split_once('-')?;
            let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            let is_written = year.len() == 4 && month.len() == 2;
            if !is_written || !is_number(year) || !is_number(month) {
                return None;
            }
            Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()
        })();
        month
            .map(|first| Self { first })
            .ok_or_else(|| "expected a month such as 2026-11".to_owned())
    }
}

impl TryFrom<String> for Month {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

/// Tenant fields of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantState {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Name in URLs.
    pub slug: String,
    /// Status.
    pub status: TenantStatus,
    /// Plan.
    pub plan: Plan,
    /// Managing partner at that time.
    #[serde(default)]
    pub partner_id: Option<PartnerId>,
}

/// Terms of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionTerms {
    /// Subscription id.
    pub id: SubscriptionId,
    /// Status.
    pub status: SubscriptionStatus,
    /// Plan.
    pub plan: Plan,
    /// Billing cycle.
    pub cycle: Cycle,
    /// Number of seats.
    pub seats: i32,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Price per billing cycle, in minor units of the currency.
    pub price_minor: i64,
}

/// Subscription snapshot of a tenant and month, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionSnapshot {
    /// Deterministic id of tenant and month.
    #[serde(rename = "_id")]
    pub id: SnapshotId,
    /// Month.
    pub month: Month,
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Tenant's name in URLs.
    pub slug: String,
    /// Tenant's status. Terminated tenants have snapshots too, which distinguishes churn from missing data.
    pub tenant_status: TenantStatus,
    /// Tenant's plan.
    pub plan: Plan,
    /// Managing partner at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// Live subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionTerms>,
    /// Time of the data.
    pub taken_at: DateTime,
}

impl SubscriptionSnapshot {
    /// Snapshot of `tenant` and its live subscription at `taken_at`, for `month`.
    pub fn new(
        month: Month,
        tenant: TenantState,
        subscription: Option<Subscription>,
        taken_at: DateTime,
    ) -> Self {
        Self {
            id: SnapshotId::deterministic(tenant.id, &month.to_string()),
            month,
            tenant_id: tenant.id,
            slug: tenant.slug,
            tenant_status: tenant.status,
            plan: tenant.plan,
            partner_id: tenant.partner_id,
            subscription: subscription.map(|subscription| SubscriptionTerms {
                id: subscription.id,
                status: subscription.status,
                plan: subscription.plan,
                cycle: subscription.cycle,
                seats: subscription.seats,
                currency: subscription.currency,
                price_minor: subscription.price_minor,
            }),
            taken_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    #[test]
    fn every_time_is_in_exactly_one_month() {
        for (time, month) in [
            ("2026-11-22T00:10:00Z", "2026-11"),
            ("2026-11-30T23:59:59.999Z", "2026-11"),
            ("2026-12-01T00:00:00Z", "2026-12"),
            ("2028-02-29T12:00:00Z", "2028-02"),
        ] {
            assert_eq!(Month::of(at(time)).to_string(), month, "{time}");
        }
    }

    #[test]
    fn a_month_ends_at_the_start_of_the_next_and_its_grace_lasts_a_day() {
        let month: Month = "2026-12".parse().unwrap();

        assert_eq!(month.end(), at("2027-01-01T00:00:00Z"));
        assert!(!month.is_past_grace(at("2027-01-01T23:59:59Z")));
        assert!(month.is_past_grace(at("2027-01-02T00:00:00Z")));
    }

    #[test]
    fn a_month_has_one_spelling() {
        assert_eq!("0001-01".parse::<Month>().unwrap().to_string(), "0001-01");
        for bad in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "2026-1",
            "26-11",
            "2026-011",
            "+026-11",
            "2026-+1",
            "2026-11-01",
            " 2026-11",
            "２０２６-11",
        ] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_month_of_the_calendar_has_an_end() {
        let last: Month = "9999-12".parse().unwrap();

        assert!(last.end() > at("9999-12-01T00:00:00Z"));
    }
}
