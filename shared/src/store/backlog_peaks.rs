//! Backlog peak repository: one document for each quarter of an hour of the last day.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;

use super::{Store, StoreError, index::ttl, lenient::skip_undecodable};
use crate::{
    platform::clock,
    queue::backlog_peak::{BacklogPeak, RETENTION},
};

/// Limit on listed intervals: those of a day, and one more.
const LIST_LIMIT: i64 = 97;

/// Peaks of the backlog.
#[derive(Debug, Clone)]
pub struct BacklogPeakRepository {
    peaks: Collection<BacklogPeak>,
}

impl BacklogPeakRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            peaks: store.collection("backlog_peaks"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let expiry = ttl("expireAt", Duration::ZERO);
        self.peaks.create_index(expiry).await?;
        Ok(())
    }

    /// Raises the peaks of the sample's interval to its numbers. Repeatable: a sample that is recorded twice changes
    /// nothing.
    pub async fn record(&self, sample: &BacklogPeak) -> Result<(), StoreError> {
        let mut peaks = doc! { "discarded": sample.discarded };
        for (queue, due) in &sample.due {
            peaks.insert(format!("due.{queue}"), *due);
        }
        let expiry = doc! { "expireAt": clock::later(sample.start, RETENTION) };
        let update = doc! { "$max": peaks, "$setOnInsert": expiry };
        self.peaks
            .update_one(doc! { "_id": sample.start }, update)
            .upsert(true)
            .await?;
        Ok(())
    }

    /// The intervals that start at `since` or later, oldest first.
    pub async fn list(&self, since: DateTime) -> Result<Vec<BacklogPeak>, StoreError> {
        let peaks = self.peaks.clone_with_type();
        let peaks = peaks
            .find(doc! { "_id": { "$gte": since } })
            .sort(doc! { "_id": 1 })
            .limit(LIST_LIMIT);
        skip_undecodable(peaks.await?).try_collect().await
    }
}
