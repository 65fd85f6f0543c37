//! Cards: the payment methods that invoices are charged to.

use serde::Deserialize;

use super::{Form, Stripe, segment};
use crate::clients::{ClientError, Operation};

const RETRIEVE: Operation = Operation::read("retrieve_payment_method");

/// Payment method.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PaymentMethod {
    /// Id.
    pub id: String,
    /// The card, if it is one.
    #[serde(default)]
    pub card: Option<Card>,
}

/// Card as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Card {
    /// Brand, such as `visa`.
    pub brand: String,
    /// Last four digits.
    pub last4: String,
    /// Month of expiry.
    pub exp_month: i32,
    /// Year of expiry.
    pub exp_year: i32,
}

impl Stripe {
    /// Reads a payment method. `None` if it does not exist.
    pub async fn retrieve_payment_method(
        &self,
        id: &str,
    ) -> Result<Option<PaymentMethod>, ClientError> {
        let path = format!("/v1/payment_methods/{}", segment(RETRIEVE, id)?);
        self.get(RETRIEVE, &path, &Form::new()).await
    }
}
