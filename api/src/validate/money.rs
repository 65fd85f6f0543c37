//! What is bought, and what it costs.

use bson::DateTime;
use dezky_shared::billing::Cycle;
use iso_currency::Currency;

use super::{Violation, time, word};

/// The highest price, in minor units.
const PRICE: i64 = 1_000_000_000_000;
/// The most seats of a subscription.
const SEATS: i32 = 100_000;
/// What the ids of prices begin with at Stripe.
const STRIPE_PRICE: &str = "price_";
/// The longest id at Stripe.
const STRIPE_ID: usize = 255;

/// How often is paid.
pub fn cycle(text: &str) -> Result<Cycle, Violation> {
    word(text, "invalid_cycle", "monthly, quarterly or yearly")
}

/// A currency that is in use: no fund, no metal, none that was replaced.
pub fn currency(text: &str) -> Result<String, Violation> {
    match Currency::from_code(text) {
        Some(currency) if currency.flags().is_empty() => Ok(text.to_owned()),
        _ => {
            let message = "This is not a currency of today by ISO 4217, such as DKK.";
            Err(("invalid_currency", message.to_owned()))
        }
    }
}

/// A price, in minor units.
pub fn price(minor: i64) -> Result<i64, Violation> {
    if (0..=PRICE).contains(&minor) {
        Ok(minor)
    } else {
        let message = format!("A price is 0 to {PRICE} in minor units.");
        Err(("out_of_range", message))
    }
}

/// A number of seats.
pub fn seats(seats: i64) -> Result<i32, Violation> {
    i32::try_from(seats)
        .ok()
        .filter(|seats| (1..=SEATS).contains(seats))
        .ok_or_else(|| ("out_of_range", format!("There are 1 to {SEATS} seats.")))
}

/// When something that is sold begins: no time before 1970.
pub fn start_date(text: &str) -> Result<DateTime, Violation> {
    let begins = time(text)?;
    if begins.timestamp_millis() >= 0 {
        Ok(begins)
    } else {
        Err(("out_of_range", "This is before 1970.".to_owned()))
    }
}

/// The id of a price at Stripe.
pub fn stripe_price_id(text: &str) -> Result<String, Violation> {
    let is_id = text.strip_prefix(STRIPE_PRICE).is_some_and(|rest| {
        !rest.is_empty()
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    if is_id && text.len() <= STRIPE_ID {
        Ok(text.to_owned())
    } else {
        let message = "The id of a price at Stripe is price_ and letters, digits and underscores.";
        Err(("invalid_stripe_id", message.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_those_that_people_pay_with() {
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
    fn prices_and_seats_have_their_limits() {
        assert_eq!((price(0).unwrap(), price(PRICE).unwrap()), (0, PRICE));
        assert!(price(-1).is_err() && price(PRICE + 1).is_err() && price(i64::MIN).is_err());
        assert_eq!((seats(1).unwrap(), seats(100_000).unwrap()), (1, 100_000));
        assert!(seats(0).is_err() && seats(100_001).is_err() && seats(i64::MAX).is_err());
    }

    #[test]
    fn nothing_was_sold_before_1970() {
        for good in ["1970-01-01T00:00:00Z", "9999-12-30T12:00:00Z"] {
            assert!(start_date(good).is_ok(), "{good}");
        }
        for bad in ["1969-12-31T23:59:59Z", "-000001-01-01T00:00:00Z", "now"] {
            assert!(start_date(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stripes_ids_are_plain() {
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
