//! Prices, currencies and seats.

use bson::DateTime;
use dezky_shared::{billing::Cycle, subscription::CollectionMethod};
use iso_currency::Currency;

use super::{Violation, time, word};

/// Maximum price, in minor units.
const MAX_PRICE: i64 = 1_000_000_000_000;
/// Maximum number of seats of a subscription.
const MAX_SEATS: i32 = 100_000;
/// Maximum length of an id at Stripe.
const MAX_STRIPE_ID: usize = 255;

/// A billing cycle.
pub fn cycle(text: &str) -> Result<Cycle, Violation> {
    word(text, "invalid_cycle", "monthly, quarterly or yearly")
}

/// A collection of invoices.
pub fn collection_method(text: &str) -> Result<CollectionMethod, Violation> {
    let methods = "manual, send_invoice or charge_automatically";
    word(text, "invalid_collection_method", methods)
}

/// A currency in use (ISO 4217). Funds, metals and replaced currencies are rejected.
pub fn currency(text: &str) -> Result<String, Violation> {
    match Currency::from_code(text) {
        Some(currency) if currency.flags().is_empty() => Ok(text.to_owned()),
        _ => {
            let message = "Must be a current ISO 4217 currency code, such as DKK.";
            Err(("invalid_currency", message.to_owned()))
        }
    }
}

/// A price, in minor units.
pub fn price(minor: i64) -> Result<i64, Violation> {
    if (0..=MAX_PRICE).contains(&minor) {
        Ok(minor)
    } else {
        let message = format!("Must be 0–{MAX_PRICE}, in minor units.");
        Err(("out_of_range", message))
    }
}

/// A number of seats.
pub fn seats(seats: i64) -> Result<i32, Violation> {
    i32::try_from(seats)
        .ok()
        .filter(|seats| (1..=MAX_SEATS).contains(seats))
        .ok_or_else(|| ("out_of_range", format!("Must be 1–{MAX_SEATS}.")))
}

/// A start date, from 1970 on.
pub fn start_date(text: &str) -> Result<DateTime, Violation> {
    let start = time(text)?;
    if start.timestamp_millis() >= 0 {
        Ok(start)
    } else {
        Err(("out_of_range", "Must not be before 1970.".to_owned()))
    }
}

/// A price id at Stripe.
pub fn stripe_price_id(text: &str) -> Result<String, Violation> {
    stripe_id(text, "price_", "price id")
}

/// A setup intent id at Stripe.
pub fn setup_intent_id(text: &str) -> Result<String, Violation> {
    stripe_id(text, "seti_", "setup intent id")
}

/// An id at Stripe that begins with `prefix`.
fn stripe_id(text: &str, prefix: &str, noun: &str) -> Result<String, Violation> {
    let is_id = text.strip_prefix(prefix).is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    if is_id && text.len() <= MAX_STRIPE_ID {
        Ok(text.to_owned())
    } else {
        let message = format!(
            "Must be a Stripe {noun}: {prefix} followed by letters, digits and underscores."
        );
        Err(("invalid_stripe_id", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_must_be_in_use() {
        for good in ["DKK", "EUR", "USD", "JPY", "ISK", "KWD", "CLP"] {
            assert!(currency(good).is_ok(), "{good}");
        }
        for bad in [
            "", "dkk", "Dkk", "DK", "DKKK", "XXX", "XTS", "XAU", "XDR", "CLF", "HRK", "ABC", "€",
        ] {
            assert!(currency(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn prices_and_seats_are_bounded() {
        assert_eq!(
            (price(0).unwrap(), price(MAX_PRICE).unwrap()),
            (0, MAX_PRICE)
        );
        assert!(price(-1).is_err() && price(MAX_PRICE + 1).is_err() && price(i64::MIN).is_err());
        assert_eq!((seats(1).unwrap(), seats(100_000).unwrap()), (1, 100_000));
        assert!(seats(0).is_err() && seats(100_001).is_err() && seats(i64::MAX).is_err());
    }

    #[test]
    fn start_dates_before_1970_are_rejected() {
        for good in ["1970-01-01T00:00:00Z", "9999-12-30T12:00:00Z"] {
            assert!(start_date(good).is_ok(), "{good}");
        }
        for bad in ["1969-12-31T23:59:59Z", "-000001-01-01T00:00:00Z", "now"] {
            assert!(start_date(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_stripe_ids_are_rejected() {
        assert!(stripe_price_id("price_1MoBy5LkdIwHu7ixZhnattbh").is_ok());
        for bad in [
            "",
            "price_",
            "prod_1",
            "price_a b",
            "price_é",
            "price_a\n",
            &format!("price_{}", "a".repeat(250)),
        ] {
            assert!(stripe_price_id(bad).is_err(), "{bad:?}");
        }
    }
}
