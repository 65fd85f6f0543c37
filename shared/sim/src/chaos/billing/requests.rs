//! Bodies of the requests of billing, and the names of their kinds.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::platform::clock;
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

/// One day.
const DAY: Duration = Duration::from_hours(24);
/// Age of a subscription when it is sold, in days: longer than the age of its renewal.
const SOLD_BEFORE: u32 = 130;
/// Ages of a renewal, in days. By month, one, two and four periods are due, of which an operator has to release the last.
const RENEWED_BEFORE: [u32; 3] = [20, 45, 100];
/// Share of sales over nothing.
const FREE: f64 = 0.1;

pub(super) const SELL: &str = "sell";
pub(super) const CHANGE: &str = "change subscription";
pub(super) const CANCEL: &str = "cancel subscription";
pub(super) const INVOICE: &str = "invoice tenant";
pub(super) const SYNC: &str = "sync billing";
pub(super) const ENTER_CARD: &str = "enter card";
pub(super) const SET_CARD: &str = "set card";
pub(super) const PAY: &str = "mark invoice paid";
pub(super) const VOID: &str = "void invoice";
pub(super) const CORRECT: &str = "correct invoice";
pub(super) const ADJUST: &str = "adjust ledger";
pub(super) const PAY_OUT: &str = "request payout";
pub(super) const PAYOUT_PAID: &str = "mark payout paid";
pub(super) const CANCEL_PAYOUT: &str = "cancel payout";

/// Whether an accepted request of this kind records a change, even without a job.
pub(in crate::chaos) fn takes_effect_at_once(action: &str) -> bool {
    let actions = [
        "create partner",
        "change flag",
        SELL,
        CHANGE,
        CANCEL,
        ENTER_CARD,
        PAY,
        VOID,
        CORRECT,
        ADJUST,
        PAYOUT_PAID,
        CANCEL_PAYOUT,
    ];
    actions.contains(&action)
}

/// A sale that began in the past. Its dates are those of no other sale, so that no two subscriptions of a tenant share a
/// period.
pub(super) fn sale(
    tenant: &str,
    currency: &str,
    has_partner: bool,
    number: u64,
    random: &mut StdRng,
) -> Value {
    let ago = |days: u32| past(DAY * days + Duration::from_secs(number));
    let price_minor = if random.random_bool(FREE) {
        0
    } else {
        random.random_range(1..1_000_000)
    };
    let mut body = json!({
        "tenant": tenant, "plan": plan(random), "cycle": cycle(random), "seats": random.random_range(1..50),
        "currency": currency, "priceMinor": price_minor, "collectionMethod": collection(random),
        "startedAt": ago(SOLD_BEFORE), "partnerBilled": has_partner && random.random_bool(0.1),
    });
    if random.random_bool(0.6)
        && let Some(days) = RENEWED_BEFORE.choose(random)
    {
        body["renewsAt"] = json!(ago(*days));
    }
    body
}

/// A change of terms. The price is one that no request had before, so that each accepted change changes something.
pub(super) fn change(number: u64, random: &mut StdRng) -> Value {
    let mut body = json!({ "priceMinor": 1_000_000 + number });
    if random.random_bool(0.3) {
        body["cycle"] = cycle(random);
    }
    if random.random_bool(0.3) {
        body["collectionMethod"] = collection(random);
    }
    if random.random_bool(0.1) {
        body["cancelAtPeriodEnd"] = true.into();
    }
    body
}

/// An invoice run of one tenant, as a dry run or with a number of periods that may be right.
pub(super) fn invoice_run(random: &mut StdRng) -> Value {
    match random.random_range(0..10) {
        0 => json!({ "dryRun": true }),
        1..4 => json!({ "periods": random.random_range(1..5) }),
        _ => json!({}),
    }
}

fn plan(random: &mut StdRng) -> Value {
    one_of(&["starter", "business", "enterprise"], random)
}

fn cycle(random: &mut StdRng) -> Value {
    one_of(&["monthly", "monthly", "quarterly", "yearly"], random)
}

fn collection(random: &mut StdRng) -> Value {
    let methods = ["manual", "send_invoice", "charge_automatically"];
    one_of(&methods, random)
}

fn one_of(names: &[&str], random: &mut StdRng) -> Value {
    json!(names.choose(random))
}

/// The time this long ago, in whole seconds.
fn past(ago: Duration) -> Option<String> {
    let time = clock::earlier(clock::now(), ago);
    text_of(time)
}

/// A time in whole seconds, as the API reads it.
pub(super) fn text_of(time: DateTime) -> Option<String> {
    let seconds = time.timestamp_millis().div_euclid(1_000);
    let whole = DateTime::from_millis(seconds * 1_000);
    whole.try_to_rfc3339_string().ok()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_sale_renews_after_it_starts_and_both_were_in_the_past() {
        let mut random = StdRng::seed_from_u64(1);
        let now = clock::now();
        let mut renewing = 0;
        for number in 0..200 {
            let sale = sale("shop-1", "DKK", true, number, &mut random);

            let time = |field: &str| {
                let text = sale[field].as_str()?;
                Some(DateTime::parse_rfc3339_str(text).unwrap())
            };
            let started = time("startedAt").unwrap();
            let renews = time("renewsAt");
            renewing += usize::from(renews.is_some());
            assert!(started < now, "{sale}");
            assert!(renews.is_none_or(|renews| started < renews && renews < now));
        }
        assert!((1..200).contains(&renewing));
    }

    #[test]
    fn each_change_has_a_price_of_its_own() {
        let mut random = StdRng::seed_from_u64(1);
        let first = change(1, &mut random);
        let second = change(2, &mut random);

        assert_ne!(first["priceMinor"], second["priceMinor"]);
    }
}
