//! Closing of a month: one payout for each partner and currency that is owed anything at its end.
//!
//! Entries are marked in batches, and then the payout is created with their sum. Its id is derived from partner, currency
//! and month, so that a job that dies in between continues where it stopped. An hour after the end of a month no
//! transaction that began in it can commit any more.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    audit::{Action, Target},
    id::PayoutId,
    ledger::{PartnerBalance, Payout, PayoutStatus},
    platform::clock,
    queue::{args::ClosePayouts, job::Progress},
    store::{
        VersionedRepository as _,
        ledger::{Closing, EntrySum},
    },
    tenant::reason,
};
use futures::{FutureExt as _, TryStreamExt as _};
use tokio::time::Instant;

use crate::jobs::audit_event;
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Entries marked in a transaction, which may take a few seconds.
pub(super) const BATCH: i64 = 1_000;

/// Time after the end of a month at which its entries are final.
const GRACE: Duration = Duration::from_hours(1);

/// Creates the payouts.
pub(super) async fn close(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: ClosePayouts = run.args()?;
    let ctx = &run.ctx;
    let final_at = clock::later(args.month.end(), GRACE);
    if ctx.store.now() < final_at && !args.dry_run {
        return Ok(StepSuccess::continue_at(final_at));
    }
    let before = run.job.progress.as_ref();
    let mut done = before.map_or(0, |progress| progress.done);
    let cursor = before.and_then(|progress| progress.cursor.clone());
    let mut changes = Vec::new();
    if let Some(only) = &args.only {
        let balances = ctx.ledger.list_balances(only.partner_id).await?;
        let balance = balances.iter().find(|it| it.currency == only.currency);
        if let Some(balance) = balance {
            match close_one(&run, &args, balance).await? {
                Closed::Done(change) => changes.extend(change),
                Closed::Partly => return Ok(StepSuccess::continue_at(ctx.store.now())),
            }
        }
        return Ok(StepSuccess::ok(reason::NO_TENANT, changes));
    }
    let mut balances = Box::pin(ctx.ledger.all_balances(cursor.as_deref()).await?);
    let mut last = cursor;
    while let Some(balance) = balances.try_next().await? {
        let closed = close_one(&run, &args, &balance).await?;
        let is_partly_closed = matches!(closed, Closed::Partly);
        if let Closed::Done(change) = closed {
            changes.extend(change);
            done += 1;
            last = Some(balance.id);
        }
        if is_partly_closed || Instant::now() >= run.yield_after {
            save_progress(&run, done, last).await?;
            let mut part = StepSuccess::continue_at(ctx.store.now());
            part.changes = changes;
            return Ok(part);
        }
    }
    save_progress(&run, done, None).await?;
    Ok(StepSuccess::ok(reason::NO_TENANT, changes))
}

async fn save_progress(
    run: &StepContext,
    done: i64,
    cursor: Option<String>,
) -> Result<(), StepFailure> {
    let progress = Progress {
        done,
        total: done,
        note: "balances".to_owned(),
        cursor,
    };
    run.save_progress(&progress).await
}

/// Outcome of a balance in an attempt.
enum Closed {
    /// It is closed, with this change, if there was one.
    Done(Option<String>),
    /// The next attempt marks more of its entries, which may be a million.
    Partly,
}

/// Creates the payout of a partner and currency, if anything is owed and it does not exist yet.
async fn close_one(
    run: &StepContext,
    args: &ClosePayouts,
    balance: &PartnerBalance,
) -> Result<Closed, StepFailure> {
    let ctx = &run.ctx;
    let (partner_id, currency) = (balance.partner_id, balance.currency.as_str());
    let before = args.month.end();
    let payout_id = PayoutId::deterministic(partner_id, currency, before);
    if ctx.payouts.find(payout_id).await?.is_some() {
        return Ok(Closed::Done(None));
    }
    let closing = Closing {
        partner_id,
        currency,
        before,
        payout_id,
    };
    let owed = ctx.ledger.sum_closing(closing).await?;
    if owed.sum <= 0 {
        // Carried over to the next month.
        return Ok(Closed::Done(None));
    }
    let what = format!(
        "payout of {} {currency} (minor units) to {partner_id}",
        owed.sum
    );
    if args.dry_run {
        return Ok(Closed::Done(Some(format!("would create a {what}"))));
    }
    loop {
        let marking = (&ctx.ledger, closing);
        let marked = run.fenced_transaction(marking, |session, (ledger, closing)| {
            ledger.mark_settled(session, *closing, BATCH).boxed()
        });
        if marked.await? == 0 {
            break;
        }
        if Instant::now() >= run.yield_after {
            return Ok(Closed::Partly);
        }
    }
    let settled = ctx.ledger.sum_marked(closing).await?;
    create(run, args, closing, settled).await?;
    Ok(Closed::Done(Some(format!("{what} created"))))
}

async fn create(
    run: &StepContext,
    args: &ClosePayouts,
    closing: Closing<'_>,
    settled: EntrySum,
) -> Result<(), StepFailure> {
    let now = run.ctx.store.now();
    let payout = Payout {
        id: closing.payout_id,
        partner_id: closing.partner_id,
        currency: closing.currency.to_owned(),
        month: args.month,
        amount_minor: settled.sum,
        entry_count: settled.count,
        status: PayoutStatus::Pending,
        paid_at: None,
        reference: None,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    let target = Target::new("payout", payout.id, args.month.to_string());
    let mut event = audit_event::event(Action::PayoutCreate, target, None, run.job.id, now);
    event.after = doc! {
        "partnerId": payout.partner_id, "currency": &payout.currency, "amountMinor": payout.amount_minor,
        "entryCount": payout.entry_count,
    };
    let creation = (&run.ctx, payout, event);
    run.fenced_transaction(creation, |session, (ctx, payout, event)| {
        async move {
            let known = ctx.payouts.find_in_transaction(session, payout.id).await?;
            if known.is_none() {
                ctx.payouts.insert(session, payout).await?;
                ctx.ledger.open_payout(session, payout).await?;
                ctx.audit.record(session, event).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await
}
