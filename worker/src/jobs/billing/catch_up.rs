//! Catch-up of Stripe's events: the list of events is read from the cursor on, and those that no webhook delivered are stored
//! as if one had. It needs no webhook endpoint, and repairs every loss of at most 29 days.
//!
//! Stripe lists the newest event first, so the cursor moves ahead only once a pass has read all events that were due. A pass
//! that takes longer than an attempt continues behind the last page that was stored.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::job::Job,
    store::billing_cursors::{EventCursor, EventPass},
    stripe_event::Event,
    tenant::reason,
    webhook_event::{EventSource, WebhookEvent},
};
use dezky_upstreams::clients::stripe::Stripe;
use futures::FutureExt as _;
use tokio::time::Instant;

use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Result of a step that read the list, stored as the reason.
const CAUGHT_UP: &str = "CaughtUp";
/// By how much a pass overlaps the one before: clocks differ, and events appear late.
const OVERLAP: Duration = Duration::from_hours(1);
/// Age of the oldest event that is read. Stripe lists those of 30 days.
const READABLE: Duration = Duration::from_hours(29 * 24);
/// Age at which an unfinished pass begins again: the event that it continues behind disappears from the list, as when all
/// workers were stopped for weeks.
const PASS_TTL: Duration = Duration::from_hours(12);
/// Age of an event without a finished job at which another job is enqueued.
const STALE: Duration = Duration::from_mins(5);
/// Maximum number of such events in a run.
const MAX_STALE: i64 = 1_000;

/// Catches up.
pub(super) async fn catch_up(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(stripe) = &run.ctx.clients.stripe else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let catch_up = CatchUp {
        run: &run,
        stripe: stripe.with_deadline(&run.deadline),
        now: run.ctx.store.now(),
    };
    let mut changes = Vec::new();
    if !catch_up.read_list(&mut changes).await? {
        let mut part = StepSuccess::continue_at(catch_up.now);
        part.changes = changes;
        return Ok(part);
    }
    let again = catch_up.enqueue_stale().await?;
    if again > 0 {
        changes.push(format!("{again} waiting events enqueued again"));
    }
    Ok(StepSuccess::ok(CAUGHT_UP, changes))
}

struct CatchUp<'a> {
    run: &'a StepContext,
    stripe: Stripe,
    now: DateTime,
}

impl CatchUp<'_> {
    /// Reads the list until its end, or until the attempt's time is used up. Returns whether the end was reached.
    async fn read_list(&self, changes: &mut Vec<String>) -> Result<bool, StepFailure> {
        let stored = self.run.ctx.billing_cursors.events().await?;
        let mut cursor = stored.unwrap_or_else(|| EventCursor::at(self.now));
        cursor.pass = cursor
            .pass
            .filter(|pass| clock::until(pass.began_at, self.now) < PASS_TTL);
        let (began_at, since) = match &cursor.pass {
            Some(pass) => (pass.began_at, pass.since),
            None => (self.now, self.since(cursor.read_until, changes)),
        };
        let mut missed = 0;
        let is_at_end = loop {
            let after = cursor.pass.as_ref().map(|pass| pass.after.as_str());
            let since_seconds = since.timestamp_millis().div_euclid(1_000);
            let page = self.stripe.list_events(since_seconds, after).await?;
            missed += self.store_missed(&page.data).await?;
            let last = page.data.last().filter(|_| page.has_more);
            let pass = last.map(|last| EventPass {
                began_at,
                since,
                after: last.id.clone(),
            });
            if pass.is_none() {
                self.save(&EventCursor::at(began_at)).await?;
                break true;
            }
            cursor.pass = pass;
            self.save(&cursor).await?;
            if Instant::now() >= self.run.yield_after {
                break false;
            }
        };
        if missed > 0 {
            changes.push(format!("{missed} missed events stored"));
        }
        Ok(is_at_end)
    }

    /// Time of the oldest event that is due.
    fn since(&self, read_until: DateTime, changes: &mut Vec<String>) -> DateTime {
        let due = clock::earlier(read_until, OVERLAP);
        let readable = clock::earlier(self.now, READABLE);
        if due < readable {
            tracing::error!(
                %read_until,
                "Events of Stripe can no longer be read; sync the billing of all tenants"
            );
            let change = "older events can no longer be read: sync the billing of all tenants";
            changes.push(change.to_owned());
        }
        due.max(readable)
    }

    /// Stores the events that are new, the oldest one first. Returns their number.
    async fn store_missed(&self, events: &[Event]) -> Result<usize, StepFailure> {
        let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
        let known = self.run.ctx.webhook_events.known(&ids).await?;
        let is_new = |event: &&Event| {
            !known.contains(&event.id) && event.is_valid() && event.account.is_none()
        };
        let missed: Vec<&Event> = events.iter().rev().filter(is_new).collect();
        let mut jobs = Vec::new();
        for event in &missed {
            jobs.extend(self.record(event).await?);
        }
        self.run.ctx.ready.notify(&jobs).await;
        Ok(missed.len())
    }

    async fn record(&self, event: &Event) -> Result<Option<Job>, StepFailure> {
        let ctx = &self.run.ctx;
        let event = WebhookEvent::new(event, EventSource::CatchUp, self.now);
        let job = event.job(&self.run.job.created_by, self.now)?;
        let recording = (&ctx.webhook_events, &ctx.jobs, &event, job.as_ref());
        let recorded = self
            .run
            .fenced_transaction(recording, |session, recording| {
                let (events, jobs, event, job) = *recording;
                events.record(session, jobs, event, job).boxed()
            });
        Ok(recorded.await?.job)
    }

    /// Enqueues jobs for the events whose own job was lost or discarded. Returns their number.
    async fn enqueue_stale(&self) -> Result<usize, StepFailure> {
        let ctx = &self.run.ctx;
        let before = clock::earlier(self.now, STALE);
        let mut enqueued = Vec::new();
        for event in ctx.webhook_events.list_stale(before, MAX_STALE).await? {
            let Some(job) = event.job(&self.run.job.created_by, self.now)? else {
                continue;
            };
            let reopening = (&ctx.webhook_events, &ctx.jobs, &event.id, &job, self.now);
            let reopened = self
                .run
                .fenced_transaction(reopening, |session, reopening| {
                    let (events, jobs, id, job, now) = *reopening;
                    async move {
                        events.reopen(session, id, now).await?;
                        jobs.enqueue(session, job).await
                    }
                    .boxed()
                });
            enqueued.push(reopened.await?);
        }
        ctx.ready.notify(&enqueued).await;
        Ok(enqueued.len())
    }

    async fn save(&self, cursor: &EventCursor) -> Result<(), StepFailure> {
        let saving = (&self.run.ctx.billing_cursors, cursor);
        let saved = self
            .run
            .fenced_transaction(saving, |session, (cursors, cursor)| {
                cursors.set_events(session, cursor).boxed()
            });
        saved.await
    }
}
