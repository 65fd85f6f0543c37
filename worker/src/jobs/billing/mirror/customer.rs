//! Mirror of a customer: the billing account of its tenant, with its card and its tax id.

use dezky_shared::{billing_account::BillingAccount, id::TenantId, webhook_event::EventState};
use dezky_upstreams::clients::stripe::Customer;
use futures::FutureExt as _;

use super::{MIRRORED, Mirror};
use crate::{
    jobs::billing::{card::default_card_of, tax_id::account_tax_id},
    steps::{StepFailure, StepSuccess},
};

impl Mirror<'_> {
    /// Stores the customer in the account of its tenant.
    pub(super) async fn store_customer(
        &self,
        tenant: TenantId,
    ) -> Result<StepSuccess, StepFailure> {
        let ctx = &self.run.ctx;
        let now = ctx.store.now();
        let found = ctx.billing_accounts.find(tenant).await?;
        let before = found.unwrap_or_else(|| BillingAccount::new(tenant, now));
        let mut account = before.clone();
        if !self.apply(&mut account).await? {
            return self.ignore().await;
        }
        account.synced_at = now;
        let saving = (
            &ctx.billing_accounts,
            &ctx.webhook_events,
            &account,
            &self.waiting,
        );
        let saved = self.run.fenced_transaction(saving, |session, saving| {
            let (accounts, events, account, waiting) = *saving;
            async move {
                accounts.save(session, account).await?;
                let tenant = Some(account.tenant_id);
                events
                    .settle(session, waiting, EventState::Processed, tenant)
                    .await
            }
            .boxed()
        });
        saved.await?;
        Ok(StepSuccess::ok(MIRRORED, changes(&before, &account)))
    }

    /// Applies what the customer is now. Returns whether it is the one of the account.
    async fn apply(&self, account: &mut BillingAccount) -> Result<bool, StepFailure> {
        let id = &self.args.object_id;
        let is_known = account.stripe_customer_id.as_ref() == Some(id);
        let Some(customer) = self.stripe.retrieve_customer(id).await? else {
            if is_known {
                account.drop_customer();
            }
            return Ok(is_known);
        };
        if !is_known {
            if !may_adopt(account, &customer) {
                return Ok(false);
            }
            account.set_customer(id, self.stripe.is_live());
        }
        account.default_card = default_card_of(&self.stripe, &customer).await?;
        let tax_ids = self.stripe.list_tax_ids(id).await?;
        let known = account.tax_id.take();
        let is_kept = |id: &str| known.as_ref().is_none_or(|known| known.stripe_id == id);
        let kept = tax_ids.into_iter().find(|tax_id| is_kept(&tax_id.id));
        account.tax_id = kept.map(account_tax_id);
        Ok(true)
    }
}

/// Whether an account without a customer may take one that names its tenant.
fn may_adopt(account: &BillingAccount, customer: &Customer) -> bool {
    account.stripe_customer_id.is_none()
        && !account.is_former(&customer.id)
        && customer.metadata.get("tenantId") == Some(&account.tenant_id.to_string())
}

fn changes(before: &BillingAccount, after: &BillingAccount) -> Vec<String> {
    let changed = [
        (
            before.stripe_customer_id != after.stripe_customer_id,
            if after.stripe_customer_id.is_some() {
                "customer adopted"
            } else {
                "customer is gone"
            },
        ),
        (before.default_card != after.default_card, "card changed"),
        (before.tax_id != after.tax_id, "VAT id changed"),
    ];
    let changed = changed.into_iter().filter(|(is_changed, _)| *is_changed);
    changed.map(|(_, change)| change.to_owned()).collect()
}
