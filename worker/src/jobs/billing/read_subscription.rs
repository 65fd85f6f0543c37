//! Reading of a subscription at Stripe, in our units.

use bson::DateTime;
use dezky_shared::{
    billing::{Cycle, period::Period},
    card_billing::{CardTerms, ReadSubscription, StripeStatus},
    money,
    queue::error_code::ErrorCode,
};
use dezky_upstreams::clients::stripe::{Price, Recurrence, Stripe, Subscription};

use crate::steps::StepFailure;

/// Reasons of a cancellation for which a payment is to blame.
const PAYMENT_REASONS: [&str; 2] = ["payment_failed", "payment_disputed"];

/// Converts a subscription, and reads whether a payment of it waits for the customer.
pub(super) async fn read_subscription(
    stripe: &Stripe,
    found: &Subscription,
) -> Result<ReadSubscription, StepFailure> {
    with_payment(stripe, converted(found)?).await
}

/// The subscription, with whether its last payment waits for the customer. Only one that is not paid has such a payment.
pub(super) async fn with_payment(
    stripe: &Stripe,
    mut read: ReadSubscription,
) -> Result<ReadSubscription, StepFailure> {
    let may_wait = matches!(
        read.known_status,
        StripeStatus::Incomplete | StripeStatus::Unpaid
    );
    if let Some(invoice) = read.latest_invoice.as_ref().filter(|_| may_wait) {
        read.needs_authentication = stripe.needs_authentication(invoice).await?;
    }
    Ok(read)
}

/// The subscription without its payments.
pub(super) fn converted(found: &Subscription) -> Result<ReadSubscription, StepFailure> {
    let invalid = |detail: &str| StepFailure::new(ErrorCode::UpstreamResponseInvalid, detail);
    let known_status = StripeStatus::of(&found.status)
        .ok_or_else(|| invalid("a subscription with an unknown status"))?;
    let item = found
        .item()
        .ok_or_else(|| invalid("a subscription without an item"))?;
    // Other quantities are not terms of ours.
    let is_plain = item.quantity == Some(1);
    let named = |name: &str| found.metadata.get(name);
    let reason = found.cancellation_reason();
    Ok(ReadSubscription {
        id: found.id.clone(),
        customer: found.customer.clone(),
        tenant_id: named("tenantId").and_then(|id| id.parse().ok()),
        subscription_id: named("subscriptionId").and_then(|id| id.parse().ok()),
        status: found.status.clone(),
        known_status,
        terms: terms_of(&item.price).filter(|_| is_plain),
        price_id: item.price.id.clone(),
        item_id: item.id.clone(),
        period: Period {
            start: seconds(item.current_period_start),
            end: seconds(item.current_period_end),
        },
        anchor: seconds(found.billing_cycle_anchor),
        cancel_at_period_end: found.cancel_at_period_end,
        has_own_card: found.default_payment_method.is_some(),
        ended_at: found.ended_at.map(seconds),
        is_payment_failed: reason.is_some_and(|reason| PAYMENT_REASONS.contains(&reason)),
        latest_invoice: found.latest_invoice.clone(),
        needs_authentication: false,
        has_other_items: !found.has_one_item(),
    })
}

/// The terms of a price; none if it has a form that we do not sell.
fn terms_of(price: &Price) -> Option<CardTerms> {
    let currency = price.currency.to_ascii_uppercase();
    Some(CardTerms {
        product: price.product.clone(),
        cycle: cycle_of(price.recurring.as_ref()?)?,
        price_minor: money::from_stripe(price.unit_amount?, &currency)?,
        currency,
    })
}

fn cycle_of(recurrence: &Recurrence) -> Option<Cycle> {
    let months = match recurrence.interval.as_str() {
        "month" => recurrence.interval_count,
        "year" => recurrence.interval_count.checked_mul(12)?,
        _ => return None,
    };
    let is_it = |cycle: &Cycle| i64::from(cycle.months()) == months;
    Cycle::ALL.into_iter().find(is_it)
}

fn seconds(seconds: i64) -> DateTime {
    DateTime::from_millis(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn item(id: &str, created: i64, unit_amount: i64) -> Value {
        json!({
            "id": id, "created": created, "quantity": 1, "current_period_start": 1_773_324_005,
            "current_period_end": 1_776_002_405,
            "price": {
                "id": format!("price_{id}"), "product": "plan_business", "currency": "dkk",
                "unit_amount": unit_amount, "recurring": { "interval": "month", "interval_count": 1 },
            },
        })
    }

    fn converted_with(items: &[Value]) -> ReadSubscription {
        let found = json!({
            "id": "sub_1", "customer": "cus_1", "status": "active", "billing_cycle_anchor": 1_773_324_005,
            "items": { "data": items },
        });
        converted(&serde_json::from_value(found).unwrap()).unwrap()
    }

    /// Its terms could not be compared otherwise, and each sync would send the same update.
    #[test]
    fn the_oldest_item_has_the_terms_and_others_are_noted() {
        let (sold, added) = (item("si_1", 10, 49_900), item("si_2", 20, 5_000));

        let alone = converted_with(std::slice::from_ref(&sold));
        let with_other = converted_with(&[added, sold]);

        assert!(!alone.has_other_items);
        assert!(with_other.has_other_items);
        assert_eq!(with_other.item_id, "si_1");
        assert_eq!(with_other.terms, alone.terms);
        assert_eq!(with_other.terms.unwrap().price_minor, 49_900);
    }
}
