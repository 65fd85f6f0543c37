//! Idempotency keys: stored responses to requests with an `Idempotency-Key`, so that a repeated request changes nothing
//! twice.
//!
//! A key is claimed by the first insert of the transaction it protects, and its response is stored in the same
//! transaction: a readable key always has its response.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, doc};
use mongodb::{ClientSession, Collection, IndexModel, error::ErrorKind, options::IndexOptions};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError, duplicate_key_index, group_commit::Inserts,
    linearizable::find_one_linearizable, to_bson,
};
use crate::platform::clock;

/// Retention of a key.
const RETENTION: Duration = Duration::from_hours(7 * 24);
/// MongoDB's error code of a write conflict with another open transaction.
const WRITE_CONFLICT: i32 = 112;

/// Idempotency key and the request it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Derived from the caller, the route and the key.
    pub id: String,
    /// Fingerprint of the request: reusing the key for a different request is an error.
    pub fingerprint: String,
}

/// Stored response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResponse {
    /// Status.
    pub status: i32,
    /// `Location` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// `ETag` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Body, as JSON.
    pub body: String,
}

/// Result of claiming a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Claimed by this transaction.
    New,
    /// A response is stored. The transaction must be aborted; the response is read outside of it.
    Completed,
    /// Claimed by another open transaction. This one must be aborted.
    InProgress,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(rename = "_id")]
    id: String,
    fingerprint: String,
    #[serde(rename = "answer", default)]
    response: Option<StoredResponse>,
    created_at: DateTime,
    expire_at: DateTime,
}

/// Idempotency keys of all callers.
#[derive(Debug, Clone)]
pub struct IdempotencyRepository {
    records: Collection<Record>,
}

/// Stored request and response of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredExchange {
    /// Fingerprint of the request.
    pub fingerprint: String,
    /// The response.
    pub response: StoredResponse,
}

impl IdempotencyRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            records: store.collection("idempotency_keys"),
        }
    }

    /// Creates the indexes.
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
    /// A write conflict means that another request with this key is in progress. The driver's transaction helper would
    /// repeat it; here it is a result.
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
            Err(error) if duplicate_key_index(&error).is_some() => Ok(Claim::Completed),
            Err(error) if is_write_conflict(&error) => Ok(Claim::InProgress),
            Err(error) => Err(error),
        }
    }

    /// Stores the response of a key that this transaction claimed.
    pub async fn store_response(
        &self,
        session: &mut ClientSession,
        key: &IdempotencyKey,
        response: &StoredResponse,
    ) -> Result<(), StoreError> {
        let update = doc! { "$set": { "answer": to_bson(response)? } };
        self.records
            .update_one(doc! { "_id": &key.id }, update)
            .session(session)
            .await?;
        Ok(())
    }

    /// Stores the response of a request that ran no transaction. `false` if the key is taken.
    pub async fn insert_with_response(
        &self,
        key: &IdempotencyKey,
        response: &StoredResponse,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let inserted = self
            .records
            .insert_one(record(key, Some(response.clone()), now))
            .await;
        match inserted {
            Ok(_) => Ok(true),
            Err(error) if duplicate_key_index(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Claims a key and stores its response, in a [group commit](super::group_commit).
    pub fn insert_in_group(
        &self,
        inserts: &mut Inserts,
        key: &IdempotencyKey,
        response: &StoredResponse,
        now: DateTime,
    ) -> Result<(), StoreError> {
        inserts.add(&self.records, &record(key, Some(response.clone()), now))
    }

    /// The stored request and response of this key.
    pub async fn find(&self, key: &IdempotencyKey) -> Result<Option<StoredExchange>, StoreError> {
        let record = find_one_linearizable(&self.records, doc! { "_id": &key.id }).await?;
        Ok(record.and_then(|record| {
            Some(StoredExchange {
                fingerprint: record.fingerprint,
                response: record.response?,
            })
        }))
    }
}

fn record(key: &IdempotencyKey, response: Option<StoredResponse>, now: DateTime) -> Record {
    Record {
        id: key.id.clone(),
        fingerprint: key.fingerprint.clone(),
        response,
        created_at: now,
        expire_at: clock::later(now, RETENTION),
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
