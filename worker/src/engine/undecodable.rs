//! Jobs that this build cannot decode, such as those of a newer build: they are released as they are, without being decoded,
//! for a worker that can.

use bson::{Bson, Document, RawDocumentBuf, doc};
use dezky_shared::{
    id::JobId,
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
    times::millis,
};
use crate::metrics;

/// Jobs read from MongoDB.
#[derive(Default)]
pub(super) struct Decoded {
    pub(super) jobs: Vec<Job>,
    /// The ids of those that cannot be decoded.
    pub(super) undecodable: Vec<Bson>,
}

impl Decoded {
    /// A job as a command returned it.
    pub(super) fn one(stored: Document) -> Self {
        let mut decoded = Self::default();
        let id = stored.get("_id").cloned();
        match bson::deserialize_from_document(stored) {
            Ok(job) => decoded.jobs.push(job),
            Err(error) => decoded.add_undecodable(id, &error),
        }
        decoded
    }

    fn add_undecodable(&mut self, id: Option<Bson>, error: &bson::error::Error) {
        let text = id.as_ref().map(id_text);
        tracing::error!(job.id = text, %error, "Cannot decode a job; leaving it to a newer build");
        self.undecodable.extend(id);
    }
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
                decoded.add_undecodable(id.and_then(|id| Bson::try_from(id).ok()), &error);
            }
        }
    }
    Ok(decoded)
}

/// Makes running jobs available again, each selected by one of `filters`, uncharged and a lease later: a lock must not be
/// held for a job that no worker of this build can run. Failures are left to the rescue.
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

/// Puts off due jobs whose claim MongoDB refused, for example because a counter is no number: each would stay the first due
/// job of its lock key, and no other job of that key would run.
pub(super) async fn postpone_refused(
    store: &Store,
    times: &EngineTimings,
    refused: Vec<(JobId, &str)>,
) {
    if refused.is_empty() {
        return;
    }
    metrics::undecodable(refused.len());
    let updates = refused.iter().map(|(id, reason)| {
        tracing::error!(job.id = %id, reason, "Cannot claim a job; leaving it to a newer build");
        let available = doc! { "_id": id, "state": JobState::Available.name() };
        let later = doc! { "$add": ["$$NOW", millis(times.lease)] };
        // Nothing that depends on another field.
        Update::one(available, vec![doc! { "$set": { "runAt": later } }])
    });
    let updates: Vec<Update> = updates.collect();
    for (index, error) in bulk::update(store, &updates, times.bulk_deadline).await {
        tracing::warn!(job.id = %refused[index].0, ?error, "Could not put off a job; retrying at its next claim");
    }
}

fn release(times: &EngineTimings) -> Vec<Document> {
    vec![
        doc! { "$unset": "lease" },
        doc! { "$set": {
            "state": JobState::Available.name(),
            "runAt": { "$add": ["$$NOW", millis(times.lease)] },
            "attempt": { "$max": [0, added("$attempt", (-1).into())] },
            "snoozes": added("$snoozes", 1.into()),
            // A worker of a newer build may have vanished with it, and left calls without a record.
            "rescued": true,
            "updatedAt": "$$NOW",
            "revision": added("$revision", 1_i64.into()),
        } },
    ]
}

/// A counter plus `number`; unchanged if it is no number.
fn added(counter: &str, number: Bson) -> Document {
    let sum = doc! { "$add": [counter, number] };
    doc! { "$cond": [{ "$isNumber": counter }, sum, counter] }
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
            "revision": added("$revision", 1_i64.into()),
        } },
    ];
    let update = Update::one(filter.clone(), cancel);
    let errors = bulk::update(store, &[update], times.bulk_deadline).await;
    errors.into_values().next().map_or(Ok(()), Err)
}
