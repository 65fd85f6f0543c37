//! Money: integer amounts in minor units of a currency (ISO 4217), divided exactly and rounded once, half to even.
//!
//! No function takes a float, and none converts or adds amounts of two currencies.

/// Currencies without a minor unit: an amount of 500 is 500 of them.
const WHOLE: [&str; 16] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV",
    "XAF", "XOF", "XPF",
];
/// Currencies whose minor unit is a thousandth.
const THOUSANDTHS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];

/// A whole, in basis points.
const BASIS_POINTS: i128 = 10_000;

/// Number of decimal places of a currency's minor unit (ISO 4217): 0, 2 or 3.
pub fn exponent(currency: &str) -> u8 {
    if WHOLE.contains(&currency) {
        0
    } else if THOUSANDTHS.contains(&currency) {
        3
    } else {
        2
    }
}

/// A partner's share of a net amount: `net × margin`, rounded half to even. The platform has the rest, which is never
/// rounded by itself.
///
/// The share of what remains of an amount, minus the share before, is what a reduction takes back: any split of a full
/// reduction adds up to the whole share.
pub fn partner_cut(net_minor: i64, margin_basis_points: i32) -> i64 {
    div_half_even(
        i128::from(net_minor) * i128::from(margin_basis_points),
        BASIS_POINTS,
    )
}

/// The net part of `gross_minor`, a part of an invoice with this total, rounded half to even; 0 of an invoice over
/// nothing. To split an amount, take the differences of the cumulative sum.
pub fn net_of_gross(gross_minor: i64, total_excluding_tax_minor: i64, total_minor: i64) -> i64 {
    if total_minor == 0 {
        return 0;
    }
    let net = i128::from(gross_minor) * i128::from(total_excluding_tax_minor);
    div_half_even(
        net * i128::from(total_minor.signum()),
        i128::from(total_minor.abs()),
    )
}

/// The amount at Stripe of one here; `None` if Stripe cannot charge it: MGA in parts, or a third decimal.
pub fn to_stripe(amount_minor: i64, currency: &str) -> Option<i64> {
    match currency {
        "ISK" | "UGX" => amount_minor.checked_mul(100),
        "MGA" => (amount_minor % 100 == 0).then_some(amount_minor / 100),
        _ if exponent(currency) == 3 && amount_minor % 10 != 0 => None,
        _ => Some(amount_minor),
    }
}

/// The amount here of one at Stripe, which counts some currencies in other units: ISK and UGX in hundredths, and MGA whole.
/// `None` if it is no whole number of minor units.
pub fn from_stripe(amount: i64, currency: &str) -> Option<i64> {
    match currency {
        "ISK" | "UGX" => (amount % 100 == 0).then_some(amount / 100),
        "MGA" => amount.checked_mul(100),
        _ => Some(amount),
    }
}

/// The quotient by a positive divisor, rounded half to even; the nearest `i64` if it is none.
fn div_half_even(dividend: i128, divisor: i128) -> i64 {
    let (floor, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    let is_up = match (2 * rest).cmp(&divisor) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => floor % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    let rounded = floor + i128::from(is_up);
    let nearest = if rounded < 0 { i64::MIN } else { i64::MAX };
    i64::try_from(rounded).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::billing::monthly_equivalent;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vectors {
        exponents: BTreeMap<u8, Vec<String>>,
        monthly_equivalent: Vec<Monthly>,
        partner_cut: Vec<Cut>,
        reversals: Vec<Reversal>,
        net_of_gross: Vec<Net>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Monthly {
        yearly_minor: i64,
        monthly_minor: i64,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cut {
        net_minor: i64,
        margin_basis_points: i32,
        partner_minor: i64,
        platform_minor: i64,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reversal {
        margin_basis_points: i32,
        entries: Vec<Entry>,
        sum_minor: i64,
    }

    /// The net amount that remains, and the change of the share.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        net_minor: i64,
        amount_minor: i64,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(clippy::struct_field_names, reason = "the names of the vectors")]
    struct Net {
        gross_minor: i64,
        total_excluding_tax_minor: i64,
        total_minor: i64,
        net_minor: i64,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("money/vectors.json")).unwrap()
    }

    #[test]
    fn a_currency_has_its_number_of_decimal_places() {
        for (places, currencies) in vectors().exponents {
            for currency in currencies {
                assert_eq!(exponent(&currency), places, "{currency}");
            }
        }
    }

    #[test]
    fn a_yearly_amount_is_rounded_to_a_month_once() {
        for vector in vectors().monthly_equivalent {
            let month = monthly_equivalent(vector.yearly_minor);
            assert_eq!(month, vector.monthly_minor, "{}", vector.yearly_minor);
        }
    }

    #[test]
    fn a_net_amount_is_shared_without_loss() {
        for vector in vectors().partner_cut {
            let (net, margin) = (vector.net_minor, vector.margin_basis_points);
            let cut = partner_cut(net, margin);
            assert_eq!(cut, vector.partner_minor, "{net} at {margin}");
            assert_eq!(net - cut, vector.platform_minor, "{net} at {margin}");
        }
    }

    #[test]
    fn reductions_take_back_exactly_what_was_credited() {
        for vector in vectors().reversals {
            let (mut sum, margin) = (0, vector.margin_basis_points);
            for entry in vector.entries {
                let change = partner_cut(entry.net_minor, margin) - sum;
                assert_eq!(
                    change, entry.amount_minor,
                    "{} at {margin}",
                    entry.net_minor
                );
                sum += change;
            }
            assert_eq!(sum, vector.sum_minor);
        }
    }

    #[test]
    fn the_net_part_of_a_gross_amount_is_proportional() {
        for vector in vectors().net_of_gross {
            let (net, total) = (vector.total_excluding_tax_minor, vector.total_minor);
            let part = net_of_gross(vector.gross_minor, net, total);
            assert_eq!(part, vector.net_minor, "{} of {total}", vector.gross_minor);
        }
        assert_eq!(net_of_gross(100, 0, 0), 0);
        assert_eq!(net_of_gross(-5_950, -10_000, -11_900), -5_000);
    }

    #[test]
    fn amounts_at_stripe_have_the_same_units_but_for_three_currencies() {
        for (currency, there, here) in [
            ("JPY", 500, Some(500)),
            ("ISK", 50_000, Some(500)),
            ("UGX", 50_050, None),
            ("KWD", 5_120, Some(5_120)),
            ("MGA", 500, Some(50_000)),
        ] {
            assert_eq!(from_stripe(there, currency), here, "{there} {currency}");
            if let Some(here) = here {
                assert_eq!(to_stripe(here, currency), Some(there), "{here} {currency}");
            }
        }
        assert_eq!(to_stripe(5_125, "KWD"), None);
        assert_eq!(to_stripe(50_050, "MGA"), None);
    }

    #[test]
    fn amounts_beyond_the_range_are_the_nearest_in_range() {
        assert_eq!(partner_cut(i64::MAX, i32::MAX), i64::MAX);
        assert_eq!(partner_cut(i64::MIN, i32::MAX), i64::MIN);
    }

    proptest! {
        #[test]
        fn a_share_is_within_half_a_unit_and_never_more_than_the_amount(
            net in -1_000_000_000_000_i64..=1_000_000_000_000,
            margin in 0_i32..=10_000,
        ) {
            let cut = partner_cut(net, margin);
            let off = i128::from(cut) * BASIS_POINTS - i128::from(net) * i128::from(margin);

            prop_assert!(off.abs() * 2 <= BASIS_POINTS, "{cut}");
            prop_assert!(cut.abs() <= net.abs());
            prop_assert_eq!(partner_cut(-net, margin), -cut);
        }

        #[test]
        fn any_split_of_a_full_reduction_sums_to_the_share(
            net in 0_i64..=1_000_000_000_000,
            margin in 0_i32..=10_000,
            parts in prop::collection::vec(0_i64..=1_000_000, 0..20),
        ) {
            let mut remaining = net;
            let mut sum = partner_cut(net, margin);
            for part in parts.into_iter().chain([i64::MAX]) {
                let before = partner_cut(remaining, margin);
                remaining -= part.min(remaining);
                sum += partner_cut(remaining, margin) - before;
            }

            prop_assert_eq!((remaining, sum), (0, 0));
        }
    }
}
