//! Customers and their tax ids.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Form, KeyedError, Stripe, rejected, segment};
use crate::clients::{ClientError, Operation};

/// Customer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Customer {
    /// Id.
    pub id: String,
    /// Our keys: the tenant's id.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Currency of its invoices, fixed by the first one.
    #[serde(default)]
    pub currency: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    invoice_settings: InvoiceSettings,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct InvoiceSettings {
    default_payment_method: Option<String>,
}

impl Customer {
    /// Id of the payment method that its invoices are charged to.
    pub fn default_payment_method(&self) -> Option<&str> {
        self.invoice_settings.default_payment_method.as_deref()
    }
}

/// Address of a customer. It is sent as a whole, since it replaces the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// Country, ISO 3166-1 alpha-2.
    pub country: Option<String>,
}

/// Fields of a customer that we set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomerFields {
    /// Name on invoices.
    pub name: String,
    /// E-mail address for invoices.
    pub email: Option<String>,
    /// Address.
    pub address: Address,
    /// Tenant's id, by which the customer is recognised.
    pub tenant_id: String,
}

impl CustomerFields {
    /// The parameters. A field without a value is sent empty, which unsets it.
    fn form(&self) -> Form {
        let fields = [
            ("name", Some(&self.name)),
            ("email", self.email.as_ref()),
            ("address[country]", self.address.country.as_ref()),
            ("metadata[tenantId]", Some(&self.tenant_id)),
        ];
        let field = |(name, value): (&str, Option<&String>)| {
            (name.to_owned(), value.cloned().unwrap_or_default())
        };
        fields.into_iter().map(field).collect()
    }
}

/// Tax id of a customer. It is immutable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TaxId {
    /// Id.
    pub id: String,
    /// Type, such as `eu_vat`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value.
    pub value: String,
    #[serde(default)]
    verification: Option<Verification>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Verification {
    status: String,
}

impl TaxId {
    /// State of its verification by the tax authority, such as `pending` or `verified`.
    pub fn verification(&self) -> Option<&str> {
        self.verification.as_ref().map(|it| it.status.as_str())
    }
}

#[derive(Debug, Deserialize)]
struct TaxIds {
    data: Vec<TaxId>,
}

const RETRIEVE: Operation = Operation::read("retrieve_customer");
const CREATE: Operation = Operation::write("create_customer");
const UPDATE: Operation = Operation::write("update_customer");
const LIST_TAX_IDS: Operation = Operation::read("list_tax_ids");
const CREATE_TAX_ID: Operation = Operation::write("create_tax_id");
const DELETE_TAX_ID: Operation = Operation::write("delete_tax_id");

impl Stripe {
    /// Creates the customer of a tenant, without details.
    pub async fn create_customer(
        &self,
        tenant_id: &str,
        key: &str,
    ) -> Result<Customer, KeyedError> {
        let form = vec![("metadata[tenantId]".to_owned(), tenant_id.to_owned())];
        let created = self.post(CREATE, "/v1/customers", &form, key).await?;
        Ok(created.ok_or_else(|| rejected(CREATE, "an object in the request is missing"))?)
    }

    /// Reads a customer. `None` if it does not exist or was deleted.
    pub async fn retrieve_customer(&self, id: &str) -> Result<Option<Customer>, ClientError> {
        let path = format!("/v1/customers/{}", segment(RETRIEVE, id)?);
        let found: Option<Customer> = self.get(RETRIEVE, &path, &Form::new()).await?;
        Ok(found.filter(|customer| !customer.deleted))
    }

    /// Sets the fields of a customer. `None` if it does not exist or was deleted.
    pub async fn update_customer(
        &self,
        id: &str,
        fields: &CustomerFields,
        key: &str,
    ) -> Result<Option<Customer>, KeyedError> {
        let path = format!("/v1/customers/{}", segment(UPDATE, id)?);
        self.post(UPDATE, &path, &fields.form(), key).await
    }

    /// Sets the payment method that a customer's invoices are charged to. `None` if the customer does not exist.
    pub async fn set_default_payment_method(
        &self,
        id: &str,
        method: &str,
        key: &str,
    ) -> Result<Option<Customer>, KeyedError> {
        let path = format!("/v1/customers/{}", segment(UPDATE, id)?);
        let field = "invoice_settings[default_payment_method]".to_owned();
        let form = vec![(field, method.to_owned())];
        self.post(UPDATE, &path, &form, key).await
    }

    /// The tax ids of a customer, newest first; a customer has five at most.
    pub async fn list_tax_ids(&self, customer: &str) -> Result<Vec<TaxId>, ClientError> {
        let path = format!("/v1/customers/{}/tax_ids", segment(LIST_TAX_IDS, customer)?);
        let query = vec![("limit".to_owned(), "100".to_owned())];
        let found: Option<TaxIds> = self.get(LIST_TAX_IDS, &path, &query).await?;
        Ok(found.map(|page| page.data).unwrap_or_default())
    }

    /// Adds a tax id to a customer. `None` if the customer does not exist or was deleted.
    pub async fn create_tax_id(
        &self,
        customer: &str,
        kind: &str,
        value: &str,
        key: &str,
    ) -> Result<Option<TaxId>, KeyedError> {
        let path = format!(
            "/v1/customers/{}/tax_ids",
            segment(CREATE_TAX_ID, customer)?
        );
        let form = vec![
            ("type".to_owned(), kind.to_owned()),
            ("value".to_owned(), value.to_owned()),
        ];
        self.post(CREATE_TAX_ID, &path, &form, key).await
    }

    /// Deletes a tax id. Returns whether it existed.
    pub async fn delete_tax_id(&self, customer: &str, id: &str) -> Result<bool, ClientError> {
        let customer = segment(DELETE_TAX_ID, customer)?;
        let id = segment(DELETE_TAX_ID, id)?;
        let path = format!("/v1/customers/{customer}/tax_ids/{id}");
        self.delete(DELETE_TAX_ID, &path).await
    }
}
