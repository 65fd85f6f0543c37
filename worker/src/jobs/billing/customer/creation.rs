//! Creation of a tenant's customer at Stripe, once: the customer that an earlier call created is searched before another
//! call is made.

use std::time::Duration;

use dezky_shared::{
    platform::clock,
    queue::{error_code::ErrorCode, job::Progress},
    stripe_call::{NextCall, StripeCall},
};
use dezky_upstreams::clients::stripe::Customer;
use tokio::time::Instant;

use super::{super::keyed_calls::KeyedCalls, CustomerSync};
use crate::steps::StepFailure;

/// Age of the last events that were read from which no customer is created.
const MAX_EVENT_AGE: Duration = Duration::from_hours(1);
/// Seconds by which Stripe's clock may be behind ours.
const CLOCK_TOLERANCE: i64 = 3_600;
/// Type of the events of created customers.
const CREATED: &str = "customer.created";

impl CustomerSync<'_> {
    /// Creates the customer without details. Details may change before the call is repeated, and its key belongs to its
    /// parameters.
    pub(super) async fn create_customer(&self) -> Result<Customer, StepFailure> {
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
}
