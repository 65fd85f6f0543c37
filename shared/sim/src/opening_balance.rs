//! Opening balance of a partner: an amount in its ledger in a month that is over. The API records at the current time, so
//! that it cannot write one.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    billing::month::Month,
    id::{LedgerEntryId, PartnerId},
    ledger::{EntryKind, LedgerEntry},
    platform::clock,
    store::{Store, TransactionError, ledger::LedgerRepository},
};
use futures::FutureExt as _;

/// Credits a partner on the last day of a month.
pub(crate) async fn credit(
    store: &Arc<Store>,
    partner_id: PartnerId,
    month: Month,
    currency: &str,
    amount_minor: i64,
) -> anyhow::Result<()> {
    let ledger = LedgerRepository::new(store);
    let at = clock::earlier(month.end(), Duration::from_hours(24));
    let entry = LedgerEntry {
        id: LedgerEntryId::new(),
        partner_id,
        kind: EntryKind::Adjustment,
        currency: currency.to_owned(),
        amount_minor,
        tenant_id: None,
        invoice_id: None,
        sequence: None,
        base_minor: None,
        margin_basis_points: None,
        reason: Some("Opening balance".to_owned()),
        occurred_at: at,
        recorded_at: at,
        payout_id: None,
    };
    let written = store.transaction((&ledger, &entry), |session, (ledger, entry)| {
        async move { Ok::<_, TransactionError<()>>(ledger.append(session, entry).await?) }.boxed()
    });
    match written.await {
        Ok(()) | Err(TransactionError::Aborted(())) => Ok(()),
        Err(TransactionError::Store(error)) => Err(error.into()),
    }
}
