//! Sync of a tenant's customer at Stripe: it exists once, has the tenant's billing details and VAT id, its card is known, and
//! so is its subscription.
//!
//! Each call that creates something looks first and is keyed, so a lost answer or a worker that dies creates nothing
//! twice.

use std::time::Duration;

use dezky_shared::{
    billing_account::BillingAccount,
    id::TenantId,
    platform::clock,
    queue::{args::SyncBilling, error_code::ErrorCode, job::Progress},
    stripe_call::{NextCall, StripeCall, StripeCallState, request_hash},
    tenant::{DesiredState, Tenant, reason},
};
use dezky_upstreams::clients::{
    Mode,
    stripe::{Address, Customer, CustomerFields, Stripe, TaxId},
};
use futures::FutureExt as _;
use tokio::time::Instant;

use super::{
    NOT_BILLED,
    card::default_card_of,
    card_subscription::CardSync,
    flags_of, is_billed,
    keyed_calls::KeyedCalls,
    tax_id::{VatId, account_tax_id, vat_id_of},
};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Result of a step that compared the customer with the tenant, stored as the reason.
const SYNCED: &str = "Synced";
/// Age of the last events that were read from which no customer is created.
const MAX_EVENT_AGE: Duration = Duration::from_hours(1);
/// Seconds by which Stripe's clock may be behind ours.
const CLOCK_TOLERANCE: i64 = 3_600;
/// Type of the events of created customers.
const CREATED: &str = "customer.created";
/// Operation that sets the billing details.
const UPDATE: &str = "customer.update";
/// Code of a tax id whose value does not match its type.
const TAX_ID_INVALID: &str = "tax_id_invalid";

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
    if is_dry_run {
        cards.preview().await?;
    } else {
        cards.apply().await?;
    }
    let of_cards = cards.changes;
    sync.changes.extend(of_cards);
    Ok(StepSuccess::ok(SYNCED, sync.changes))
}

/// Ends the subscriptions at Stripe of a tenant that is gone, or whose purge has begun. Its customer stays, with its invoices;
/// a subscription that Stripe was to bill ends without one, too. `None` if the tenant is not gone, or not billed.
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
    if !is_billed(&flags_of(run).await?, tenant, now) {
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
    /// Creates the customer if there is none, and makes it what it should be.
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

    /// Creates the customer without details. Details may change before the call is repeated, and its key belongs to its
    /// parameters.
    async fn create_customer(&self) -> Result<Customer, StepFailure> {
        let calls = KeyedCalls(self.run);
        let tenant = self.tenant.id.to_string();
        let call = match calls.next("customer.create", &tenant, &[]).await? {
            NextCall::Repeat(call) => call,
            NextCall::Begin { next, before } => {
                if let Some(found) = self.find_created(before.as_ref()).await? {
                    return Ok(found);
                }
                self.ensure_events_are_read().await?;
                calls.begin(&next).await?;
                next
            }
        };
        let sent = self.stripe.create_customer(&tenant, &call.key()).await;
        calls
            .settle(&call, &sent, |customer| Some(customer.id.as_str()))
            .await?;
        Ok(sent?)
    }

    /// Fails while Stripe's events were not read for an hour, as after the restore of an older database: they may hold a
    /// customer that the database has forgotten, which is adopted by the job of its creation's event. Until that job has
    /// run, this fails, too, but no longer than an hour.
    async fn ensure_events_are_read(&self) -> Result<(), StepFailure> {
        let ctx = &self.run.ctx;
        let oldest = clock::earlier(ctx.store.now(), MAX_EVENT_AGE);
        let cursor = ctx.billing_cursors.events().await?;
        let is_behind = cursor.is_some_and(|cursor| cursor.read_until < oldest);
        let events = &ctx.webhook_events;
        if is_behind || events.is_missed_waiting(CREATED, oldest).await? {
            let detail = "the events of the last hours are not read yet";
            return Err(StepFailure::new(ErrorCode::UpstreamNotReady, detail));
        }
        Ok(())
    }

    /// The customer that the call before created, if it had that effect and the customer still exists.
    async fn find_created(
        &self,
        before: Option<&StripeCall>,
    ) -> Result<Option<Customer>, StepFailure> {
        let Some(before) = before else {
            return Ok(None);
        };
        let id = if before.result_id.is_some() {
            before.result_id.clone()
        } else {
            self.search_created(before).await?
        };
        match id.filter(|id| !self.account.is_former(id)) {
            Some(id) => Ok(self.stripe.retrieve_customer(&id).await?),
            None => Ok(None),
        }
    }

    /// Searches the events for the customer that a call may have created. A search that takes longer than an attempt is
    /// continued by the next one; once it has ended, the next one begins anew.
    async fn search_created(&self, call: &StripeCall) -> Result<Option<String>, StepFailure> {
        let since = call.started_at.timestamp_millis() / 1_000 - CLOCK_TOLERANCE;
        let tenant = self.tenant.id.to_string();
        let progress = self.run.job.progress.as_ref();
        let mut done = progress.map_or(0, |progress| progress.done);
        let mut after = progress.and_then(|progress| progress.cursor.clone());
        let is_resumed = after.is_some();
        let found = loop {
            let page = self
                .stripe
                .list_created_customers(since, after.as_deref())
                .await?;
            let found = page.created_for(&tenant).map(str::to_owned);
            done += 1;
            after = page.data.last().map(|event| event.id.clone());
            if found.is_some() || !page.has_more || after.is_none() {
                break found;
            }
            if Instant::now() >= self.run.yield_after {
                self.save_search(done, after).await?;
                let detail = "the created customers are not all read yet";
                return Err(StepFailure::new(ErrorCode::UpstreamNotReady, detail));
            }
        };
        if is_resumed {
            self.save_search(done, None).await?;
        }
        Ok(found)
    }

    async fn save_search(&self, done: i64, cursor: Option<String>) -> Result<(), StepFailure> {
        let progress = Progress {
            done,
            total: done,
            note: "created customers".to_owned(),
            cursor,
        };
        self.run.save_progress(&progress).await
    }

    /// Sets the billing details, if they changed since they were last set.
    async fn push_details(&mut self, customer: &Customer) -> Result<(), StepFailure> {
        let hash = self.details_hash();
        if self.has_details(&hash).await? {
            return Ok(());
        }
        let calls = KeyedCalls(self.run);
        let fields = self.details();
        let mut parameters = parameters(&fields);
        parameters.push(&customer.id);
        let call = calls.begin_repeatable(UPDATE, self.tenant.id, &parameters);
        let call = call.await?;
        let sent = self
            .stripe
            .update_customer(&customer.id, &fields, &call.key())
            .await;
        calls.settle(&call, &sent, |_| None).await?;
        if sent?.is_none() {
            return Err(gone(customer));
        }
        self.account.pushed_hash = Some(hash);
        self.save().await?;
        self.changes.push("customer updated".to_owned());
        Ok(())
    }

    /// Whether the customer has the details of this hash. After a call whose answer was lost, it may have others.
    async fn has_details(&self, hash: &str) -> Result<bool, StepFailure> {
        if self.account.pushed_hash.as_deref() != Some(hash) {
            return Ok(false);
        }
        let id = StripeCall::id_of(UPDATE, self.tenant.id);
        let last = self.run.ctx.stripe_calls.find(&id).await?;
        Ok(last.is_none_or(|last| last.state != StripeCallState::Open))
    }

    /// The tax id with the tenant's VAT id, created if there is none. If Stripe refuses it, the one before.
    async fn ensure_tax_id(
        &mut self,
        customer: &Customer,
        known: &[TaxId],
    ) -> Result<Option<TaxId>, StepFailure> {
        let Some(vat_id) = vat_id_of(&self.tenant.billing_info) else {
            self.account.refused_vat_id = None;
            return Ok(None);
        };
        if let Some(found) = known.iter().find(|known| is_equal(known, &vat_id)) {
            self.account.refused_vat_id = None;
            return Ok(Some(found.clone()));
        }
        if self.account.refused_vat_id.as_ref() == Some(&vat_id.value) {
            return Ok(known.first().cloned());
        }
        let calls = KeyedCalls(self.run);
        let parameters = [customer.id.as_str(), vat_id.kind, vat_id.value.as_str()];
        // It is not among those that the customer has, so no call before had this effect.
        let call = calls.begin_repeatable("tax_id.create", self.tenant.id, &parameters);
        let call = call.await?;
        let sent = self
            .stripe
            .create_tax_id(&customer.id, vat_id.kind, &vat_id.value, &call.key())
            .await;
        calls
            .settle(&call, &sent, |created| Some(created.as_ref()?.id.as_str()))
            .await?;
        match sent {
            Ok(Some(created)) => {
                self.ensure_exists(customer, &created).await?;
                self.account.refused_vat_id = None;
                self.changes.push("VAT id added".to_owned());
                Ok(Some(created))
            }
            Ok(None) => Err(gone(customer)),
            Err(refused) if refused.code.as_deref() == Some(TAX_ID_INVALID) => {
                self.account.refused_vat_id = Some(vat_id.value);
                self.changes.push("VAT id refused".to_owned());
                Ok(known.first().cloned())
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// Fails if a tax id was deleted since the call that created it, whose result is replayed for a day. The call is
    /// settled, so the next attempt makes another one.
    async fn ensure_exists(&self, customer: &Customer, created: &TaxId) -> Result<(), StepFailure> {
        let known = self.stripe.list_tax_ids(&customer.id).await?;
        if known.iter().any(|known| known.id == created.id) {
            return Ok(());
        }
        let detail = format!("tax id {} was deleted meanwhile", created.id);
        Err(StepFailure::new(ErrorCode::UpstreamConflict, detail))
    }

    /// Removes tax ids that are not the tenant's any more. While a new one is refused, the old one stays.
    async fn remove_tax_ids(
        &mut self,
        customer: &Customer,
        known: &[TaxId],
        kept: Option<&TaxId>,
    ) -> Result<(), StepFailure> {
        if self.account.refused_vat_id.is_some() {
            return Ok(());
        }
        for old in known {
            if kept.is_some_and(|kept| kept.id == old.id) {
                continue;
            }
            if self.stripe.delete_tax_id(&customer.id, &old.id).await? {
                self.changes.push("old VAT id removed".to_owned());
            }
        }
        Ok(())
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

    /// The billing details that the customer should have.
    fn details(&self) -> CustomerFields {
        let info = &self.tenant.billing_info;
        let owner = self.tenant.owner.as_ref();
        let email = info.email.clone();
        CustomerFields {
            name: info
                .company
                .clone()
                .unwrap_or_else(|| self.tenant.name.clone()),
            email: email.or_else(|| owner.map(|owner| owner.email.clone())),
            address: Address {
                country: info.country.clone(),
            },
            tenant_id: self.tenant.id.to_string(),
        }
    }

    fn details_hash(&self) -> String {
        request_hash(&parameters(&self.details()))
    }
}

/// The parameters by which requests with these fields differ.
fn parameters(fields: &CustomerFields) -> Vec<&str> {
    vec![
        fields.name.as_str(),
        fields.email.as_deref().unwrap_or_default(),
        fields.address.country.as_deref().unwrap_or_default(),
        fields.tenant_id.as_str(),
    ]
}

fn is_equal(known: &TaxId, vat_id: &VatId) -> bool {
    known.kind == vat_id.kind && known.value == vat_id.value
}

/// The customer was deleted while it was synced: the next attempt creates another one.
pub(super) fn gone(customer: &Customer) -> StepFailure {
    let detail = format!("customer {} was deleted meanwhile", customer.id);
    StepFailure::new(ErrorCode::UpstreamConflict, detail)
}
