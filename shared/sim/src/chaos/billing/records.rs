//! Documents of billing in MongoDB at the end of a run.

use bson::{Document, deserialize_from_document};
use dezky_shared::{
    billing_account::BillingAccount,
    billing_totals::MonthTotals,
    invoice::Invoice,
    ledger::{LedgerEntry, PartnerBalance, Payout},
    setup_intent::SetupIntent,
    subscription::Subscription,
    webhook_event::WebhookEvent,
};
use mongodb::Client;

use crate::chaos::{DATABASE, stored::all};

/// All collections of billing.
#[derive(Debug)]
pub(in crate::chaos) struct BillingRecords {
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) invoices: Vec<Invoice>,
    pub(super) entries: Vec<LedgerEntry>,
    pub(super) balances: Vec<PartnerBalance>,
    pub(super) payouts: Vec<Payout>,
    pub(super) totals: Vec<ScopedTotals>,
    pub(super) events: Vec<WebhookEvent>,
    pub(super) accounts: Vec<BillingAccount>,
    pub(super) setup_intents: Vec<SetupIntent>,
}

/// Totals of a month, or a part of them, with their scope.
#[derive(Debug, Clone)]
pub(super) struct ScopedTotals {
    pub(super) scope: String,
    pub(super) totals: MonthTotals,
}

impl BillingRecords {
    /// Reads everything from the primary, bypassing the proxies.
    pub(in crate::chaos) async fn read(primary: &Client) -> anyhow::Result<Self> {
        let database = primary.database(DATABASE);
        let totals: Vec<Document> = all(&database, "billing_totals").await?;
        Ok(Self {
            subscriptions: all(&database, "subscriptions").await?,
            invoices: all(&database, "invoices").await?,
            entries: all(&database, "ledger_entries").await?,
            balances: all(&database, "partner_balances").await?,
            payouts: all(&database, "payouts").await?,
            totals: totals
                .into_iter()
                .map(ScopedTotals::read)
                .collect::<anyhow::Result<_>>()?,
            events: all(&database, "webhook_events").await?,
            accounts: all(&database, "billing_accounts").await?,
            setup_intents: all(&database, "setup_intents").await?,
        })
    }
}

impl ScopedTotals {
    fn read(document: Document) -> anyhow::Result<Self> {
        Ok(Self {
            scope: document.get_str("scope")?.to_owned(),
            totals: deserialize_from_document(document)?,
        })
    }
}
