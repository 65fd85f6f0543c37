//! Sweep of the billing: a sync for every tenant that has a customer at Stripe, and for every subscription that Stripe bills.
//! It repairs the effects of lost events and of discarded jobs, and takes back edits in the dashboard.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use dezky_shared::{
    feature_flag::{FlagSet, NEW_BILLING_ENGINE},
    id::{SubscriptionId, TenantId},
    queue::args::{SweepBilling, SyncBilling},
    store::jobs::NewJob,
    tenant::{Tenant, TenantStatus, reason},
};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};

use super::{flags_of, is_billed};
use crate::{
    fan_out::{Child, FanOut},
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Customers or subscriptions that are read at once.
const BATCH: i64 = 500;

/// Position in the list of a sweep, which has two parts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// A tenant with a customer.
    Customer(TenantId),
    /// A subscription that Stripe bills.
    Card(SubscriptionId),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Customer(id) => write!(f, "customer/{id}"),
            Self::Card(id) => write!(f, "card/{id}"),
        }
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (part, id) = text.split_once('/').ok_or(())?;
        match part {
            "customer" => id.parse().map(Self::Customer).map_err(|_| ()),
            "card" => id.parse().map(Self::Card).map_err(|_| ()),
            _ => Err(()),
        }
    }
}

/// The next batch to read.
#[derive(Debug, Clone, Copy)]
enum Part {
    Customers(Option<TenantId>),
    Cards(Option<SubscriptionId>),
    End,
}

struct Sweep {
    run: StepContext,
    args: SweepBilling,
    flags: FlagSet,
}

/// Enqueues the syncs.
pub(super) async fn each_customer(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: SweepBilling = run.args()?;
    let flags = flags_of(&run).await?;
    if run.ctx.clients.stripe.is_none() {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    }
    let fan_out = FanOut {
        noun: "customers",
        total: 0,
        spread: Duration::from_secs(args.spread_seconds),
    };
    let first = match FanOut::cursor(&run) {
        None if flags.may_be_on(NEW_BILLING_ENGINE) => Part::Customers(None),
        // Only those of tenants that are gone.
        None => Part::Cards(None),
        Some(Position::Customer(id)) => Part::Customers(Some(id)),
        Some(Position::Card(id)) => Part::Cards(Some(id)),
    };
    let sweep = Sweep {
        run: run.clone(),
        args,
        flags,
    };
    fan_out.run(&run, Arc::new(sweep).children(first)).await
}

impl Sweep {
    fn children(self: Arc<Self>, first: Part) -> BoxStream<'static, Result<Child, StepFailure>> {
        let batches = stream::try_unfold(first, move |part| {
            let this = self.clone();
            async move { this.batch(part).await }
        });
        let each = |children: Vec<Child>| stream::iter(children).map(Ok);
        batches.map_ok(each).try_flatten().boxed()
    }

    /// The jobs of a batch, and the batch after it.
    async fn batch(&self, part: Part) -> Result<Option<(Vec<Child>, Part)>, StepFailure> {
        let ctx = &self.run.ctx;
        match part {
            Part::Customers(after) => {
                let found = ctx.billing_accounts.list_customers(after, BATCH).await?;
                let next =
                    next_of(&found).map_or(Part::Cards(None), |last| Part::Customers(Some(*last)));
                let tenants = self.billed(&found).await?;
                let is_here = |id: &&TenantId| {
                    let tenant = tenants.get(*id);
                    tenant.is_some_and(|tenant| tenant.status != TenantStatus::Terminated)
                };
                let chosen = found.iter().filter(is_here);
                let children = chosen.map(|id| self.child(Position::Customer(*id), *id));
                Ok(Some((children.collect::<Result<_, _>>()?, next)))
            }
            Part::Cards(after) => {
                let found = ctx.subscriptions.list_by_card(after, BATCH).await?;
                let next = next_of(&found).map_or(Part::End, |last| Part::Cards(Some(last.id)));
                let ids: Vec<TenantId> = found.iter().map(|found| found.tenant_id).collect();
                let tenants = self.billed(&ids).await?;
                let customers = ctx.billing_accounts.with_customer(&ids).await?;
                // The tenant is not among the customers that were read before.
                let is_missed = |tenant: &Tenant| {
                    tenant.status == TenantStatus::Terminated || !customers.contains(&tenant.id)
                };
                let missed = found.iter().filter(|found| {
                    let tenant = tenants.get(&found.tenant_id);
                    tenant.is_some_and(is_missed)
                });
                let children =
                    missed.map(|found| self.child(Position::Card(found.id), found.tenant_id));
                Ok(Some((children.collect::<Result<_, _>>()?, next)))
            }
            Part::End => Ok(None),
        }
    }

    /// Those of the tenants that are billed here, and those that are gone: their subscriptions end, also with the flag off.
    async fn billed(&self, ids: &[TenantId]) -> Result<BTreeMap<TenantId, Tenant>, StepFailure> {
        let ctx = &self.run.ctx;
        let (tenants, now) = (ctx.tenants.list_by_ids(ids).await?, ctx.store.now());
        let is_concerned = |tenant: &Tenant| {
            tenant.status == TenantStatus::Terminated || is_billed(&self.flags, tenant, now)
        };
        let billed = tenants.into_iter().filter(is_concerned);
        Ok(billed.map(|tenant| (tenant.id, tenant)).collect())
    }

    fn child(&self, position: Position, tenant_id: TenantId) -> Result<Child, StepFailure> {
        let sync = SyncBilling {
            tenant_id,
            dry_run: self.args.dry_run,
        };
        let (by, now) = (&self.run.job.created_by, self.run.ctx.store.now());
        Ok(Child {
            subject: position.to_string(),
            job: NewJob::new(&sync, by, now)?,
        })
    }
}

/// The last of a batch that others may follow.
fn next_of<T>(found: &[T]) -> Option<&T> {
    let is_full = i64::try_from(found.len()).is_ok_and(|count| count == BATCH);
    found.last().filter(|_| is_full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        for position in [
            Position::Customer(TenantId::new()),
            Position::Card(SubscriptionId::new()),
        ] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for bad in ["", "card", "card/x", "tenant/1"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }
}
