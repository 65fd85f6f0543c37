//! Giving events their places in their chains.
//!
//! What is to be sealed is found by a flag: an event that was committed late is no later than the others for it. The
//! chain moves on in the same transaction, from the head that was read: of two who seal at the same time, one comes to
//! nothing.

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

/// How many events are sealed in one transaction.
pub const SEALED_TOGETHER: usize = 500;
/// How many trails are named at a time.
const TRAILS: i64 = 1_000;
/// How many events that wait are looked at.
const LOOK_AT: i64 = 100_000;

/// What was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// How many events.
    pub events: usize,
    /// The chain as it is now.
    pub chain: Chain,
}

/// What waits to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct Backlog {
    /// How many events, counted up to 100,000.
    pub events: u32,
    /// When the oldest of them was recorded.
    pub oldest: Option<DateTime>,
}

/// A chain that goes on.
struct ChainAdvance {
    /// As it was read; none before its first event.
    before: Option<Chain>,
    /// As it will be.
    chain: Chain,
    /// What it goes on by.
    events: Vec<Document>,
}

/// Whose event it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trail {
    #[serde(default)]
    tenant_id: Option<TenantId>,
}

/// Somebody else moved a chain on.
struct ConcurrentUpdate;

impl AuditRepository {
    /// The trails with events that are not sealed: tenants, and the platform.
    pub async fn list_unsealed(&self) -> Result<Vec<Option<TenantId>>, StoreError> {
        // Read from the index, a step for each trail however many events it has.
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

    /// Seals what is not sealed of these trails, at most [`SEALED_TOGETHER`] events, and says what was sealed of each.
    ///
    /// `None` if nothing was: somebody else was faster, or there is more than that in several trails; then each has to
    /// be sealed alone, so that none waits for another.
    pub async fn seal(
        &self,
        trails: &[Option<TenantId>],
    ) -> Result<Option<Vec<Sealed>>, StoreError> {
        let events = self.first_unsealed(trails).await?;
        if events.is_empty() {
            return Ok(Some(Vec::new()));
        }
        if events.len() == SEALED_TOGETHER && trails.len() > 1 {
            return Ok(None);
        }
        let mut by_trail: BTreeMap<Option<TenantId>, Vec<Document>> = BTreeMap::new();
        for event in events {
            let trail: Trail = bson::deserialize_from_document(event.clone())?;
            by_trail.entry(trail.tenant_id).or_default().push(event);
        }
        let mut known = self.find_chains(by_trail.keys().copied()).await?;
        let mut moves = Vec::new();
        for (trail, mut events) in by_trail {
            let before = known.remove(&Chain::id(trail));
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
        let sealed = moves.into_iter().map(|moved| Sealed {
            events: moved.events.len(),
            chain: moved.chain,
        });
        match committed {
            Ok(()) => Ok(Some(sealed.collect())),
            Err(TransactionError::Aborted(ConcurrentUpdate)) => Ok(None),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    /// How much waits to be sealed.
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

    /// Trail by trail, each in the order of their ids.
    async fn first_unsealed(
        &self,
        trails: &[Option<TenantId>],
    ) -> Result<Vec<Document>, StoreError> {
        self.stored()
            .find(doc! { "sealed": false, "tenantId": { "$in": trails } })
            .sort(doc! { "sealed": 1, "tenantId": 1, "_id": 1 })
            .limit(i64::try_from(SEALED_TOGETHER).unwrap_or(i64::MAX))
            .hint(Hint::Name(UNSEALED_INDEX.to_owned()))
            .await?
            .try_collect()
            .await
    }

    /// The chains of these trails, by id, as far as there are any.
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
        // An event that stands where its chain says that none does is nobody else's doing, and an error.
        if bulk_update_in(&self.events, session, seals).await? == expected {
            Ok(())
        } else {
            Err(TransactionError::Aborted(ConcurrentUpdate))
        }
    }
}

/// The update that seals an event, unless it is sealed.
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
