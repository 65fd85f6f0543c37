//! Giving events their places in their chains.
//!
//! What is to be sealed is found by a flag: an event that was committed late is no later than the others for it. The
//! chain moves on in the same transaction, from the head that was read: of two who seal at the same time, one comes to
//! nothing.

use bson::{Bson, DateTime, Document, doc};
use futures::{FutureExt as _, TryStreamExt as _};
use mongodb::{ClientSession, options::Hint};
use serde::Deserialize;

use super::{AuditRepository, StoreError, UNSEALED_INDEX};
use crate::{
    audit::chain::{Chain, Link},
    id::TenantId,
    store::{Abort, to_bson, violated_index},
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

/// Somebody else moved the chain on.
struct Overtaken;

impl AuditRepository {
    /// The trails with events that are not sealed: tenants, and the platform.
    pub async fn list_unsealed(&self) -> Result<Vec<Option<TenantId>>, StoreError> {
        #[derive(Deserialize)]
        struct Trail {
            #[serde(rename = "_id")]
            tenant_id: Option<TenantId>,
        }
        // Read from the index, a step for each trail however many events it has.
        let trails = [
            doc! { "$match": { "sealed": false } },
            doc! { "$sort": { "sealed": 1, "tenantId": 1, "_id": 1 } },
            doc! { "$group": { "_id": "$tenantId", "first": { "$first": "$_id" } } },
            doc! { "$limit": TRAILS },
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

    /// Seals the first events of a trail that are not sealed, at most [`SEALED_TOGETHER`]. Nothing when there are none,
    /// or somebody else was faster.
    pub async fn seal(&self, tenant: Option<TenantId>) -> Result<Option<Sealed>, StoreError> {
        let mut events = self.first_unsealed(tenant).await?;
        if events.is_empty() {
            return Ok(None);
        }
        let before = self.find_chain(tenant).await?;
        let mut head = before.head.clone();
        for event in &mut events {
            head = head.seal(event);
        }
        let sealed = Sealed {
            events: events.len(),
            chain: Chain {
                head,
                ..before.clone()
            },
        };
        let committed = self
            .store
            .transaction(
                (self, &before, &sealed.chain.head, &events),
                |session, (this, before, head, events)| {
                    async move {
                        this.move_head(session, before, head).await?;
                        this.write_seals(session, events).await
                    }
                    .boxed()
                },
            )
            .await;
        match committed {
            Ok(()) => Ok(Some(sealed)),
            Err(Abort::Because(Overtaken)) => Ok(None),
            Err(Abort::Store(error)) => Err(error),
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

    /// In the order of their ids.
    async fn first_unsealed(&self, tenant: Option<TenantId>) -> Result<Vec<Document>, StoreError> {
        self.stored()
            .find(doc! { "sealed": false, "tenantId": tenant })
            .sort(doc! { "_id": 1 })
            .limit(i64::try_from(SEALED_TOGETHER).unwrap_or(i64::MAX))
            .hint(Hint::Name(UNSEALED_INDEX.to_owned()))
            .await?
            .try_collect()
            .await
    }

    async fn move_head(
        &self,
        session: &mut ClientSession,
        before: &Chain,
        head: &Link,
    ) -> Result<(), Abort<Overtaken>> {
        let as_read = doc! { "_id": &before.id, "head": to_bson(&before.head)? };
        let moved = doc! { "$set": { "head": to_bson(head)? } };
        let chains = &self.chains;
        let moved = chains.update_one(as_read, moved).session(&mut *session);
        if moved.await?.matched_count == 1 {
            return Ok(());
        }
        if before.head != Link::start() {
            return Err(Abort::Because(Overtaken));
        }
        let new = Chain {
            head: head.clone(),
            ..before.clone()
        };
        match self.chains.insert_one(new).session(session).await {
            Err(error) if violated_index(&error).is_some() => Err(Abort::Because(Overtaken)),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    async fn write_seals(
        &self,
        session: &mut ClientSession,
        events: &[Document],
    ) -> Result<(), Abort<Overtaken>> {
        let seals = events.iter().map(|event| {
            let part = |fields: &[&str]| -> Document {
                let is_one = |field: &(&String, &Bson)| fields.contains(&field.0.as_str());
                let part = event.iter().filter(is_one);
                part.map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            };
            let mut unsealed = part(&["_id"]);
            unsealed.insert("sealed", false);
            doc! { "q": unsealed, "u": { "$set": part(&["sealed", "seq", "prevHash", "hash"]) } }
        });
        // The driver offers bulks over one collection only from MongoDB 8.0 on.
        let update = doc! { "update": "audit_events", "updates": seals.collect::<Vec<_>>() };
        let database = self.store.database();
        let answer = database.run_command(update).session(session).await?;
        if let Ok(errors) = answer.get_array("writeErrors") {
            // As when events stand where the chain says that none are: nobody else's doing.
            let message = format!("the trail cannot be sealed: {errors:?}");
            return Err(StoreError::custom(message).into());
        }
        let written = answer.get_i32("n").unwrap_or(0);
        if usize::try_from(written) == Ok(events.len()) {
            Ok(())
        } else {
            Err(Abort::Because(Overtaken))
        }
    }
}
