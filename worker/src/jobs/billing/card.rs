//! The card that a customer's invoices are charged to.

use dezky_shared::billing_account::DefaultCard;
use dezky_upstreams::clients::{
    ClientError,
    stripe::{Customer, Stripe},
};

/// Reads the card. `None` if there is none, or another kind of payment method.
pub(super) async fn default_card_of(
    stripe: &Stripe,
    customer: &Customer,
) -> Result<Option<DefaultCard>, ClientError> {
    let Some(id) = customer.default_payment_method() else {
        return Ok(None);
    };
    let method = stripe.retrieve_payment_method(id).await?;
    Ok(method.and_then(|method| {
        let card = method.card?;
        Some(DefaultCard {
            payment_method_id: method.id,
            brand: card.brand,
            last4: card.last4,
            exp_month: card.exp_month,
            exp_year: card.exp_year,
        })
    }))
}
