//! Mirror of a subscription: the one of ours that it was created for. A change of terms by a person in the dashboard is taken
//! back by the next sync.

use dezky_shared::{
    billing_account::BillingAccount,
    card_billing::{CardContext, ReadSubscription},
    id::TenantId,
    queue::args::SyncBilling,
    subscription::Subscription,
};

use super::{MIRRORED, Mirror, enqueue};
use crate::{
    jobs::billing::{
        mirror_subscription::SubscriptionMirror, read_subscription::read_subscription,
    },
    steps::{StepFailure, StepSuccess},
};

impl Mirror<'_> {
    /// Stores the subscription in the live one of its tenant, if it belongs to that. One that was imported, and that no biller
    /// has begun with, is left to the sync, which adopts it: its collection is not by card before.
    pub(super) async fn store_subscription(
        &self,
        tenant_id: TenantId,
    ) -> Result<StepSuccess, StepFailure> {
        let ctx = &self.run.ctx;
        let id = &self.args.object_id;
        let (found, tenant) = (
            self.stripe.retrieve_subscription(id).await?,
            ctx.tenants.find(tenant_id).await?,
        );
        let (Some(found), Some(tenant)) = (found, tenant) else {
            return self.ignore().await;
        };
        let read = read_subscription(&self.stripe, &found).await?;
        let mut live = ctx.subscriptions.list_live(&[tenant_id]).await?;
        let ours = live.remove(&tenant_id).flatten();
        let ours = ours.filter(|ours| ours.is_enrolled() && is_of(&read, ours));
        let is_unclaimed = ours.is_none() && read.tenant_id == Some(tenant_id);
        if is_unclaimed && read.known_status.is_live() {
            self.enqueue_sync(tenant_id).await?;
        }
        let mut changes = Vec::new();
        if let Some(ours) = ours {
            let now = ctx.store.now();
            let account = ctx.billing_accounts.find(tenant_id).await?;
            let account = account.unwrap_or_else(|| BillingAccount::new(tenant_id, now));
            let mirror = SubscriptionMirror {
                run: self.run,
                tenant: &tenant,
                account: &account,
                context: CardContext {
                    tenant: tenant.status,
                    has_card: account.default_card.is_some(),
                    now,
                },
            };
            changes = mirror.store(ours.id, Some(&read)).await?;
        }
        self.settle(tenant_id).await?;
        Ok(StepSuccess::ok(MIRRORED, changes))
    }

    /// Enqueues the sync that adopts or cancels a live one of no enrolled subscription, such as one whose creation arrives
    /// after ours has ended.
    async fn enqueue_sync(&self, tenant_id: TenantId) -> Result<(), StepFailure> {
        let args = SyncBilling {
            tenant_id,
            dry_run: false,
        };
        enqueue(self.run, &args).await
    }
}

/// Whether it is the one at Stripe of ours. Another one that was created for ours may be a second one, which the sync cancels.
fn is_of(read: &ReadSubscription, ours: &Subscription) -> bool {
    match &ours.stripe_subscription_id {
        Some(known) => *known == read.id,
        None => read.subscription_id == Some(ours.id),
    }
}
