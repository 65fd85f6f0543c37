//! VAT ids as Stripe takes them.

use dezky_shared::{billing::BillingInfo, billing_account::AccountTaxId};
use dezky_upstreams::clients::stripe::TaxId;

/// Prefixes of VAT ids in the European Union, Northern Ireland included.
const EU: [&str; 28] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "EL", "ES", "FI", "FR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "XI",
];

/// A VAT id with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VatId {
    pub(super) kind: &'static str,
    pub(super) value: String,
}

/// The VAT id of a company, if Stripe has a type for it that takes our spelling.
pub(super) fn vat_id_of(info: &BillingInfo) -> Option<VatId> {
    let value = info.vat_id.as_deref()?;
    // Greek VAT ids begin with EL, also where the country's code is given instead.
    let value = match value.strip_prefix("GR") {
        Some(number) => format!("EL{number}"),
        None => value.to_owned(),
    };
    let prefix = value.get(..2)?;
    let kind = match prefix {
        "GB" => "gb_vat",
        prefix if EU.contains(&prefix) => "eu_vat",
        _ => return None,
    };
    Some(VatId { kind, value })
}

/// A tax id at Stripe, as the billing account holds it.
pub(super) fn account_tax_id(tax_id: TaxId) -> AccountTaxId {
    AccountTaxId {
        verification: tax_id.verification().map(str::to_owned),
        stripe_id: tax_id.id,
        kind: tax_id.kind,
        value: tax_id.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_follows_the_prefix() {
        for (vat_id, expected) in [
            ("DK13585628", Some(("eu_vat", "DK13585628"))),
            ("GR123456789", Some(("eu_vat", "EL123456789"))),
            ("XI123456789", Some(("eu_vat", "XI123456789"))),
            ("GB123456789", Some(("gb_vat", "GB123456789"))),
            ("NO123456789MVA", None),
            ("1", None),
        ] {
            let info = BillingInfo {
                vat_id: Some(vat_id.to_owned()),
                ..BillingInfo::default()
            };

            let found = vat_id_of(&info);

            let found = found
                .as_ref()
                .map(|found| (found.kind, found.value.as_str()));
            assert_eq!(found, expected, "{vat_id}");
        }
        assert_eq!(vat_id_of(&BillingInfo::default()), None);
    }
}
