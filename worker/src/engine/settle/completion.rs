//! Group completion: jobs that were claimed together and have completed are written by one update of many.
//!
//! MongoDB parses and plans it once, and evaluates it for each job with that job's entry of a literal array. As updates of
//! their own they cost it twice as much.

use bson::{Bson, doc};
use dezky_shared::{
    id::{JobId, LeaseToken},
    queue::job::{JobState, UNEVENTFUL_RETENTION},
    store::{StoreError, to_bson},
};

use super::settlement::{Settlement, append_to_attempts, end, end_of};
use crate::engine::{bulk::Update, times::millis};

/// Holds the job's entry while the pipeline runs; not stored.
const ENTRY: &str = "settling";

/// The update that completes these jobs, all under one fencing token. It passes over those whose lease has another.
pub(super) fn complete(
    token: LeaseToken,
    settlements: &[&Settlement],
) -> Result<Update, StoreError> {
    let ids: Vec<JobId> = settlements.iter().map(|settled| settled.id).collect();
    let entries = settlements.iter().map(|settled| entry(settled));
    let entries = entries.collect::<Result<Vec<Bson>, StoreError>>()?;
    let own = doc! { "$arrayElemAt": [
        { "$literal": entries },
        { "$indexOfArray": [{ "$literal": ids.clone() }, "$_id"] },
    ] };
    let mut set = doc! {
        "steps": format!("${ENTRY}.steps"),
        "attempts": append_to_attempts(format!("${ENTRY}.attempt").into()),
        "updatedAt": "$$NOW",
        "revision": { "$add": ["$revision", 1_i64] },
    };
    end(&mut set, JobState::Completed);
    set.insert("expireAt", end_of(format!("${ENTRY}.retention").into()));
    Ok(Update::many(
        doc! { "_id": { "$in": ids }, "lease.token": token },
        vec![
            doc! { "$set": { ENTRY: own } },
            doc! { "$set": set },
            doc! { "$unset": [ENTRY, "lease", "error", "sealed", "cancelRequested"] },
        ],
    ))
}

/// Entry of a job in a group: the values that differ between the jobs.
fn entry(settlement: &Settlement) -> Result<Bson, StoreError> {
    let retention = if settlement.is_uneventful() {
        Some(UNEVENTFUL_RETENTION)
    } else {
        JobState::Completed.retention()
    };
    let entry = doc! {
        "steps": to_bson(&settlement.steps)?,
        "attempt": to_bson(&settlement.attempt)?,
        "retention": retention.map(millis),
    };
    Ok(entry.into())
}
