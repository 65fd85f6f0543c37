//! A partner: a company that sells workspaces, and looks after the tenants it has sold to.

use std::collections::BTreeMap;

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    billing::{BillingInfo, Cycle, Plan},
    id::PartnerId,
};

/// Whether a partner's staff may still do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartnerStatus {
    /// They may.
    Active,
    /// They may not, since the partner has left. The document stays: tenants refer to it.
    Terminated,
}

/// Whom to talk to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactInfo {
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Their address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Their number, E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// How a workspace or a portal looks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Branding {
    /// The name that stands for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accent_color: Option<String>,
    /// Where the logo is: https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
}

/// A partner, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partner {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: PartnerId,
    /// Its name in URLs, and in its group's name: immutable, never used again.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Its own domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Whether its staff may do anything.
    pub status: PartnerStatus,
    /// Its share of what its customers pay, in hundredths of a percent.
    pub margin_basis_points: i32,
    /// Whom to talk to there.
    #[serde(default)]
    pub contact_info: ContactInfo,
    /// Where it is billed.
    #[serde(default)]
    pub billing_info: BillingInfo,
    /// Where its customers find help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_email: Option<String>,
    /// The same, as a page: https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_url: Option<String>,
    /// What a new customer gets where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_plan: Option<Plan>,
    /// How its portal looks.
    #[serde(default)]
    pub branding: Branding,
    /// Its group at the identity provider, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentik_group_id: Option<String>,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was added.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}

impl Partner {
    /// The name of its group at the identity provider. No slug of a tenant holds a colon, so it is never a tenant's.
    pub fn group_name(&self) -> String {
        format!("partner:{}", self.slug)
    }
}

/// A partner's customers: its tenants that were not removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartnerRevenue {
    /// How many they are.
    pub count: i64,
    /// What they pay in a year by currency, in minor units: a month's worth is not always a whole number.
    yearly_minor: BTreeMap<String, i64>,
}

impl PartnerRevenue {
    /// Adds what is paid in each `cycle`, in minor units of `currency`.
    pub fn add(&mut self, currency: String, cycle: Cycle, minor: i64) {
        let yearly = self.yearly_minor.entry(currency).or_default();
        *yearly = yearly.saturating_add(minor.saturating_mul(cycle.per_year()));
    }

    /// What they pay in a month by currency, in minor units. Only the sums are rounded: half a unit up.
    pub fn monthly_minor(&self) -> BTreeMap<String, i64> {
        let yearly = self.yearly_minor.iter();
        yearly
            .map(|(currency, minor)| (currency.clone(), minor.saturating_add(6).div_euclid(12)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monthly(paid: &[(&str, Cycle, i64)]) -> BTreeMap<String, i64> {
        let mut customers = PartnerRevenue::default();
        for (currency, cycle, minor) in paid {
            customers.add((*currency).to_owned(), *cycle, *minor);
        }
        customers.monthly_minor()
    }

    #[test]
    fn what_is_paid_in_other_cycles_is_brought_to_a_month() {
        let paid = [
            ("DKK", Cycle::Monthly, 10_000),
            ("DKK", Cycle::Quarterly, 30_000),
            ("DKK", Cycle::Yearly, 120_000),
            ("EUR", Cycle::Yearly, 1_200),
        ];

        let monthly = monthly(&paid);

        let expected = [("DKK".to_owned(), 30_000), ("EUR".to_owned(), 100)];
        assert_eq!(monthly, BTreeMap::from(expected));
    }

    #[test]
    fn only_the_sum_is_rounded_and_half_a_unit_goes_up() {
        for (paid, expected) in [
            (&[5][..], 0),
            (&[6], 1),
            (&[17], 1),
            (&[18], 2),
            // Each for itself would be 0.
            (&[4, 4, 4], 1),
            (&[i64::MAX, i64::MAX], i64::MAX / 12),
        ] {
            let yearly: Vec<_> = paid.iter().map(|m| ("EUR", Cycle::Yearly, *m)).collect();

            assert_eq!(monthly(&yearly)["EUR"], expected, "{paid:?}");
        }
    }
}
