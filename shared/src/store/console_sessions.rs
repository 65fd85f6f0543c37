//! Console session repository.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, doc};
use mongodb::Collection;

use super::{Store, StoreError, index::ttl};
use crate::console_session::ConsoleSession;

/// Sessions of operators in the console.
#[derive(Debug, Clone)]
pub struct ConsoleSessionRepository {
    sessions: Collection<ConsoleSession>,
}

impl ConsoleSessionRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            sessions: store.collection("console_sessions"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let expiry = ttl("expireAt", Duration::ZERO);
        self.sessions.create_index(expiry).await?;
        Ok(())
    }

    /// The session with this id, unless it has ended. MongoDB deletes ended ones with a delay.
    pub async fn find(
        &self,
        id: &str,
        now: DateTime,
    ) -> Result<Option<ConsoleSession>, StoreError> {
        let current = doc! { "_id": id, "expireAt": { "$gt": now } };
        self.sessions.find_one(current).await
    }

    /// Inserts a session.
    pub async fn insert(&self, session: &ConsoleSession) -> Result<(), StoreError> {
        self.sessions.insert_one(session).await?;
        Ok(())
    }

    /// Records a request of a session, and prolongs it.
    pub async fn touch(&self, session: &ConsoleSession, now: DateTime) -> Result<(), StoreError> {
        let seen = doc! { "seenAt": now, "expireAt": session.expiry_after(now) };
        let current = doc! { "_id": &session.id };
        self.sessions
            .update_one(current, doc! { "$set": seen })
            .await?;
        Ok(())
    }

    /// Ends a session. Returns it; `None` if it has ended.
    pub async fn delete(&self, id: &str) -> Result<Option<ConsoleSession>, StoreError> {
        self.sessions.find_one_and_delete(doc! { "_id": id }).await
    }
}
