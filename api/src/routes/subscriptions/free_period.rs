//! End of a period over nothing in which a subscription gets a price, if the price counts at once.

use bson::DateTime;
use dezky_shared::{
    billing::period::{Period, whole_second},
    invoice::{FreeToPaid, Invoice},
    queue::{args::InvoiceSubscription, job::Job},
    store::{VersionedRepository as _, jobs::NewJob},
    subscription::Subscription,
};
use mongodb::ClientSession;

use crate::{
    state::AppState,
    write::{CommandRunner, Rollback},
};

/// Ends the period over nothing at this second: its invoice ends, and the next period begins. A period that was paid for
/// stays, also if the price was nothing meanwhile.
pub(super) async fn end_free_period(
    session: &mut ClientSession,
    app: &AppState,
    before: &Subscription,
    after: &mut Subscription,
    now: DateTime,
) -> Result<(), Rollback> {
    let counts_now = app.config.invoicing.free_to_paid == FreeToPaid::Now;
    let is_sold = before.price_minor == 0 && after.price_minor > 0 && after.biller.is_run();
    let end = whole_second(now);
    let through = before.invoiced_through.filter(|through| *through > end);
    let Some(through) = through.filter(|_| counts_now && is_sold) else {
        return Ok(());
    };
    let invoices = &app.db.invoices;
    let left = Period {
        start: end,
        end: through,
    };
    // Not by the start of the period, which does not follow from the terms after a change of the cycle.
    let found = invoices.list_overlapping(session, before.id, left).await?;
    let Some((invoice, period)) = found.iter().find_map(|it| free_until(it, through)) else {
        return Ok(());
    };
    if period.start >= end {
        return Ok(());
    }
    let mut ended = invoice.clone();
    let used = Some(Period { end, ..period });
    ended.period = used;
    for line in &mut ended.lines {
        line.period = used;
    }
    invoices
        .save_changed(session, invoice, &mut ended, now)
        .await?;
    after.advance_to(end);
    after.restart_periods();
    Ok(())
}

/// Enqueues the job that invoices the period which begins now, if the one over nothing ended.
pub(super) async fn enqueue_invoice(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    [before, after]: [&Subscription; 2],
    now: DateTime,
) -> Result<Option<Job>, Rollback> {
    if after.invoiced_through >= before.invoiced_through {
        return Ok(None);
    }
    let args = InvoiceSubscription {
        tenant_id: after.tenant_id,
        subscription_id: after.id,
        as_of: now,
        dry_run: false,
        periods: None,
        skip_to: None,
    };
    let job = NewJob::new(&args, &runner.actor_id(), now)?;
    Ok(Some(runner.enqueue(session, job).await?))
}

/// The invoice with its period, if it is one over nothing that ends at `through`.
fn free_until(invoice: &Invoice, through: DateTime) -> Option<(&Invoice, Period)> {
    let period = invoice.period.filter(|period| period.end == through)?;
    (invoice.subtotal_minor == 0).then_some((invoice, period))
}
