//! Release of a cancelled payout's entries, in batches. The next closing of a month settles them.

use dezky_shared::{
    ledger::PayoutStatus, queue::args::ReleasePayout, store::VersionedRepository as _,
    tenant::reason,
};
use futures::FutureExt as _;
use tokio::time::Instant;

use super::payouts::BATCH;
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Removes the payout's mark from its entries.
pub(super) async fn release(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: ReleasePayout = run.args()?;
    let ctx = &run.ctx;
    let payout = ctx.payouts.find(args.payout_id).await?;
    let Some(payout) = payout.filter(|payout| payout.status == PayoutStatus::Cancelled) else {
        return Ok(StepSuccess::ok(reason::NO_TENANT, Vec::new()));
    };
    let mut released = 0;
    loop {
        let releasing = (&ctx.ledger, &payout);
        let part = run.fenced_transaction(releasing, |session, (ledger, payout)| {
            ledger.release(session, payout, BATCH).boxed()
        });
        match part.await? {
            0 => break,
            part => released += part,
        }
        if Instant::now() >= run.yield_after {
            let mut part = StepSuccess::continue_at(ctx.store.now());
            part.changes = vec![change(released)];
            return Ok(part);
        }
    }
    Ok(StepSuccess::ok(reason::NO_TENANT, vec![change(released)]))
}

fn change(released: u64) -> String {
    format!("{released} ledger entries released")
}
