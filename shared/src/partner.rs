//! Partner: a company that resells workspaces and manages its customers' tenants.

use std::collections::BTreeMap;

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    billing::{BillingInfo, Cycle, Plan},
    id::PartnerId,
};

/// Status of a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartnerStatus {
    /// The partner's team may act.
    Active,
    /// The partner has left; its team may not act. The document stays, because tenants refer to it.
    Terminated,
}

/// Contact details.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactInfo {
    /// Contact's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Contact's e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Contact's phone number, E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// Branding of a workspace or portal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Branding {
    /// Product name shown instead of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// Accent color, `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accent_color: Option<String>,
    /// Logo URL, https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
}

/// Partner, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partner {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: PartnerId,
    /// Name in URLs and of the partner's group: immutable, never reused.
    pub slug: String,
    /// Display name.
    pub name: String,
    /// The partner's own domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Current status.
    pub status: PartnerStatus,
    /// Margin on its customers' payments, in basis points.
    pub margin_basis_points: i32,
    /// Contact details.
    #[serde(default)]
    pub contact_info: ContactInfo,
    /// Billing details.
    #[serde(default)]
    pub billing_info: BillingInfo,
    /// Support address for its customers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_email: Option<String>,
    /// Support page for its customers, https only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_url: Option<String>,
    /// Default plan of a new customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_plan: Option<Plan>,
    /// Branding of its portal.
    #[serde(default)]
    pub branding: Branding,
    /// Group id at the identity provider, once the group exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentik_group_id: Option<String>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl Partner {
    /// Name of the partner's group at the identity provider. It contains a colon, which tenant slugs do not, so it
    /// never collides with a tenant's group.
    pub fn group_name(&self) -> String {
        format!("partner:{}", self.slug)
    }
}

/// Revenue of a partner: the number of its tenants that are not terminated, and their payments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartnerRevenue {
    /// Number of tenants.
    pub count: i64,
    /// Yearly revenue by currency, in minor units. Kept per year, because a month's share is not always a whole number.
    yearly_minor: BTreeMap<String, i64>,
}

impl PartnerRevenue {
    /// Adds a price paid in each `cycle`, in minor units of `currency`.
    pub fn add(&mut self, currency: String, cycle: Cycle, minor: i64) {
        let yearly = self.yearly_minor.entry(currency).or_default();
        *yearly = yearly.saturating_add(minor.saturating_mul(cycle.per_year()));
    }

    /// Monthly revenue by currency, in minor units. Only the sums are rounded, half up.
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
    fn other_billing_cycles_are_converted_to_a_month() {
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
    fn only_the_sum_is_rounded_half_up() {
        for (paid, expected) in [
            (&[5][..], 0),
            (&[6], 1),
            (&[17], 1),
            (&[18], 2),
            // Each alone would round to 0.
            (&[4, 4, 4], 1),
            (&[i64::MAX, i64::MAX], i64::MAX / 12),
        ] {
            let yearly: Vec<_> = paid.iter().map(|m| ("EUR", Cycle::Yearly, *m)).collect();

            assert_eq!(monthly(&yearly)["EUR"], expected, "{paid:?}");
        }
    }
}
