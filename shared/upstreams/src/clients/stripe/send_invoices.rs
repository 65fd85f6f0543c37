//! Invoices that Stripe issues and sends for us: created, filled, finalized and sent, then paid or voided.

use serde::Deserialize;

use super::{Form, Invoice, KeyedError, Stripe, segment};
use crate::clients::{ClientError, Operation};

const LIST: Operation = Operation::read("list_invoices");
const CREATE: Operation = Operation::write("create_invoice");
const CREATE_ITEM: Operation = Operation::write("create_invoice_item");
const FINALIZE: Operation = Operation::write("finalize_invoice");
const SEND: Operation = Operation::write("send_invoice");
const VOID: Operation = Operation::write("void_invoice");
const PAY: Operation = Operation::write("pay_invoice");
const DELETE: Operation = Operation::write("delete_invoice");

/// Invoice to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvoice {
    /// Customer.
    pub customer: String,
    /// Currency, lower case.
    pub currency: String,
    /// Days until it is due.
    pub days_until_due: u64,
    /// Tenant's id.
    pub tenant_id: String,
    /// Our invoice's id.
    pub invoice_id: String,
    /// Key of its period.
    pub period_key: String,
}

/// Line of an invoice to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvoiceItem {
    /// Customer.
    pub customer: String,
    /// Invoice.
    pub invoice: String,
    /// Amount without taxes, in Stripe's units.
    pub amount: i64,
    /// Currency, lower case.
    pub currency: String,
    /// Description.
    pub description: String,
    /// First second of the period, and the first one after it.
    pub period: Option<(i64, i64)>,
}

/// An object of which only the existence counts.
#[derive(Debug, Deserialize)]
struct Created {}

fn form<const N: usize>(fields: [(&str, String); N]) -> Form {
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

impl Stripe {
    /// The invoices of a customer.
    pub async fn list_invoices(&self, customer: &str) -> Result<Vec<Invoice>, ClientError> {
        let filter = [("customer", customer)];
        self.list_all(LIST, "/v1/invoices", &filter, |it: &Invoice| &it.id)
            .await
    }

    /// Creates a draft that is not finalized by itself. `None` if the customer does not exist.
    pub async fn create_invoice(
        &self,
        new: &NewInvoice,
        key: &str,
    ) -> Result<Option<Invoice>, KeyedError> {
        let mut fields = form([
            ("customer", new.customer.clone()),
            ("currency", new.currency.clone()),
            ("collection_method", "send_invoice".to_owned()),
            ("days_until_due", new.days_until_due.to_string()),
            ("auto_advance", "false".to_owned()),
            ("pending_invoice_items_behavior", "exclude".to_owned()),
            ("metadata[tenantId]", new.tenant_id.clone()),
            ("metadata[invoiceId]", new.invoice_id.clone()),
            ("metadata[periodKey]", new.period_key.clone()),
        ]);
        if self.automatic_tax {
            fields.extend(form([("automatic_tax[enabled]", "true".to_owned())]));
        }
        self.post(CREATE, "/v1/invoices", &fields, key).await
    }

    /// Adds a line to a draft. Returns whether the draft exists.
    pub async fn create_invoice_item(
        &self,
        new: &NewInvoiceItem,
        key: &str,
    ) -> Result<bool, KeyedError> {
        let mut fields = form([
            ("customer", new.customer.clone()),
            ("invoice", new.invoice.clone()),
            ("amount", new.amount.to_string()),
            ("currency", new.currency.clone()),
            ("description", new.description.clone()),
        ]);
        if let Some((start, end)) = new.period {
            fields.extend(form([
                ("period[start]", start.to_string()),
                ("period[end]", end.to_string()),
            ]));
        }
        if self.automatic_tax {
            fields.extend(form([("tax_behavior", "exclusive".to_owned())]));
        }
        let created: Option<Created> = self
            .post(CREATE_ITEM, "/v1/invoiceitems", &fields, key)
            .await?;
        Ok(created.is_some())
    }

    /// Issues a draft. `None` if it does not exist.
    pub async fn finalize_invoice(
        &self,
        id: &str,
        key: &str,
    ) -> Result<Option<Invoice>, KeyedError> {
        let fields = form([("auto_advance", "true".to_owned())]);
        self.act(FINALIZE, id, "finalize", &fields, key).await
    }

    /// Sends an issued invoice to the customer. `None` if it does not exist.
    pub async fn send_invoice(&self, id: &str, key: &str) -> Result<Option<Invoice>, KeyedError> {
        self.act(SEND, id, "send", &Form::new(), key).await
    }

    /// Voids an issued invoice. `None` if it does not exist.
    pub async fn void_invoice(&self, id: &str, key: &str) -> Result<Option<Invoice>, KeyedError> {
        self.act(VOID, id, "void", &Form::new(), key).await
    }

    /// Marks an issued invoice as paid elsewhere. `None` if it does not exist.
    pub async fn settle_invoice(&self, id: &str, key: &str) -> Result<Option<Invoice>, KeyedError> {
        let fields = form([("paid_out_of_band", "true".to_owned())]);
        self.act(PAY, id, "pay", &fields, key).await
    }

    /// Deletes a draft. Returns whether it existed.
    pub async fn delete_invoice(&self, id: &str) -> Result<bool, ClientError> {
        let path = format!("/v1/invoices/{}", segment(DELETE, id)?);
        self.delete(DELETE, &path).await
    }

    async fn act(
        &self,
        operation: Operation,
        id: &str,
        act: &str,
        fields: &Form,
        key: &str,
    ) -> Result<Option<Invoice>, KeyedError> {
        let path = format!("/v1/invoices/{}/{act}", segment(operation, id)?);
        self.post(operation, &path, fields, key).await
    }
}
