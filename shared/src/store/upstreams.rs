//! Upstream repository: credential state, pauses, and the last circuit breaker status, copied from Redis.

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, options::ReturnDocument};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, to_bson};
use crate::{queue::pause::Pause, upstream::Upstream};

/// Control state of an upstream, read by all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamState {
    /// The upstream.
    #[serde(rename = "_id")]
    pub upstream: Upstream,
    /// Fingerprint of the workers' credentials; empty until a worker registered.
    #[serde(default)]
    pub fingerprint: String,
    /// Time since which the credentials are refused; missing while they are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<DateTime>,
    /// Time of the next credential probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<DateTime>,
    /// Pause, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Circuit breaker status when the leader last published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<BreakerStatus>,
    /// Permission that our account lacks, as the leader last found it; missing if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<MissingPermission>,
    /// Time since which deferred jobs are to be released; missing once released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub let_go_at: Option<DateTime>,
    /// Time of the last manual resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<DateTime>,
    /// Incremented by every change of an operator.
    #[serde(default)]
    pub revision: i64,
}

/// A permission that our account lacks in an upstream, as the errors of the jobs say that are held because of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingPermission {
    /// Time of the earliest of these errors.
    pub since: DateTime,
    /// The operation that was refused last, such as `create_group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// That refusal, for operators.
    pub detail: String,
    /// Number of held jobs, at most 1,000.
    pub jobs: i64,
}

/// Published status of a circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// Time of the status.
    pub at: DateTime,
    /// Consecutive failures.
    pub failures: u32,
    /// Time since which the circuit was open; missing if closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_since: Option<DateTime>,
    /// Time of the next half-open probe, while open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<DateTime>,
    /// End of the upstream's `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_until: Option<DateTime>,
    /// Next free slot in the rate budget; missing if a step would have been admitted at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_turn_at: Option<DateTime>,
}

impl UpstreamState {
    /// Initial state of an upstream.
    pub fn unknown(upstream: Upstream) -> Self {
        Self {
            upstream,
            fingerprint: String::new(),
            refused_at: None,
            probe_at: None,
            paused: None,
            seen: None,
            permission: None,
            let_go_at: None,
            resumed_at: None,
            revision: 0,
        }
    }

    /// Time since which the circuit was open, as last published.
    pub fn open_since(&self) -> Option<DateTime> {
        self.seen.as_ref().and_then(|seen| seen.open_since)
    }
}

/// Control states of all upstreams.
#[derive(Debug, Clone)]
pub struct UpstreamRepository {
    upstreams: Collection<UpstreamState>,
}

impl UpstreamRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            upstreams: store.collection("upstreams"),
        }
    }

    /// States of the upstreams of this build.
    pub async fn list(&self) -> Result<Vec<UpstreamState>, StoreError> {
        let names = Upstream::CALLED.map(Upstream::name).to_vec();
        let found = self.upstreams.find(doc! { "_id": { "$in": names } });
        found.await?.try_collect().await
    }

    /// State of one upstream.
    pub async fn find(&self, upstream: Upstream) -> Result<UpstreamState, StoreError> {
        let found = self.upstreams.find_one(named(upstream)).await?;
        Ok(found.unwrap_or_else(|| UpstreamState::unknown(upstream)))
    }

    /// Registers the credentials in use. `true` if others were refused before: their deferred jobs are to be released.
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
            // Unchanged credentials: the upsert collided with its own document.
            Err(error) if super::duplicate_key_index(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Marks these credentials as refused, and schedules the next probe. No effect if other credentials are registered.
    pub async fn mark_refused(
        &self,
        upstream: Upstream,
        fingerprint: &str,
        now: DateTime,
        probe_at: DateTime,
    ) -> Result<(), StoreError> {
        let refused = doc! { "$set": { "refusedAt": now, "probeAt": probe_at } };
        let filter = doc! { "_id": upstream.name(), "fingerprint": fingerprint };
        self.upstreams.update_one(filter, refused).await?;
        Ok(())
    }

    /// Claims the credential probe due at `probe_at` and schedules the next. `false` if another worker claimed it.
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

    /// Marks these credentials as accepted. `true` if they were refused before: their deferred jobs are to be released.
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

    /// Pauses the upstream.
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

    /// Resumes a paused upstream, or forces a half-open probe of an unavailable one.
    pub async fn resume(
        &self,
        session: &mut ClientSession,
        upstream: Upstream,
        now: DateTime,
    ) -> Result<UpstreamState, StoreError> {
        self.change(session, upstream, resumed(now).into()).await
    }

    /// Resumes the upstream if the end of its pause has passed. `false` if there is none.
    pub async fn end_pause(
        &self,
        session: &mut ClientSession,
        upstream: Upstream,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let over = doc! { "_id": upstream.name(), "paused.until": { "$lte": now } };
        let ended = self.upstreams.update_one(over, resumed(now));
        Ok(ended.session(session).await?.modified_count == 1)
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

    /// Stores the breaker status. If `closed`, the jobs it deferred are to be released.
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

    /// Publishes the missing permission, or that there is none.
    pub async fn set_permission(
        &self,
        upstream: Upstream,
        missing: Option<&MissingPermission>,
    ) -> Result<(), StoreError> {
        let update = if let Some(missing) = missing {
            doc! { "$set": { "permission": to_bson(missing)? } }
        } else {
            doc! { "$unset": { "permission": "" } }
        };
        self.upstreams.update_one(named(upstream), update).await?;
        Ok(())
    }

    /// Marks the release requested at `let_go_at` as done. A newer request is kept.
    pub async fn mark_released(
        &self,
        upstream: Upstream,
        let_go_at: DateTime,
    ) -> Result<(), StoreError> {
        let filter = doc! { "_id": upstream.name(), "letGoAt": let_go_at };
        self.upstreams
            .update_one(filter, doc! { "$unset": { "letGoAt": "" } })
            .await?;
        Ok(())
    }
}

/// The update that resumes an upstream.
fn resumed(now: DateTime) -> Vec<Document> {
    vec![
        doc! { "$set": {
            "letGoAt": now,
            "resumedAt": now,
            "probeAt": { "$cond": [{ "$ifNull": ["$refusedAt", false] }, now, "$probeAt"] },
            "revision": { "$add": [{ "$ifNull": ["$revision", 0_i64] }, 1_i64] },
        } },
        doc! { "$unset": "paused" },
    ]
}

fn named(upstream: Upstream) -> Document {
    doc! { "_id": upstream.name() }
}
