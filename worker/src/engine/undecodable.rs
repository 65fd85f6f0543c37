//! Jobs that this build cannot decode, such as those of a newer build: they are released as they are, without being decoded,
//! for a worker that can.

use bson::{Bson, Document, RawDocumentBuf, doc};
use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{Job, JobFailure, JobState},
    },
    store::{Store, StoreError, id_text, to_bson},
};
use futures::TryStreamExt as _;
use mongodb::Cursor;

use super::{
    EngineTimings,
    bulk::{self, ItemError, Update},
    claim::millis,
};
use crate::metrics;

/// Jobs read from MongoDB.
pub(super) struct Decoded {
    pub(super) jobs: Vec<Job>,
    /// The ids of those that cannot be decoded.
    pub(super) undecodable: Vec<Bson>,
}

/// Decodes each job on its own, so that one that cannot be decoded hides no other.
pub(super) async fn decode(found: Cursor<RawDocumentBuf>) -> Result<Decoded, StoreError> {
    let found: Vec<RawDocumentBuf> = found.try_collect().await?;
    let mut decoded = Decoded {
        jobs: Vec::with_capacity(found.len()),
        undecodable: Vec::new(),
    };
    for stored in found {
        match bson::deserialize_from_slice(stored.as_bytes()) {
            Ok(job) => decoded.jobs.push(job),
            Err(error) => {
                let id = stored.get("_id").ok().flatten();
                let id = id.and_then(|id| Bson::try_from(id).ok());
                let text = id.as_ref().map(id_text);
                tracing::error!(job.id = text, %error, "Cannot decode a job; leaving it to a newer build");
                decoded.undecodable.extend(id);
            }
        }
    }
    Ok(decoded)
}

/// Makes running jobs available again, each selected by one of `filters`, uncharged and a lease later: a lock must not be
/// held for a job that no worker of this build can run. What fails is left to the rescue.
pub(super) async fn release_undecodable(
    store: &Store,
    times: &EngineTimings,
    filters: Vec<Document>,
) {
    if filters.is_empty() {
        return;
    }
    metrics::undecodable(filters.len());
    let updates: Vec<Update> = filters
        .iter()
        .map(|filter| Update::one(filter.clone(), release(times)))
        .collect();
    for (index, error) in bulk::update(store, &updates, times.bulk_deadline).await {
        let released = match error {
            // The available job with its unique key does the work.
            ItemError::Superseded => supersede(store, times, &filters[index]).await,
            error => Err(error),
        };
        if let Err(error) = released {
            tracing::warn!(job.id = ?filters[index].get("_id"), ?error, "Could not release a job; leaving it to the rescue");
        }
    }
}

fn release(times: &EngineTimings) -> Vec<Document> {
    vec![
        doc! { "$unset": "lease" },
        doc! { "$set": {
            "state": JobState::Available.name(),
            "runAt": { "$add": ["$$NOW", millis(times.lease)] },
            "attempt": { "$max": [0, { "$subtract": ["$attempt", 1] }] },
            "snoozes": { "$add": [{ "$ifNull": ["$snoozes", 0] }, 1] },
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        } },
    ]
}

/// Cancels a job that another available one replaces, which reports to their target.
async fn supersede(
    store: &Store,
    times: &EngineTimings,
    filter: &Document,
) -> Result<(), ItemError> {
    let state = JobState::Cancelled;
    let failure = JobFailure::permanent(
        ErrorCode::Superseded,
        "another available job has the same unique key",
    );
    let retention = state.retention().unwrap_or_default();
    let cancel = vec![
        doc! { "$unset": ["lease", "error", "sealed", "cancelRequested"] },
        doc! { "$set": {
            "state": state.name(),
            "error": { "$literal": to_bson(&failure)? },
            "finishedAt": "$$NOW",
            "expireAt": { "$add": ["$$NOW", millis(retention)] },
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        } },
    ];
    let update = Update::one(filter.clone(), cancel);
    let errors = bulk::update(store, &[update], times.bulk_deadline).await;
    errors.into_values().next().map_or(Ok(()), Err)
}
