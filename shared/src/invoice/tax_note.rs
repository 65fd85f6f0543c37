//! Tax note of an invoice. Amounts are net: no tax is computed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::BillingInfo;

/// Member states of the EU, ISO 3166-1 alpha-2.
const EU: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];
/// Prefix of Greek VAT ids, which is not the country's code.
const GREEK_PREFIX: &str = "EL";

/// Tax note of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaxNote {
    /// The customer has a VAT id in another member state of the EU.
    ReverseCharge,
    /// The amounts exclude VAT.
    Net,
}

impl TaxNote {
    /// The note for a customer with these billing details, by a seller in `legal_country`.
    pub fn of(customer: &BillingInfo, legal_country: &str) -> Self {
        let country = customer.vat_id.as_deref().and_then(vat_country);
        match country {
            Some(country) if EU.contains(&legal_country) && country != legal_country => {
                Self::ReverseCharge
            }
            _ => Self::Net,
        }
    }

    /// The text on the invoice.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ReverseCharge => "Reverse charge: the recipient accounts for VAT.",
            Self::Net => "Amounts exclude VAT.",
        }
    }
}

/// The member state of the EU that a VAT id belongs to, by its prefix.
fn vat_country(vat_id: &str) -> Option<&'static str> {
    let prefix = vat_id.get(..2)?;
    let country = if prefix == GREEK_PREFIX { "GR" } else { prefix };
    EU.into_iter().find(|member| *member == country)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vat_id_of_another_member_state_reverses_the_charge() {
        for (vat_id, seller, expected) in [
            (Some("DE136695976"), "DK", TaxNote::ReverseCharge),
            (Some("EL094259216"), "DK", TaxNote::ReverseCharge),
            (Some("DK13585628"), "DK", TaxNote::Net),
            (Some("XI980780684"), "DK", TaxNote::Net),
            (Some("NO995525828MVA"), "DK", TaxNote::Net),
            (Some("DE136695976"), "NO", TaxNote::Net),
            (Some(""), "DK", TaxNote::Net),
            (None, "DK", TaxNote::Net),
        ] {
            let customer = BillingInfo {
                vat_id: vat_id.map(str::to_owned),
                ..BillingInfo::default()
            };
            assert_eq!(TaxNote::of(&customer, seller), expected, "{vat_id:?}");
        }
    }
}
