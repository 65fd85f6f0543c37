//! Setup intents: the entry of a card in the browser, without a payment.

use secrecy::SecretString;
use serde::Deserialize;

use super::{Form, KeyedError, Stripe, rejected, segment};
use crate::clients::{ClientError, Operation};

const CREATE: Operation = Operation::write("create_setup_intent");
const RETRIEVE: Operation = Operation::read("retrieve_setup_intent");
/// Status of one whose card was entered, and authenticated if its bank asked for it.
const SUCCEEDED: &str = "succeeded";

/// Setup intent.
#[derive(Debug, Clone, Deserialize)]
pub struct SetupIntent {
    /// Id.
    pub id: String,
    /// With it the browser enters a card.
    #[serde(default)]
    pub client_secret: Option<SecretString>,
    status: String,
    #[serde(default)]
    customer: Option<String>,
    #[serde(default)]
    payment_method: Option<String>,
}

impl SetupIntent {
    /// The card that was entered for this customer.
    pub fn card_of(&self, customer: &str) -> Option<&str> {
        let is_usable = self.status == SUCCEEDED && self.customer.as_deref() == Some(customer);
        self.payment_method.as_deref().filter(|_| is_usable)
    }
}

impl Stripe {
    /// Creates a setup intent of a customer, for invoices that are charged without the person.
    pub async fn create_setup_intent(
        &self,
        customer: &str,
        tenant_id: &str,
        key: &str,
    ) -> Result<SetupIntent, KeyedError> {
        let form = [
            ("customer", customer),
            ("usage", "off_session"),
            ("allowed_payment_method_types[]", "card"),
            ("metadata[tenantId]", tenant_id),
        ];
        let form: Form = form
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let created = self.post(CREATE, "/v1/setup_intents", &form, key).await?;
        Ok(created.ok_or_else(|| rejected(CREATE, "the customer is missing"))?)
    }

    /// Reads a setup intent. `None` if it does not exist.
    pub async fn retrieve_setup_intent(
        &self,
        id: &str,
    ) -> Result<Option<SetupIntent>, ClientError> {
        let path = format!("/v1/setup_intents/{}", segment(RETRIEVE, id)?);
        self.get(RETRIEVE, &path, &Form::new()).await
    }
}
