//! Billing cursor repository: up to which time the list of Stripe's events was read.

use std::sync::Arc;

use bson::{DateTime, doc};
use mongodb::{ClientSession, Collection};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, known_fields::set_known_fields};

/// Id of the document.
const STRIPE_EVENTS: &str = "stripe_events";

/// Cursors of billing.
#[derive(Debug, Clone)]
pub struct BillingCursorRepository {
    cursors: Collection<EventCursor>,
}

/// Position in the list of Stripe's events. The list is read from its newest event to the oldest one that is due, over
/// several attempts if need be; the time moves ahead once all of it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventCursor {
    #[serde(rename = "_id")]
    id: String,
    /// Time up to which all events were read.
    pub read_until: DateTime,
    /// The pass that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<EventPass>,
}

/// A pass through the list, from its newest event to the oldest one that is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventPass {
    /// Time at which it began: events up to then are read once it is over.
    pub began_at: DateTime,
    /// Time of the oldest event that is due.
    pub since: DateTime,
    /// The last event that was read.
    pub after: String,
}

impl EventCursor {
    /// A cursor at this time.
    pub fn at(read_until: DateTime) -> Self {
        Self {
            id: STRIPE_EVENTS.to_owned(),
            read_until,
            pass: None,
        }
    }
}

impl BillingCursorRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            cursors: store.collection("billing_cursors"),
        }
    }

    /// The position in the list of Stripe's events; `None` before the first pass.
    pub async fn events(&self) -> Result<Option<EventCursor>, StoreError> {
        self.cursors.find_one(doc! { "_id": STRIPE_EVENTS }).await
    }

    /// Stores the position in the list of Stripe's events.
    pub async fn set_events(
        &self,
        session: &mut ClientSession,
        cursor: &EventCursor,
    ) -> Result<(), StoreError> {
        let update = set_known_fields(cursor)?;
        let stored = self
            .cursors
            .update_one(doc! { "_id": STRIPE_EVENTS }, update);
        stored.upsert(true).session(session).await?;
        Ok(())
    }
}
