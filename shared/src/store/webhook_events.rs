//! Webhook event repository.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};
use serde::Deserialize;

use super::{
    Store, StoreError,
    index::{index, ttl},
    jobs::{JobRepository, NewJob},
    lenient::take_decodable,
    to_bson,
};
use crate::{
    id::TenantId,
    queue::job::Job,
    webhook_event::{EventPosition, EventSource, EventState, WebhookEvent},
};

/// Events of Stripe that were received.
#[derive(Debug, Clone)]
pub struct WebhookEventRepository {
    events: Collection<WebhookEvent>,
}

/// Filter of an event list.
#[derive(Debug, Clone, Default)]
pub struct WebhookEventFilter {
    /// Filter by state.
    pub state: Option<EventState>,
    /// Only items after this one (page cursor).
    pub after: Option<EventPosition>,
}

/// Outcome of a delivery.
#[derive(Debug)]
pub struct Recorded {
    /// The event as it was stored before. `None` if it is new.
    pub known: Option<WebhookEvent>,
    /// The job that was enqueued with it.
    pub job: Option<Job>,
}

/// Id of a stored event.
#[derive(Debug, Deserialize)]
struct StoredId {
    #[serde(rename = "_id")]
    id: String,
}

impl WebhookEventRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            events: store.collection("webhook_events"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let waiting = IndexOptions::builder()
            .partial_filter_expression(doc! { "state": to_bson(&EventState::Received)? })
            .build();
        let waiting = IndexModel::builder()
            .keys(doc! { "type": 1, "receivedAt": 1 })
            .options(waiting)
            .build();
        let indexes = [
            waiting,
            ttl("expireAt", Duration::ZERO),
            index(doc! { "receivedAt": -1, "_id": -1 }),
            index(doc! { "state": 1, "receivedAt": -1, "_id": -1 }),
            index(doc! { "state": 1, "enqueuedAt": 1 }),
            index(doc! { "mirrored.objectId": 1, "state": 1 }),
        ];
        self.events.create_indexes(indexes).await?;
        Ok(())
    }

    /// The event with this id, as seen by this transaction.
    pub async fn find_in_transaction(
        &self,
        session: &mut ClientSession,
        id: &str,
    ) -> Result<Option<WebhookEvent>, StoreError> {
        self.events
            .find_one(doc! { "_id": id })
            .session(session)
            .await
    }

    /// Stores an event with the job that reads its object again, unless the event is stored already.
    pub async fn record(
        &self,
        session: &mut ClientSession,
        jobs: &JobRepository,
        event: &WebhookEvent,
        job: Option<&NewJob>,
    ) -> Result<Recorded, StoreError> {
        let known = self.find_in_transaction(session, &event.id).await?;
        if known.is_some() {
            return Ok(Recorded { known, job: None });
        }
        self.events.insert_one(event).session(&mut *session).await?;
        let job = match job {
            Some(job) => Some(jobs.enqueue(session, job).await?),
            None => None,
        };
        Ok(Recorded { known, job })
    }

    /// Those of `ids` that are stored.
    pub async fn known(&self, ids: &[&str]) -> Result<BTreeSet<String>, StoreError> {
        let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        self.ids(doc! { "_id": { "$in": ids.to_vec() } }, count)
            .await
    }

    /// Ids of the events that wait for this object to be read again, at most `limit`.
    pub async fn list_waiting(
        &self,
        object_id: &str,
        limit: i64,
    ) -> Result<BTreeSet<String>, StoreError> {
        let state = to_bson(&EventState::Received)?;
        let waiting = doc! { "mirrored.objectId": object_id, "state": state };
        self.ids(waiting, limit).await
    }

    /// Whether an event of this type waits for its object to be read again that was found in the list of events since
    /// `since`.
    pub async fn is_missed_waiting(&self, kind: &str, since: DateTime) -> Result<bool, StoreError> {
        let waiting = doc! {
            "state": to_bson(&EventState::Received)?, "type": kind, "source": to_bson(&EventSource::CatchUp)?,
            "receivedAt": { "$gte": since },
        };
        Ok(!self.ids(waiting, 1).await?.is_empty())
    }

    async fn ids(&self, filter: Document, limit: i64) -> Result<BTreeSet<String>, StoreError> {
        let ids = self.events.clone_with_type::<StoredId>();
        let found = ids.find(filter).projection(doc! { "_id": 1 });
        let found = found.limit(limit).await?;
        found.map_ok(|found| found.id).try_collect().await
    }

    /// Ends events that wait: their object was read again, or nothing depends on it.
    pub async fn settle(
        &self,
        session: &mut ClientSession,
        ids: &BTreeSet<String>,
        state: EventState,
        tenant: Option<TenantId>,
    ) -> Result<(), StoreError> {
        let ids: Vec<&String> = ids.iter().collect();
        let waiting = doc! { "_id": { "$in": ids }, "state": to_bson(&EventState::Received)? };
        let mut set = doc! { "state": to_bson(&state)? };
        if let Some(tenant) = tenant {
            set.insert("tenantId", tenant);
        }
        let settled = self.events.update_many(waiting, doc! { "$set": set });
        settled.session(session).await?;
        Ok(())
    }

    /// Events that have waited since before `before`, the first ones first, at most `limit`. Skips those of a newer build.
    pub async fn list_stale(
        &self,
        before: DateTime,
        limit: i64,
    ) -> Result<Vec<WebhookEvent>, StoreError> {
        let state = to_bson(&EventState::Received)?;
        let waiting = doc! { "state": state, "enqueuedAt": { "$lt": before } };
        let events = self.events.clone_with_type();
        let found = events.find(waiting).sort(doc! { "enqueuedAt": 1 });
        take_decodable(found, limit).await
    }

    /// Lets an event wait again, for the job that is enqueued with this.
    pub async fn reopen(
        &self,
        session: &mut ClientSession,
        id: &str,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let waiting = doc! { "state": to_bson(&EventState::Received)?, "enqueuedAt": now };
        let reopened = self
            .events
            .update_one(doc! { "_id": id }, doc! { "$set": waiting });
        reopened.session(session).await?;
        Ok(())
    }

    /// At most `limit` events that match `filter`, the last received one first. Skips those of a newer build.
    pub async fn list(
        &self,
        filter: &WebhookEventFilter,
        limit: i64,
    ) -> Result<Vec<WebhookEvent>, StoreError> {
        let mut matching = Document::new();
        if let Some(state) = &filter.state {
            matching.insert("state", to_bson(state)?);
        }
        if let Some(EventPosition { received_at, id }) = &filter.after {
            let same_time = doc! { "receivedAt": received_at, "_id": { "$lt": id } };
            // The bound of the scan, and what is left out of its first instant.
            matching.insert("receivedAt", doc! { "$lte": received_at });
            let earlier = doc! { "receivedAt": { "$lt": received_at } };
            matching.insert("$or", vec![earlier, same_time]);
        }
        let events = self.events.clone_with_type();
        let found = events
            .find(matching)
            .sort(doc! { "receivedAt": -1, "_id": -1 });
        take_decodable(found, limit).await
    }
}
