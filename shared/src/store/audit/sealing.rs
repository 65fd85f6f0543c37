//! Audit sealing: appends events to their hash chains.
//!
//! Unsealed events are found by a flag, so that an event committed late is not skipped. The chain advances in the same
//! transaction, from the head that was read (optimistic concurrency): of two concurrent sealers, one fails.

use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, doc};
use futures::{FutureExt as _, TryStreamExt as _};
use mongodb::{ClientSession, options::Hint};
use serde::Deserialize;

use super::{AuditRepository, StoreError, UNSEALED_INDEX};
use crate::{
    audit::hash_chain::Chain,
    id::TenantId,
    store::{TransactionError, bulk_update_in, duplicate_key_index, to_bson},
};

/// Maximum number of events sealed in one transaction.
pub const SEAL_BATCH: usize = 500;
/// Maximum number of trails listed at a time.
const TRAILS: i64 = 1_000;
/// Maximum number of unsealed events counted.
const LOOK_AT: i64 = 100_000;

/// Result of sealing a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedTrail {
    /// Number of sealed events.
    pub events: usize,
    /// Chain after sealing.
    pub chain: Chain,
}

/// Backlog of unsealed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Backlog {
    /// Number of events, counted up to 100,000.
    pub events: u32,
    /// Recording time of the oldest one.
    pub oldest: Option<DateTime>,
}

/// A chain to be advanced.
struct ChainAdvance {
    /// State as read; missing before the first event.
    before: Option<Chain>,
    /// State after the advance.
    chain: Chain,
    /// Events appended by the advance.
    events: Vec<Document>,
}

/// Trail of an event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trail {
    #[serde(default)]
    tenant_id: Option<TenantId>,
}

/// A concurrent transaction advanced a chain.
struct ConcurrentUpdate;

impl AuditRepository {
    /// Trails with unsealed events: tenants, and the platform.
    pub async fn list_unsealed(&self) -> Result<Vec<Option<TenantId>>, StoreError> {
        // Served by the index, one seek for each trail, regardless of the number of events.
        let trails = [
            doc! { "$match": { "sealed": false } },
            doc! { "$sort": { "sealed": 1, "tenantId": 1, "_id": 1 } },
            doc! { "$group": { "_id": "$tenantId", "first": { "$first": "$_id" } } },
            doc! { "$limit": TRAILS },
            doc! { "$project": { "_id": 0, "tenantId": "$_id" } },
        ];
        let found: Vec<Trail> = self
            .stored()
            .aggregate(trails)
            .hint(Hint::Name(UNSEALED_INDEX.to_owned()))
            .with_type()
            .await?
            .try_collect()
            .await?;
        Ok(found.into_iter().map(|trail| trail.tenant_id).collect())
    }

    /// Seals at most [`SEAL_BATCH`] events of these trails, and returns the result of each trail.
    ///
    /// `None` if nothing was sealed: a concurrent sealer was faster, or several trails have more events than that; then
    /// the caller seals each trail separately, so that none delays another.
    pub async fn seal(
        &self,
        trails: &[Option<TenantId>],
    ) -> Result<Option<Vec<SealedTrail>>, StoreError> {
        let events = self.first_unsealed(trails).await?;
        if events.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if events.len() == SEAL_BATCH && trails.len() > 1 {
            return Ok(None);
        }
        let mut by_trail: BTreeMap<Option<TenantId>, Vec<Document>> = BTreeMap::new();
        for event in events {
            let trail: Trail = bson::deserialize_from_document(event.clone())?;
            by_trail.entry(trail.tenant_id).or_default().push(event);
        }
        let mut existing = self.find_chains(by_trail.keys().copied()).await?;
        let mut moves = Vec::new();
        for (trail, mut events) in by_trail {
            let before = existing.remove(&Chain::id(trail));
            let mut chain = before.clone().unwrap_or_else(|| Chain::new(trail));
            for event in &mut events {
                chain.head = chain.head.seal(event);
            }
            moves.push(ChainAdvance {
                before,
                chain,
                events,
            });
        }
        let committed = self
            .store
            .transaction((self, &moves), |session, (this, moves)| {
                async move {
                    this.move_heads(session, moves).await?;
                    this.write_seals(session, moves).await
                }
                .boxed()
            })
            .await;
        let sealed = moves.into_iter().map(|moved| SealedTrail {
            events: moved.events.len(),
            chain: moved.chain,
        });
        match committed {
            Ok(()) => Ok(Some(sealed.collect())),
            Err(TransactionError::Aborted(ConcurrentUpdate)) => Ok(None),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    /// Size of the backlog of unsealed events.
    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        let waiting = [
            doc! { "$match": { "sealed": false } },
            doc! { "$limit": LOOK_AT },
            doc! { "$group": { "_id": null, "events": { "$sum": 1 }, "oldest": { "$min": "$at" } } },
        ];
        let found: Option<Backlog> = self
            .stored()
            .aggregate(waiting)
            .hint(Hint::Name(UNSEALED_INDEX.to_owned()))
            .with_type()
            .await?
            .try_next()
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// The first unsealed events of each trail, ordered by id.
    async fn first_unsealed(
        &self,
        trails: &[Option<TenantId>],
    ) -> Result<Vec<Document>, StoreError> {
        self.stored()
            .find(doc! { "sealed": false, "tenantId": { "$in": trails } })
            .sort(doc! { "sealed": 1, "tenantId": 1, "_id": 1 })
            .limit(i64::try_from(SEAL_BATCH).unwrap_or(i64::MAX))
            .hint(Hint::Name(UNSEALED_INDEX.to_owned()))
            .await?
            .try_collect()
            .await
    }

    /// The existing chains of these trails, by id.
    async fn find_chains(
        &self,
        trails: impl Iterator<Item = Option<TenantId>>,
    ) -> Result<BTreeMap<String, Chain>, StoreError> {
        let ids: Vec<String> = trails.map(Chain::id).collect();
        let found = self.chains.find(doc! { "_id": { "$in": ids } }).await?;
        let found = found.map_ok(|chain| (chain.id.clone(), chain));
        found.try_collect().await
    }

    async fn move_heads(
        &self,
        session: &mut ClientSession,
        moves: &[ChainAdvance],
    ) -> Result<(), TransactionError<ConcurrentUpdate>> {
        let (mut heads, mut new) = (Vec::new(), Vec::new());
        for ChainAdvance { before, chain, .. } in moves {
            match before {
                Some(before) => {
                    let as_read = doc! { "_id": &before.id, "head": to_bson(&before.head)? };
                    let onward = doc! { "$set": { "head": to_bson(&chain.head)? } };
                    heads.push(doc! { "q": as_read, "u": onward });
                }
                None => new.push(chain),
            }
        }
        let expected = heads.len();
        if bulk_update_in(&self.chains, session, heads).await? != expected {
            return Err(TransactionError::Aborted(ConcurrentUpdate));
        }
        if new.is_empty() {
            return Ok(());
        }
        match self.chains.insert_many(new).session(session).await {
            Err(error) if duplicate_key_index(&error).is_some() => {
                Err(TransactionError::Aborted(ConcurrentUpdate))
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    async fn write_seals(
        &self,
        session: &mut ClientSession,
        moves: &[ChainAdvance],
    ) -> Result<(), TransactionError<ConcurrentUpdate>> {
        let events = moves.iter().flat_map(|moved| &moved.events);
        let seals: Vec<Document> = events.map(seal_of).collect();
        let expected = seals.len();
        // A sealed event beyond the chain's head is no concurrent update but an inconsistency: an error.
        if bulk_update_in(&self.events, session, seals).await? == expected {
            Ok(())
        } else {
            Err(TransactionError::Aborted(ConcurrentUpdate))
        }
    }
}

/// Update that seals an event, unless it is sealed already.
fn seal_of(event: &Document) -> Document {
    let part = |fields: &[&str]| -> Document {
        let is_one = |field: &(&String, &Bson)| fields.contains(&field.0.as_str());
        let part = event.iter().filter(is_one);
        part.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let mut unsealed = part(&["_id"]);
    unsealed.insert("sealed", false);
    doc! { "q": unsealed, "u": { "$set": part(&["sealed", "seq", "prevHash", "hash"]) } }
}
