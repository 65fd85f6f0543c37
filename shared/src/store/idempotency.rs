//! The answers to requests that carried an `Idempotency-Key`, so that a repeated request changes nothing twice.
//!
//! A key is claimed by the first insert of the transaction that it makes safe to repeat, and answered in the same
//! transaction: a key that can be read always has its answer.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, doc};
use mongodb::{ClientSession, Collection, IndexModel, error::ErrorKind, options::IndexOptions};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, duplicate_key_index, linearizable::find_one_linearizable, to_bson};
use crate::platform::clock;

/// How long a key is remembered.
const KEPT_FOR: Duration = Duration::from_hours(7 * 24);
/// The code of a write that another open transaction was in the way of.
const WRITE_CONFLICT: i32 = 112;

/// A key and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Made of the caller, the route and the key.
    pub id: String,
    /// Made of the request: the same key with another one is a mistake.
    pub fingerprint: String,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The status.
    pub status: i32,
    /// Where the outcome can be looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The version of what is in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The body: JSON.
    pub body: String,
}

/// What became of claiming a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is this transaction's.
    New,
    /// It was answered before. The transaction is lost; the answer is read outside of it.
    Answered,
    /// Another transaction that is still open has it. This one is lost.
    InProgress,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(rename = "_id")]
    id: String,
    fingerprint: String,
    #[serde(default)]
    answer: Option<StoredAnswer>,
    created_at: DateTime,
    expire_at: DateTime,
}

/// The keys of all callers.
#[derive(Debug, Clone)]
pub struct IdempotencyRepository {
    records: Collection<Record>,
}

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The request it was answered for.
    pub fingerprint: String,
    /// The answer.
    pub answer: StoredAnswer,
}

impl IdempotencyRepository {
    /// The keys in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            records: store.collection("idempotency_keys"),
        }
    }

    /// Makes the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let retention = IndexOptions::builder()
            .name("retention".to_owned())
            .expire_after(Duration::ZERO)
            .build();
        let retention = IndexModel::builder()
            .keys(doc! { "expireAt": 1 })
            .options(retention)
            .build();
        self.records.create_index(retention).await?;
        Ok(())
    }

    /// Claims a key, as the first statement of a transaction.
    ///
    /// A write conflict means that another request with this key is under way. The driver's transaction helper
    /// would repeat it; here it is an answer.
    pub async fn claim(
        &self,
        session: &mut ClientSession,
        key: &IdempotencyKey,
        now: DateTime,
    ) -> Result<Claim, StoreError> {
        let inserted = self
            .records
            .insert_one(record(key, None, now))
            .session(session)
            .await;
        match inserted {
            Ok(_) => Ok(Claim::New),
            Err(error) if duplicate_key_index(&error).is_some() => Ok(Claim::Answered),
            Err(error) if is_write_conflict(&error) => Ok(Claim::InProgress),
            Err(error) => Err(error),
        }
    }

    /// Stores the answer to a key that this transaction claimed.
    pub async fn answer(
        &self,
        session: &mut ClientSession,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> Result<(), StoreError> {
        let update = doc! { "$set": { "answer": to_bson(answer)? } };
        self.records
            .update_one(doc! { "_id": &key.id }, update)
            .session(session)
            .await?;
        Ok(())
    }

    /// Stores an answer that nothing but the request led to. `false` if the key was taken.
    pub async fn remember(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let inserted = self
            .records
            .insert_one(record(key, Some(answer.clone()), now))
            .await;
        match inserted {
            Ok(_) => Ok(true),
            Err(error) if duplicate_key_index(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What was answered to the request with this key.
    pub async fn find(&self, key: &IdempotencyKey) -> Result<Option<Answered>, StoreError> {
        let record = find_one_linearizable(&self.records, doc! { "_id": &key.id }).await?;
        Ok(record.and_then(|record| {
            Some(Answered {
                fingerprint: record.fingerprint,
                answer: record.answer?,
            })
        }))
    }
}

fn record(key: &IdempotencyKey, answer: Option<StoredAnswer>, now: DateTime) -> Record {
    Record {
        id: key.id.clone(),
        fingerprint: key.fingerprint.clone(),
        answer,
        created_at: now,
        expire_at: clock::later(now, KEPT_FOR),
    }
}

fn is_write_conflict(error: &StoreError) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => command.code == WRITE_CONFLICT,
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(write)) => {
            write.code == WRITE_CONFLICT
        }
        _ => false,
    }
}
