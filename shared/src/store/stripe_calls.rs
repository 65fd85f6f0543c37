//! Repository of the calls to Stripe, with their idempotency keys.

use std::{sync::Arc, time::Duration};

use bson::doc;
use mongodb::{ClientSession, Collection};

use super::{Store, StoreError, index::ttl, known_fields::set_known_fields, to_bson};
use crate::stripe_call::{StripeCall, StripeCallState};

/// Retention of calls: beyond the keys, and beyond the events by which a lost effect is found.
const KEPT: Duration = Duration::from_hours(90 * 24);

/// Calls to Stripe.
#[derive(Debug, Clone)]
pub struct StripeCallRepository {
    calls: Collection<StripeCall>,
}

impl StripeCallRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            calls: store.collection("stripe_calls"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.calls.create_index(ttl("startedAt", KEPT)).await?;
        Ok(())
    }

    /// The last call with this id.
    pub async fn find(&self, id: &str) -> Result<Option<StripeCall>, StoreError> {
        self.calls.find_one(doc! { "_id": id }).await
    }

    /// Stores a call, in place of the one before.
    pub async fn begin(
        &self,
        session: &mut ClientSession,
        call: &StripeCall,
    ) -> Result<(), StoreError> {
        let update = set_known_fields(call)?;
        let stored = self.calls.update_one(doc! { "_id": &call.id }, update);
        stored.upsert(true).session(session).await?;
        Ok(())
    }

    /// Ends a call that is open and has not been replaced by another one.
    pub async fn end(
        &self,
        session: &mut ClientSession,
        call: &StripeCall,
        state: StripeCallState,
        result_id: Option<&str>,
    ) -> Result<(), StoreError> {
        let open = doc! {
            "_id": &call.id, "generation": call.generation, "state": to_bson(&StripeCallState::Open)?,
        };
        let ended = doc! { "$set": { "state": to_bson(&state)?, "resultId": result_id } };
        self.calls.update_one(open, ended).session(session).await?;
        Ok(())
    }
}
