//! What is known about the upstreams themselves: whether they accept our credentials.

use std::sync::Arc;

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::upstream::Upstream;

/// What all workers know about one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamHealth {
    /// Which one.
    #[serde(rename = "_id")]
    pub upstream: Upstream,
    /// A fingerprint of the credentials that the workers use.
    pub fingerprint: String,
    /// Since when they are refused; missing while they are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<DateTime>,
    /// When one job may try them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<DateTime>,
}

/// What all workers know about all upstreams.
#[derive(Debug, Clone)]
pub struct UpstreamRepository {
    upstreams: Collection<UpstreamHealth>,
}

impl UpstreamRepository {
    /// The collection in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            upstreams: store.collection("upstreams"),
        }
    }

    /// All that is known.
    pub async fn list(&self) -> Result<Vec<UpstreamHealth>, StoreError> {
        self.upstreams.find(doc! {}).await?.try_collect().await
    }

    /// Says which credentials are used from now on. True if others were refused before.
    pub async fn start_with(
        &self,
        upstream: Upstream,
        fingerprint: &str,
    ) -> Result<bool, StoreError> {
        let others = doc! { "_id": upstream.name(), "fingerprint": { "$ne": fingerprint } };
        let update = doc! {
            "$set": { "fingerprint": fingerprint },
            "$unset": { "refusedAt": "", "probeAt": "" },
        };
        match self
            .upstreams
            .find_one_and_update(others, update)
            .upsert(true)
            .await
        {
            Ok(before) => Ok(before.is_some_and(|health| health.refused_at.is_some())),
            // The same credentials as before: the upsert met its own document.
            Err(error) if super::violated_index(&error).is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Says that the credentials are refused, and when one job may try them again.
    pub async fn refuse(
        &self,
        upstream: Upstream,
        now: DateTime,
        probe_at: DateTime,
    ) -> Result<(), StoreError> {
        let refused = doc! { "$set": { "refusedAt": now, "probeAt": probe_at } };
        self.upstreams
            .update_one(doc! { "_id": upstream.name() }, refused)
            .await?;
        Ok(())
    }

    /// Takes the probe that is due at `probe_at` and sets the next. False if another worker took it.
    pub async fn take_probe(
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

    /// Says that the credentials are accepted. True if they were refused before.
    pub async fn accept(&self, upstream: Upstream) -> Result<bool, StoreError> {
        let refused = doc! { "_id": upstream.name(), "refusedAt": { "$exists": true } };
        let accepted = doc! { "$unset": { "refusedAt": "", "probeAt": "" } };
        Ok(self
            .upstreams
            .update_one(refused, accepted)
            .await?
            .modified_count
            == 1)
    }
}
