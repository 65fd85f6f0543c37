//! What is known about the upstreams themselves: whether they accept our credentials, whether a person stopped work
//! with them, and how they stand, copied from where the workers keep that.

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, options::ReturnDocument};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, to_bson};
use crate::{queue::pause::Pause, upstream::Upstream};

/// What all workers know about one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamState {
    /// Which one.
    #[serde(rename = "_id")]
    pub upstream: Upstream,
    /// A fingerprint of the credentials that the workers use; empty until one of them started.
    #[serde(default)]
    pub fingerprint: String,
    /// Since when they are refused; missing while they are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<DateTime>,
    /// When one job may try them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<DateTime>,
    /// Who stopped work with it, while it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// How it stood when the leader last looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<BreakerStatus>,
    /// Since when the jobs that it held are to be let go; missing once they have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go_at: Option<DateTime>,
    /// When a person last had work with it go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<DateTime>,
    /// + 1 with every change by a person.
    #[serde(default)]
    pub revision: i64,
}

/// How an upstream stood at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// When.
    pub at: DateTime,
    /// Its failures in a row.
    pub failures: u32,
    /// Since when its circuit was open; missing while it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_since: Option<DateTime>,
    /// When the next job tries, while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<DateTime>,
    /// Until when the upstream asked to be left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_until: Option<DateTime>,
    /// When a step that asked then would have had its turn in the budget; missing where it would have been at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_turn_at: Option<DateTime>,
}

impl UpstreamState {
    /// An upstream of which nothing is known.
    pub fn unknown(upstream: Upstream) -> Self {
        Self {
            upstream,
            fingerprint: String::new(),
            refused_at: None,
            probe_at: None,
            paused: None,
            seen: None,
            let_go_at: None,
            resumed_at: None,
            revision: 0,
        }
    }

    /// Since when its circuit was open when the leader last looked.
    pub fn open_since(&self) -> Option<DateTime> {
        self.seen.as_ref().and_then(|seen| seen.open_since)
    }
}

/// What all workers know about all upstreams.
#[derive(Debug, Clone)]
pub struct UpstreamRepository {
    upstreams: Collection<UpstreamState>,
}

impl UpstreamRepository {
    /// The collection in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            upstreams: store.collection("upstreams"),
        }
    }

    /// All that is known.
    pub async fn list(&self) -> Result<Vec<UpstreamState>, StoreError> {
        self.upstreams.find(doc! {}).await?.try_collect().await
    }

    /// What is known about one.
    pub async fn find(&self, upstream: Upstream) -> Result<UpstreamState, StoreError> {
        let found = self.upstreams.find_one(named(upstream)).await?;
        Ok(found.unwrap_or_else(|| UpstreamState::unknown(upstream)))
    }

    /// Says which credentials are used from now on. True if others were refused before: what those held is let go.
    pub async fn register_credentials(
        &self,
        upstream: Upstream,
        fingerprint: &str,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let others = doc! { "_id": upstream.name(), "fingerprint": { "$ne": fingerprint } };
        let update = vec![
            doc! { "$set": {
                "fingerprint": fingerprint,
                "letGoAt": { "$cond": [{ "$ifNull": ["$refusedAt", false] }, now, "$letGoAt"] },
            } },
            doc! { "$unset": ["refusedAt", "probeAt"] },
        ];
        match self
            .upstreams
            .find_one_and_update(others, update)
            .upsert(true)
            .await
        {
            Ok(before) => Ok(before.is_some_and(|health| health.refused_at.is_some())),
            // The same credentials as before: the upsert met its own document.
            Err(error) if super::duplicate_key_index(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Says that these credentials are refused, and when one job may try them again. Of credentials that are used no
    /// more it says nothing.
    pub async fn mark_refused(
        &self,
        upstream: Upstream,
        fingerprint: &str,
        now: DateTime,
        probe_at: DateTime,
    ) -> Result<(), StoreError> {
        let refused = doc! { "$set": { "refusedAt": now, "probeAt": probe_at } };
        let mine = doc! { "_id": upstream.name(), "fingerprint": fingerprint };
        self.upstreams.update_one(mine, refused).await?;
        Ok(())
    }

    /// Takes the probe that is due at `probe_at` and sets the next. False if another worker took it.
    pub async fn claim_probe(
        &self,
        upstream: Upstream,
        probe_at: DateTime,
        next: DateTime,
    ) -> Result<bool, StoreError> {
        let due = doc! { "_id": upstream.name(), "probeAt": probe_at };
        let taken = self
            .upstreams
            .update_one(due, doc! { "$set": { "probeAt": next } })
            .await?;
        Ok(taken.modified_count == 1)
    }

    /// Says that these credentials are accepted. True if they were refused before: what they held is let go.
    pub async fn mark_accepted(
        &self,
        upstream: Upstream,
        fingerprint: &str,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let refused = doc! {
            "_id": upstream.name(),
            "fingerprint": fingerprint,
            "refusedAt": { "$exists": true },
        };
        let accepted = doc! {
            "$set": { "letGoAt": now },
            "$unset": { "refusedAt": "", "probeAt": "" },
        };
        Ok(self
            .upstreams
            .update_one(refused, accepted)
            .await?
            .modified_count
            == 1)
    }

    /// Stops work with it.
    pub async fn pause(
        &self,
        session: &mut ClientSession,
        upstream: Upstream,
        pause: &Pause,
    ) -> Result<UpstreamState, StoreError> {
        let paused = doc! {
            "$set": { "paused": to_bson(pause)? },
            "$inc": { "revision": 1_i64 },
        };
        self.change(session, upstream, paused.into()).await
    }

    /// Has work with it go on, or be tried at once where the upstream itself is in the way.
    pub async fn resume(
        &self,
        session: &mut ClientSession,
        upstream: Upstream,
        now: DateTime,
    ) -> Result<UpstreamState, StoreError> {
        let resumed = vec![
            doc! { "$set": {
                "letGoAt": now,
                "resumedAt": now,
                "probeAt": { "$cond": [{ "$ifNull": ["$refusedAt", false] }, now, "$probeAt"] },
                "revision": { "$add": [{ "$ifNull": ["$revision", 0_i64] }, 1_i64] },
            } },
            doc! { "$unset": "paused" },
        ];
        self.change(session, upstream, resumed.into()).await
    }

    async fn change(
        &self,
        session: &mut ClientSession,
        upstream: Upstream,
        update: mongodb::options::UpdateModifications,
    ) -> Result<UpstreamState, StoreError> {
        let changed = self
            .upstreams
            .find_one_and_update(named(upstream), update)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?;
        changed.ok_or_else(|| StoreError::custom("an upsert returned nothing"))
    }

    /// Writes down how it stands. If `closed`, what its circuit held is let go.
    pub async fn save_breaker_status(
        &self,
        upstream: Upstream,
        seen: &BreakerStatus,
        closed: bool,
    ) -> Result<(), StoreError> {
        let mut set = doc! { "seen": to_bson(seen)? };
        if closed {
            set.insert("letGoAt", seen.at);
        }
        self.upstreams
            .update_one(named(upstream), doc! { "$set": set })
            .upsert(true)
            .await?;
        Ok(())
    }

    /// Says that what was to be let go at `let_go_at` has been. Somebody may have asked again meanwhile.
    pub async fn mark_released(
        &self,
        upstream: Upstream,
        let_go_at: DateTime,
    ) -> Result<(), StoreError> {
        let asked = doc! { "_id": upstream.name(), "letGoAt": let_go_at };
        self.upstreams
            .update_one(asked, doc! { "$unset": { "letGoAt": "" } })
            .await?;
        Ok(())
    }
}

fn named(upstream: Upstream) -> Document {
    doc! { "_id": upstream.name() }
}
