//! Fan-out of an invoice run: subscriptions with a period that has begun, those to enrol, and those with an overdue
//! invoice.
//!
//! Of those to enrol it looks at a part, and the next run continues behind it: while the flag is on for some tenants only,
//! most of them stay as they are. A sale enrols its subscription by itself.
//!
//! It claims nothing. A subscription that more periods are due for than one run invoices gets no job: it waits for an
//! operator, and is named in the result.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    billing::period::BillingPeriods,
    feature_flag::{FlagSet, NEW_BILLING_ENGINE},
    id::{SubscriptionId, TenantId},
    invoicing::MAX_PERIODS,
    platform::clock,
    queue::args::{InvoiceSubscription, RunInvoices},
    store::{StoreError, invoices::DueInvoice, jobs::NewJob, subscriptions::RunCandidate},
    tenant::{Tenant, TenantStatus},
};
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::ready,
    stream::{self, BoxStream},
};

use super::{NOT_BILLED, flags_of, is_billed, position::Position, unsent::enqueue_unsent};
use crate::{
    fan_out::{Child, FanOut},
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Subscriptions whose tenants are read at once.
const BATCH: usize = 500;
/// Subscriptions that are not enrolled and that a run looks at.
const MAX_EXAMINED: i64 = 50_000;
/// Held subscriptions named in the result.
const MAX_NAMED: usize = 50;

/// A subscription that the run concerns, if its tenant is billed by it.
#[derive(Debug, Clone, Copy)]
struct Found {
    position: Position,
    subscription: SubscriptionId,
    tenant: TenantId,
    is_held: bool,
}

/// Selection of the subscriptions that get a job.
struct Selection {
    run: StepContext,
    args: RunInvoices,
    flags: FlagSet,
    /// Slugs of the tenants whose subscriptions are held.
    held: Mutex<Vec<String>>,
}

/// Enqueues a job for each of them.
pub(super) async fn each_subscription(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: RunInvoices = run.args()?;
    let flags = flags_of(&run).await?;
    if !flags.may_be_on(NEW_BILLING_ENGINE) {
        return Ok(StepSuccess::skipped(NOT_BILLED));
    }
    let found = find_all(&run, &args, FanOut::cursor(&run)).await?;
    let selection = Arc::new(Selection {
        run: run.clone(),
        args,
        flags,
        held: Mutex::default(),
    });
    let fan_out = FanOut {
        noun: "subscriptions",
        total: 0,
        spread: Duration::ZERO,
    };
    let mut done = fan_out.run(&run, selection.children(found)).await?;
    done.changes = selection.named();
    if !selection.args.dry_run && run.ctx.clients.stripe.is_some() {
        let unsent = enqueue_unsent(&run).await?;
        if unsent > 0 {
            let change = format!("jobs of {unsent} unsent invoices enqueued again");
            done.changes.push(change);
        }
    }
    Ok(done)
}

/// All subscriptions that the run concerns, after the cursor.
async fn find_all(
    run: &StepContext,
    args: &RunInvoices,
    cursor: Option<Position>,
) -> Result<BoxStream<'static, Result<Found, StoreError>>, StoreError> {
    let ctx = &run.ctx;
    let (as_of, is_dry_run) = (args.as_of.min(ctx.store.now()), args.dry_run);
    let is_next = move |found: &Found| cursor.is_none_or(|cursor| found.position.is_after(cursor));
    let mut parts: Vec<BoxStream<'static, Result<Found, StoreError>>> = Vec::new();
    if matches!(cursor, None | Some(Position::Due(..))) {
        let from = match cursor {
            Some(Position::Due(at, _)) => Some(at),
            _ => None,
        };
        let due = ctx.subscriptions.list_due(from, as_of).await?;
        let found = due.try_filter_map(move |due| ready(Ok(due_at(&due, as_of))));
        parts.push(found.boxed());
    }
    if !matches!(cursor, Some(Position::Overdue(..))) {
        parts.push(some_not_enrolled(run, is_dry_run, cursor).await?);
    }
    let from = match cursor {
        Some(Position::Overdue(at, _)) => Some(at),
        _ => None,
    };
    let until = clock::earlier(as_of, ctx.invoicing.past_due_grace);
    let overdue = ctx.invoices.list_newly_overdue(from, until).await?;
    parts.push(overdue.map_ok(|invoice| overdue_of(&invoice)).boxed());
    let all = stream::iter(parts).flatten();
    Ok(all.try_filter(move |found| ready(is_next(found))).boxed())
}

/// The next subscriptions that are not enrolled. Once they are read, the next run continues behind them, or at the start.
///
/// A subscription that this run finds but dies before it enqueues is found again in the next round.
async fn some_not_enrolled(
    run: &StepContext,
    is_dry_run: bool,
    cursor: Option<Position>,
) -> Result<BoxStream<'static, Result<Found, StoreError>>, StoreError> {
    let repository = run.ctx.invoice_run.clone();
    let after = match cursor {
        Some(Position::NotEnrolled(id)) => Some(id),
        _ => repository.position().await?,
    };
    let new = run.ctx.subscriptions.list_not_enrolled(after, MAX_EXAMINED);
    let seen = Arc::new(Mutex::new((0_i64, None)));
    let counted = seen.clone();
    let found = new.await?.map_ok(move |new| {
        if let Ok(mut seen) = counted.lock() {
            *seen = (seen.0 + 1, Some(new.id));
        }
        not_enrolled(&new)
    });
    let end = stream::once(async move {
        let (count, last) = seen.lock().map_or((0, None), |seen| *seen);
        if is_dry_run {
            return Ok(());
        }
        let next = last.filter(|_| count == MAX_EXAMINED);
        repository.set_position(next).await
    });
    let end = end.filter_map(|ended| ready(ended.err().map(Err)));
    Ok(found.chain(end).boxed())
}

fn due_at(due: &RunCandidate, as_of: DateTime) -> Option<Found> {
    let (through, anchor) = (due.invoiced_through?, due.billing_anchor?);
    let periods = BillingPeriods {
        anchor,
        cycle: due.cycle,
    };
    let begun = periods.begun(through, as_of).take(MAX_PERIODS + 1).count();
    Some(Found {
        position: Position::Due(through, due.id),
        subscription: due.id,
        tenant: due.tenant_id,
        is_held: begun > MAX_PERIODS,
    })
}

fn not_enrolled(new: &RunCandidate) -> Found {
    Found {
        position: Position::NotEnrolled(new.id),
        subscription: new.id,
        tenant: new.tenant_id,
        is_held: false,
    }
}

fn overdue_of(invoice: &DueInvoice) -> Found {
    Found {
        position: Position::Overdue(invoice.due_at, invoice.subscription_id),
        subscription: invoice.subscription_id,
        tenant: invoice.tenant_id,
        is_held: false,
    }
}

impl Selection {
    /// The jobs of those subscriptions whose tenants are billed by the run.
    fn children(
        self: &Arc<Self>,
        found: BoxStream<'static, Result<Found, StoreError>>,
    ) -> BoxStream<'static, Result<Child, StepFailure>> {
        let this = self.clone();
        let batches = found.try_chunks(BATCH);
        let children = batches
            .map_err(|error| StepFailure::from(error.1))
            .and_then(move |batch| {
                let this = this.clone();
                async move { this.children_of(batch).await }
            });
        let each = |children: Vec<Child>| stream::iter(children).map(Ok);
        children.map_ok(each).try_flatten().boxed()
    }

    async fn children_of(&self, batch: Vec<Found>) -> Result<Vec<Child>, StepFailure> {
        let ctx = &self.run.ctx;
        let now = ctx.store.now();
        let ids: Vec<TenantId> = batch.iter().map(|found| found.tenant).collect();
        let tenants = ctx.tenants.list_by_ids(&ids).await?.into_iter();
        let tenants: BTreeMap<TenantId, Tenant> =
            tenants.map(|tenant| (tenant.id, tenant)).collect();
        let mut children = Vec::new();
        for found in batch {
            let Some(tenant) = tenants.get(&found.tenant) else {
                continue;
            };
            if !is_billed(&self.flags, tenant, now) || !concerns(tenant.status, &found) {
                continue;
            }
            // A tenant that is gone is not invoiced, however much is due.
            if found.is_held && tenant.status != TenantStatus::Terminated {
                tracing::warn!(
                    tenant = tenant.slug,
                    subscription = %found.subscription,
                    "More periods are due than are invoiced at once; waiting for an operator"
                );
                if let Ok(mut held) = self.held.lock() {
                    held.push(tenant.slug.clone());
                }
                continue;
            }
            let invoice = InvoiceSubscription {
                tenant_id: found.tenant,
                subscription_id: found.subscription,
                as_of: self.args.as_of,
                dry_run: self.args.dry_run,
                periods: None,
                skip_to: None,
            };
            children.push(Child {
                subject: found.position.to_string(),
                job: NewJob::new(&invoice, &self.run.job.created_by, now)?,
            });
        }
        Ok(children)
    }

    /// The result for an operator.
    fn named(&self) -> Vec<String> {
        let Ok(held) = self.held.lock() else {
            return Vec::new();
        };
        let line = |who: &str| format!("held, too many periods are due: {who}");
        let mut changes: Vec<String> = held.iter().take(MAX_NAMED).map(|slug| line(slug)).collect();
        if held.len() > MAX_NAMED {
            changes.push(line(&format!("{} more", held.len() - MAX_NAMED)));
        }
        changes
    }
}

/// Whether the run has anything to do for a tenant of this status.
fn concerns(status: TenantStatus, found: &Found) -> bool {
    match status {
        TenantStatus::Pending | TenantStatus::Active | TenantStatus::Suspended => true,
        // Its subscription waits for the restore or the removal, and its invoices stay due.
        TenantStatus::Terminating => matches!(found.position, Position::Overdue(..)),
        TenantStatus::Terminated => !matches!(found.position, Position::NotEnrolled(_)),
    }
}
