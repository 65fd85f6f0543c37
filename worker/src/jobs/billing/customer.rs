//! Sync of a tenant's customer at Stripe: it exists once, has the tenant's billing details and VAT id, its card is known, and
//! so is its subscription.
//!
//! Each call that creates something looks first and is keyed, so a lost answer or a worker that dies creates nothing
//! twice.

mod creation;
mod details;
mod vat_id;

use dezky_shared::{
    billing_account::BillingAccount,
    id::TenantId,
    queue::{args::SyncBilling, error_code::ErrorCode},
    tenant::{DesiredState, Tenant, reason},
};
use dezky_upstreams::clients::{
    Mode,
    stripe::{Customer, Stripe, TaxId},
};
use futures::FutureExt as _;

use self::vat_id::is_equal;
use super::{
    NOT_BILLED,
    card::default_card_of,
    card_subscription::CardSync,
    flags_of, is_billed, is_charged,
    mirror::enqueue_open,
    tax_id::{account_tax_id, vat_id_of},
};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Result of a step that compared the customer with the tenant, stored as the reason.
const SYNCED: &str = "Synced";

/// Syncs the customer.
pub(super) async fn sync(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: SyncBilling = run.args()?;
    if let Some(changes) = end_gone(&run, args.tenant_id).await? {
        return Ok(StepSuccess::ok(SYNCED, changes));
    }
    let mut sync = match CustomerSync::begin(&run, args.tenant_id).await? {
        Ok(sync) => sync,
        Err(reason) => return Ok(StepSuccess::skipped(reason)),
    };
    let is_dry_run = run.mode == Mode::DryRun;
    if is_dry_run {
        sync.preview().await?;
    } else {
        sync.apply().await?;
    }
    let mut cards = CardSync {
        run: &run,
        stripe: sync.stripe.clone(),
        tenant: sync.tenant,
        account: &sync.account,
        changes: Vec::new(),
    };
    let known = sync.account.next_invoice.clone();
    let next = if is_dry_run {
        cards.preview().await?;
        known.clone()
    } else {
        cards.apply().await?;
        enqueue_open(&run, args.tenant_id).await?;
        cards.next_invoice().await?
    };
    let of_cards = cards.changes;
    sync.changes.extend(of_cards);
    if next != known {
        sync.account.next_invoice = next;
        sync.save().await?;
    }
    Ok(StepSuccess::ok(SYNCED, sync.changes))
}

/// Ends the subscriptions at Stripe of a tenant that is gone, or whose purge has begun. Its customer stays, with its invoices;
/// a subscription that Stripe was to bill ends without one, too, and so does one of a tenant whose flag is off. `None` if the
/// tenant is not gone, or not billed.
async fn end_gone(
    run: &StepContext,
    tenant_id: TenantId,
) -> Result<Option<Vec<String>>, StepFailure> {
    let ctx = &run.ctx;
    let (Some(stripe), Some(target)) = (&ctx.clients.stripe, run.tenant()) else {
        return Ok(None);
    };
    let tenant = &*target.tenant;
    let is_gone = target.desired_state == DesiredState::Gone;
    if !is_gone || run.mode == Mode::DryRun {
        return Ok(None);
    }
    let now = ctx.store.now();
    if !is_billed(&flags_of(run).await?, tenant, now) && !is_charged(ctx, tenant_id).await? {
        return Ok(None);
    }
    let account = ctx.billing_accounts.find(tenant_id).await?;
    let account = account.unwrap_or_else(|| BillingAccount::new(tenant_id, now));
    let mut cards = CardSync {
        run,
        stripe: stripe.with_deadline(&run.deadline),
        tenant,
        account: &account,
        changes: Vec::new(),
    };
    cards.apply().await?;
    Ok(Some(cards.changes))
}

/// A tenant's customer, with the account that stores it.
pub(super) struct CustomerSync<'a> {
    run: &'a StepContext,
    pub(super) stripe: Stripe,
    tenant: &'a Tenant,
    pub(super) account: BillingAccount,
    pub(super) changes: Vec<String>,
}

impl<'a> CustomerSync<'a> {
    /// Loads the account of the job's tenant. The inner error is the reason why the step has nothing to do.
    pub(super) async fn begin(
        run: &'a StepContext,
        tenant_id: TenantId,
    ) -> Result<Result<Self, &'static str>, StepFailure> {
        let ctx = &run.ctx;
        let Some(stripe) = &ctx.clients.stripe else {
            return Ok(Err(reason::INTEGRATION_DISABLED));
        };
        let Some(target) = run.tenant() else {
            return Ok(Err(NOT_BILLED));
        };
        let (tenant, now) = (&*target.tenant, ctx.store.now());
        let flags = flags_of(run).await?;
        if target.desired_state == DesiredState::Gone || !is_billed(&flags, tenant, now) {
            return Ok(Err(NOT_BILLED));
        }
        let account = ctx.billing_accounts.find(tenant_id).await?;
        Ok(Ok(Self {
            run,
            stripe: stripe.with_deadline(&run.deadline),
            tenant,
            account: account.unwrap_or_else(|| BillingAccount::new(tenant_id, now)),
            changes: Vec::new(),
        }))
    }
}

impl CustomerSync<'_> {
    /// Creates the customer if there is none, and brings it to its desired state.
    pub(super) async fn apply(&mut self) -> Result<(), StepFailure> {
        let customer = self.ensure_customer().await?;
        let customer = self.ensure_currency(customer).await?;
        self.push_details(&customer).await?;
        let tax_ids = self.stripe.list_tax_ids(&customer.id).await?;
        let tax_id = self.ensure_tax_id(&customer, &tax_ids).await?;
        self.remove_tax_ids(&customer, &tax_ids, tax_id.as_ref())
            .await?;
        self.account.tax_id = tax_id.map(account_tax_id);
        self.account.default_card = default_card_of(&self.stripe, &customer).await?;
        self.account.synced_at = self.run.ctx.store.now();
        self.save().await
    }

    /// Lists the changes that a sync would make.
    async fn preview(&mut self) -> Result<(), StepFailure> {
        let customer = match &self.account.stripe_customer_id {
            Some(id) => self.stripe.retrieve_customer(id).await?,
            None => None,
        };
        let Some(customer) = customer else {
            self.changes.push("would create the customer".to_owned());
            return Ok(());
        };
        if !self.has_details(&self.details_hash()).await? {
            self.changes.push("would update the customer".to_owned());
        }
        let tax_ids = self.stripe.list_tax_ids(&customer.id).await?;
        let vat_id = vat_id_of(&self.tenant.billing_info);
        let refused = self.account.refused_vat_id.as_ref();
        if refused.is_some() && refused == vat_id.as_ref().map(|vat_id| &vat_id.value) {
            return Ok(());
        }
        let is_current = |known: &TaxId| {
            vat_id
                .as_ref()
                .is_some_and(|vat_id| is_equal(known, vat_id))
        };
        if vat_id.is_some() && !tax_ids.iter().any(is_current) {
            self.changes.push("would add the VAT id".to_owned());
        }
        if !tax_ids.iter().all(is_current) {
            self.changes.push("would remove the old VAT id".to_owned());
        }
        Ok(())
    }

    /// The customer, created if there is none.
    pub(super) async fn ensure_customer(&mut self) -> Result<Customer, StepFailure> {
        if let Some(id) = self.account.stripe_customer_id.clone() {
            if let Some(customer) = self.stripe.retrieve_customer(&id).await? {
                return Ok(customer);
            }
            self.account.drop_customer();
            self.save().await?;
            self.changes.push(format!("customer {id} is gone"));
        }
        let customer = self.create_customer().await?;
        self.account
            .set_customer(&customer.id, self.stripe.is_live());
        self.save().await?;
        self.changes.push("customer created".to_owned());
        Ok(customer)
    }

    /// The customer, or another one for a new card subscription in another currency: Stripe fixes the one of a customer with
    /// its first invoice.
    async fn ensure_currency(&mut self, customer: Customer) -> Result<Customer, StepFailure> {
        let Some(fixed) = &customer.currency else {
            return Ok(customer);
        };
        let subscriptions = &self.run.ctx.subscriptions;
        let mut live = subscriptions.list_live(&[self.tenant.id]).await?;
        let live = live.remove(&self.tenant.id).flatten();
        let new = live.filter(|it| it.is_by_card() && it.stripe_subscription_id.is_none());
        if new.is_none_or(|new| new.currency.eq_ignore_ascii_case(fixed)) {
            return Ok(customer);
        }
        self.account.drop_customer();
        self.save().await?;
        let change = format!("customer {} has the currency {fixed}", customer.id);
        self.changes.push(change);
        self.ensure_customer().await
    }

    /// Saves the account.
    pub(super) async fn save(&self) -> Result<(), StepFailure> {
        let saving = (&self.run.ctx.billing_accounts, &self.account);
        let saved = self
            .run
            .fenced_transaction(saving, |session, (accounts, account)| {
                accounts.save(session, account).boxed()
            });
        saved.await
    }
}

/// The customer was deleted while it was synced: the next attempt creates another one.
pub(super) fn gone(customer: &Customer) -> StepFailure {
    let detail = format!("customer {} was deleted meanwhile", customer.id);
    StepFailure::new(ErrorCode::UpstreamConflict, detail)
}
