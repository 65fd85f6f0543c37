//! Invoices with their payments and reductions: credit notes, refunds and disputes.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;

use super::{Form, Stripe, error, segment};
use crate::clients::{ClientError, Operation};

const RETRIEVE: Operation = Operation::read("retrieve_invoice");
/// A request by POST that creates nothing.
const PREVIEW: Operation = Operation::read("preview_invoice");
const LIST_LINES: Operation = Operation::read("list_invoice_lines");
const LIST_PAYMENTS: Operation = Operation::read("list_invoice_payments");
const LIST_CREDIT_NOTES: Operation = Operation::read("list_credit_notes");
const LIST_REFUNDS: Operation = Operation::read("list_refunds");
const LIST_DISPUTES: Operation = Operation::read("list_disputes");

/// Code of the error if a subscription ends before its next invoice.
const NONE_TO_COME: &str = "invoice_upcoming_none";

/// Invoice. Amounts are in Stripe's units of the currency.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Invoice {
    /// Id.
    pub id: String,
    /// Customer.
    #[serde(default)]
    pub customer: Option<String>,
    /// Status: `draft`, `open`, `paid`, `uncollectible` or `void`.
    #[serde(default)]
    pub status: Option<String>,
    /// Number, once it is issued.
    #[serde(default)]
    pub number: Option<String>,
    /// Currency, lower case.
    pub currency: String,
    /// Creation time in seconds.
    pub created: i64,
    /// Due time in seconds.
    #[serde(default)]
    pub due_date: Option<i64>,
    /// Amount after discounts, without taxes.
    #[serde(default)]
    pub total_excluding_tax: Option<i64>,
    /// Amount after discounts, with taxes.
    pub total: i64,
    /// Amount that remains to be paid.
    pub amount_remaining: i64,
    /// Page on which it can be paid.
    #[serde(default)]
    pub hosted_invoice_url: Option<String>,
    /// Link of its PDF.
    #[serde(default)]
    pub invoice_pdf: Option<String>,
    /// Our keys, of an invoice that was created for us.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Times of its changes.
    pub status_transitions: StatusTransitions,
    #[serde(default)]
    parent: Option<Parent>,
}

/// Times at which an invoice changed, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct StatusTransitions {
    /// Issue.
    #[serde(default)]
    pub finalized_at: Option<i64>,
    /// Payment.
    #[serde(default)]
    pub paid_at: Option<i64>,
    /// Voiding.
    #[serde(default)]
    pub voided_at: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Parent {
    #[serde(default)]
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct SubscriptionDetails {
    subscription: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

impl Invoice {
    /// Id of the subscription that it is of.
    pub fn subscription(&self) -> Option<&str> {
        let details = self.parent.as_ref()?.subscription_details.as_ref()?;
        Some(&details.subscription)
    }

    /// Our subscription's id, if that subscription was created for one.
    pub fn created_for(&self) -> Option<&str> {
        let details = self.parent.as_ref()?.subscription_details.as_ref()?;
        let id = details.metadata.as_ref()?.get("subscriptionId")?;
        Some(id)
    }
}

/// Line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InvoiceLine {
    /// Amount without taxes.
    pub amount: i64,
    /// Description.
    #[serde(default)]
    pub description: Option<String>,
    /// Period in seconds.
    pub period: LinePeriod,
    #[serde(default)]
    parent: Option<LineParent>,
}

/// Period of a line, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LinePeriod {
    /// First second.
    pub start: i64,
    /// First second after it.
    pub end: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct LineParent {
    #[serde(default)]
    subscription_item_details: Option<SubscriptionItemDetails>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct SubscriptionItemDetails {
    #[serde(default)]
    proration: bool,
}

impl InvoiceLine {
    /// Whether it is the price of a whole period of a subscription, not of a part of one after a change.
    pub fn is_cycle(&self) -> bool {
        let item = self.parent.as_ref();
        let item = item.and_then(|parent| parent.subscription_item_details.as_ref());
        item.is_some_and(|item| !item.proration)
    }
}

/// Next invoice of a subscription, if nothing changes. Amounts are in Stripe's units of the currency.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InvoicePreview {
    /// Currency, lower case.
    pub currency: String,
    #[serde(default)]
    total_excluding_tax: Option<i64>,
    total: i64,
}

impl InvoicePreview {
    /// Amount after discounts, without taxes.
    pub fn net(&self) -> i64 {
        self.total_excluding_tax.unwrap_or(self.total)
    }
}

/// Payment of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InvoicePayment {
    /// Id of the invoice.
    pub invoice: String,
    id: String,
    payment: Payment,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Payment {
    #[serde(default)]
    payment_intent: Option<String>,
}

impl InvoicePayment {
    /// Id of the payment intent, by which refunds and disputes are found.
    pub fn payment_intent(&self) -> Option<&str> {
        self.payment.payment_intent.as_deref()
    }
}

/// Credit note.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CreditNote {
    /// Id.
    pub id: String,
    /// Creation time in seconds.
    pub created: i64,
    /// Status: `issued` or `void`.
    pub status: String,
    /// Amount without taxes.
    #[serde(default)]
    pub total_excluding_tax: Option<i64>,
    /// Amount with taxes.
    pub total: i64,
    #[serde(default)]
    refunds: Vec<CreditNoteRefund>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct CreditNoteRefund {
    #[serde(default)]
    refund: Option<String>,
}

impl CreditNote {
    /// Ids of the refunds that it has made.
    pub fn refunds(&self) -> Vec<String> {
        let ids = self.refunds.iter().filter_map(|it| it.refund.clone());
        ids.collect()
    }
}

/// Refund or dispute of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reversal {
    /// Id.
    pub id: String,
    /// Creation time in seconds.
    pub created: i64,
    /// Status.
    #[serde(default)]
    pub status: Option<String>,
    /// Amount with taxes.
    pub amount: i64,
}

impl Stripe {
    /// Calculates the next invoice of a subscription, with what is prorated. `None` if there is none to come.
    pub async fn preview_invoice(
        &self,
        subscription: &str,
    ) -> Result<Option<InvoicePreview>, ClientError> {
        let form = [("subscription", segment(PREVIEW, subscription)?)];
        let request = self
            .http
            .request(Method::POST, "/v1/invoices/create_preview")
            .form(&form);
        let response = self.send(PREVIEW, request).await?;
        let is_none = error::code_of(&response).as_deref() == Some(NONE_TO_COME);
        if is_none || error::is_missing(&response) {
            return Ok(None);
        }
        self.decode(&response).map(Some)
    }

    /// Reads an invoice. `None` if it does not exist; a draft may be deleted.
    pub async fn retrieve_invoice(&self, id: &str) -> Result<Option<Invoice>, ClientError> {
        let path = format!("/v1/invoices/{}", segment(RETRIEVE, id)?);
        self.get(RETRIEVE, &path, &Form::new()).await
    }

    /// At most `limit` lines of an invoice, up to 100.
    pub async fn list_invoice_lines(
        &self,
        invoice: &str,
        limit: usize,
    ) -> Result<Vec<InvoiceLine>, ClientError> {
        #[derive(Deserialize)]
        struct Lines {
            data: Vec<InvoiceLine>,
        }
        let path = format!("/v1/invoices/{}/lines", segment(LIST_LINES, invoice)?);
        let query = vec![("limit".to_owned(), limit.to_string())];
        let found: Option<Lines> = self.get(LIST_LINES, &path, &query).await?;
        Ok(found.map(|page| page.data).unwrap_or_default())
    }

    /// The payments of an invoice.
    pub async fn list_invoice_payments(
        &self,
        invoice: &str,
    ) -> Result<Vec<InvoicePayment>, ClientError> {
        self.list_payments(&[("invoice", invoice)]).await
    }

    /// The invoices that a payment intent pays.
    pub async fn list_paid_invoices(
        &self,
        payment_intent: &str,
    ) -> Result<Vec<InvoicePayment>, ClientError> {
        let filter = [
            ("payment[type]", "payment_intent"),
            ("payment[payment_intent]", payment_intent),
        ];
        self.list_payments(&filter).await
    }

    async fn list_payments(
        &self,
        filter: &[(&str, &str)],
    ) -> Result<Vec<InvoicePayment>, ClientError> {
        self.list_all(
            LIST_PAYMENTS,
            "/v1/invoice_payments",
            filter,
            |it: &InvoicePayment| &it.id,
        )
        .await
    }

    /// The credit notes of an invoice.
    pub async fn list_credit_notes(&self, invoice: &str) -> Result<Vec<CreditNote>, ClientError> {
        let filter = [("invoice", invoice)];
        self.list_all(
            LIST_CREDIT_NOTES,
            "/v1/credit_notes",
            &filter,
            |it: &CreditNote| &it.id,
        )
        .await
    }

    /// The refunds of a payment.
    pub async fn list_refunds(&self, payment_intent: &str) -> Result<Vec<Reversal>, ClientError> {
        let filter = [("payment_intent", payment_intent)];
        self.list_all(LIST_REFUNDS, "/v1/refunds", &filter, |it: &Reversal| &it.id)
            .await
    }

    /// The disputes of a payment.
    pub async fn list_disputes(&self, payment_intent: &str) -> Result<Vec<Reversal>, ClientError> {
        let filter = [("payment_intent", payment_intent)];
        self.list_all(LIST_DISPUTES, "/v1/disputes", &filter, |it: &Reversal| {
            &it.id
        })
        .await
    }
}
